"""What holds for every fusion: rows do not meet, missing modalities do no harm, gradients are right."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmbench.modules import Fusion
from mmbench.plugins import shipped
from mmbench.proposed import graph_fusion

ORDERED: dict[str, Any] = {"pairs": "ordered", "nodes": "weighted", "parent_weight": "raw"}
SOFTMAX: dict[str, Any] = {"weight_activation": "softmax", "attention": "linear", "similarity": "inner"}
BUILDS = {
    "concat": (shipped("baselines", "concat"), {}),
    "late": (shipped("baselines", "late"), {}),
    "late-weighted": (shipped("baselines", "late"), {"mode": "weighted"}),
    "tensor": (shipped("baselines", "tensor"), {}),
    "lowrank": (shipped("baselines", "lowrank"), {}),
    "classical": (shipped("baselines", "classical"), {}),
    "mfn": (shipped("baselines", "mfn"), {"memory": 5, "dropout": 0.0}),
    "graph": (shipped("baselines", "graph"), {}),
    "igfn": (graph_fusion, {}),
    "igfn-ordered": (graph_fusion, ORDERED),
    "igfn-softmax": (graph_fusion, SOFTMAX),
}
WIDTH = 6
every_fusion = pytest.mark.parametrize("name", BUILDS)


def make(name: str, modalities: int, width: int = WIDTH) -> Fusion:
    """A fusion in float64 with seeded weights, in evaluation mode."""
    torch.manual_seed(11)
    module, parameters = BUILDS[name]
    fusion: Fusion = module.build(modalities, width, **parameters)
    return fusion.double().eval()


def batch(modalities: int, rows: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Views with every pattern of missing modalities among the first rows; a missing one is zero."""
    g = torch.Generator().manual_seed(4)
    present = torch.rand(rows, modalities, generator=g) > 0.3
    present[0], present[1] = True, False
    present[2], present[2, 0] = False, True
    views = torch.randn(rows, modalities, WIDTH, dtype=torch.float64, generator=g)
    return views * present.unsqueeze(-1), present


def fuse(fusion: Fusion, views: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Vectors are sequences of one step to a fusion that reads steps."""
    fused: torch.Tensor = (
        fusion(views.unsqueeze(1), present.unsqueeze(1)) if fusion.reads_steps else fusion(views, present)
    )
    return fused


@every_fusion
@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_rows_do_not_meet(name: str, modalities: int) -> None:
    fusion = make(name, modalities)
    views, present = batch(modalities)
    whole = fuse(fusion, views, present)
    expected = (7, fusion.branches, fusion.out_features) if fusion.branches > 1 else (7, fusion.out_features)
    assert whole.shape == expected
    for rows in ([3], [5, 0, 2]):
        torch.testing.assert_close(fuse(fusion, views[rows], present[rows]), whole[rows], rtol=1e-10, atol=1e-12)


@every_fusion
@pytest.mark.parametrize("modalities", [2, 3])
def test_missing_modalities_leave_everything_finite(name: str, modalities: int) -> None:
    fusion = make(name, modalities).train()
    views, present = batch(modalities)
    views.requires_grad_()
    fused = fuse(fusion, views, present)
    assert torch.isfinite(fused).all()
    for gradient in torch.autograd.grad(
        fused.square().sum(), [views, *fusion.parameters()], allow_unused=True, materialize_grads=True
    ):
        assert torch.isfinite(gradient).all()


@every_fusion
def test_gradients_are_right(name: str) -> None:
    fusion = make(name, 3, 4 if name != "tensor" else 3)
    views, present = batch(3, 4)
    width = 3 if name == "tensor" else 4
    if name == "tensor":
        fusion.project = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2)) for _ in range(3)
        ).double()
    inputs = [views[..., :width].clone().requires_grad_(), *fusion.parameters()]
    assert torch.autograd.gradcheck(lambda v, *_: fuse(fusion, v, present), inputs, fast_mode=True)


@every_fusion
def test_the_seed_decides_the_weights(name: str) -> None:
    first, second = make(name, 3).state_dict(), make(name, 3).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["concat", "late", "classical", "mfn", "tensor", "lowrank", "graph", "igfn"])
def test_which_need_two_modalities(name: str) -> None:
    module, _ = BUILDS[name]
    assert module.build(2, 8).min_modalities == (1 if name in ("concat", "late", "classical", "mfn") else 2)
