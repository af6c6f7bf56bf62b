"""The gate: did a run get worse than a baseline by more than seeds and samples explain?

A method's old and new cells were tested on the same rows. The difference of their means over seeds gets the standard
error of the crossed bootstrap, in which both runs share the drawn groups and draw their seeds independently. Drawing S
of S seeds shows (S - 1) / S of their variance; the missing share is put back, and the interval is Student's with the
degrees of freedom of Welch and Satterthwaite, since five seeds tell little about their own variance
(``benchmarks/gate.py`` measures how often this alarms on unchanged code, and how often percentiles would).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmbench.cost_ratios import Ratio
from mmbench.evaluation.bootstrap import Draws, decision_replicates, holm, ranking_replicates
from mmbench.evaluation.metrics import METRICS, compute
from mmbench.evaluation.predictions import Predictions

ALPHA = 0.05
REPLICATES = 2_000  # a standard error to 1.6 %; no tail is read off the replicates
POWER = 0.8
ROUNDING = 1e-12  # what sums in another order leave of equal values
Verdict = Literal["REGRESSION", "improved", "slightly worse", "no alarm"]
Array = NDArray[np.float64]


@dataclass(frozen=True, order=True)
class Place:
    """What is gated: a method on a concept of a problem."""

    problem: str
    concept: str
    method: str

    def __str__(self) -> str:
        where = self.concept if self.problem in ("joint", self.concept) else f"{self.problem} {self.concept}"
        return f"{self.method} on {where}"


@dataclass(frozen=True)
class Side:
    """A method's cells of one concept in one run: predictions and the metric's values, a seed each, on the same rows.

    The predictions hold what the metric needs and no more: decisions as 0 and 1, ranks, or a score's numbers.
    """

    seeds: tuple[int, ...]
    cells: tuple[Predictions, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Estimate:
    """New minus old: ``delta`` with its standard error, degrees of freedom and what was drawn."""

    delta: float
    error: float
    df: float
    crossed: bool


@dataclass(frozen=True)
class Comparison:
    """One gated comparison; ``p`` and ``p_holm`` are one-sided, of a drop, ``gain`` is positive where new is better."""

    place: Place
    n_seeds: tuple[int, int]
    old: float
    new: float
    estimate: Estimate
    low: float
    high: float
    gain: float
    p: float
    p_holm: float
    verdict: Verdict


@dataclass(frozen=True)
class Gate:
    """The outcome: what was compared, what could not be (with the reason), what the baseline does not hold.

    ``detectable`` are the smallest and the largest drop that a comparison finds with 80 % power.
    """

    metric: str
    min_effect: float
    comparisons: tuple[Comparison, ...]
    incomplete: tuple[tuple[Place, str], ...] = ()
    ungated: tuple[str, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    detectable: tuple[float, float] | None = None

    @property
    def regressions(self) -> tuple[Comparison, ...]:
        """The comparisons that alarm."""
        return tuple(c for c in self.comparisons if c.verdict == "REGRESSION")

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """What was to be gated and could not be, a line each."""
        lines = [f"{place}: {reason}" for place, reason in self.incomplete]
        return (*lines, *(f"{ratio}: {ratio.reason}" for ratio in self.ratios if ratio.value is None))

    @property
    def exit_code(self) -> int:
        """1 where something got worse, 3 where something could not be measured, else 0."""
        if self.regressions or any(ratio.exceeded for ratio in self.ratios):
            return 1
        return 3 if self.unmeasured else 0


def reduce(predictions: Predictions, decided: NDArray[Any], metric: str) -> Predictions:
    """Predictions with what ``metric`` needs as scores: the decisions (n, K), or each label's dense ranks.

    Every decision metric of the first and every ranking metric of the second are those of the predictions themselves.
    The decisions of a score are its numbers.
    """
    scores = ranks(predictions.scores) if METRICS[metric].needs == "scores" else decided.astype(np.float64)
    return Predictions(predictions.concept, predictions.ids, predictions.groups, scores, predictions.truth)


def ranks(scores: Array) -> Array:
    """By column, each score's place among the distinct scores, from 0: (n, K)."""
    return np.stack([np.unique(column, return_inverse=True)[1] for column in scores.T], axis=1).astype(np.float64)


def value_of(predictions: Predictions, metric: str) -> float | None:
    """The metric of reduced predictions."""
    return compute(predictions)[metric].value


def estimate_all(pairs: Mapping[Place, tuple[Side, Side]], metric: str) -> dict[Place, Estimate]:
    """New minus old for methods of one concept, tested on the same rows of more than one group."""
    places = list(pairs)
    first = pairs[places[0]][0].cells[0]
    names, groups = np.unique(first.groups, return_inverse=True)
    by_size: dict[tuple[int, int], list[Place]] = defaultdict(list)
    for place, (old, new) in pairs.items():
        by_size[len(old.seeds), len(new.seeds)].append(place)
    estimates = {}
    for sizes, alike in by_size.items():
        crossed = all(Draws(len(names), size, REPLICATES).crossed for size in sizes)
        drawn = [
            _replicates([pairs[place][side].cells for place in alike], groups, len(names), metric, side, crossed)
            for side in (0, 1)
        ]
        for place, before, after in zip(alike, *drawn, strict=True):
            estimates[place] = _estimate(pairs[place], after - before, len(names), crossed)
    return estimates


def _replicates(
    methods: Sequence[Sequence[Predictions]],
    groups: NDArray[np.int64],
    n_groups: int,
    metric: str,
    side: int,
    crossed: bool,
) -> list[Array]:
    """The metric of each method in each replicate; the two sides share the groups and not the seeds."""
    draws = Draws(n_groups, len(methods[0]), REPLICATES, seed_stream=side if crossed else None)
    replicates = ranking_replicates if METRICS[metric].needs == "scores" else decision_replicates
    cells = [[(predictions, None) for predictions in method] for method in methods]
    return [made[metric] for made in replicates(cells, groups, draws)]


def _estimate(pair: tuple[Side, Side], differences: Array, n_groups: int, crossed: bool) -> Estimate:
    """Total variance = that of the replicates + 1 / S of each side's seed variance, which drawing from S leaves out."""
    values = [np.array(side.values, dtype=np.float64) for side in pair]
    of_seeds = [v.var(ddof=1) / len(v) if crossed and np.ptp(v) > ROUNDING else 0.0 for v in values]
    sizes = [len(v) for v in values]
    drawn = float(np.where(abs(differences) <= ROUNDING, 0.0, differences).var(ddof=1))
    of_groups = max(drawn - sum(v * (s - 1) / s for v, s in zip(of_seeds, sizes, strict=True)), 0.0)
    total = of_groups + sum(of_seeds)
    shaky = of_groups**2 / (n_groups - 1) + sum(v**2 / (s - 1) for v, s in zip(of_seeds, sizes, strict=True) if v > 0)
    df = float(total**2 / shaky) if shaky > 0 else float(n_groups - 1)
    delta = float(values[1].mean() - values[0].mean())
    return Estimate(delta if abs(delta) > ROUNDING else 0.0, float(np.sqrt(total)), df, crossed)


def gate(
    pairs: Mapping[Place, tuple[Side, Side]],
    incomplete: Sequence[tuple[Place, str]],
    metric: str,
    min_effect: float,
    ungated: Sequence[str] = (),
    ratios: Sequence[Ratio] = (),
) -> Gate:
    """Compare all that the baseline holds, Holm over all of it; what is incomplete counts in the family.

    An alarm needs an adjusted one-sided p below .05 and a drop of more than ``min_effect``. Improvements are judged
    alike, in a family of their own.
    """
    lost = list(incomplete)
    by_concept: dict[tuple[str, str], dict[Place, tuple[Side, Side]]] = defaultdict(dict)
    for place, pair in pairs.items():
        reason = _unusable(pair, metric)
        if reason:
            lost.append((place, reason))
        else:
            by_concept[place.problem, place.concept][place] = pair
    estimates: dict[Place, Estimate] = {}
    for alike in by_concept.values():
        estimates |= estimate_all(alike, metric)
    for place in [p for p, e in estimates.items() if not np.isfinite(e.error)]:
        lost.append((place, f"{metric} is not defined in every resample"))
        del estimates[place]
    sign = 1 if METRICS[metric].better == "higher" else -1
    places = [place for place in pairs if place in estimates]
    missing = [1.0] * len(lost)
    drops = [_one_sided(sign * estimates[place].delta, estimates[place]) for place in places]
    rises = [_one_sided(-sign * estimates[place].delta, estimates[place]) for place in places]
    dropped, risen = holm([*drops, *missing]), holm([*rises, *missing])
    comparisons = []
    for n, place in enumerate(places):
        estimate = estimates[place]
        old, new = pairs[place]
        reach = _quantile(1 - ALPHA / 2, estimate.df) * estimate.error
        gain = sign * estimate.delta
        comparisons.append(
            Comparison(
                place=place,
                n_seeds=(len(old.seeds), len(new.seeds)),
                old=float(np.mean(np.array(old.values, dtype=np.float64))),
                new=float(np.mean(np.array(new.values, dtype=np.float64))),
                estimate=estimate,
                low=estimate.delta - reach,
                high=estimate.delta + reach,
                gain=gain,
                p=drops[n],
                p_holm=dropped[n],
                verdict=_verdict(gain, dropped[n], risen[n], min_effect),
            )
        )
    level = ALPHA / max(len(pairs) + len(incomplete), 1)
    powers = [
        max(min_effect, (_quantile(1 - level, e.df) + _quantile(POWER, e.df)) * e.error)
        for e in estimates.values()
        if e.error > 0
    ]
    detectable = (min(powers), max(powers)) if powers else None
    return Gate(metric, min_effect, tuple(comparisons), tuple(lost), tuple(ungated), tuple(ratios), detectable)


def _unusable(pair: tuple[Side, Side], metric: str) -> str:
    """Why a pair cannot be compared; empty where it can be."""
    if any(value is None for side in pair for value in side.values):
        return f"{metric} is not defined"
    if len(np.unique(pair[0].cells[0].groups)) < 2:
        return "one group shows nothing about others"
    return ""


def _verdict(gain: float, p_drop: float, p_rise: float, min_effect: float) -> Verdict:
    if p_drop < ALPHA:
        return "REGRESSION" if -gain > min_effect else "slightly worse"
    return "improved" if p_rise < ALPHA and gain > min_effect else "no alarm"


def _one_sided(gain: float, estimate: Estimate) -> float:
    """P of a ``gain`` this low or lower where nothing changed."""
    from scipy.special import stdtr

    if gain == 0:
        return 1.0
    if estimate.error == 0:
        return 0.0 if gain < 0 else 1.0
    return float(stdtr(estimate.df, gain / estimate.error))


def _quantile(level: float, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, level))
