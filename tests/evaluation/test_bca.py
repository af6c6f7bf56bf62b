"""BCa intervals and the jackknife against scipy, closed forms and rows really left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mmbench.contracts import Concept
from mmbench.evaluation import bca as module
from mmbench.evaluation.bca import bca, jackknife, without_each_seed
from mmbench.evaluation.bootstrap import Draws, interval, ranking_replicates
from mmbench.evaluation.metrics import compute, metrics_of
from mmbench.evaluation.predictions import Predictions

METRICS = metrics_of("multilabel")


def cell(n=40, k=3, kind="multilabel", seed=0, positive=0.4):
    truth = np.random.default_rng([n, k]).random((n, k)) < positive
    if kind == "exclusive":
        truth = np.eye(k, dtype=bool)[np.random.default_rng([n, k]).integers(0, k, n)]
    scores = np.round(np.random.default_rng(seed).random((n, k)), 2)
    ids = np.arange(n).astype(np.str_)
    return Predictions(Concept("c", tuple("abcdefgh"[:k]), kind), ids, ids, scores, truth), None


@pytest.mark.parametrize("statistic", [np.mean, np.var, stats.skew])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_bca_is_scipys_on_the_same_replicates(statistic, level):
    x = np.random.default_rng(1).exponential(size=30)
    theirs = stats.bootstrap(
        (x,), statistic, n_resamples=999, confidence_level=level, method="BCa", vectorized=True, rng=0
    )
    without = np.array([statistic(np.delete(x, i)) for i in range(30)])
    found = bca(theirs.bootstrap_distribution, float(statistic(x)), [without], level)
    assert found.kind == "BCa"
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)


def test_bca_of_two_things_resampled_is_scipys_of_two_samples():
    rng = np.random.default_rng(2)
    x, y = rng.exponential(size=25), rng.exponential(size=9)

    def statistic(a, b, axis=-1):
        return a.mean(axis=axis) + 2 * b.mean(axis=axis)

    theirs = stats.bootstrap((x, y), statistic, n_resamples=999, method="BCa", vectorized=True, rng=0)
    without = [
        np.array([statistic(np.delete(x, i), y) for i in range(25)]),
        np.array([statistic(x, np.delete(y, i)) for i in range(9)]),
    ]
    found = bca(theirs.bootstrap_distribution, statistic(x, y), without)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)


def test_for_a_mean_the_acceleration_is_the_skewness_over_six_roots():
    """Replicates symmetric about the value leave z0 at 0, so the interval shows the acceleration alone."""
    x = np.random.default_rng(3).exponential(size=50)
    replicates = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    found = bca(replicates, 0.0, [without_each_seed(x)])
    a = stats.skew(x) / (6 * math.sqrt(50))
    z = stats.norm.ppf(0.975)
    assert (found.low, found.high) == pytest.approx((-z / (1 + a * z), z / (1 - a * z)), abs=1e-3)


def test_bca_follows_a_change_of_scale():
    rng = np.random.default_rng(4)
    x = rng.exponential(size=40)
    replicates, without = x[rng.integers(0, 40, (999, 40))].mean(axis=1), without_each_seed(x)
    plain = bca(replicates, float(x.mean()), [without])
    scaled = bca(3 - 2 * replicates, float(3 - 2 * x.mean()), [3 - 2 * without])
    assert (scaled.low, scaled.high) == pytest.approx((3 - 2 * plain.high, 3 - 2 * plain.low))


@pytest.mark.parametrize(
    ("replicates", "value", "without", "reason"),
    [
        (np.full(99, 0.5), 0.5, np.array([0.4, 0.6]), "do not vary"),
        (np.linspace(0.1, 0.4, 99), 0.5, np.array([0.4, 0.6]), "one side"),
        (np.linspace(0, 1, 99), 0.5, np.array([0.5, 0.5]), "no group"),
        (np.linspace(0, 1, 99), 0.5, np.array([np.nan, 0.5]), "no group"),
        (np.linspace(0, 1, 99), 0.5, np.array([]), "no group"),
        (np.append(np.linspace(0, 1, 200_000), 2), 1.5, np.append(0.0, np.ones(999)), "too large"),
    ],
)
def test_where_bca_is_not_defined_the_percentile_interval_says_so(replicates, value, without, reason):
    found = bca(replicates, value, [without])
    assert found.kind == "percentile"
    assert reason in found.reason
    assert (found.low, found.high) == interval(replicates)


def test_an_undefined_replicate_leaves_no_interval():
    assert bca(np.array([0.1, np.nan]), 0.1, [np.array([0.1, 0.2])]) is None
    assert bca(np.array([]), 0.1, [np.array([0.1, 0.2])]) is None


@pytest.mark.parametrize("kind", ["multilabel", "exclusive"])
def test_the_jackknife_is_the_metric_without_each_groups_rows(kind):
    cells = [cell(kind=kind, seed=s) for s in range(2)]
    groups = np.unique(np.random.default_rng(5).integers(0, 12, 40), return_inverse=True)[1]
    found = jackknife(cells, groups, groups.max() + 1, METRICS)
    for g in range(groups.max() + 1):
        kept = groups != g
        parts = [Predictions(p.concept, p.ids[kept], p.groups[kept], p.scores[kept], p.truth[kept]) for p, _ in cells]
        for name in METRICS:
            values = [compute(p)[name].value for p in parts]
            if None in values:
                assert np.isnan(found[name][g])
            else:
                assert found[name][g] == pytest.approx(np.mean(values), abs=1e-12), name


def test_of_many_groups_blocks_are_left_out_for_rankings(monkeypatch):
    cells, groups = [cell(60)], np.arange(60)
    alone = jackknife(cells, groups, 60, ["map", "macro_f1"])
    monkeypatch.setattr(module, "LEFT_OUT", 20)
    blocks = jackknife(cells, groups, 60, ["map", "macro_f1"])
    assert (len(alone["map"]), len(blocks["map"]), len(blocks["macro_f1"])) == (60, 20, 60)
    by_block = jackknife(cells, groups % 20, 20, ["map"])
    np.testing.assert_array_equal(blocks["map"], by_block["map"])


def test_the_whole_way_for_map_moves_the_interval_toward_the_tail():
    """Average precision near 1 is skewed to the left: BCa reaches further down than the percentile interval."""
    rng = np.random.default_rng(6)
    truth = rng.random((120, 1)) < 0.4
    scores = np.clip(truth + rng.normal(0, 0.35, (120, 1)), 0, 1)
    ids = np.arange(120).astype(np.str_)
    cells = [(Predictions(Concept("c", ("a",), "multilabel"), ids, ids, scores, truth), None)]
    value = compute(*cells[0])["map"].value
    (replicates,) = ranking_replicates([cells], np.arange(120), Draws(120, 1, 1000))
    found = bca(replicates["map"], value, [jackknife(cells, np.arange(120), 120, ["map"])["map"]])
    low, high = interval(replicates["map"])
    assert found.kind == "BCa"
    assert found.low < low
    assert found.high < high
