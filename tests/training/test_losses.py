"""Objectives and their losses against torch, closed forms, scikit-learn and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmbench.contracts import Concept, Objective
from mmbench.errors import MmbenchError
from mmbench.training.losses import balanced_weights, binary_focal, list_objectives, objective_losses

SEVERITY = Concept("severity", ("none", "mild", "severe"), background="none")
KINDS = Concept("kinds", ("flood", "fire"), "multilabel")


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


TARGETS = {
    "severity": torch.tensor([0, 1, 2, -1, 1, 0, 0]),
    "kinds": torch.tensor([[1, 0], [0, 0], [-1, -1], [1, 1], [1, 0], [-1, -1], [0, 0]]),
}
OUTPUTS = {
    "severity": torch.linspace(-2, 2, 21).sin().mul(3).view(7, 3).double(),
    "kinds": torch.linspace(-3, 1, 14).cos().mul(3).view(7, 2).double(),
}
CONCEPTS = (SEVERITY, KINDS)


def losses_of(outputs, targets, objectives, **options) -> dict[str, float]:
    losses, places = objective_losses(outputs, targets, objectives, **options)
    assert places.tolist() == sorted(places.tolist())
    return {objectives[p].name: float(loss) for p, loss in zip(places, losses, strict=True)}


# --- the list of objectives ------


def test_objectives_by_concept() -> None:
    assert list_objectives(CONCEPTS, TARGETS, "concept") == (
        Objective("severity", None, None, 6, 3),
        Objective("kinds", "flood", 0, 5, 3),
        Objective("kinds", "fire", 1, 5, 1),
    )
    plain = Concept("severity", SEVERITY.labels)
    assert list_objectives((plain,), TARGETS, "concept") == (Objective("severity", None, None, 6, 6),)


def test_objectives_by_label() -> None:
    objectives = list_objectives(CONCEPTS, TARGETS, "label")
    assert [(o.name, o.index, o.n_labelled, o.n_positive) for o in objectives] == [
        ("severity/none", 0, 6, 3),
        ("severity/mild", 1, 6, 2),
        ("severity/severe", 2, 6, 1),
        ("kinds/flood", 0, 5, 3),
        ("kinds/fire", 1, 5, 1),
    ]


# --- without focus they are torch's ------


def test_losses_are_those_of_torch() -> None:
    objectives = list_objectives(CONCEPTS, TARGETS, "concept")
    losses = losses_of(OUTPUTS, TARGETS, objectives)
    assert losses["severity"] == pytest.approx(
        functional.cross_entropy(OUTPUTS["severity"], TARGETS["severity"], ignore_index=-1).item()
    )
    known = TARGETS["kinds"][:, 0] >= 0
    for index, name in enumerate(KINDS.labels):
        expected = functional.binary_cross_entropy_with_logits(
            OUTPUTS["kinds"][known, index], TARGETS["kinds"][known, index].double()
        )
        assert losses[f"kinds/{name}"] == pytest.approx(expected.item())


def test_a_label_of_an_exclusive_concept_is_one_against_the_rest() -> None:
    losses = losses_of(OUTPUTS, TARGETS, list_objectives(CONCEPTS, TARGETS, "label"))
    known = TARGETS["severity"] >= 0
    for index, name in enumerate(SEVERITY.labels):
        expected = functional.binary_cross_entropy_with_logits(
            OUTPUTS["severity"][known, index], (TARGETS["severity"][known] == index).double()
        )
        assert losses[f"severity/{name}"] == pytest.approx(expected.item())


@pytest.mark.parametrize("mode", ["concept", "label"])
@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_unlabelled_rows_are_not_read(mode: str, focus: float) -> None:
    objectives = list_objectives(CONCEPTS, TARGETS, mode)
    outputs = {name: value.clone().requires_grad_() for name, value in OUTPUTS.items()}
    losses, _ = objective_losses(outputs, TARGETS, objectives, focus)
    losses.sum().backward()
    for name, target in TARGETS.items():
        unknown = target < 0 if target.ndim == 1 else target[:, 0] < 0
        assert (outputs[name].grad[unknown] == 0).all()
        assert (outputs[name].grad[~unknown] != 0).all()
    other = {name: value.clone() for name, value in OUTPUTS.items()}
    other["severity"][3], other["kinds"][2] = 1e3, -1e3
    torch.testing.assert_close(objective_losses(other, TARGETS, objectives, focus)[0], losses, rtol=0, atol=0)


def test_an_objective_without_a_labelled_row_is_skipped() -> None:
    objectives = list_objectives(CONCEPTS, TARGETS, "concept")
    nothing = {"severity": torch.full((7,), -1), "kinds": TARGETS["kinds"]}
    losses, places = objective_losses(OUTPUTS, nothing, objectives)
    assert places.tolist() == [1, 2]
    assert losses.shape == (2,)
    nothing["kinds"] = torch.full((7, 2), -1)
    losses, places = objective_losses(OUTPUTS, nothing, objectives)
    assert losses.shape == places.shape == (0,)


def test_losses_come_in_the_order_of_the_objectives() -> None:
    objectives = list_objectives(CONCEPTS, TARGETS, "concept")
    mixed = (objectives[1], objectives[0], objectives[2])
    losses, places = objective_losses(OUTPUTS, TARGETS, mixed)
    by_name = losses_of(OUTPUTS, TARGETS, objectives)
    assert places.tolist() == [0, 1, 2]
    assert losses.tolist() == pytest.approx([by_name[o.name] for o in mixed])


# --- the focal factor ------


def test_focal_loss_at_a_half_is_a_quarter_of_ln_2() -> None:
    zero = torch.zeros(2)
    assert binary_focal(zero, torch.tensor([0, 1]), 2.0).tolist() == pytest.approx([0.25 * math.log(2)] * 2)
    (concept,) = list_objectives((Concept("c", ("a", "b")),), {"c": torch.tensor([0, 1])}, "concept")
    losses, _ = objective_losses({"c": torch.zeros(2, 2)}, {"c": torch.tensor([0, 1])}, (concept,), 2.0)
    assert losses.item() == pytest.approx(0.25 * math.log(2))


@pytest.mark.parametrize("focus", [0.0, 0.5, 2.0, 5.0])
def test_focal_losses_by_definition(focus: float) -> None:
    losses = losses_of(OUTPUTS, TARGETS, list_objectives(CONCEPTS, TARGETS, "concept"), focus=focus)
    p = OUTPUTS["severity"].softmax(1)
    rows = [(float(p[r, y]),) for r, y in enumerate(TARGETS["severity"].tolist()) if y >= 0]
    expected = [-((1 - q) ** focus) * math.log(q) for (q,) in rows]
    assert losses["severity"] == pytest.approx(sum(expected) / len(expected))
    for index, name in enumerate(KINDS.labels):
        expected = []
        for row, y in enumerate(TARGETS["kinds"][:, index].tolist()):
            if y >= 0:
                q = 1 / (1 + math.exp(-float(OUTPUTS["kinds"][row, index])))
                q = q if y else 1 - q
                expected.append(-((1 - q) ** focus) * math.log(q))
        assert losses[f"kinds/{name}"] == pytest.approx(sum(expected) / len(expected))


def test_cross_entropy_of_two_classes_is_the_binary_loss_of_their_difference() -> None:
    logits, target = 4 * torch.randn(9, 2), torch.arange(9) % 2
    objective = Objective("c", None, None, 9, 9)
    for focus in (0.0, 2.0):
        losses, _ = objective_losses({"c": logits}, {"c": target}, (objective,), focus)
        expected = binary_focal(logits[:, 1] - logits[:, 0], target, focus).mean()
        torch.testing.assert_close(losses[0], expected)


def test_focus_lowers_the_loss_of_easy_rows_most() -> None:
    logits = torch.linspace(-8, 8, 33)
    ratio = binary_focal(logits, torch.ones(33), 2.0) / binary_focal(logits, torch.ones(33), 0.0)
    assert (ratio.diff() < 0).all() and (ratio < 1).all()
    torch.testing.assert_close(ratio, (1 - logits.sigmoid()) ** 2)


@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_slope_has_the_sign_of_the_error(focus: float) -> None:
    logits = torch.linspace(-20, 20, 41).requires_grad_()
    for target, sign in ((1, -1), (0, 1)):
        (slope,) = torch.autograd.grad(binary_focal(logits, torch.full((41,), target), focus).sum(), logits)
        assert (torch.sign(slope) == sign).all()


@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_losses_are_exact_at_logits_of_a_hundred(focus: float) -> None:
    """ln(1 + e^-100) is e^-100 to all digits, and the factor of a wrong answer is one."""
    wrong, right = 100.0, math.exp(-100 * (1 + focus))
    logits = torch.tensor([100.0, -100.0, 100.0, -100.0])
    expected = torch.tensor([right, wrong, wrong, right])
    torch.testing.assert_close(binary_focal(logits, torch.tensor([1, 1, 0, 0]), focus), expected, rtol=1e-12, atol=0)
    objective = Objective("c", None, None, 1, 1)
    for row, target in (([100.0, 0.0, -100.0], 2), ([100.0, 0.0, -100.0], 0), ([0.0, 0.0, 100.0], 2)):
        values = torch.tensor([row], requires_grad=True)
        losses, _ = objective_losses({"c": values}, {"c": torch.tensor([target])}, (objective,), focus)
        losses.sum().backward()
        assert torch.isfinite(losses).all() and torch.isfinite(values.grad).all()
        if target == 2 and row[0] == 100:
            assert losses.item() == pytest.approx(200)


@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_float32_losses_and_gradients_stay_finite(focus: float) -> None:
    objectives = list_objectives(CONCEPTS, TARGETS, "concept")
    for scale in (1e2, 1e4):
        outputs = {n: (scale * v).float().requires_grad_() for n, v in OUTPUTS.items()}
        losses, _ = objective_losses(outputs, TARGETS, objectives, focus)
        losses.sum().backward()
        assert torch.isfinite(losses).all()
        assert all(torch.isfinite(v.grad).all() for v in outputs.values())


@pytest.mark.parametrize("focus", [0.0, 2.0])
@pytest.mark.parametrize("mode", ["concept", "label"])
def test_gradients(mode: str, focus: float) -> None:
    objectives = list_objectives(CONCEPTS, TARGETS, mode)

    def losses(severity, kinds):
        return objective_losses({"severity": severity, "kinds": kinds}, TARGETS, objectives, focus)[0]

    leaves = tuple(OUTPUTS[name].clone().requires_grad_() for name in ("severity", "kinds"))
    assert torch.autograd.gradcheck(losses, leaves)


# --- class weights ------


@pytest.mark.parametrize("mode", ["concept", "label"])
def test_balanced_weights_are_those_of_scikit_learn(mode: str) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    objectives = list_objectives(CONCEPTS, TARGETS, mode)
    weights = balanced_weights(objectives, TARGETS, CONCEPTS)
    assert set(weights) == {o.name for o in objectives}
    for objective in objectives:
        target = TARGETS[objective.concept].numpy()
        if objective.index is not None and target.ndim == 1:
            target = np.where(target < 0, -1, target == objective.index)
        elif objective.index is not None:
            target = target[:, objective.index]
        target = target[target >= 0]
        expected = compute_class_weight("balanced", classes=np.unique(target), y=target)
        np.testing.assert_allclose(weights[objective.name].numpy(), expected)
        assert weights[objective.name].numpy() @ np.bincount(target) == pytest.approx(len(target))


def test_class_weights_multiply_rows_and_the_mean_stays_over_rows() -> None:
    objectives = list_objectives(CONCEPTS, TARGETS, "concept")
    weights = balanced_weights(objectives, TARGETS, CONCEPTS)
    losses = losses_of(OUTPUTS, TARGETS, objectives, weights=weights)
    target = TARGETS["severity"]
    known = target >= 0
    rows = functional.cross_entropy(OUTPUTS["severity"][known], target[known], weights["severity"], reduction="none")
    assert losses["severity"] == pytest.approx(rows.sum().item() / 6)
    fire = TARGETS["kinds"][:, 1]
    total = sum(
        float(weights["kinds/fire"][y]) * float(binary_focal(OUTPUTS["kinds"][r, 1], torch.tensor(y), 0.0))
        for r, y in enumerate(fire.tolist())
        if y >= 0
    )
    assert losses["kinds/fire"] == pytest.approx(total / 5)


def test_a_class_without_a_training_row_has_no_weight() -> None:
    for concept, target in (
        (SEVERITY, torch.tensor([0, 1, 1])),
        (SEVERITY, torch.tensor([0, 2, 2])),
        (KINDS, torch.tensor([[1, 0], [0, 0]])),
    ):
        targets = {concept.name: target}
        with pytest.raises(MmbenchError, match="without a training row"):
            balanced_weights(list_objectives((concept,), targets, "concept"), targets, (concept,))
