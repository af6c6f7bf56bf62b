"""The adapter to torchjd: its rules as strategies, and its MGDA as the oracle of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchjd import aggregation
from torchjd.linalg import QuadprogProjector

from mmbench.contracts import Objective
from mmbench.errors import UsageError
from mmbench.methods import build_strategy, parse
from mmbench.plugins import Registry, load_file, shipped, shipped_folder

jd = shipped("baselines", "jd")
moo = shipped("baselines", "moo")
REGISTRY = Registry()
RULES = ["upgrad", "pcgrad", "mgda", "dualproj", "imtl_g", "aligned"]
OBJECTIVES = tuple(Objective("c", str(k), k, 1, 1) for k in range(3))


def gradients(tasks: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(tasks, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rule", [*RULES, "cagrad"])
def test_the_step_is_torchjds_aggregate_of_the_gradients(rule: str) -> None:
    """Losses linear in z have the gradients g: the step on z is what torchjd makes of the Jacobian."""
    g = gradients()
    z = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    names = {"imtl_g": "IMTLG", "aligned": "AlignedMTL", "dualproj": "DualProj", "upgrad": "UPGrad", "pcgrad": "PCGrad",
             "cagrad": "CAGrad"}  # fmt: skip
    settings: dict[str, object] = {}
    if rule == "cagrad":
        pytest.importorskip("cvxpy", reason="torchjd's CAGrad needs cvxpy and clarabel")
        settings["c"] = 0.5
    if rule in ("upgrad", "dualproj"):
        pytest.importorskip("quadprog", reason="torchjd's own projector needs quadprog")
        settings["projector"] = QuadprogProjector(norm_eps=0, reg_eps=1e-13)
    strategy = jd.build(OBJECTIVES, rule=rule)
    torch.manual_seed(0)  # pcgrad draws an order
    (step,) = torch.autograd.grad(strategy.combine(g @ z, torch.arange(3), g @ g.T), z)
    torch.manual_seed(0)
    expected = getattr(aggregation, names.get(rule, "MGDA"))(**settings)(g)
    torch.testing.assert_close(step, expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(strategy.loss_weights() @ g, step)


def test_upgrad_and_the_min_norm_point_by_hand() -> None:
    """Orthogonal gradients do not conflict: UPGrad is their mean; MGDA weighs by 1 / length²."""
    g = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    losses, active = torch.ones(2, dtype=torch.float64), torch.tensor([0, 2])
    for rule, expected in (("upgrad", [0.5, 0.5]), ("mgda", [0.2, 0.8]), ("pcgrad", [1.0, 1.0])):
        strategy = jd.build(OBJECTIVES, rule=rule)
        strategy.combine(losses, active, g @ g.T)
        assert strategy.loss_weights()[[0, 2]].tolist() == pytest.approx(expected, abs=2e-3)
        assert strategy.loss_weights()[1].item() == pytest.approx(1 / 3), "an objective without a label keeps its own"


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_the_projection_meets_its_optimality_conditions(tasks: int) -> None:
    """v >= u, G v >= 0, and (G v)_i = 0 wherever v_i > u_i: J^T v is the nearest point that no gradient opposes."""
    for seed in range(4):
        gramian = (g := gradients(tasks, seed) + 0.3) @ g.T
        u = torch.eye(tasks, dtype=torch.float64) / tasks
        v = jd.NnlsProjector()(u, gramian)
        slope = v @ gramian
        assert (v >= u - 1e-12).all() and (slope >= -1e-9).all()
        assert (slope[v > u + 1e-9].abs() < 1e-9).all()
        assert torch.equal(jd.NnlsProjector()(u[0], gramian), v[0])


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_no_objective_is_opposed_by_upgrad(tasks: int) -> None:
    for seed in range(4):
        g = gradients(tasks, seed)
        strategy = jd.build(tuple(OBJECTIVES[0] for _ in range(tasks)))
        strategy.combine(torch.ones(tasks, dtype=torch.float64), torch.arange(tasks), g @ g.T)
        assert (g @ (strategy.loss_weights() @ g) >= -1e-9).all()


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_its_mgda_is_close_to_our_exact_solver_and_never_better(tasks: int) -> None:
    for seed in range(4):
        gramian = (g := gradients(tasks, seed)) @ g.T
        ours = torch.from_numpy(moo.min_norm(gramian.numpy()))
        theirs = aggregation.MGDAWeighting(epsilon=1e-9, max_iters=5000)(gramian)
        least, found = (ours @ gramian @ ours).item(), (theirs @ gramian @ theirs).item()
        assert least <= found + 1e-12 and found <= least * 1.01 + 1e-6
        np.testing.assert_allclose(theirs.numpy(), ours.numpy(), atol=0.02)


@pytest.mark.parametrize("rule", RULES)
def test_gradients_of_zero_leave_finite_weights(rule: str) -> None:
    strategy = jd.build(OBJECTIVES, rule=rule)
    total = strategy.combine(torch.ones(3, dtype=torch.float64), torch.arange(3), torch.zeros(3, 3).double())
    assert torch.isfinite(total) and torch.isfinite(strategy.loss_weights()).all()


def test_a_rule_is_named_without_its_parameter() -> None:
    for text, name in (("jd:upgrad", "jd"), ("jd:pcgrad", "jd:pcgrad"), ("jd:rule=mgda", "jd:mgda")):
        (method,) = parse(f"concat+{text}", REGISTRY, ("x", "y"))
        assert method.name == f"concat+{name}"
        build_strategy(method, REGISTRY, OBJECTIVES)
    assert [m.name for m in parse("concat+jd:upgrad/mgda", REGISTRY, ("x", "y"))] == [
        "concat+jd",
        "concat+jd:mgda",
    ]
    with pytest.raises(UsageError, match="rule of jd was given 'nope'"):
        parse("concat+jd:nope", REGISTRY, ("x", "y"))


def test_without_torchjd_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    copy = tmp_path / "jd.py"
    copy.write_text((shipped_folder("baselines") / "jd.py").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"pip install 'mmbench\[jd\]'"):
        load_file(copy)
