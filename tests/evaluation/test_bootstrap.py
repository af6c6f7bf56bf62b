"""The bootstrap against rows that are really repeated, scipy, statsmodels and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.multitest import multipletests

from mmbench.contracts import Concept
from mmbench.evaluation import bootstrap
from mmbench.evaluation.bootstrap import (
    Draws,
    Replicates,
    decision_replicates,
    decisions_by_seed,
    holm,
    interval,
    lost_labels,
    p_value,
    ranking_replicates,
    rankings_by_seed,
    rare_labels,
    spread_over_seeds,
)
from mmbench.evaluation.metrics import metrics_of
from mmbench.evaluation.predictions import Predictions

METRICS = metrics_of("multilabel")

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning"),
    pytest.mark.filterwarnings("ignore:No positive class:UserWarning"),
]


def sample(n=40, k=4, kind="multilabel", seed=0, ties=True) -> Predictions:
    rng = np.random.default_rng([n, k, seed])
    scores = np.round(rng.random((n, k)), 1 if ties else 9)
    other = np.random.default_rng([n, k])  # the same truth whatever the seed
    if kind == "exclusive":
        truth = np.eye(k, dtype=bool)[other.integers(0, k, n)]
    else:
        truth = other.random((n, k)) < 0.15
        truth[:, -1] = np.arange(n) == 0  # a label that a third of the resamples lose
    ids = np.arange(n).astype(np.str_)
    return Predictions(Concept("c", tuple("abcdefghijklmnop"[:k]), kind), ids, ids, scores, truth)


def replicates(methods, groups, draws) -> list[dict[str, np.ndarray]]:
    cells = [[(p, None) for p in method] for method in methods]
    decided, ranked = decision_replicates(cells, groups, draws), ranking_replicates(cells, groups, draws)
    return [d | r for d, r in zip(decided, ranked, strict=True)]


def multiplicities(draws: Draws) -> np.ndarray:
    return np.concatenate([weights for _, weights in draws.groups()]).astype(int)


def scikit(truth: np.ndarray, scores: np.ndarray, kind: str, thresholds=0.5) -> dict[str, float]:
    k = truth.shape[1]
    said = np.eye(k, dtype=int)[scores.argmax(1)] if kind == "exclusive" else (scores >= thresholds).astype(int)
    zero = {"zero_division": 0}
    right = [bool((t == s).all()) for t, s in zip(truth, said, strict=True)]
    positive = [j for j in range(k) if truth[:, j].any()]
    precision = {j: sk.average_precision_score(truth[:, j], scores[:, j]) for j in positive}
    areas = [sk.roc_auc_score(truth[:, j], scores[:, j]) for j in positive if not truth[:, j].all()]
    return {
        "macro_f1": sk.f1_score(truth, said, average="macro", **zero),
        "micro_f1": sk.f1_score(truth, said, average="micro", **zero),
        "weighted_f1": sk.f1_score(truth, said, average="weighted", **zero),
        "hamming": sk.hamming_loss(truth, said),
        "hamming_single": 1 - np.mean(right) if kind == "exclusive" else math.nan,
        "accuracy": np.mean(right),
        "precision": sk.precision_score(truth, said, average="macro", **zero),
        "recall": sk.recall_score(truth, said, average="macro", **zero),
        "map": np.mean(list(precision.values())) if precision else math.nan,
        "map_strict": sum(precision.values()) / k,
        "roc_auc": np.mean(areas) if areas else math.nan,
    }


@pytest.mark.parametrize("kind", ["exclusive", "multilabel"])
@pytest.mark.parametrize("n_seeds", [1, 2])
def test_every_metric_equals_scikit_learn_on_rows_really_repeated(kind, n_seeds):
    cells = [sample(30, 4, kind, seed) for seed in range(n_seeds)]
    groups = np.sort(np.random.default_rng(1).integers(0, 12, 30))
    groups = np.unique(groups, return_inverse=True)[1]
    draws = Draws(groups.max() + 1, n_seeds, 8)
    (found,) = replicates([cells], groups, draws)
    assert set(found) == set(METRICS)
    lost = 0
    for r, drawn in enumerate(multiplicities(draws)):
        rows = np.concatenate([np.flatnonzero(groups == g).repeat(times) for g, times in enumerate(drawn)])
        by_seed = [scikit(p.truth[rows].astype(int), p.scores[rows], kind) for p in cells]
        lost += not cells[0].truth[rows].any(axis=0).all()
        for name in METRICS:
            expected = np.mean([values[name] for values in by_seed])
            assert found[name][r] == pytest.approx(expected, abs=1e-12, nan_ok=True), name
    if kind == "multilabel":
        assert lost  # the draws include resamples that lose a label


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [2, 3, 11])
def test_every_metric_under_thresholds_equals_scikit_learn(k, ties):
    p = sample(33, k, "multilabel", 3, ties)
    thresholds = np.random.default_rng(k).choice([0.0, 0.2, 0.5, 0.7, 1.1], k)
    draws = Draws(11, 1, 5)
    groups = np.arange(33) % 11
    (decided,) = decision_replicates([[(p, thresholds)]], groups, draws)
    (ranked,) = ranking_replicates([[(p, thresholds)]], groups, draws)
    for r, drawn in enumerate(multiplicities(draws)):
        rows = np.arange(33).repeat(drawn[groups])
        expected = scikit(p.truth[rows].astype(int), p.scores[rows], "multilabel", thresholds)
        for name, value in (decided | ranked).items():
            assert value[r] == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


def test_crossed_replicates_from_weights_redrawn_here():
    """With five seeds a replicate is the mean over drawn seeds of the metric on drawn groups."""
    cells = [sample(20, 3, "exclusive", seed) for seed in range(5)]
    groups = np.arange(20) // 2
    draws = Draws(10, 5, 6)
    (found,) = replicates([cells], groups, draws)
    shares, drawn = draws.seeds(), multiplicities(draws)
    assert len({tuple(row) for row in shares}) > 1
    for r in range(6):
        rows = np.arange(20).repeat(drawn[r][groups])
        by_seed = [scikit(p.truth[rows].astype(int), p.scores[rows], "exclusive") for p in cells]
        for name in METRICS:
            expected = sum(share * values[name] for share, values in zip(shares[r], by_seed, strict=True))
            assert found[name][r] == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize(("n_seeds", "crossed"), [(1, False), (4, False), (5, True), (11, True)])
def test_draws_take_as_many_groups_and_seeds_as_there_are(n_seeds, crossed):
    draws = Draws(17, n_seeds, 400)
    drawn, shares = multiplicities(draws), draws.seeds()
    assert drawn.shape == (400, 17)
    assert (drawn.sum(axis=1) == 17).all()
    assert drawn.min() == 0
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-15)
    times = shares * n_seeds
    assert np.array_equal(times, np.round(times))
    assert draws.crossed is crossed
    assert ("conditional on these seeds" in draws.kind) is not crossed
    assert (shares == 1 / n_seeds).all() is np.bool_(not crossed)
    # Multinomial: mean 1, variance 1 - 1/n, and seeds drawn apart from groups
    assert drawn.mean(axis=0) == pytest.approx(np.ones(17), abs=0.25)
    assert drawn.var() == pytest.approx(1 - 1 / 17, abs=0.08)
    if crossed:
        assert times.var() == pytest.approx(1 - 1 / n_seeds, abs=0.1)
        assert abs(np.corrcoef(drawn[:, 0], times[:, 0])[0, 1]) < 0.2


@pytest.mark.parametrize("entries", [1, 90, 1000])
@pytest.mark.parametrize(("k", "ties"), [(3, True), (12, True), (12, False)])
def test_the_same_bits_for_other_chunks(monkeypatch, entries, k, ties):
    methods = [[sample(45, k, "multilabel", s + 5 * m, ties) for s in range(5)] for m in range(2)]
    groups = np.arange(45) // 3
    draws = Draws(15, 5, 40)
    whole = replicates(methods, groups, draws)
    monkeypatch.setattr(bootstrap, "CHUNK_ENTRIES", entries)
    monkeypatch.setattr(bootstrap, "RANKING_ENTRIES", entries // 2)
    monkeypatch.setattr(bootstrap, "BLOCK_ENTRIES", entries)
    monkeypatch.setattr(bootstrap, "PRODUCT_ENTRIES", 3 * entries)
    for first, second in zip(whole, replicates(methods, groups, draws), strict=True):
        for name in METRICS:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_a_method_gets_the_same_bits_whatever_it_is_compared_with():
    methods = [[sample(45, 12, "multilabel", s + 5 * m) for s in range(5)] for m in range(3)]
    groups = np.arange(45) // 3
    together = replicates(methods, groups, Draws(15, 5, 30))
    for method, found in zip(methods, together, strict=True):
        (alone,) = replicates([method], groups, Draws(15, 5, 30))
        for name in METRICS:
            np.testing.assert_array_equal(alone[name], found[name], err_msg=name)


@pytest.mark.parametrize("kind", ["exclusive", "multilabel"])
def test_duplicated_clusters_leave_the_interval_unchanged(kind):
    """Every row of a cluster three times over, under the same multiplicities: no metric may move."""
    cells = [sample(40, 3, kind, seed) for seed in range(5)]
    groups = np.arange(40) // 4
    thrice = [
        Predictions(p.concept, *(np.repeat(part, 3, axis=0) for part in (p.ids, p.groups, p.scores, p.truth)))
        for p in cells
    ]
    draws = Draws(10, 5, 200)
    (once,) = replicates([cells], groups, draws)
    (more,) = replicates([thrice], np.repeat(groups, 3), draws)
    for name in METRICS:
        np.testing.assert_allclose(more[name], once[name], rtol=1e-12, err_msg=name)
        if interval(once[name]) is not None:
            assert interval(more[name]) == pytest.approx(interval(once[name]), rel=1e-12)


def test_rows_resampled_by_cluster_are_wider_than_by_row():
    """Ten rows that are one row ten times over hold a tenth of the evidence: the interval is sqrt(10) wider."""
    p = sample(60, 2, "exclusive")
    many = Predictions(p.concept, *(np.repeat(part, 10, axis=0) for part in (p.ids, p.groups, p.scores, p.truth)))
    (by_cluster,) = replicates([[many]], np.repeat(np.arange(60), 10), Draws(60, 1, 1000))
    (by_row,) = replicates([[many]], np.arange(600), Draws(600, 1, 1000))
    ratio = by_cluster["accuracy"].std() / by_row["accuracy"].std()
    assert ratio == pytest.approx(math.sqrt(10), rel=0.1)


def test_the_percentile_interval_is_scipys_within_monte_carlo_error():
    p = sample(80, 3, "exclusive", 2)
    right = (p.scores.argmax(1) == p.truth.argmax(1)).astype(float)
    n_replicates = 4000
    (found,) = replicates([[p]], np.arange(80), Draws(80, 1, n_replicates))
    low, high = interval(found["accuracy"])
    theirs = stats.bootstrap((right,), np.mean, n_resamples=n_replicates, method="percentile", rng=0)
    # Standard error of a 2.5 % quantile: sqrt(q (1 - q) / B) / density, the density that of a normal at 1.96
    deviation = math.sqrt(right.var() / 80)
    error = math.sqrt(0.025 * 0.975 / n_replicates) / (stats.norm.pdf(1.96) / deviation)
    margin = 4 * math.sqrt(2) * error + 1 / 80  # accuracy moves in steps of 1/80
    assert low == pytest.approx(theirs.confidence_interval.low, abs=margin)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=margin)
    assert margin < (high - low) / 4
    assert found["accuracy"].std() == pytest.approx(theirs.standard_error, rel=0.05)


def test_the_standard_error_of_a_mean_over_seeds_and_groups():
    """For accuracy, linear in rows, the crossed variance is known: groups + seeds + what both make together."""
    rng = np.random.default_rng(0)
    n, n_seeds = 60, 6
    ids = np.arange(n).astype(np.str_)
    truth = np.eye(2, dtype=bool)[np.zeros(n, int)]
    right = rng.random((n_seeds, n)) < rng.beta(2, 2, n_seeds)[:, None] / 2 + rng.beta(2, 2, n) / 2
    cells = [Predictions(Concept("c", ("a", "b")), ids, ids, np.eye(2)[(~r).astype(int)], truth) for r in right]
    (found,) = replicates([cells], np.arange(n), Draws(n, n_seeds, 4000))
    x = right.astype(float)
    group, seed, both = x.mean(0).var() / n, x.mean(1).var() / n_seeds, 0.0
    both = (x - x.mean(0) - x.mean(1)[:, None] + x.mean()).var() / (n * n_seeds)
    assert found["accuracy"].var() == pytest.approx(group + seed + both, rel=0.1)
    assert found["accuracy"].mean() == pytest.approx(x.mean(), abs=0.01)


def test_identical_methods_differ_by_exactly_nothing():
    cells = [sample(40, 4, "multilabel", seed) for seed in range(5)]
    copies = [Predictions(p.concept, p.ids, p.groups, p.scores.copy(), p.truth.copy()) for p in cells]
    first, second = replicates([cells, copies], np.arange(40), Draws(40, 5, 100))
    for name in METRICS:
        difference = first[name] - second[name]
        if name == "hamming_single":
            assert np.isnan(difference).all()
            continue
        assert (difference == 0).all(), name
        assert p_value(difference) == 1.0
        assert interval(difference) == (0.0, 0.0)


def test_a_deterministic_method_is_the_same_at_every_seed():
    one = sample(40, 4, "exclusive")
    (repeated,) = replicates([[one] * 5], np.arange(40), Draws(40, 5, 50))
    (single,) = replicates([[one]], np.arange(40), Draws(40, 1, 50))
    for name in METRICS:
        np.testing.assert_allclose(repeated[name], single[name], rtol=1e-14)


def test_equal_scores_under_other_thresholds_are_other_decisions():
    p = sample(40, 2, "multilabel")
    draws = Draws(40, 2, 10)
    low, high = np.full(2, 0.1), np.full(2, 0.9)
    (both,) = decision_replicates([[(p, low), (p, high)]], np.arange(40), draws)
    (first,) = decision_replicates([[(p, low)]], np.arange(40), Draws(40, 1, 10))
    (second,) = decision_replicates([[(p, high)]], np.arange(40), Draws(40, 1, 10))
    np.testing.assert_allclose(both["recall"], (first["recall"] + second["recall"]) / 2)
    assert not np.allclose(first["recall"], second["recall"])


def test_the_interval_is_two_quantiles_and_absent_where_a_replicate_is():
    assert interval(np.arange(1001.0)) == (pytest.approx(25), pytest.approx(975))
    assert interval(np.arange(1001.0), 0.9) == (pytest.approx(50), pytest.approx(950))
    assert interval(np.array([0.1, np.nan, 0.3])) is None
    assert interval(np.array([])) is None


def test_p_counts_the_smaller_side_with_one_more():
    assert p_value(np.array([1.0] * 99)) == 2 / 100
    assert p_value(np.array([-1.0] * 99)) == 2 / 100
    assert p_value(np.array([-1.0] * 9 + [1.0] * 90)) == pytest.approx(0.2)
    assert p_value(np.array([-1.0, 1.0])) == 1.0
    assert p_value(np.array([0.0] * 5 + [1.0] * 94)) == pytest.approx(0.12)  # zero speaks for both sides
    differences = np.random.default_rng(0).normal(0.5, 1, 999)
    assert p_value(differences) == p_value(-differences)


def test_p_is_about_uniform_where_nothing_differs():
    """Differences of a paired comparison with no effect: the share of p <= .1 and <= .5 is nominal."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        x = rng.normal(size=100)
        found.append(p_value(x[rng.integers(0, 100, (400, 100))].mean(axis=1)))
    for level in (0.1, 0.5, 0.9):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 300))


def test_holm_by_the_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_statsmodels(seed):
    p = np.round(np.random.default_rng(seed).random(12) ** 3, 2)  # ties too
    assert holm(list(p)) == pytest.approx(multipletests(p, method="holm")[1])


def test_replicates_by_seed_are_each_seeds_alone():
    cells = [[(sample(30, 4, "multilabel", s), None) for s in range(3)]]
    groups, draws = np.arange(30) // 2, Draws(15, 3, 20)
    for by_seed, alone in ((decisions_by_seed, decision_replicates), (rankings_by_seed, ranking_replicates)):
        (found,) = by_seed(cells, groups, draws)
        for s in range(3):
            (expected,) = alone([cells[0][s : s + 1]], groups, Draws(15, 1, 20))
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name][:, s], values, err_msg=name)
        for values in found.values():
            assert isinstance(values, Replicates)
    assert isinstance(decision_replicates(cells, groups, draws)[0]["macro_f1"], Replicates)


def linear(groups: float, seeds: float, both: float, n: int, n_seeds: int, rng) -> np.ndarray:
    """Values (S, n) of a linear metric whose mean has these variances."""
    x = math.sqrt(groups * n) * rng.normal(size=n) + math.sqrt(seeds * n_seeds) * rng.normal(size=(n_seeds, 1))
    return x + math.sqrt(both * n * n_seeds) * rng.normal(size=(n_seeds, n))


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 0, 1), (0.4, 0.2, 0.4)])
def test_the_spread_over_seeds_counts_each_source_once(shares):
    """Over many samples the mean variance of the replicates is the variance of the estimate, which is 1."""
    rng = np.random.default_rng(0)
    n, n_seeds, found, crossed = 60, 40, [], []
    for _ in range(60):
        x = linear(*shares, n, n_seeds, rng)
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=400) / n
        by_seed = drawn @ x.T
        t = spread_over_seeds(by_seed, x.mean(axis=1))
        found.append(np.quantile(t, 0.975) - np.quantile(t, 0.025))
        crossed.append(((by_seed * Draws(n, n_seeds, 400).seeds()).sum(axis=1)).var())
    assert np.mean(found) / (2 * 1.96) == pytest.approx(1, abs=0.15)
    if shares[2] == 1:  # drawing seeds counts three times what each seed errs on its own rows
        assert np.mean(crossed) == pytest.approx(3, rel=0.2)


def test_the_spread_over_seeds_has_the_tails_of_t():
    """Where only seeds vary it is Student's interval over the seeds."""
    values = np.array([0.2, 0.5, 0.1, 0.7, 0.4])
    found = spread_over_seeds(np.tile(values, (40_000, 1)), values)
    span = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(found) == pytest.approx((span.low, span.high), abs=0.02)


def test_one_seed_and_equal_seeds_have_no_spread_over_seeds():
    by_seed = np.random.default_rng(0).normal(size=(50, 1))
    np.testing.assert_array_equal(spread_over_seeds(by_seed, np.array([0.3])), by_seed[:, 0])
    five = np.tile(by_seed, (1, 5))
    np.testing.assert_allclose(spread_over_seeds(five, np.full(5, 0.3)), by_seed[:, 0])


def test_large_counts_are_summed_in_double_precision():
    """Above 2**24 single precision holds no odd number; the product must not notice."""
    table = np.full((3, 1), 2**24 + 1, dtype=np.uint32)
    drawn = np.array([[1, 1, 1], [3, 0, 0]], dtype=np.uint16)
    assert (bootstrap._product(drawn, table) == 3 * (2**24 + 1)).all()


def test_the_share_of_replicates_that_lose_a_label_is_the_chance_of_it():
    p = sample(40, 4, "multilabel")
    assert p.truth[:, -1].sum() == 1
    alone = Predictions(Concept("c", ("a",), "multilabel"), p.ids, p.groups, p.scores[:, -1:], p.truth[:, -1:])
    chance = (39 / 40) ** 40
    found = lost_labels(alone, np.arange(40), Draws(40, 1, 4000))
    assert found == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 4000))
    absent = Predictions(alone.concept, p.ids, p.groups, alone.scores, np.zeros((40, 1), bool))
    assert lost_labels(absent, np.arange(40), Draws(40, 1, 50)) == 0.0


def test_rare_labels_are_counted_by_group():
    truth = np.zeros((60, 2), dtype=bool)
    truth[:, 0] = True
    truth[:6, 1] = True
    groups = np.repeat(np.arange(20), 3).astype(np.str_)
    p = Predictions(Concept("c", ("common", "rare"), "multilabel"), groups, groups, np.zeros((60, 2)), truth)
    assert rare_labels(p, 20) == {"rare": 2}
    assert rare_labels(p) == {"common": 20, "rare": 2}
