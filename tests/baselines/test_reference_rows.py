"""Majority, linear and uncertainty: small enough to be computed here again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Inputs, Objective
from mmbench.plugins import shipped

linear = shipped("baselines", "linear")
majority = shipped("baselines", "majority")
uncertainty = shipped("baselines", "uncertainty")
CONCEPTS = (Concept("severity", ("none", "mild", "severe", "unseen")), Concept("kinds", ("a", "b"), "multilabel"))
CONTEXT = FitContext(CONCEPTS, 0, Training())


def part(rows: int, seed: int) -> Examples:
    draw = np.random.default_rng(seed)
    x, y = draw.standard_normal((rows, 4)), 100 * draw.standard_normal((rows, 3))
    severity = (x[:, 0] > 0).astype(np.int64) + (y[:, 0] > 60)
    kinds = np.stack([x[:, 1] + y[:, 1] / 100 > 0.4, np.ones(rows)], 1).astype(np.int64)
    severity[::7], kinds[::5] = -1, -1
    here = torch.ones(rows, dtype=torch.bool)
    values = {"x": torch.from_numpy(x).float(), "y": torch.from_numpy(y).float()}
    targets = {"severity": torch.from_numpy(severity), "kinds": torch.from_numpy(kinds)}
    return Examples(Inputs(values, {"x": here, "y": here}), targets)


TRAIN, VAL, TEST = part(90, 0), part(40, 1), part(20, 2)


def test_majority_is_the_prevalence_of_the_labelled_rows() -> None:
    model = majority.build()
    model.fit(TRAIN, VAL, CONTEXT)
    scores = model.predict(TEST.inputs)
    target = TRAIN.targets["severity"].tolist()
    known = [t for t in target if t >= 0]
    assert scores["severity"].shape == (20, 4)
    assert scores["severity"][3].tolist() == [known.count(k) / len(known) for k in range(4)]
    kinds = [row for row in TRAIN.targets["kinds"].tolist() if row[0] >= 0]
    assert scores["kinds"][0].tolist() == pytest.approx([sum(r[0] for r in kinds) / len(kinds), 1.0])
    assert model.deterministic


@pytest.mark.parametrize("modality", ["all", "x", "y"])
def test_linear_is_balanced_logistic_regression_with_c_chosen_on_validation(modality: str) -> None:
    model = linear.build(modality=modality)
    history = model.fit(TRAIN, VAL, CONTEXT)
    names = ["x", "y"] if modality == "all" else [modality]

    def features(inputs: Inputs) -> np.ndarray:
        scale = {n: math.sqrt(10 / TRAIN.inputs.values[n].square().sum(1).mean().item()) for n in names}
        return np.concatenate([inputs.values[n].numpy() * scale[n] for n in names], 1)

    scores = model.predict(TEST.inputs)
    x, x_val, x_test = features(TRAIN.inputs), features(VAL.inputs), features(TEST.inputs)
    y, y_val = TRAIN.targets["severity"].numpy(), VAL.targets["severity"].numpy()
    candidates = []
    for c in linear.GRID:
        classifier = LogisticRegression(C=c, class_weight="balanced", max_iter=2000).fit(x[y >= 0], y[y >= 0])
        truth = y_val[y_val >= 0]
        p = classifier.predict_proba(x_val[y_val >= 0])[
            np.arange(len(truth)), np.searchsorted(classifier.classes_, truth)
        ]
        loss = np.mean([-np.log(p[truth == k]).mean() for k in np.unique(truth)])
        candidates.append((loss, c, classifier))
    _, c, best = min(candidates, key=lambda candidate: candidate[:2])
    assert history["C"]["severity"] == [c]
    # The solver stops at a gradient of 1e-4; the scaling differs in the last digit of a float32.
    np.testing.assert_allclose(scores["severity"][:, :3], best.predict_proba(x_test), atol=1e-3)
    assert (scores["severity"][:, 3] == 0).all(), "a class never seen in training"
    assert (scores["kinds"][:, 1] == 1).all(), "a label that training always has"
    assert 0 < scores["kinds"][:, 0].min() < 0.5 < scores["kinds"][:, 0].max() < 1


def test_linear_does_not_see_the_unit_of_a_modality() -> None:
    def scaled(examples: Examples) -> Examples:
        values = {**examples.inputs.values, "y": examples.inputs.values["y"] / 1024}
        return Examples(Inputs(values, examples.inputs.present), examples.targets)

    one, two = linear.build(), linear.build()
    one.fit(TRAIN, VAL, CONTEXT)
    two.fit(scaled(TRAIN), scaled(VAL), CONTEXT)
    for name, scores in one.predict(TEST.inputs).items():
        np.testing.assert_allclose(two.predict(scaled(TEST).inputs)[name], scores, atol=1e-4)


def test_uncertainty_by_definition_and_at_its_optimum() -> None:
    strategy = uncertainty.build(tuple(Objective("c", str(k), k, 1, 1) for k in range(3)))
    strategy.double()
    assert strategy.log_variance.tolist() == [-0.5] * 3
    losses, active = torch.tensor([0.4, 2.5], dtype=torch.float64), torch.tensor([0, 2])
    total = strategy.combine(losses, active, None)
    assert total.item() == pytest.approx(sum(x / (2 * math.exp(-0.5)) - 0.25 for x in (0.4, 2.5)))
    strategy.log_variance.data = torch.tensor([math.log(0.4), 7.0, math.log(2.5)], dtype=torch.float64)
    strategy.combine(losses, active, None).backward()
    assert strategy.log_variance.grad.tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    assert strategy.loss_weights().tolist() == pytest.approx([1 / 0.8, math.exp(-7) / 2, 1 / 5])
