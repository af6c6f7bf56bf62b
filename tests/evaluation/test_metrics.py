"""The metrics against scikit-learn, brute force and closed forms."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn import metrics as sk

from mmbench.contracts import Concept
from mmbench.errors import UsageError
from mmbench.evaluation.decisions import decide
from mmbench.evaluation.metrics import check_metrics, compute, from_ranking, metrics_of, per_label, rank
from mmbench.evaluation.predictions import Predictions

METRICS = metrics_of("multilabel")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")


def predictions(scores, truth, kind="multilabel", groups=None) -> Predictions:
    scores, truth = np.asarray(scores, float), np.asarray(truth, bool)
    n, k = scores.shape
    ids = np.array([f"row{i}" for i in range(n)], dtype=np.str_)
    labels = tuple(f"label{i}" for i in range(k))
    return Predictions(Concept("c", labels, kind), ids, ids if groups is None else np.asarray(groups), scores, truth)


def by_scikit(p: Predictions) -> dict[str, float]:
    """Every metric by scikit-learn; a score metric is averaged here over the labels for which it is defined."""
    truth, scores, k = p.truth.astype(int), p.scores, p.truth.shape[1]
    if p.concept.kind == "exclusive":
        y, guess = truth.argmax(1), scores.argmax(1)
        labels = {"labels": list(range(k))}
        indicator = np.eye(k, dtype=int)[guess]
        single = sk.hamming_loss(y, guess)
    else:
        y = truth
        guess = indicator = (scores >= 0.5).astype(int)
        labels, single = {"labels": list(range(k))}, None
    zero = {"zero_division": 0, **labels}
    positive = [j for j in range(k) if truth[:, j].any()]
    both = [j for j in positive if not truth[:, j].all()]
    mean = lambda values: float(np.mean(values)) if len(values) else None  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "macro_f1": sk.f1_score(y, guess, average="macro", **zero),
            "micro_f1": sk.f1_score(y, guess, average="micro", **zero),
            "weighted_f1": sk.f1_score(y, guess, average="weighted", **zero),
            "hamming": float(np.mean(truth != indicator)) if k == 1 else sk.hamming_loss(truth, indicator),
            "hamming_single": single,
            "accuracy": sk.accuracy_score(y, guess),
            "precision": sk.precision_score(y, guess, average="macro", **zero),
            "recall": sk.recall_score(y, guess, average="macro", **zero),
            "map": mean([sk.average_precision_score(truth[:, j], scores[:, j]) for j in positive]),
            "map_strict": mean([sk.average_precision_score(truth[:, j], scores[:, j]) for j in range(k)]),
            "roc_auc": mean([sk.roc_auc_score(truth[:, j], scores[:, j]) for j in both]),
        }


def sample(n, k, kind, absent, ties, seed=0) -> Predictions:
    rng = np.random.default_rng([n, k, seed])
    scores = rng.random((n, k))
    if ties:
        scores = np.round(scores * 4) / 4
    if kind == "exclusive":
        scores = scores / np.maximum(scores.sum(1, keepdims=True), 1e-9)
        truth = np.eye(k, dtype=bool)[rng.integers(0, k - absent, n)]
    else:
        truth = rng.random((n, k)) < 0.4
        truth[:, k - absent :] = False
    return predictions(scores, truth, kind)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("absent", [0, 1], ids=["all-present", "one-absent"])
@pytest.mark.parametrize("kind", ["exclusive", "multilabel"])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (2, 3), (7, 2), (40, 5), (120, 12)])
def test_every_metric_equals_scikit_learn(n, k, kind, absent, ties):
    p = sample(n, k, kind, absent, ties)
    found, expected = compute(p), by_scikit(p)
    assert set(expected) == set(METRICS) <= set(found)
    for name, value in expected.items():
        if value is None:
            assert found[name].value is None, name
        else:
            assert found[name].value == pytest.approx(value, abs=1e-12), name


def test_one_label_that_is_multilabel():
    p = predictions([[0.2], [0.9], [0.5]], [[0], [1], [0]])
    found = compute(p)
    assert found["macro_f1"].value == pytest.approx(2 / 3)
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert found["map"].value == 1.0


def test_multiclass_auc_is_scikit_learns_one_against_rest():
    p = sample(90, 4, "exclusive", 0, False)
    expected = sk.roc_auc_score(p.truth.argmax(1), p.scores, multi_class="ovr", average="macro")
    assert compute(p)["roc_auc"].value == pytest.approx(expected, abs=1e-12)


def test_map_strict_is_scikit_learns_macro_average_with_an_absent_label():
    p = sample(40, 5, "multilabel", 2, False)
    expected = sk.average_precision_score(p.truth, p.scores, average="macro")
    found = compute(p)
    assert found["map_strict"].value == pytest.approx(expected, abs=1e-12)
    assert found["map"].value == pytest.approx(expected * 5 / 3, abs=1e-12)


def test_labels_used_are_counted():
    truth = np.array([[1, 0, 1, 1], [1, 0, 0, 0], [1, 0, 0, 1]], bool)
    found = compute(predictions(np.random.default_rng(0).random((3, 4)), truth))
    assert found["map"].n_labels_used == 3  # not the second, which has no positive row
    assert found["roc_auc"].n_labels_used == 2  # nor the first, which has no negative one
    assert {found[name].n_labels_used for name in METRICS if name != "roc_auc"} == {3}


@pytest.mark.parametrize("kind", ["exclusive", "multilabel"])
def test_label_values_from_counts_made_by_hand(kind):
    p = sample(60, 4, kind, 1, True)
    table = per_label(p)
    for j, label in enumerate(p.concept.labels):
        tp = fp = fn = 0
        for i in range(60):
            row = list(p.scores[i])
            said = row.index(max(row)) == j if kind == "exclusive" else row[j] >= 0.5
            true = bool(p.truth[i, j])
            tp, fp, fn = tp + (said and true), fp + (said and not true), fn + (true and not said)
        assert table[label]["support"] == tp + fn
        assert table[label]["precision"] == pytest.approx(tp / (tp + fp) if tp + fp else 0)
        assert table[label]["recall"] == pytest.approx(tp / (tp + fn) if tp + fn else 0)
        assert table[label]["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0)
    assert table["label3"]["average_precision"] is None
    assert table["label3"]["roc_auc"] is None


def test_perfect_predictor():
    truth = np.eye(3, dtype=bool)[[0, 1, 2, 0, 1]]
    for kind in ("exclusive", "multilabel"):
        found = {name: value.value for name, value in compute(predictions(truth, truth, kind)).items()}
        for name, metric in METRICS.items():
            if name == "hamming_single" and kind == "multilabel":
                assert found[name] is None
            else:
                assert found[name] == (1.0 if metric.better == "higher" else 0.0), name


def test_inverted_predictor_of_two_classes():
    truth = np.eye(2, dtype=bool)[[0, 1, 1, 0]]
    found = {name: value.value for name, value in compute(predictions(~truth, truth, "exclusive")).items()}
    for name in ("macro_f1", "micro_f1", "weighted_f1", "accuracy", "precision", "recall", "roc_auc"):
        assert found[name] == 0.0, name
    assert found["hamming"] == found["hamming_single"] == 1.0
    assert found["map"] == 0.5  # every positive comes with all four rows: precision is prevalence


def test_constant_predictor_has_prevalence_and_one_half():
    truth = np.random.default_rng(0).random((50, 3)) < [0.1, 0.5, 0.8]
    table = per_label(predictions(np.full((50, 3), 0.3), truth))
    for j, label in enumerate(table):
        assert table[label]["average_precision"] == pytest.approx(truth[:, j].mean())
        assert table[label]["roc_auc"] == 0.5
        assert table[label]["f1"] == 0


def test_identities_of_a_single_label_concept():
    p = sample(80, 6, "exclusive", 0, True)
    found = {name: value.value for name, value in compute(p).items()}
    assert found["micro_f1"] == pytest.approx(found["accuracy"])
    assert found["hamming"] == pytest.approx(2 / 6 * (1 - found["accuracy"]))
    assert found["hamming_single"] == pytest.approx(1 - found["accuracy"])


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_mann_whitney_and_flips_with_the_sign(ties):
    rng = np.random.default_rng(3)
    scores, truth = rng.normal(size=70), rng.random(70) < 0.3
    if ties:
        scores = np.round(scores)
    statistic = mannwhitneyu(scores[truth], scores[~truth]).statistic
    ones = np.ones((1, 70))
    auc = from_ranking(rank(scores, truth), ones)[1][0]
    assert auc == pytest.approx(statistic / (truth.sum() * (~truth).sum()))
    assert from_ranking(rank(-scores, truth), ones)[1][0] == pytest.approx(1 - auc)


def test_average_precision_of_random_scores_tends_to_prevalence():
    rng = np.random.default_rng(0)
    truth = np.arange(4000) < 800
    found = [from_ranking(rank(rng.random(4000), truth), np.ones((1, 4000)))[0][0] for _ in range(20)]
    assert np.mean(found) == pytest.approx(0.2, abs=0.005)


def test_rank_metrics_do_not_change_under_a_monotone_map_nor_any_under_the_order_of_rows():
    p = sample(50, 4, "multilabel", 0, True)
    mapped = predictions(p.scores**3 / 7, p.truth)
    order = np.random.default_rng(1).permutation(50)
    shuffled = predictions(p.scores[order], p.truth[order])
    first = compute(p)
    for name in ("map", "map_strict", "roc_auc"):
        assert compute(mapped)[name].value == pytest.approx(first[name].value, abs=1e-14)
    for name in METRICS:
        if first[name].value is not None:
            assert compute(shuffled)[name].value == pytest.approx(first[name].value, abs=1e-14)


def test_ties_do_not_favour_the_order_of_rows():
    """With all scores equal, positives first and positives last rank alike."""
    truth = np.arange(10) < 3
    for t in (truth, truth[::-1]):
        precision, auc = from_ranking(rank(np.zeros(10), t), np.ones((1, 10)))
        assert (precision[0], auc[0]) == (pytest.approx(0.3), 0.5)


def test_no_labelled_row_is_undefined_rather_than_zero():
    for kind in ("exclusive", "multilabel"):
        p = predictions(np.empty((0, 3)), np.empty((0, 3)), kind)
        assert all(value.value is None and value.n_labels_used == 0 for value in compute(p).values())
        assert all(row["roc_auc"] is None and row["support"] == 0 for row in per_label(p).values())


def test_weights_are_repeated_rows():
    rng = np.random.default_rng(5)
    scores, truth = np.round(rng.random(30), 1), rng.random(30) < 0.4
    weights = rng.integers(0, 4, (6, 30))
    found = from_ranking(rank(scores, truth), weights.astype(float))
    for r, row in enumerate(weights):
        many = np.repeat(np.arange(30), row)
        assert found[0][r] == pytest.approx(sk.average_precision_score(truth[many], scores[many]), abs=1e-14)
        assert found[1][r] == pytest.approx(sk.roc_auc_score(truth[many], scores[many]), abs=1e-14)


def test_weights_without_a_class_are_undefined():
    truth = np.array([True, False, True])
    ranking = rank(np.array([0.1, 0.2, 0.3]), truth)
    precision, auc = from_ranking(ranking, np.array([[0.0, 2, 0], [1, 0, 1], [0, 0, 0]]))
    assert np.isnan(precision).tolist() == [True, False, True]
    assert np.isnan(auc).all()


def test_an_empty_multilabel_row_is_right_where_nothing_is_true():
    p = predictions([[0.1, 0.2], [0.1, 0.2]], [[0, 0], [1, 0]])
    assert not decide(p).any()
    assert compute(p)["accuracy"].value == 0.5


def test_an_unknown_metric_is_named_with_its_neighbours():
    check_metrics(["macro_f1", "map"])
    with pytest.raises(UsageError, match="macro_f1"):
        check_metrics(["macro_f"])
