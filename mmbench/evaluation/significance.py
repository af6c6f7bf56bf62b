"""The tests beside the bootstrap: each says its null, unit, n, effect and the smallest p it can reach.

A test that cannot be made returns the reason instead of a p. What each can and cannot say is in ``docs/statistics.md``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from mmbench.errors import UsageError
from mmbench.evaluation.bootstrap import Replicates, interval, p_value

Array = NDArray[np.float64]
FEWEST_SEEDS = 10
FEWEST_DATA_SETS = 5
ALPHA, POWER = 0.05, 0.80


@dataclass(frozen=True)
class Test:
    """One test, or the reason why it cannot be made.

    Attributes:
        null: what a small p speaks against, in words.
        unit, n: what is counted as independent, and how many of it.
        effect_name, effect: what the difference is measured in; the first method minus the second.
        smallest_p: no data of this size give a smaller p; 0 where there is no bound.
        low, high: an interval of the effect, of the kind ``interval_kind``; '' where there is none.
        reason: why it cannot be tested; then ``p`` is None.
    """

    name: str
    null: str
    unit: str
    n: int
    effect_name: str
    effect: float | None = None
    statistic: float | None = None
    p: float | None = None
    smallest_p: float | None = None
    low: float | None = None
    high: float | None = None
    interval_kind: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def _values(given: Array, unit: str) -> Array:
    """One value a unit, (n,) float64.

    Raises:
        UsageError: bootstrap replicates, another shape, values that are not finite.
    """
    if isinstance(given, Replicates):
        raise UsageError(
            f"bootstrap replicates were given to a test that expects one value a {unit}: their number is arbitrary, "
            "and with enough of them any difference is significant; use the bootstrap's own interval and p"
        )
    values = np.asarray(given, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise UsageError(f"values of shape {values.shape} were given: expected one finite number a {unit}")
    return values


def _paired(first: Array, second: Array, unit: str) -> tuple[Array, Array]:
    """Two methods' values of the same units."""
    a, b = _values(first, unit), _values(second, unit)
    if len(a) != len(b):
        raise UsageError(f"{len(a)} and {len(b)} values were given to a paired test: give both for the same {unit}s")
    return a, b


def paired_t(first: Array, second: Array) -> Test:
    """Student's t of two methods' values at the same seeds, (S,) each.

    Raises:
        UsageError: bootstrap replicates (a t-test over them rejects any true null), unequal lengths.
    """
    a, b = _paired(first, second, "seed")
    null = "equal in expectation over seeds, on this test set"
    test = Test("paired t", null, "seed", len(a), "mean difference", float(np.mean(a - b)) if len(a) else None)
    if len(a) < FEWEST_SEEDS:
        return replace(test, reason=f"needs {FEWEST_SEEDS} seeds, has {len(a)}")
    if np.ptp(a - b) == 0:
        return replace(test, reason="the difference is the same at every seed")
    found = scipy.stats.ttest_rel(a, b)
    span = found.confidence_interval(0.95)
    return replace(
        test,
        statistic=float(found.statistic),
        p=float(found.pvalue),
        smallest_p=0.0,
        low=float(span.low),
        high=float(span.high),
        interval_kind="95 % t over seeds",
    )


def wilcoxon(first: Array, second: Array) -> Test:
    """Wilcoxon's signed ranks of two methods' values at the same seeds, (S,) each; two-sided and exact, ties included.

    Seeds without a difference are left out. scipy's exact method needs data without ties, hence the count here.

    Raises:
        UsageError: as :func:`paired_t`.
    """
    a, b = _paired(first, second, "seed")
    null = "differences symmetric about zero over seeds, on this test set"
    effect = float(np.mean(a - b)) if len(a) else None
    test = Test("Wilcoxon signed-rank", null, "seed", len(a), "mean difference", effect)
    if len(a) < FEWEST_SEEDS:
        return replace(test, reason=f"needs {FEWEST_SEEDS} seeds, has {len(a)}")
    moved = (a - b)[a != b]
    if len(moved) == 0:
        return replace(test, reason="no seed has a difference")
    ranks = np.rint(2 * scipy.stats.rankdata(np.abs(moved))).astype(np.int64)  # twice the midranks, which are halves
    chances = np.ones(1)  # of each sum of the positive ranks, if signs are tossed
    for rank in ranks:
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    positive = int(ranks[moved > 0].sum())
    tail = min(chances[: positive + 1].sum(), chances[positive:].sum())
    smallest = 2.0 ** (1 - len(moved))
    return replace(test, statistic=positive / 2, p=min(1.0, 2 * float(tail)), smallest_p=smallest)


def nadeau_bengio(differences: Array, n_train: int, n_test: int) -> Test:
    """The corrected resampled t-test: differences (J,) of two methods over J random splits.

    Splits overlap, so the variance is s² (1/J + n_test/n_train), with J - 1 degrees of freedom (Nadeau & Bengio 2003).

    Raises:
        UsageError: bootstrap replicates; sizes below one.
    """
    d = _values(differences, "split")
    if n_train < 1 or n_test < 1:
        raise UsageError(f"{n_train} training and {n_test} test rows were given: expected at least one of each")
    null = "equal in expectation over splits of this data set"
    test = Test("Nadeau–Bengio t", null, "split", len(d), "mean difference", float(d.mean()) if len(d) else None)
    if len(d) < 2:
        return replace(test, reason=f"needs 2 splits, has {len(d)}")
    if np.ptp(d) == 0:
        return replace(test, reason="the difference is the same in every split")
    error = math.sqrt(d.var(ddof=1) * (1 / len(d) + n_test / n_train))
    half = float(scipy.stats.t.ppf(0.975, len(d) - 1)) * error
    t = float(d.mean()) / error
    return replace(
        test,
        statistic=t,
        p=2 * float(scipy.stats.t.sf(abs(t), len(d) - 1)),
        smallest_p=0.0,
        low=float(d.mean()) - half,
        high=float(d.mean()) + half,
        interval_kind="95 % corrected t over splits",
    )


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_], groups: NDArray[np.int64]) -> Test:
    """McNemar's exact test of two trained models: whether each is right in the same rows, (n,) bool.

    ``groups`` (n,) is the group of each row; rows of one group are not independent, and then there is no test.
    """
    test = Test(
        "exact McNemar",
        "equal accuracy of these two trained models",
        "row",
        len(groups),
        "difference in accuracy",
        float(np.mean(first_right.astype(float) - second_right)) if len(groups) else None,
    )
    largest = int(np.unique(groups, return_counts=True)[1].max(initial=0))
    if largest > 1:
        return replace(test, reason=f"rows are not independent: a group has {largest} of them; use the sign flips")
    wins, losses = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    if wins + losses == 0:
        return replace(test, reason="the models are right in the same rows")
    p = float(scipy.stats.binomtest(wins, wins + losses).pvalue)
    return replace(test, statistic=float(wins), p=p, smallest_p=min(1.0, 2.0 ** (1 - wins - losses)))


def friedman(values: Array) -> Test:
    """Friedman's test over data sets in the form of Iman & Davenport (1980).

    F = (N - 1) χ² / (N (k - 1) - χ²) on k - 1 and (k - 1)(N - 1) degrees of freedom; ties get midranks.

    Args:
        values: (N data sets, k methods); higher is better or worse for all alike.
    """
    if isinstance(values, Replicates) or np.ndim(values) != 2 or not np.isfinite(values).all():
        raise UsageError("Friedman's test expects a finite table of data sets × methods, one value each")
    n, k = values.shape
    null = "the methods' ranks are exchangeable within every data set"
    test = Test("Friedman, Iman–Davenport", null, "data set", n, "Kendall's W")
    if n < FEWEST_DATA_SETS:
        return replace(test, reason=f"needs {FEWEST_DATA_SETS} data sets, has {n}")
    if k < 3:
        return replace(test, reason=f"needs 3 methods, has {k}")
    if (np.ptp(values, axis=1) == 0).all():
        return replace(test, reason="all methods are equal on every data set")
    chi2 = float(scipy.stats.friedmanchisquare(*values.T).statistic)
    spare = n * (k - 1) - chi2
    smallest = math.exp(-(n - 1) * math.lgamma(k + 1))  # that all data sets rank the methods alike
    test = replace(test, effect=chi2 / (n * (k - 1)), smallest_p=smallest)
    if spare < 1e-9:  # in perfect agreement F is infinite, and p that of the agreement
        return replace(test, p=smallest)
    f = (n - 1) * chi2 / spare
    return replace(test, statistic=f, p=max(float(scipy.stats.f.sf(f, k - 1, (k - 1) * (n - 1))), smallest))


def superiority(first: Array, second: Array, higher_is_better: bool = True) -> Test:
    """P(A>B): the chance that the first method beats the second at a seed, a tie counting half; (S,) values each.

    p is the exact sign test's. The interval is the percentile bootstrap over seeds, enumerated instead of drawn; where
    every seed says the same it would be a point, and Clopper & Pearson's takes its place.

    Raises:
        UsageError: as :func:`paired_t`.
    """
    a, b = _paired(first, second, "seed")
    n, better = len(a), (a > b if higher_is_better else a < b)
    wins, ties = int(better.sum()), int((a == b).sum())
    test = Test("P(A>B), sign test", "either method wins a seed equally often, on this test set", "seed", n, "P(A>B)")
    if n == 0 or ties == n:
        return replace(test, effect=0.5 if n else None, reason="no seed has a difference")
    test = replace(
        test,
        effect=(wins + ties / 2) / n,
        statistic=float(wins),
        p=float(scipy.stats.binomtest(wins, n - ties).pvalue),
        smallest_p=2.0 ** (1 - n + ties),
    )
    if n in (wins, n - wins - ties):
        span = scipy.stats.binomtest(wins, n).proportion_ci(0.95, "exact")
        return replace(test, low=float(span.low), high=float(span.high), interval_kind="95 % Clopper–Pearson")
    chances = np.ones(1)  # of each number of half wins in n draws of a seed
    for _ in range(n):
        chances = np.convolve(chances, [(n - wins - ties) / n, ties / n, wins / n])
    low, high = np.searchsorted(np.cumsum(chances), [0.025, 0.975]) / (2 * n)
    kind = "95 % percentile, bootstrap over seeds"
    return replace(test, low=float(low), high=float(high), interval_kind=kind)


def bootstrap_difference(differences: Array, delta: float, metric: str, unit: str, n: int, kind: str) -> Test:
    """The primary test: p and 95 % percentile interval of ``delta`` from bootstrap differences (B,) of n ``unit``.

    ``kind`` is the interval's kind in words, as :attr:`mmbench.evaluation.bootstrap.Draws.kind` gives it.
    """
    scope = (
        "of these trained models in the population"
        if "conditional" in kind
        else "in expectation over seeds and population"
    )
    test = Test("bootstrap", f"equal {metric} {scope}", unit, n, f"difference in {metric}", delta)
    bounds = interval(differences)
    if bounds is None:
        return replace(test, reason=f"{metric} is not defined in every resample")
    smallest = 2 / (len(differences) + 1)
    return replace(test, p=p_value(differences), smallest_p=smallest, low=bounds[0], high=bounds[1], interval_kind=kind)


def equivalence(differences: Array, delta: float, margin: float, unit: str, n: int) -> Test:
    """Whether a difference lies within ±margin, from its bootstrap replicates (B,).

    The methods are equivalent at 5 % where the 90 % interval lies inside ±margin; p is that of the two one-sided tests.

    Raises:
        UsageError: a margin that is not positive.
    """
    if not margin > 0:
        raise UsageError(f"a margin of {margin} was given: expected a positive number, for example 0.01")
    null = f"they differ by at least {margin:g}"
    test = Test(f"equivalence within ±{margin:g}", null, unit, n, "difference", delta)
    bounds = interval(differences, 0.90)
    if bounds is None:
        return replace(test, reason="the difference is not defined in every resample")
    beyond = max(int((differences >= margin).sum()), int((differences <= -margin).sum()))
    size = len(differences) + 1
    return replace(
        test, p=(beyond + 1) / size, smallest_p=1 / size, low=bounds[0], high=bounds[1], interval_kind="90 % percentile"
    )


def minimum_detectable_effect(error: float, n_comparisons: int = 1) -> float | None:
    """What is found with 80 % power at two-sided 5 % over m comparisons: (z(1 - .05/(2 m)) + z(.80)) × standard error.

    None where the standard error is zero or not known.
    """
    if not error > 0:
        return None
    z = scipy.special.ndtri([1 - ALPHA / (2 * n_comparisons), POWER])
    return float(z.sum()) * error
