"""What figures are drawn from, against scikit-learn and sums written out."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, roc_auc_score

from mmbench.contracts import Concept
from mmbench.evaluation.predictions import Predictions
from mmbench.reporting import curves, drawing, mistakes

N, K = 240, 3
ONE = Concept("one", ("x", "y", "z"))
MANY = Concept("many", ("x", "y", "z"), "multilabel")


def cells(concept: Concept, seeds: int = 2) -> curves.Cells:
    rng = np.random.default_rng(3)
    truth = np.eye(K, dtype=bool)[rng.integers(0, K, N)] if concept.kind == "exclusive" else rng.random((N, K)) < 0.3
    found = []
    for _ in range(seeds):
        scores = np.clip(0.5 * truth + rng.random((N, K)), 1e-6, None)
        scores = scores / (scores.sum(axis=1, keepdims=True) if concept.kind == "exclusive" else 1.6)
        groups = (np.arange(N) // 3).astype(str)
        found.append((Predictions(concept, np.arange(N).astype(str), groups, scores, truth), None))
    return found


@pytest.mark.parametrize("concept", [ONE, MANY])
def test_the_areas_below_the_curves_are_the_metrics_of_scikit_learn(concept):
    made = cells(concept)
    roc, pr = curves.roc_points(made), curves.pr_points(made)
    assert roc is not None and pr is not None
    pairs = [(p.truth[:, k], p.scores[:, k]) for p, _ in made for k in range(K)]
    assert np.trapezoid(roc, curves.GRID) == pytest.approx(np.mean([roc_auc_score(*pair) for pair in pairs]), abs=3e-3)
    assert np.trapezoid(pr, curves.GRID) == pytest.approx(
        np.mean([average_precision_score(*pair) for pair in pairs]), abs=5e-3
    )
    assert (np.diff(roc) >= -1e-12).all()


def test_labels_without_both_kinds_of_rows_draw_no_roc():
    (predictions, _), *_ = cells(MANY, 1)
    never = Predictions(MANY, predictions.ids, predictions.groups, predictions.scores, np.zeros((N, K), bool))
    assert curves.roc_points([(never, None)]) is None
    assert curves.pr_points([(never, None)]) is None


def test_calibration_bins_and_error_written_out():
    made = cells(ONE)
    found = curves.calibration(made)
    score = np.concatenate([p.scores.max(axis=1) for p, _ in made])
    right = np.concatenate([p.truth[np.arange(N), p.scores.argmax(axis=1)] for p, _ in made])
    expected, bins = 0.0, []
    for low in np.arange(10) / 10:
        here = (score >= low) & (score < low + 0.1)
        if here.any():
            bins.append((score[here].mean(), right[here].mean(), here.sum()))
            expected += here.mean() * abs(right[here].mean() - score[here].mean())
    assert found is not None
    assert np.array(bins) == pytest.approx(np.stack([found.confidence, found.observed, found.rows], axis=1))
    assert found.ece == pytest.approx(expected)


def test_the_confusion_matrix_is_scikit_learns_mean_over_seeds():
    made = cells(ONE)
    tables = [confusion_matrix(p.truth.argmax(1), p.scores.argmax(1)) for p, _ in made]
    np.testing.assert_allclose(curves.confusion(made), np.mean(tables, axis=0))
    (predictions, _), *_ = made
    counts = curves.binary_counts(made[:1])
    said = predictions.scores.argmax(1)
    for k in range(K):
        truth = predictions.truth[:, k]
        expected = [(truth & (said == k)).sum(), (~truth & (said == k)).sum(), (truth & (said != k)).sum()]
        assert list(counts[k, :3]) == expected
        assert counts[k].sum() == N


def test_intervals_of_labels_hold_their_values_and_cover_seeds_from_five_on():
    made = cells(ONE, 5)
    truth = made[0][0].truth.argmax(1)
    f1 = np.mean([f1_score(truth, p.scores.argmax(1), average=None) for p, _ in made], axis=0)
    crossed, given = curves.label_intervals(made, 5), curves.label_intervals(made[:4], 4)
    for value, bounds in zip(f1, crossed, strict=True):
        assert bounds is not None and bounds[0] < value < bounds[1]
    assert all(bounds is not None for bounds in given)
    one_group = [(Predictions(ONE, p.ids, np.full(N, "g"), p.scores, p.truth), None) for p, _ in made]
    assert curves.label_intervals(one_group, 5) == [None] * K


def test_the_pareto_front_is_what_no_other_beats():
    rng = np.random.default_rng(0)
    for _ in range(50):
        costs, quality = rng.integers(0, 6, 9).tolist(), rng.integers(0, 6, 9).tolist()
        beaten = {
            i for i, j in itertools.permutations(range(9), 2)
            if costs[j] <= costs[i] and quality[j] >= quality[i] and (costs[j], quality[j]) != (costs[i], quality[i])
        }  # fmt: skip
        assert set(curves.pareto(costs, quality)) == set(range(9)) - beaten


@pytest.mark.parametrize(("metric", "front"), [("macro_f1", [1, 0]), ("hamming", [1, 2])])
def test_where_lower_is_better_the_front_turns(metric, front):
    records = [{"metric": metric, "mean": mean, "cost": cost} for mean, cost in ((0.9, 3.0), (0.5, 1.0), (0.2, 2.0))]
    assert drawing.unbeaten(records, "cost") == front


def test_the_most_confident_mistakes_come_first_and_are_wrong_in_most_seeds():
    made = cells(ONE, 3)
    found = mistakes.confident_mistakes(made)
    assert [m.confidence for m in found] == sorted((m.confidence for m in found), reverse=True)
    for mistake in found:
        row = int(mistake.id)
        said = [ONE.labels[p.scores[row].argmax()] for p, _ in made]
        assert said.count(mistake.said) == mistake.seeds > 1.5
        assert mistake.said not in mistake.truth
        assert mistake.confidence == pytest.approx(
            np.mean([p.scores[row, ONE.labels.index(mistake.said)] for p, _ in made])
        )


def test_errors_by_group_and_between_labels_are_counted():
    made = cells(ONE, 2)
    wrong = np.mean([p.scores.argmax(1) != p.truth.argmax(1) for p, _ in made], axis=0)
    np.testing.assert_allclose(mistakes.wrong_rows(made), wrong)
    (worst, *_) = mistakes.errors_by_group(made[0][0].groups, wrong)
    sums = {g: wrong[made[0][0].groups == g].sum() for g in np.unique(made[0][0].groups)}
    assert worst.wrong == max(sums.values()) == sums[worst.group]
    (pair, *_) = mistakes.label_confusions(made)
    table = curves.confusion(made) * (1 - np.eye(K))
    assert pair.rows == table.max()


def test_errors_by_facet_are_counted_by_id_and_the_worst_share_comes_first():
    made = cells(ONE, 2)
    ids, wrong = made[0][0].ids, mistakes.wrong_rows(made)
    facet = {str(i): ("flood" if int(i) % 4 else "fire") for i in ids if int(i) >= 20}
    found = mistakes.errors_by_facet(ids, facet, wrong)
    for one in found:
        here = np.array([facet.get(str(i)) == one.group for i in ids])
        assert (one.rows, one.wrong) == (here.sum(), pytest.approx(wrong[here].sum()))
    shares = [one.wrong / one.rows for one in found]
    assert len(found) == 2 and shares == sorted(shares, reverse=True)


def test_a_figure_of_many_rows_is_no_larger_than_one_of_few():
    sizes = []
    for rows in (drawing.MOST_DOTS, 20 * drawing.MOST_DOTS):
        figure, written = Figure(), io.BytesIO()
        values = np.linspace(0, 1, rows)
        drawing.scatter(figure.add_subplot(), np.stack([values, values], axis=1), None)
        figure.savefig(written, format="svg")
        sizes.append(len(written.getvalue()))
    assert sizes[1] < sizes[0]
