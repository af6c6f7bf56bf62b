"""Decisions and thresholds, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mmbench.contracts import Concept
from mmbench.evaluation.decisions import NO_ANSWER, decide, tune_thresholds
from mmbench.evaluation.metrics import compute, per_label
from mmbench.evaluation.predictions import Predictions


def predictions(scores, truth, kind="multilabel") -> Predictions:
    scores, truth = np.asarray(scores, float), np.asarray(truth, bool)
    ids = np.arange(len(scores)).astype(np.str_)
    return Predictions(Concept("c", tuple("abcdefgh"[: scores.shape[1]]), kind), ids, ids, scores, truth)


def test_exclusive_takes_the_highest_and_of_equals_the_first():
    p = predictions([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8]], np.eye(3), "exclusive")
    assert decide(p).argmax(1).tolist() == [1, 0, 2]
    assert (decide(p).sum(1) == 1).all()
    assert np.array_equal(decide(p, np.full(3, 0.9)), decide(p))  # thresholds are of multi-label concepts


def test_multilabel_takes_all_at_or_above_the_threshold():
    p = predictions([[0.5, 0.4999], [0.0, 1.0], [0.1, 0.1]], np.zeros((3, 2)))
    assert decide(p).tolist() == [[True, False], [False, True], [False, False]]
    assert decide(p, np.array([0.6, 0.1])).tolist() == [[False, True], [False, True], [False, True]]


@pytest.mark.parametrize("seed", range(6))
def test_the_tuned_threshold_is_the_best_of_every_cut(seed):
    rng = np.random.default_rng(seed)
    p = predictions(np.round(rng.random((40, 3)), 2), rng.random((40, 3)) < [0.1, 0.4, 0.8])
    tuned = tune_thresholds(p)
    said = decide(p, tuned)
    for j in range(3):
        cuts = [f1_score(p.truth[:, j], p.scores[:, j] >= cut) for cut in np.arange(0, 1.005, 0.01)]
        assert f1_score(p.truth[:, j], said[:, j]) == pytest.approx(max(cuts))


def test_one_half_wins_ties_and_serves_a_label_without_a_positive_row():
    p = predictions([[0.9, 0.9], [0.8, 0.1], [0.2, 0.6]], [[1, 0], [1, 0], [0, 0]])
    assert tune_thresholds(p).tolist() == [0.5, 0.5]
    assert tune_thresholds(predictions(np.empty((0, 2)), np.empty((0, 2)))).tolist() == [0.5, 0.5]


def test_a_threshold_moves_where_that_is_better():
    p = predictions([[0.3], [0.25], [0.1]], [[1], [1], [0]])
    assert tune_thresholds(p).tolist() == [0.25]


def test_exclusive_concepts_have_no_threshold():
    assert tune_thresholds(predictions(np.eye(3), np.eye(3), "exclusive")) is None


@pytest.mark.parametrize("true_label", range(3))
def test_a_row_without_an_answer_is_wrong_whatever_the_truth_and_no_label_s_false_positive(true_label):
    scores = [[NO_ANSWER] * 3, [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0, 0, 1]]
    p = predictions(scores, np.eye(3)[[true_label, 0, 1, 2]], "exclusive")
    assert decide(p).astype(int).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert compute(p)["accuracy"].value == 0.75
    assert compute(p)["hamming_single"].value == 0.25
    labels = per_label(p)
    assert [labels[name]["precision"] for name in "abc"] == [1, 1, 1]
    assert [labels[name]["recall"] for name in "abc"] == [0.5 if j == true_label else 1 for j in range(3)]


def test_a_multilabel_row_without_an_answer_is_wrong_even_where_no_label_holds():
    p = predictions([[NO_ANSWER] * 2, [0, 0], [1, 0]], [[0, 0], [0, 0], [1, 0]])
    assert not decide(p)[0].any()
    assert compute(p)["accuracy"].value == pytest.approx(2 / 3)


def test_no_threshold_reaches_a_row_without_an_answer():
    p = predictions([[NO_ANSWER], [0.2], [0.1]], [[1], [1], [1]])
    assert tune_thresholds(p).tolist() == [0.1]
    assert decide(p, tune_thresholds(p))[:, 0].tolist() == [False, True, True]
