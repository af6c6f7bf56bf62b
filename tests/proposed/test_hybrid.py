"""The hybrid network: its loss put together again by hand, its switches, sequences, missing modalities."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Inputs
from mmbench.errors import UsageError
from mmbench.methods import build_model, parse
from mmbench.modules import LinearHeads
from mmbench.plugins import Registry, shipped
from mmbench.proposed.hybrid.losses import alignment, balance_weights
from mmbench.proposed.hybrid.network import Core, HybridNetwork, Settings, mix
from mmbench.training.loop import train_network
from mmbench.training.losses import Measure, balanced_weights, list_objectives
from mmbench.training.network import Network, labelled_where

REGISTRY = Registry()
CONCEPTS = (Concept("mood", ("low", "flat", "high")), Concept("kinds", ("a", "b"), "multilabel"))
SIZES = {"x": 3, "y": 5, "z": 2}
PARTS: dict[str, Any] = {
    "delta": False,
    "gated": False,
    "cross": False,
    "contrastive": False,
    "balance": "off",
}


def network_of(sizes: dict[str, int] = SIZES, concepts=CONCEPTS, **settings: Any) -> HybridNetwork:
    torch.manual_seed(5)
    return HybridNetwork(sizes, LinearHeads, concepts, 4, 0.0, Settings(heads=2, **settings)).double()


def batch(rows: int = 9, sizes: dict[str, int] = SIZES) -> Examples:
    g = torch.Generator().manual_seed(8)
    present = {m: torch.rand(rows, generator=g) > 0.3 for m in sizes}
    values = {m: torch.randn(rows, d, dtype=torch.float64, generator=g) * present[m][:, None] for m, d in sizes.items()}
    mood, kinds = torch.randint(0, 3, (rows,), generator=g), torch.randint(0, 2, (rows, 2), generator=g)
    mood[::4], kinds[1::4] = -1, -1
    return Examples(Inputs(values, present), {"mood": mood, "kinds": kinds})


@pytest.mark.parametrize("balance", ["fixed", "inverse", "softmax"])
def test_the_loss_is_the_early_one_plus_the_balanced_late_ones_plus_the_weighted_alignment(balance: str) -> None:
    network, examples = network_of(balance=balance).train(), batch()
    examples.inputs.present["z"][:] = False
    objectives = list_objectives(CONCEPTS, examples.targets, "concept")
    output = network(examples.inputs)
    losses, active = network.losses(output, examples, Measure(objectives))
    assert active.tolist() == [0, 1, 2]
    each = []
    for b, name in enumerate(["all", "x", "y"]):
        here = examples.inputs.present.get(name, torch.ones(9, dtype=torch.bool))
        rows = here & (examples.targets["mood"] >= 0)
        loss = [cross_entropy(output.branches[b][0]["mood"][rows], examples.targets["mood"][rows])]
        rows = here & (examples.targets["kinds"][:, 0] >= 0)
        for k in range(2):
            p = output.branches[b][0]["kinds"][rows, k].sigmoid()
            hit = examples.targets["kinds"][rows, k] == 1
            loss.append(-torch.where(hit, p, 1 - p).log().mean())
        each.append(torch.stack(loss))
    first, *late = each
    weights = balance_weights(torch.stack([x.mean() for x in late]), balance)  # type: ignore[arg-type]
    torch.testing.assert_close(losses, first + weights[0] * late[0] + weights[1] * late[1])
    present = torch.stack(list(examples.inputs.present.values()), dim=1)
    alone = network.core(
        torch.stack([e(examples.inputs.values[m]) for m, e in zip(SIZES, network.encoders, strict=True)], 1)[:, None],
        present[:, None],
    ).alone
    embedded = torch.stack([e(alone[:, m]) for m, e in enumerate(network.embed)], dim=1)
    torch.testing.assert_close(output.penalty, 0.3 * alignment(embedded, present, 0.07))


def test_an_objective_that_a_modality_has_no_row_for_is_shared_by_the_others() -> None:
    network, examples = network_of(balance="inverse").train(), batch()
    examples.targets["kinds"][examples.inputs.present["x"]] = -1
    assert (examples.targets["kinds"] >= 0).any()
    measure = Measure(list_objectives(CONCEPTS, examples.targets, "concept"))
    output = network(examples.inputs)
    losses, _ = network.losses(output, examples, measure)
    early, _ = measure(output.branches[0][0], examples.targets)
    late = {
        m: measure(branch[0], labelled_where(examples.inputs.present[m], examples.targets))[0]
        for m, branch in zip(SIZES, output.branches[1:], strict=True)
    }
    assert [len(loss) for loss in late.values()] == [1, 3, 3]
    weights = dict(zip(SIZES, balance_weights(torch.stack([x.mean() for x in late.values()]), "inverse"), strict=True))
    mood = sum(weights[m] * late[m][0] for m in SIZES)
    kinds = (weights["y"] * late["y"][1:] + weights["z"] * late["z"][1:]) / (weights["y"] + weights["z"])
    torch.testing.assert_close(losses, early + torch.cat([mood[None], kinds]))


def test_a_batch_without_labels_has_no_loss() -> None:
    network, examples = network_of().train(), batch()
    measure = Measure(list_objectives(CONCEPTS, examples.targets, "concept"))
    nobody = {c: torch.full_like(t, -1) for c, t in examples.targets.items()}
    losses, active = network.losses(network(examples.inputs), Examples(examples.inputs, nobody), measure)
    assert losses.shape == active.shape == (0,)


def test_class_weights_are_those_of_formula_13() -> None:
    mood = torch.tensor([0, 0, 0, 1, 1, 2])
    (objective,) = list_objectives(CONCEPTS[:1], {"mood": mood}, "concept")
    weights = balanced_weights((objective,), {"mood": mood})["mood"]
    assert weights.tolist() == pytest.approx([6 / (3 * 3), 6 / (3 * 2), 6 / (3 * 1)])
    assert (weights * torch.tensor([3, 2, 1])).sum().item() == pytest.approx(6)
    kinds = torch.tensor([[1, 0], [0, 0], [0, 1], [0, 1]])
    for objective in list_objectives(CONCEPTS[1:], {"kinds": kinds}, "concept"):
        zero, one = balanced_weights((objective,), {"kinds": kinds})[objective.name].tolist()
        positives = kinds[:, objective.index].sum().item()
        assert one / zero == pytest.approx((4 - positives) / positives), "the ratio is the label's pos_weight"
        logits = torch.linspace(-2, 2, 8, dtype=torch.float64).reshape(4, 2)
        loss, _ = Measure((objective,), weights={objective.name: torch.tensor([zero, one])})(
            {"kinds": logits}, {"kinds": kinds}
        )
        expected = binary_cross_entropy_with_logits(
            logits[:, objective.index], kinds[:, objective.index].double(), pos_weight=torch.tensor(one / zero)
        )
        assert loss.item() == pytest.approx(zero * expected.item())


@pytest.mark.parametrize("part", PARTS)
def test_each_switch_takes_its_part_away(part: str) -> None:
    whole, less = network_of().train(), network_of(**{part: PARTS[part]}).train()
    names = {name.split(".")[1] if name.startswith("core") else name.split(".")[0] for name, _ in
             whole.named_parameters()}  # fmt: skip
    kept = {name.split(".")[1] if name.startswith("core") else name.split(".")[0] for name, _ in
            less.named_parameters()}  # fmt: skip
    gone = {"delta": {"memory"}, "gated": {"gates"}, "cross": {"cross"}, "contrastive": {"embed"}, "balance": set()}
    assert names - kept == gone[part]
    examples = batch()
    output = less(examples.inputs)
    assert (output.penalty is None) == (part == "contrastive")
    assert len(output.branches) == (1 if part == "balance" else 4)
    assert less.eval()(examples.inputs).penalty is None


def test_without_its_parts_it_is_the_classical_method() -> None:
    hybrid = network_of(**PARTS).eval()
    fusion = shipped("baselines", "classical").build(3, 4)
    classical = Network(SIZES, fusion, LinearHeads, CONCEPTS, 4, 0.0).double().eval()
    state = {name.replace("core.", "fusion."): value for name, value in hybrid.state_dict().items()}
    classical.load_state_dict(state)
    examples = batch()
    one, two = hybrid(examples.inputs), classical(examples.inputs)
    for name in one.logits:
        assert torch.equal(one.logits[name], two.logits[name])
    measure = Measure(list_objectives(CONCEPTS, examples.targets, "concept"))
    torch.testing.assert_close(hybrid.losses(one, examples, measure), classical.losses(two, examples, measure))
    assert one.penalty is None


def test_scores_are_half_the_early_ones_and_half_the_mean_of_the_late_ones_present() -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 3, 4, dtype=torch.float64, generator=g)
    present = torch.tensor([[True, True], [False, True], [False, False]])
    for kind, p in (("exclusive", logits.softmax(-1)), ("multilabel", logits.sigmoid())):
        mixed = mix(logits, present, kind)  # type: ignore[arg-type]
        scores = mixed.softmax(-1) if kind == "exclusive" else mixed.sigmoid()
        late = torch.stack([p[0, 1:].mean(0), p[1, 2], p[2, 1:].mean(0)])
        torch.testing.assert_close(scores, (p[:, 0] + late) / 2)
    assert torch.equal(mix(logits[:, :1], present, "exclusive"), logits[:, 0])


@pytest.mark.parametrize("update", ["convex", "printed", "printed_recursive", "mfn"])
def test_sequences_of_the_core(update: str) -> None:
    torch.manual_seed(0)
    core = Core(3, 4, 0.0, Settings(heads=2, memory_update=update)).double().eval()  # type: ignore[arg-type]
    g = torch.Generator().manual_seed(1)
    views = torch.randn(5, 6, 3, 4, dtype=torch.float64, generator=g)
    mask = torch.rand(5, 6, 3, generator=g) > 0.3
    mask[:, 4:], mask[0], mask[1, :, 0] = False, False, False
    whole = core(views, mask)
    assert whole.early.shape == (5, 16) and whole.alone.shape == (5, 3, 4)
    short = core(views[:, :4], mask[:, :4])
    noise = core(torch.where(mask[..., None], views, 1e3), mask)
    for rows in ([3], [4, 1]):
        part = core(views[rows], mask[rows])
        torch.testing.assert_close((part.early, part.alone), (whole.early[rows], whole.alone[rows]))
    for other in (short, noise):
        torch.testing.assert_close((other.early, other.alone), (whole.early, whole.alone), rtol=1e-11, atol=1e-13)
    assert not whole.early[0].any() and not whole.alone[0].any(), "a sample without any step"
    assert not torch.allclose(core(views.flip(1), mask.flip(1)).early, whole.early), "order matters"
    one = core(views[:1, :1], torch.ones(1, 1, 3, dtype=torch.bool))
    assert torch.isfinite(one.early).all()


def test_gradients_of_the_network_are_right() -> None:
    core = Core(2, 4, 0.0, Settings(heads=2)).double()
    views = torch.randn(2, 3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    mask = torch.tensor([[[True, False], [True, True], [True, True]], [[False, False], [True, True], [False, True]]])
    inputs = [views, *core.parameters()]
    assert torch.autograd.gradcheck(lambda v, *_: core(v, mask).early, inputs, fast_mode=True)


@pytest.mark.parametrize("modalities", [1, 2, 4])
def test_any_number_of_modalities(modalities: int) -> None:
    sizes = dict(list({**SIZES, "u": 6}.items())[:modalities])
    network, examples = network_of(sizes).train(), batch(sizes=sizes)
    output = network(examples.inputs)
    assert len(output.branches) == 1 + modalities and (output.penalty is None) == (modalities == 1)
    losses, _ = network.losses(output, examples, Measure(list_objectives(CONCEPTS, examples.targets, "concept")))
    total = losses.sum() + (0 if output.penalty is None else output.penalty)
    gradients = torch.autograd.grad(total, list(network.parameters()), allow_unused=True, materialize_grads=True)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_late_branch_sees_its_own_modality_and_the_early_one_all() -> None:
    network, examples = network_of().eval(), batch()
    for m in SIZES:
        examples.inputs.values[m].requires_grad_()
        examples.inputs.present[m][:] = True
    output = network(examples.inputs)
    for b, branch in enumerate(output.branches):
        gradients = torch.autograd.grad(
            branch[0]["mood"].square().sum(), list(examples.inputs.values.values()), retain_graph=True,
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        assert [bool(g.any()) for g in gradients] == [b == 0 or b == m + 1 for m in range(3)]


def test_the_core_is_its_blocks_at_the_last_step() -> None:
    torch.manual_seed(0)
    core = Core(2, 4, 0.0, Settings(heads=2)).double().eval()
    views = torch.randn(3, 5, 2, 4, dtype=torch.float64)
    mask = torch.ones(3, 5, 2, dtype=torch.bool)
    h, c = core.views(views, mask)
    memory, _ = core.memory(h.flatten(2), c.flatten(2), mask.any(2))
    gated = torch.stack([core.gates(h[:, [t]], memory[:, [t - 1]] * (t > 0))[:, 0] for t in range(5)], dim=1)
    attended = core.cross(gated, gated, mask)[:, -1]
    fused = core(views, mask)
    torch.testing.assert_close(fused.early, torch.cat([memory[:, -1], attended.flatten(1)], dim=1))
    assert torch.equal(fused.alone, h[:, -1])


def fit(selector: str, **settings: Any) -> tuple[Any, Examples]:
    examples = batch(40)
    examples = Examples(
        Inputs({m: v.float() for m, v in examples.inputs.values.items()}, examples.inputs.present), examples.targets
    )
    (method,) = parse(selector, REGISTRY, tuple(SIZES))
    model = build_model(method, REGISTRY)
    model.fit(examples, examples, FitContext(CONCEPTS, 0, Training(epochs=2, width=4, **settings)))
    return model, examples


def test_class_weights_are_the_runs_or_those_of_the_name() -> None:
    asked = [
        ("hybrid", {"class_weights": "balanced"}),
        ("hybrid:class_weights=on", {}),
        ("hybrid", {}),
        ("hybrid:class_weights=off", {"class_weights": "balanced"}),
    ]
    scores = []
    for selector, settings in asked:
        model, examples = fit(selector, **settings)
        scores.append(model.predict(examples.inputs)["mood"])
    assert (scores[0] == scores[1]).all() and (scores[2] == scores[3]).all()
    assert (scores[0] != scores[2]).any()


@pytest.mark.parametrize("plateau", [True, False])
def test_the_plateau_reaches_the_loop(plateau: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    def spied(*given: Any) -> dict[str, Any]:
        told.append(given[-1].plateau is not None)
        return train_network(*given)

    monkeypatch.setattr("mmbench.training.model.train_network", spied)
    fit("hybrid:plateau=on" if plateau else "hybrid")
    assert told == [plateau]


def test_a_missing_modality_is_not_seen() -> None:
    network, examples = network_of().eval(), batch()
    there = examples.inputs.present
    noisy = Inputs({m: torch.where(there[m][:, None], v, 7.0) for m, v in examples.inputs.values.items()}, there)
    for name, logits in network(examples.inputs).logits.items():
        torch.testing.assert_close(network(noisy).logits[name], logits, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "selector",
    ["hybrid", "hybrid:delta=off", "hybrid:gated=off", "hybrid:cross=off", "hybrid:contrastive=off",
     "hybrid:balance=off", "hybrid:balance=inverse:memory_update=mfn:symmetric=on:class_weights=on:plateau=on"],
)  # fmt: skip
def test_selectors(selector: str) -> None:
    (method,) = parse(selector, REGISTRY, ("x", "y"))
    assert method.is_model and method.name.startswith("hybrid")
    build_model(method, REGISTRY)


@pytest.mark.parametrize(
    "selector",
    ["hybrid:memory_update=minus", "hybrid:heads=0", "hybrid:temperature=0", "hybrid:balance=learned",
     "hybrid:align_weight=-1", "hybrid+equal", "hybrid:delta=maybe"],
)  # fmt: skip
def test_selectors_refused(selector: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(selector, REGISTRY, ("x", "y"))
    assert "\n" not in str(caught.value)


def test_default_parameters_are_the_papers() -> None:
    assert Settings().align_weight == 0.3 and Settings().memory_update == "convex"
    (method,) = parse("hybrid:delta=on:align_weight=0.3:balance=fixed", REGISTRY, ("x", "y"))
    assert method.name == "hybrid"
    assert math.isclose(Settings().temperature, 0.07)
