"""Scores as objectives: the loss, its scale, its masks, and how every kind of method brings numbers back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional as F

from mmbench.contracts import Concept, Examples, known, unlabelled
from mmbench.methods import build_model, parse
from mmbench.plugins import Registry, shipped
from mmbench.proposed.hybrid.network import mix
from mmbench.training.losses import (
    balanced_weights,
    list_objectives,
    objective_losses,
    scale_of,
    standardised,
    without_labels,
)

REGISTRY = Registry()
CONCEPTS = (
    Concept("damage", ("none", "mild", "severe"), background="none"),
    Concept("rating", ("stars",), "score"),
    Concept("kinds", ("flood", "fire"), "multilabel"),
)
NAN = math.nan


def batch(rows: int = 9) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(4)
    outputs = {c.name: torch.randn(rows, len(c.labels), dtype=torch.float64, generator=g) for c in CONCEPTS}
    targets = {
        "damage": torch.arange(rows) % 3,
        "rating": torch.randn(rows, dtype=torch.float64, generator=g),
        "kinds": torch.randint(0, 2, (rows, 2), generator=g),
    }
    targets["rating"][[1, 5]] = NAN
    return outputs, targets


def model_of(selector: str):
    (method,) = parse(selector, REGISTRY, ("x", "y"))
    return build_model(method, REGISTRY)


def test_a_score_is_one_number_a_row() -> None:
    with pytest.raises(ValueError, match="a score with 2 labels"):
        Concept("c", ("a", "b"), "score")
    bounded = Concept("c", ("a",), "score", bounds=(-3.0, 3.0))
    assert Concept.of(bounded.record()) == bounded
    plain = Concept("d", ("a", "b"), "exclusive", "a")
    assert Concept.of(plain.record()) == plain and "bounds" not in plain.record()


def test_labels_and_their_absence_of_every_kind_of_target() -> None:
    assert known(np.array([0.0, NAN, -1.0])).tolist() == [True, False, True]
    assert known(np.array([0, -1, 2])).tolist() == [True, False, True]
    assert known(np.array([[0, 1], [-1, -1]])).tolist() == [True, False]
    assert math.isnan(unlabelled(np.zeros(1))) and unlabelled(np.zeros(1, dtype=np.int64)) == -1
    rows = torch.tensor([True, False])
    assert without_labels(torch.tensor([1.0, 2.0]), rows).isnan().tolist() == [True, False]
    assert without_labels(torch.tensor([[1, 0], [0, 1]]), rows).tolist() == [[-1, -1], [0, 1]]


def test_objectives_count_the_labelled_rows_of_a_score_as_positive() -> None:
    _, targets = batch()
    for mode in ("concept", "label"):
        (rating,) = (o for o in list_objectives(CONCEPTS, targets, mode) if o.concept == "rating")
        assert (rating.name, rating.index, rating.n_labelled, rating.n_positive) == ("rating", None, 7, 7)


@pytest.mark.parametrize("focus", [0.0, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_torchs_absolute_error_whatever_the_focus_and_the_class_weights(focus, weighted) -> None:
    outputs, targets = batch()
    objectives = list_objectives(CONCEPTS, targets, "concept")
    weights = balanced_weights(objectives, targets) if weighted else None
    assert weights is None or "rating" not in weights
    losses, active = objective_losses(outputs, targets, objectives, focus, weights)
    assert [objectives[i].name for i in active] == ["damage", "rating", "kinds/flood", "kinds/fire"]
    there = ~targets["rating"].isnan()
    expected = F.l1_loss(outputs["rating"][there, 0], targets["rating"][there])
    torch.testing.assert_close(losses[1], expected, rtol=1e-14, atol=0)
    alone, _ = objective_losses(outputs, targets, objectives[:1] + objectives[2:], focus, weights)
    torch.testing.assert_close(losses[[0, 2, 3]], alone, rtol=0, atol=0)


def test_unlabelled_rows_have_no_gradient_and_the_others_the_right_one() -> None:
    outputs, targets = batch()
    objectives = list_objectives(CONCEPTS, targets, "concept")
    for logits in outputs.values():
        logits.requires_grad_()
    objective_losses(outputs, targets, objectives)[0].sum().backward()
    slope = outputs["rating"].grad
    assert slope is not None and (slope[targets["rating"].isnan()] == 0).all()
    there = ~targets["rating"].isnan()
    sign = torch.sign(outputs["rating"][there, 0] - targets["rating"][there]) / 7
    torch.testing.assert_close(slope[there, 0], sign.detach())

    def losses(rating: torch.Tensor) -> torch.Tensor:
        return objective_losses({**outputs, "rating": rating}, targets, objectives)[0]

    assert torch.autograd.gradcheck(losses, [outputs["rating"].detach().requires_grad_()])


def test_a_batch_without_a_labelled_row_leaves_the_score_out() -> None:
    outputs, targets = batch()
    objectives = list_objectives(CONCEPTS, targets, "concept")
    targets["rating"] = torch.full_like(targets["rating"], NAN)
    _, active = objective_losses(outputs, targets, objectives)
    assert active.tolist() == [0, 2, 3]


def test_scores_are_trained_on_where_the_labelled_training_rows_lie() -> None:
    raw = torch.tensor([10.0, NAN, 14.0, 18.0], dtype=torch.float64)
    scale = scale_of(raw)
    assert scale.centre == 14 and scale.spread == pytest.approx(math.sqrt(32 / 3))
    scaled = standardised({"rating": raw, "damage": torch.tensor([1])}, {"rating": scale})
    there = scaled["rating"][~raw.isnan()]
    assert there.mean().abs() < 1e-12 and there.std(correction=0) == pytest.approx(1) and scaled["rating"][1].isnan()
    assert scaled["damage"].tolist() == [1]
    assert scale_of(torch.tensor([5.0, 5.0, NAN])).spread == 1


def moved(part: Examples, factor: float, offset: float) -> Examples:
    return Examples(part.inputs, part.targets | {"rating": factor * part.targets["rating"] + offset})


@pytest.mark.parametrize(
    "selector", ["concat+equal", "late+dmtl", "hybrid", "xattn", "concat+single", "linear", "majority"]
)
def test_a_change_of_units_changes_the_units_of_the_predictions_alone(selector: str, mixed) -> None:
    train, val, test = mixed.examples(41), mixed.examples(20, seed=1), mixed.examples(15, seed=2).inputs
    first, second = model_of(selector), model_of(selector)
    first.fit(train, val, mixed.context())
    second.fit(moved(train, 4, 100), moved(val, 4, 100), mixed.context())
    before, after = first.predict(test), second.predict(test)
    np.testing.assert_allclose(after["rating"], 4 * before["rating"] + 100, rtol=1e-5)
    for name in ("severity", "kinds", "useful"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-5)


def test_a_score_is_learnt_where_there_is_something_to_learn(mixed) -> None:
    whole = mixed.examples(600, missing=0, unlabelled=0)
    train, val, test = (whole.rows(slice(start, stop)) for start, stop in ((0, 400), (400, 500), (500, 600)))
    truth = test.targets["rating"].numpy()
    error = {}
    for selector in ("concat+equal", "linear", "majority"):
        model = model_of(selector)
        model.fit(train, val, mixed.context(epochs=15))
        error[selector] = np.abs(model.predict(test.inputs)["rating"][:, 0] - truth).mean()
    assert max(error["concat+equal"], error["linear"]) < 0.8 * error["majority"]


def test_a_network_of_its_own_for_a_score_is_the_network_of_that_score_alone(mixed) -> None:
    single, alone = model_of("concat+single"), model_of("concat+equal")
    train, val = mixed.examples(41), mixed.examples(20, seed=1)
    history = single.fit(train, val, mixed.context())
    assert list(history["networks"])[-1] == "rating"
    keep = [
        Examples(p.inputs, {"rating": p.targets["rating"]}).rows(~p.targets["rating"].isnan()) for p in (train, val)
    ]
    alone.fit(*keep, type(mixed)(mixed.concepts[-1:]).context())
    inputs = mixed.examples(9, seed=2).inputs
    assert (alone.predict(inputs)["rating"] == single.predict(inputs)["rating"]).all()


def test_objectives_by_label_leave_a_score_whole(mixed) -> None:
    model = model_of("late+equal")
    history = model.fit(mixed.examples(41), mixed.examples(20, seed=1), mixed.context(objectives="label"))
    assert history["objectives"][-1] == "rating" and "useful/yes" in history["objectives"]
    assert model.predict(mixed.examples(5, seed=2).inputs)["rating"].shape == (5, 1)


@pytest.mark.parametrize("mode", ["mean_prob", "mean_logit", "weighted"])
def test_late_fusion_averages_the_numbers_of_the_modalities_present(mode: str) -> None:
    late = shipped("baselines", "late").build(3, 4, mode=mode)
    weights = torch.tensor([0.2, 0.3, 0.5])
    if mode == "weighted":
        late.scores.data = weights.log()
    else:
        weights = torch.ones(3) / 3
    told = torch.tensor([[[1.0], [2.0], [6.0]]] * 3)
    present = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    there = torch.where(present | ~present.any(1, keepdim=True), weights, 0.0)
    expected = (told[..., 0] * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)
    torch.testing.assert_close(late.mix(told, present, "score"), expected)


def test_the_hybrid_model_averages_its_early_and_its_late_numbers() -> None:
    told = torch.tensor([[[1.0], [2.0], [6.0]], [[1.0], [2.0], [6.0]]])
    present = torch.tensor([[True, True], [False, True]])
    torch.testing.assert_close(mix(told, present, "score"), torch.tensor([[0.5 + 2.0], [0.5 + 3.0]]))
    assert mix(told[:, :1], present, "score").tolist() == [[1.0], [1.0]]


def test_the_linear_row_is_the_ridge_regression_that_errs_least_on_validation(mixed) -> None:
    linear = shipped("baselines", "linear")
    train, val, test = (mixed.examples(rows, seed=s, missing=0) for rows, s in ((60, 0), (30, 1), (12, 2)))
    model = linear.build(modality="x")
    (chosen,) = model.fit(train, val, mixed.context())["C"]["rating"]
    x = {p: e.inputs.values["x"].double().numpy() for p, e in (("train", train), ("val", val), ("test", test))}
    factor = math.sqrt(10 / (x["train"] ** 2).sum(1).mean())
    y, v = train.targets["rating"].numpy(), val.targets["rating"].numpy()
    there, judged = ~np.isnan(y), ~np.isnan(v)
    fits = {a: Ridge(alpha=a).fit(factor * x["train"][there], y[there]) for a in linear.ALPHAS}
    errors = {a: np.abs(f.predict(factor * x["val"][judged]) - v[judged]).mean() for a, f in fits.items()}
    assert chosen == min(errors, key=lambda a: errors[a])
    told = model.predict(test.inputs)["rating"]
    np.testing.assert_allclose(told[:, 0], fits[chosen].predict(factor * x["test"]), rtol=1e-5)


@pytest.mark.parametrize("selector", ["linear", "majority", "concat+equal"])
def test_a_score_that_never_varies_is_predicted_as_it_is(selector: str, mixed) -> None:
    train, val = (
        Examples(p.inputs, p.targets | {"rating": torch.full((len(p),), 42.0, dtype=torch.float64)})
        for p in (mixed.examples(40), mixed.examples(20, seed=1))
    )
    model = model_of(selector)
    model.fit(train, val, mixed.context())
    told = model.predict(mixed.examples(5, seed=2).inputs)["rating"]
    assert np.abs(told - 42).max() < (1.0 if selector == "concat+equal" else 1e-9)


def test_the_majority_row_gives_the_mean_of_the_labelled_training_rows(mixed) -> None:
    train = mixed.examples(40)
    model = model_of("majority")
    model.fit(train, mixed.examples(20, seed=1), mixed.context())
    told = model.predict(mixed.examples(3, seed=2).inputs)["rating"]
    np.testing.assert_allclose(told, np.full((3, 1), np.nanmean(train.targets["rating"].numpy())))
