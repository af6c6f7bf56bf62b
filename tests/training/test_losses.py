"""Losses against torch's own, closed forms and slow scalar arithmetic."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from mmbench.contracts import Concept, Objective
from mmbench.errors import MmbenchError
from mmbench.training.losses import balanced_weights, focal, list_objectives, objective_losses

CONCEPTS = (
    Concept("informative", ("yes", "no"), background="no"),
    Concept("humanitarian", ("a", "b", "c"), "multilabel"),
    Concept("damage", ("none", "mild", "severe"), background="none"),
)


def batch(rows: int = 12) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Logits and targets with unlabelled rows in two concepts."""
    g = torch.Generator().manual_seed(5)
    outputs = {c.name: 2 * torch.randn(rows, len(c.labels), dtype=torch.float64, generator=g) for c in CONCEPTS}
    targets = {
        "informative": torch.randint(0, 2, (rows,), generator=g),
        "humanitarian": torch.randint(0, 2, (rows, 3), generator=g),
        "damage": torch.randint(-1, 3, (rows,), generator=g),
    }
    targets["humanitarian"][3:6] = -1
    return outputs, targets


def test_without_focus_losses_are_torchs_cross_entropies() -> None:
    outputs, targets = batch()
    objectives = list_objectives(CONCEPTS, targets, "concept")
    losses, active = objective_losses(outputs, targets, objectives)
    known = targets["humanitarian"][:, 0] >= 0
    bce = F.binary_cross_entropy_with_logits(
        outputs["humanitarian"][known], targets["humanitarian"][known].double(), reduction="none"
    )
    expected = torch.stack(
        [
            F.cross_entropy(outputs["informative"], targets["informative"]),
            *bce.mean(0),
            F.cross_entropy(outputs["damage"], targets["damage"], ignore_index=-1),
        ]
    )
    torch.testing.assert_close(losses, expected, rtol=1e-14, atol=0)
    assert active.tolist() == [0, 1, 2, 3, 4]


def test_label_objectives_of_an_exclusive_concept_are_one_against_the_rest() -> None:
    outputs, targets = batch()
    objectives = list_objectives(CONCEPTS[2:], targets, "label")
    losses, _ = objective_losses(outputs, targets, objectives)
    known = targets["damage"] >= 0
    one_hot = F.one_hot(targets["damage"][known], 3).double()
    expected = F.binary_cross_entropy_with_logits(outputs["damage"][known], one_hot, reduction="none").mean(0)
    torch.testing.assert_close(losses, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 5.0])
def test_focal_losses_equal_scalar_arithmetic(beta: float) -> None:
    outputs, targets = batch()
    losses, _ = objective_losses(outputs, targets, list_objectives(CONCEPTS, targets, "concept"), beta)

    def focal(p: float) -> float:
        return -((1 - p) ** beta) * math.log(p)

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    expected = []
    for name in ("informative", "humanitarian", "damage"):
        rows = list(zip(outputs[name].tolist(), targets[name].tolist(), strict=True))
        if name == "humanitarian":
            for k in range(3):
                pairs = [(u[k], y[k]) for u, y in rows if y[k] >= 0]
                expected.append(mean([focal(1 / (1 + math.exp(-u if y else u))) for u, y in pairs]))
        else:
            softmax = [math.exp(u[y]) / sum(map(math.exp, u)) for u, y in rows if y >= 0]
            expected.append(mean([focal(p) for p in softmax]))
    assert losses.tolist() == pytest.approx(expected, rel=1e-12)


def test_focal_loss_at_one_half_is_a_quarter_of_log_two() -> None:
    whole, label = Objective("c", None, None, 1, 1), Objective("c", "x", 0, 1, 1)
    for objective in (whole, label):
        for y in (0, 1):
            logits = torch.zeros(1, 2, dtype=torch.float64)
            losses, _ = objective_losses({"c": logits}, {"c": torch.tensor([y])}, (objective,), 2.0)
            assert losses.item() == pytest.approx(0.25 * math.log(2), rel=1e-15)


@pytest.mark.parametrize("beta", [0.0, 2.0])
@pytest.mark.parametrize("u", [-100.0, -30.0, 30.0, 100.0])
def test_losses_keep_their_digits_at_large_logits(u: float, beta: float) -> None:
    getcontext().prec = 120
    p = 1 / (1 + (-Decimal(u)).exp())
    expected = float(-((1 - p) ** Decimal(beta)) * p.ln())
    logits = torch.tensor([[0.0, u]], dtype=torch.float64, requires_grad=True)
    for objective in (Objective("c", None, None, 1, 1), Objective("c", "x", 1, 1, 1)):
        loss, _ = objective_losses({"c": logits}, {"c": torch.tensor([1])}, (objective,), beta)
        assert loss.item() == pytest.approx(expected, rel=1e-12, abs=0)
        (slope,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(slope).all() and slope[0, 1] < 0


def test_the_focal_loss_falls_as_the_truth_gains_probability() -> None:
    margin = torch.linspace(-20, 20, 101, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(focal(margin, 2.0).sum(), margin)
    assert (slope < 0).all()


@pytest.mark.parametrize("mode", ["concept", "label"])
@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_gradients_are_right(mode: str, focus: float) -> None:
    outputs, targets = batch(5)
    objectives = list_objectives(CONCEPTS, targets, mode)  # type: ignore[arg-type]
    names = list(outputs)

    def losses(*logits: torch.Tensor) -> torch.Tensor:
        return objective_losses(dict(zip(names, logits, strict=True)), targets, objectives, focus)[0]

    assert torch.autograd.gradcheck(losses, [outputs[name].requires_grad_() for name in names])


def test_an_objective_without_a_label_in_the_batch_is_left_out() -> None:
    outputs, targets = batch()
    objectives = list_objectives(CONCEPTS, targets, "concept")
    whole, _ = objective_losses(outputs, targets, objectives)
    targets["humanitarian"] = torch.full_like(targets["humanitarian"], -1)
    for logits in outputs.values():
        logits.requires_grad_()
    losses, active = objective_losses(outputs, targets, objectives)
    assert active.tolist() == [0, 4]
    torch.testing.assert_close(losses, whole[[0, 4]], rtol=0, atol=0)
    targets = {name: torch.full_like(target, -1) for name, target in targets.items()}
    losses, active = objective_losses(outputs, targets, objectives)
    assert losses.shape == active.shape == (0,)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("focus", [0.0, 2.0])
@pytest.mark.parametrize("mode", ["concept", "label"])
def test_several_predictions_at_once_are_each_alone_bit_for_bit(mode: str, focus: float, weighted: bool) -> None:
    outputs, targets = batch(64)
    concepts = (*CONCEPTS, Concept("mood", ("mood",), "score"))
    g = torch.Generator().manual_seed(6)
    outputs["mood"] = torch.randn(64, 1, dtype=torch.float64, generator=g)
    targets["mood"] = torch.randn(64, dtype=torch.float64, generator=g).masked_fill(
        torch.rand(64, generator=g) < 0.2, torch.nan
    )
    objectives = list_objectives(concepts, targets, mode)  # type: ignore[arg-type]
    weights = balanced_weights(objectives, targets) if weighted else None
    three = [{c: (scale * v).float().requires_grad_() for c, v in outputs.items()} for scale in (1.0, -0.5, 3.0)]
    stacked = {c: torch.stack([one[c] for one in three]) for c in outputs}
    together, active = objective_losses(stacked, targets, objectives, focus, weights)
    leaves = [v for one in three for v in one.values()]
    slopes = torch.autograd.grad(together.sum(), leaves)
    alone = [objective_losses(one, targets, objectives, focus, weights) for one in three]
    assert torch.equal(together, torch.stack([losses for losses, _ in alone]))
    assert torch.equal(active, alone[0][1])
    expected = torch.autograd.grad(sum(losses.sum() for losses, _ in alone), leaves)  # type: ignore[arg-type]
    assert all(torch.equal(found, wanted) for found, wanted in zip(slopes, expected, strict=True))
    nothing = {name: torch.full_like(t, torch.nan if t.is_floating_point() else -1) for name, t in targets.items()}
    losses, active = objective_losses(stacked, nothing, objectives)
    assert losses.shape == (3, 0) and active.shape == (0,)


def test_unlabelled_rows_have_no_gradient() -> None:
    outputs, targets = batch()
    for logits in outputs.values():
        logits.requires_grad_()
    losses, _ = objective_losses(outputs, targets, list_objectives(CONCEPTS, targets, "concept"), 2.0)
    losses.sum().backward()
    for name, logits in outputs.items():
        target = targets[name] if targets[name].ndim == 1 else targets[name][:, 0]
        assert logits.grad is not None
        assert (logits.grad[target < 0] == 0).all()
        assert (logits.grad[target >= 0] != 0).all()


def test_losses_are_given_in_the_order_of_the_objectives() -> None:
    outputs, targets = batch()
    objectives = list_objectives(CONCEPTS, targets, "concept")
    losses, _ = objective_losses(outputs, targets, objectives)
    shuffled = (3, 0, 4, 2, 1)
    again, active = objective_losses(outputs, targets, tuple(objectives[i] for i in shuffled))
    assert active.tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(again, losses[list(shuffled)], rtol=0, atol=0)


def test_objectives_are_counted_on_labelled_rows() -> None:
    targets = {
        "informative": torch.tensor([0, 0, 1, -1]),
        "humanitarian": torch.tensor([[1, 1, 0], [0, 1, 0], [-1, -1, -1], [0, 0, 0]]),
        "damage": torch.tensor([-1, 0, 2, 2]),
    }
    by_concept = [(o.name, o.index, o.n_labelled, o.n_positive) for o in list_objectives(CONCEPTS, targets, "concept")]
    humanitarian = [("humanitarian/a", 0, 3, 1), ("humanitarian/b", 1, 3, 2), ("humanitarian/c", 2, 3, 0)]
    assert by_concept == [("informative", None, 3, 2), *humanitarian, ("damage", None, 3, 2)]
    by_label = [(o.name, o.index, o.n_labelled, o.n_positive) for o in list_objectives(CONCEPTS, targets, "label")]
    assert by_label == [
        ("informative/yes", 0, 3, 2),
        ("informative/no", 1, 3, 1),
        *humanitarian,
        ("damage/none", 0, 3, 1),
        ("damage/mild", 1, 3, 0),
        ("damage/severe", 2, 3, 2),
    ]


@pytest.mark.parametrize("mode", ["concept", "label"])
def test_balanced_weights_are_scikit_learns_and_multiply_the_losses(mode: str) -> None:
    outputs, targets = batch(40)
    objectives = list_objectives(CONCEPTS, targets, mode)  # type: ignore[arg-type]
    weights = balanced_weights(objectives, targets)
    losses, _ = objective_losses(outputs, targets, objectives, weights=weights)
    for loss, objective in zip(losses, objectives, strict=True):
        logits, target = outputs[objective.concept], targets[objective.concept]
        if objective.index is not None:
            hit = target[:, objective.index] if target.ndim == 2 else (target == objective.index).long()
            target = torch.where((target[:, 0] if target.ndim == 2 else target) < 0, -1, hit)
            logits = logits[:, objective.index]
        known = target >= 0
        y = target[known]
        expected = compute_class_weight("balanced", classes=y.unique().numpy(), y=y.numpy())
        assert weights[objective.name].tolist() == pytest.approx(expected.tolist())
        assert weights[objective.name][y].sum().item() == pytest.approx(len(y))
        row_losses = (
            F.cross_entropy(logits[known], y, reduction="none")
            if objective.index is None
            else F.binary_cross_entropy_with_logits(logits[known], y.double(), reduction="none")
        )
        assert loss.item() == pytest.approx((weights[objective.name][y] * row_losses).mean().item())


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_class_without_a_row_has_no_balanced_weight(absent: int) -> None:
    outputs, targets = batch(40)
    targets["damage"][targets["damage"] == absent] = -1
    objectives = list_objectives(CONCEPTS[2:], targets, "concept")
    with pytest.raises(MmbenchError, match="damage has a class without a training row"):
        objective_losses(outputs, targets, objectives, weights=balanced_weights(objectives, targets))


def test_two_classes_are_the_shorter_way_to_the_same_numbers():
    informative = list_objectives((Concept("c", ("no", "yes")),), {"c": torch.tensor([0, 1])}, "concept")
    logits = torch.tensor([[3.0, -2.0], [800.0, -800.0], [-40.0, 40.0], [0.5, 0.5]], dtype=torch.float64)
    target = torch.tensor([1, 0, -1, 1])
    found, expected = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    losses, _ = objective_losses({"c": found}, {"c": target}, informative)
    reference = F.cross_entropy(expected, target, ignore_index=-1)
    torch.testing.assert_close(losses, reference.unsqueeze(0))
    losses.sum().backward(), reference.backward()
    torch.testing.assert_close(found.grad, expected.grad)
