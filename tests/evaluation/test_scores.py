"""Metrics of a score against scikit-learn and NumPy on the rows, and on rows that are really repeated."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from mmbench.contracts import Concept
from mmbench.evaluation.bca import jackknife
from mmbench.evaluation.bootstrap import Draws, decisions_by_seed, rankings_by_seed, rare_labels
from mmbench.evaluation.decisions import decide, tune_thresholds
from mmbench.evaluation.metrics import METRICS, applies, compute, metrics_of, per_label, primary_metric
from mmbench.evaluation.permutation import sign_flip
from mmbench.evaluation.predictions import Predictions, labelled_rows, read_predictions, write_predictions

SENTIMENT = Concept("s", ("sentiment",), "score", bounds=(-3.0, 3.0))
RATING = Concept("r", ("stars",), "score")


def predictions(scores, truth, concept=SENTIMENT, groups=None) -> Predictions:
    scores, truth = np.asarray(scores, float)[:, None], np.asarray(truth, float)[:, None]
    ids = np.array([f"row{i}" for i in range(len(truth))], dtype=np.str_)
    return Predictions(concept, ids, ids if groups is None else np.asarray(groups), scores, truth)


def sample(n=50, seed=0, concept=SENTIMENT) -> Predictions:
    """Scores on a grid, so that halves, zeros and values beyond 3 occur on both sides."""
    other = np.random.default_rng(n)  # the same truth whatever the seed
    rng = np.random.default_rng([n, seed])
    truth = np.rint(other.uniform(-3, 3, n) * 4) / 4
    truth[::7] = 0
    return predictions(np.rint((truth + rng.normal(0, 1.2, n)) * 4) / 4, truth, concept)


def by_rows(p: Predictions) -> dict[str, float]:
    """Every metric from the rows, each as the field states it."""
    told, truth = p.scores[:, 0], p.truth[:, 0]
    moved = truth != 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            "mae": sk.mean_absolute_error(truth, told),
            "corr": np.corrcoef(told, truth)[0, 1],
            "acc7": np.mean(np.round(np.clip(told, -3, 3)) == np.round(np.clip(truth, -3, 3))),
            "acc5": np.mean(np.round(np.clip(told, -2, 2)) == np.round(np.clip(truth, -2, 2))),
            "acc2_has0": sk.accuracy_score(truth >= 0, told >= 0),
            "f1_has0": sk.f1_score(truth >= 0, told >= 0, average="weighted"),
            "acc2_non0": math.nan,
            "f1_non0": math.nan,
        }
        if moved.any():
            found["acc2_non0"] = sk.accuracy_score(truth[moved] > 0, told[moved] > 0)
            found["f1_non0"] = sk.f1_score(truth[moved] > 0, told[moved] > 0, average="weighted")
    return found


@pytest.mark.parametrize("n", [1, 2, 9, 200])
@pytest.mark.parametrize("seed", range(4))
def test_every_metric_is_that_of_the_rows(n, seed):
    p = sample(n, seed)
    found, expected = compute(p), by_rows(p)
    assert set(expected) == set(metrics_of("score"))
    for name, value in expected.items():
        got = found[name].value
        assert (math.isnan(value) and got is None) or got == pytest.approx(value, abs=1e-12), name
        assert got is None or found[name].n_labels_used == 1
    assert all(found[name].value is None for name in METRICS if name not in expected)


def test_metrics_of_other_kinds_are_not_defined_and_those_of_sentiment_only_on_its_scale():
    found = compute(sample(20, concept=RATING))
    assert {name for name, value in found.items() if value.value is not None} == {"mae", "corr"}
    labels = Predictions(
        Concept("c", ("a", "b")), np.array(["x"]), np.array(["x"]), np.eye(2)[:1], np.eye(2, dtype=bool)[:1]
    )
    assert {name for name, value in compute(labels).items() if value.value is not None} <= set(metrics_of("exclusive"))
    assert all(value.value is None for value in compute(predictions([], [])).values())
    assert per_label(sample(5)) == {} and tune_thresholds(sample(5)) is None and rare_labels(sample(5)) == {}
    with pytest.raises(ValueError, match="nothing is decided"):
        decide(sample(5))


def test_a_concept_is_compared_on_a_metric_of_its_kind():
    assert primary_metric("macro_f1", "score") == "mae" and primary_metric("corr", "score") == "corr"
    assert primary_metric("mae", "multilabel") == "macro_f1" and primary_metric("map", "exclusive") == "map"
    assert applies("mae", "score") and not applies("mae", "exclusive") and not applies("map", "score")


def test_halves_round_to_the_even_integer_and_zero_is_not_negative():
    found = compute(predictions([0.5, 1.5, 2.6, -4, 0.0, -0.1], [0, 2, 3.0, -2.6, -0.25, 0.25]))
    assert found["acc7"].value == 6 / 6 and found["acc5"].value == 6 / 6
    assert found["acc2_has0"].value == pytest.approx(4 / 6)
    assert found["acc2_non0"].value == pytest.approx(4 / 5)  # without the first row; 0 is not positive


@pytest.mark.parametrize("told", [np.zeros(30), np.full(30, 0.1), np.full(30, 1e6 / 3)])
def test_a_constant_has_no_correlation(told):
    rng = np.random.default_rng(0)
    found = compute(predictions(told, rng.normal(0.3, 1, 30)))
    assert found["corr"].value is None and found["mae"].value is not None
    assert compute(predictions(rng.normal(0, 1, 30), np.full(30, 0.1)))["corr"].value is None


def test_the_correlation_keeps_its_digits_far_from_zero():
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 1, 300)
    told = truth + rng.normal(0, 1, 300)
    expected = np.corrcoef(told, truth)[0, 1]
    for offset, factor in ((0, 1), (300, 0.1), (-7, -2)):
        found = compute(predictions(told * factor + 1e6 + offset, truth * 3 + 1e6, RATING))["corr"].value
        assert found == pytest.approx(math.copysign(1, factor) * expected, abs=1e-8)
    assert compute(predictions(truth, truth))["corr"].value == 1


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_resamples_are_those_of_rows_really_repeated(n_seeds):
    cells = [sample(40, seed) for seed in range(n_seeds)]
    groups = np.unique(np.random.default_rng(1).integers(0, 12, 40), return_inverse=True)[1]
    draws = Draws(groups.max() + 1, n_seeds, 9)
    (found,) = decisions_by_seed([[(p, None) for p in cells]], groups, draws)
    assert rankings_by_seed([[(p, None) for p in cells]], groups, draws) == [{}]
    drawn = np.concatenate([weights for _, weights in draws.groups()]).astype(int)
    for r, weights in enumerate(drawn):
        rows = np.arange(40).repeat(weights[groups])
        for s, p in enumerate(cells):
            for name, value in by_rows(predictions(p.scores[rows, 0], p.truth[rows, 0])).items():
                assert found[name][r, s] == pytest.approx(value, abs=1e-11, nan_ok=True), name


def test_equal_predictions_differ_by_nothing_in_any_resample():
    p, q = sample(60, 1), sample(60, 2)
    groups = np.arange(60)
    methods = [[(q, None)], [(p, None)], [(sample(60, 1), None)]]
    _, first, second = decisions_by_seed(methods, groups, Draws(60, 1, 500))
    assert all((first[name] == second[name]).all() for name in metrics_of("score"))


def test_leaving_a_group_out_is_the_metric_of_the_others():
    p = sample(24, 3)
    groups = np.arange(24) % 8
    found = jackknife([(p, None)], groups, 8, metrics_of("score"))
    for g in range(8):
        rows = groups != g
        for name, value in by_rows(predictions(p.scores[rows, 0], p.truth[rows, 0])).items():
            assert found[name][g] == pytest.approx(value, abs=1e-11, nan_ok=True), name


@pytest.mark.parametrize("metric", ["mae", "corr", "f1_non0"])
def test_sign_flips_exchange_the_predictions_of_whole_groups(metric):
    p, q = sample(24, 1), sample(24, 2)
    groups = np.arange(24) % 6
    found = sign_flip([(p, None)], [(q, None)], groups, metric, "video")

    def value(kept):
        told = np.where(kept[groups], p.scores[:, 0], q.scores[:, 0])
        return by_rows(predictions(told, p.truth[:, 0]))[metric]

    every = [np.array([bool(code >> g & 1) for g in range(6)]) for code in range(64)]
    differences = np.array([value(kept) - value(~kept) for kept in every])
    observed = value(np.ones(6, bool)) - value(np.zeros(6, bool))
    assert found.effect == pytest.approx(observed)
    assert found.p == pytest.approx(np.mean(np.abs(differences) >= abs(observed) - 1e-12))


def test_scores_are_stored_as_numbers_and_unlabelled_rows_leave(tmp_path):
    ids = np.array(["a", "b", "c"])
    target = np.array([1.5, np.nan, -1.0])
    scores = np.array([[1.0], [2.0], [-1.0]])
    path = tmp_path / "predictions.npz"
    write_predictions(path, ids, ids, np.array(["test"] * 3), {"s": scores}, {"s": target}, {"s": ~np.isnan(target)})
    with np.load(path, allow_pickle=False) as file:
        assert file["targets/s"].dtype == np.float64
    read = read_predictions(path, [SENTIMENT], "test")["s"]
    assert read.ids.tolist() == ["a", "c"] and read.truth[:, 0].tolist() == [1.5, -1.0]
    assert compute(read)["mae"].value == 0.25
    with pytest.raises(ValueError, match="scores of s"):
        labelled_rows(SENTIMENT, ids, ids, np.zeros((3, 2)), target, ~np.isnan(target))
