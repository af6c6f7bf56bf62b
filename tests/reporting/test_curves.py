"""The numbers behind the figures, against scikit-learn and independent recomputations."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from mmbench.contracts import Concept
from mmbench.evaluation.predictions import Predictions
from mmbench.reporting import curves, drawing, mistakes

LABELS = ("a", "b", "c")


def made(kind: str, seed: int = 0, n: int = 60) -> Predictions:
    """Random predictions; scores in steps of a twentieth, so that many are equal."""
    rng = np.random.default_rng(seed)
    truth = np.eye(3, dtype=bool)[np.random.default_rng(9).integers(3, size=n)]
    scores = rng.integers(0, 21, size=(n, 3)) / 20
    if kind == "exclusive":
        scores = (scores + 0.05) / (scores + 0.05).sum(axis=1, keepdims=True)
    else:
        truth = np.random.default_rng(9).random((n, 3)) < 0.3
    ids = np.array([f"id{i:03}" for i in range(n)])
    return Predictions(Concept("sort", LABELS, kind), ids, ids, scores, truth)


@pytest.mark.parametrize("kind", ["exclusive", "multilabel"])
def test_the_areas_below_the_mean_curves_are_the_metrics(kind):
    cells = [(made(kind, seed), None) for seed in range(2)]
    roc, pr = curves.roc_points(cells), curves.pr_points(cells)
    auc = np.mean([roc_auc_score(p.truth[:, k], p.scores[:, k]) for p, _ in cells for k in range(3)])
    ap = np.mean([average_precision_score(p.truth[:, k], p.scores[:, k]) for p, _ in cells for k in range(3)])
    assert np.trapezoid(roc, curves.GRID) == pytest.approx(auc, abs=0.005)
    assert pr.mean() == pytest.approx(ap, abs=0.01)


def test_roc_points_lie_on_scikit_learns_curve():
    predictions = made("multilabel")
    expected = []
    for k in range(3):
        false, true, _ = roc_curve(predictions.truth[:, k], predictions.scores[:, k], drop_intermediate=False)
        at = [true[false <= x + 1e-12][-1] if np.isclose(false, x).any() else np.interp(x, false, true)
              for x in curves.GRID]  # fmt: skip
        expected.append(at)
    np.testing.assert_allclose(curves.roc_points([(predictions, None)]), np.mean(expected, axis=0), atol=1e-9)


def test_a_label_without_positive_rows_has_no_curve():
    predictions = made("multilabel")
    predictions.truth[:] = False
    assert curves.roc_points([(predictions, None)]) is None
    assert curves.pr_points([(predictions, None)]) is None


@pytest.mark.parametrize("kind", ["exclusive", "multilabel"])
def test_calibration_is_a_loop_over_rows(kind):
    cells = [(made(kind, seed), None) for seed in range(2)]
    bins: dict[int, list[tuple[float, bool]]] = {}
    for predictions, _ in cells:
        for scores, truth in zip(predictions.scores, predictions.truth, strict=True):
            chosen = [int(scores.argmax())] if kind == "exclusive" else range(3)
            for k in chosen:
                bins.setdefault(min(int(scores[k] * 10), 9), []).append((scores[k], truth[k]))
    found = curves.calibration(cells)
    total = sum(map(len, bins.values()))
    ece = sum(abs(sum(s for s, _ in b) - sum(t for _, t in b)) for b in bins.values()) / total
    assert found.rows.tolist() == [len(bins[place]) for place in sorted(bins)]
    assert found.ece == pytest.approx(ece, abs=1e-12)


def test_the_confusion_matrix_is_scikit_learns():
    predictions = made("exclusive")
    expected = confusion_matrix(predictions.truth.argmax(1), predictions.scores.argmax(1), labels=range(3))
    np.testing.assert_array_equal(curves.confusion([(predictions, None)]), expected)


def test_the_pareto_front_is_what_nothing_beats():
    rng = np.random.default_rng(1)
    for _ in range(50):
        costs, values = rng.integers(6, size=(2, 8)).tolist()
        points = list(zip(costs, values, strict=True))
        beaten = [any(c <= x and v >= y and (c, v) != (x, y) for c, v in points) for x, y in points]
        assert sorted(curves.pareto(costs, values)) == [i for i, lost in enumerate(beaten) if not lost]
    assert curves.pareto([], []) == []


def test_confident_mistakes_are_wrong_and_in_the_order_of_their_confidence():
    predictions = made("exclusive")
    found = mistakes.confident_mistakes([(predictions, None)], shown=1000)
    chosen = predictions.scores.argmax(axis=1)
    wrong = ~predictions.truth[np.arange(len(chosen)), chosen]
    expected = sorted((-predictions.scores[i].max(), predictions.ids[i]) for i in np.flatnonzero(wrong))
    assert [(-m.confidence, m.id) for m in found] == [(pytest.approx(c), name) for c, name in expected]


def test_a_missed_label_is_as_sure_as_its_score_is_low():
    predictions = made("multilabel", n=1)
    predictions.truth[:], predictions.scores[:] = [[True, False, False]], [[0.1, 0.6, 0.2]]
    (mistake,) = mistakes.confident_mistakes([(predictions, None)])
    assert (mistake.said, mistake.missed, mistake.confidence) == ("a", True, pytest.approx(0.9))


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (3.25, "3.2"), (123.4, "123"), (12345.5, "12,346")])
def test_mean_rows_bear_no_needless_digits(value, text):
    assert drawing.mean_rows(value) == text
