"""The tests against scipy, statsmodels and closed forms."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as theirs_mcnemar

from mmbench.errors import UsageError
from mmbench.evaluation.bootstrap import Replicates, p_value
from mmbench.evaluation.significance import (
    bootstrap_difference,
    equivalence,
    friedman,
    mcnemar,
    minimum_detectable_effect,
    nadeau_bengio,
    paired_t,
    superiority,
    wilcoxon,
)


def pair(n=12, seed=0, shift=0.3, digits=9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([n, seed])
    return np.round(rng.normal(shift, 1, n), digits), np.round(rng.normal(0, 1, n), digits)


@pytest.mark.parametrize("seed", range(3))
def test_paired_t_is_scipys(seed):
    a, b = pair(seed=seed)
    found, expected = paired_t(a, b), stats.ttest_rel(a, b)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-12)
    assert found.effect == pytest.approx(np.mean(a - b))
    assert (found.low > 0 or found.high < 0) is (found.p < 0.05)
    assert (found.unit, found.n) == ("seed", 12)


def test_paired_t_refuses_replicates_and_what_is_not_paired():
    a, b = pair(40)
    for first, second in ((a.view(Replicates), b), (a, b.view(Replicates)), (a.view(Replicates) - b, np.zeros(40))):
        for test in (paired_t, wilcoxon, superiority):
            with pytest.raises(UsageError, match="replicates"):
                test(first, second)
    with pytest.raises(UsageError, match="replicates"):
        nadeau_bengio((a - b).view(Replicates), 100, 20)
    with pytest.raises(UsageError, match="40 and 39"):
        paired_t(a, b[:39])
    with pytest.raises(UsageError, match="finite"):
        paired_t(np.append(a, np.nan), np.append(b, 1.0))
    with pytest.raises(UsageError, match="one finite number"):
        paired_t(a.reshape(2, 20), b.reshape(2, 20))


@pytest.mark.parametrize("test", [paired_t, wilcoxon])
def test_what_cannot_be_tested_over_seeds_says_why(test):
    a, b = pair(9)
    found = test(a, b)
    assert found.p is None
    assert found.reason == "needs 10 seeds, has 9"
    assert found.effect == pytest.approx(np.mean(a - b))
    same = np.linspace(0, 1, 10)
    assert test(same, same).p is None
    assert test(same, same).reason
    assert test(np.array([]), np.array([])).effect is None


def test_a_difference_that_never_varies_has_no_t():
    found = paired_t(np.full(10, 0.75), np.full(10, 0.5))
    assert found.p is None
    assert found.reason == "the difference is the same at every seed"


@pytest.mark.parametrize("n", [10, 15, 30])
@pytest.mark.parametrize("seed", range(3))
def test_wilcoxon_is_scipys_exact_one_without_ties(n, seed):
    a, b = pair(n, seed)
    found, expected = wilcoxon(a, b), stats.wilcoxon(a, b, method="exact")
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert min(found.statistic, n * (n + 1) / 2 - found.statistic) == expected.statistic


@pytest.mark.parametrize("seed", range(4))
def test_wilcoxon_with_ties_is_every_way_of_signs(seed):
    a, b = pair(11, seed, digits=0)
    found, d = wilcoxon(a, b), (a - b)[a != b]
    ranks = stats.rankdata(np.abs(d))
    assert len(np.unique(ranks)) < len(ranks)
    sums = np.array([ranks[np.array(signs)].sum() for signs in itertools.product([False, True], repeat=len(d))])
    middle = ranks.sum() / 2
    expected = np.mean(np.abs(sums - middle) >= abs(ranks[d > 0].sum() - middle) - 1e-9)
    assert found.p == pytest.approx(expected, rel=1e-9)


def test_wilcoxons_smallest_p_is_reached():
    found = wilcoxon(np.arange(1.0, 11), np.zeros(10))
    assert found.p == found.smallest_p == 2 / 1024


def test_nadeau_bengio_by_the_formula_and_without_a_test_set():
    d = np.array([0.02, 0.01, 0.03, -0.01, 0.02])
    found = nadeau_bengio(d, 80, 20)
    t = d.mean() / math.sqrt(d.var(ddof=1) * (1 / 5 + 20 / 80))
    assert found.statistic == pytest.approx(t)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 4))
    assert (found.low + found.high) / 2 == pytest.approx(d.mean())
    # with a vanishing test set it is the plain t-test
    assert nadeau_bengio(d, 10**12, 1).p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=1e-6)
    assert nadeau_bengio(d[:1], 80, 20).reason == "needs 2 splits, has 1"
    assert nadeau_bengio(np.full(5, 0.25), 80, 20).reason
    with pytest.raises(UsageError, match="at least one"):
        nadeau_bengio(d, 0, 20)


@pytest.mark.parametrize("seed", range(4))
def test_mcnemar_is_statsmodels_exact_one(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random(60) < 0.7, rng.random(60) < 0.6
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    found = mcnemar(a, b, np.arange(60))
    assert found.p == pytest.approx(theirs_mcnemar(table, exact=True).pvalue)
    assert found.effect == pytest.approx(a.mean() - b.mean())


def test_mcnemar_needs_a_row_a_group_and_a_row_that_differs():
    a, b = np.array([True, True, False]), np.array([True, False, False])
    found = mcnemar(a, b, np.array([0, 0, 1]))
    assert found.p is None
    assert "a group has 2" in found.reason
    assert mcnemar(a, a, np.arange(3)).reason == "the models are right in the same rows"
    assert mcnemar(np.ones(8, bool), np.zeros(8, bool), np.arange(8)).p == 2 / 2**8
    assert mcnemar(np.array([], bool), np.array([], bool), np.array([], int)).p is None


def test_friedman_by_the_closed_form_with_ties_and_without():
    for table in (np.random.default_rng(0).random((6, 4)), np.round(np.random.default_rng(1).random((8, 5)), 1)):
        n, k = table.shape
        found = friedman(table)
        # analysis of variance of the ranks, of which Iman and Davenport's statistic is the F
        ranks = stats.rankdata(table, axis=1)
        between = n * ((ranks.mean(0) - (k + 1) / 2) ** 2).sum()
        within = ((ranks - (k + 1) / 2) ** 2).sum() - between
        f = (between / (k - 1)) / (within / ((k - 1) * (n - 1)))
        assert found.statistic == pytest.approx(f)
        assert found.p == pytest.approx(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
        assert 0 < found.effect < 1


def test_friedman_in_perfect_agreement_and_where_it_cannot():
    agreed = np.tile(np.arange(4.0), (6, 1))
    found = friedman(agreed)
    assert found.p == found.smallest_p == pytest.approx(1 / 24**5)
    assert found.effect == pytest.approx(1)
    json.dumps(found.as_dict(), allow_nan=False)
    assert friedman(agreed[:4]).reason == "needs 5 data sets, has 4"
    assert friedman(agreed[:, :2]).reason == "needs 3 methods, has 2"
    assert friedman(np.ones((5, 3))).reason == "all methods are equal on every data set"
    with pytest.raises(UsageError, match="table"):
        friedman(np.ones(5))


def test_superiority_counts_ties_half_and_is_the_sign_test():
    a, b = np.array([1.0] * 7 + [0.0] * 2 + [0.5]), np.array([0.0] * 7 + [1.0] * 2 + [0.5])
    found = superiority(a, b)
    assert found.effect == pytest.approx(0.75)
    assert found.p == pytest.approx(stats.binomtest(7, 9).pvalue)
    assert found.smallest_p == 2 / 2**9
    lower = superiority(a, b, higher_is_better=False)
    assert (lower.effect, lower.p) == pytest.approx((0.25, found.p))
    assert superiority(a, a).reason == "no seed has a difference"
    assert superiority(a, a).effect == 0.5


@pytest.mark.parametrize("ties", [0, 3])
def test_superioritys_interval_is_the_bootstraps(ties):
    won = np.array([1.0] * 8 + [0.0] * (6 - ties) + [0.5] * ties)
    found = superiority(won, np.full(14, 0.5))
    drawn = np.random.default_rng(0).integers(0, 14, (40_000, 14))
    means = won[drawn].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert "bootstrap" in found.interval_kind


def test_superiority_is_not_certain_because_every_seed_agrees():
    found = superiority(np.ones(10), np.zeros(10))
    assert (found.effect, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 10))
    assert "Clopper" in found.interval_kind
    assert superiority(np.zeros(10), np.ones(10)).high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_the_bootstrap_test_is_its_p_and_interval():
    differences = np.random.default_rng(0).normal(0.02, 0.01, 999).view(Replicates)
    found = bootstrap_difference(differences, 0.02, "macro_f1", "tweet × seed", 300, "95 % percentile")
    assert found.p == p_value(differences)
    assert found.smallest_p == 2 / 1000
    assert found.low < 0.02 < found.high
    json.dumps(found.as_dict(), allow_nan=False)
    undefined = bootstrap_difference(np.array([np.nan, 0.0]), 0.0, "map", "tweet", 3, "")
    assert undefined.p is None
    assert undefined.reason


@pytest.mark.parametrize(("centre", "verdict"), [(0.0, True), (0.004, True), (0.008, False), (-0.02, False)])
def test_equivalence_is_the_ninety_percent_interval_inside_the_margin(centre, verdict):
    differences = np.random.default_rng(0).normal(centre, 0.003, 4999)
    found = equivalence(differences, centre, 0.01, "tweet", 300)
    assert (found.low > -0.01 and found.high < 0.01) is verdict
    assert (found.p < 0.05) is verdict
    low, high = np.quantile(differences, [0.05, 0.95])
    assert (found.low, found.high) == pytest.approx((low, high))


def test_equivalence_asks_for_a_positive_margin():
    for margin in (0, -0.1, math.nan):
        with pytest.raises(UsageError, match="margin"):
            equivalence(np.zeros(10), 0.0, margin, "tweet", 10)


def test_the_minimum_detectable_effect_has_the_power_it_says():
    assert minimum_detectable_effect(1.0) == pytest.approx(2.8016, abs=1e-4)
    m, error = 24, 0.013
    effect = minimum_detectable_effect(error, m)
    found = stats.norm.sf(stats.norm.isf(0.05 / (2 * m)) - effect / error)
    assert found == pytest.approx(0.80)
    assert minimum_detectable_effect(0.0) is None
    assert minimum_detectable_effect(math.nan) is None


def test_replicates_stay_so_under_arithmetic_and_their_mean_is_a_number():
    values = np.arange(5.0).view(Replicates)
    for made in (values - values, -values, values[1:], values * 2, np.abs(values)):
        assert isinstance(made, Replicates)
    for made in (values.mean(), values.std(ddof=1), (values <= 0).sum(), np.mean(values)):
        assert not isinstance(made, np.ndarray)
    json.dumps(values.mean())
