"""Bias-corrected and accelerated intervals (Efron 1987), and the jackknife over groups they need."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from mmbench.evaluation.bootstrap import RANKING_ENTRIES, Array, Cells, counts_by_group, interval
from mmbench.evaluation.metrics import METRICS, from_counts, from_rankings, rankings_of

LEFT_OUT = 1_000  # rankings are made anew for every group left out: above so many, groups are left out in blocks


@dataclass(frozen=True)
class Bounds:
    """An interval; ``kind`` is "BCa" or "percentile", and ``reason`` says why BCa could not be had."""

    low: float
    high: float
    kind: str
    reason: str = ""


def bca(replicates: Array, value: float, jackknives: Sequence[Array], level: float = 0.95) -> Bounds | None:
    """The BCa interval, the percentile one (with the reason) where it is not defined, None where neither is.

    z0 = Φ⁻¹(share of replicates below the value, equal ones half); a = Σ l³/n³ / (6 (Σ l²/n²)^(3/2)), the sums over
    all that is resampled, l = (n - 1)(mean - value without the one).

    Args:
        replicates: (B,).
        value: of the full sample.
        jackknives: (n,) for each thing resampled: the values with one group left out, and where seeds are drawn too
            those with one seed left out.
        level: the coverage asked for.
    """
    plain = interval(replicates, level)
    if plain is None:
        return None
    reason = ""
    below = float(np.mean(replicates < value) + np.mean(replicates == value) / 2)
    left_out = [np.asarray(values) for values in jackknives if len(values) > 1]
    effects = [(len(values) - 1) * (values.mean() - values) / len(values) for values in left_out]
    spread = sum(float((effect**2).sum()) for effect in effects)
    if np.ptp(replicates) == 0:
        reason = "the replicates do not vary"
    elif not 0 < below < 1:
        reason = "all replicates lie on one side of the value"
    elif not spread > 0:
        reason = "no group changes the value, or one cannot be left out"
    if reason:
        return Bounds(*plain, "percentile", reason)
    acceleration = sum(float((effect**3).sum()) for effect in effects) / (6 * spread**1.5)
    bias = ndtri(below)
    shifted = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    if (acceleration * shifted >= 1).any():
        return Bounds(*plain, "percentile", "the acceleration is too large")
    places = ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(np.asarray(replicates), places)
    return Bounds(float(low), float(high), "BCa")


def jackknife(cells: Cells, groups: NDArray[np.int64], n_groups: int, metrics: Collection[str]) -> dict[str, Array]:
    """The mean over a method's seeds with one group left out, by metric (n_groups,); nan where it is not defined.

    Above 1,000 groups the ranking metrics leave out one of 1,000 blocks of groups at a time, (1000,): the acceleration
    is an average over groups, and a block's is the same in expectation.
    """
    ranked = [m for m in metrics if METRICS[m].needs == "scores"]
    summed = [m for m in metrics if m not in ranked]
    by_cell: list[dict[str, Array]] = []
    for predictions, thresholds in cells:
        found: dict[str, Array] = {}
        if summed:
            table = counts_by_group(predictions, thresholds, groups, n_groups)
            values = from_counts(table.sum(axis=0) - table, predictions.concept)
            found |= {m: values[m] for m in summed}
        if ranked:
            rankings, blocks, n_blocks = rankings_of(predictions), groups % LEFT_OUT, min(n_groups, LEFT_OUT)
            step = max(1, RANKING_ENTRIES // max(len(groups), 1))
            parts = [
                from_rankings(rankings, (blocks != np.arange(i, min(i + step, n_blocks))[:, None]).astype(np.float64))
                for i in range(0, n_blocks, step)
            ]
            found |= {m: np.concatenate([part[m] for part in parts]) for m in ranked}
        by_cell.append(found)
    return {m: np.mean([found[m] for found in by_cell], axis=0) for m in metrics}


def without_each_seed(values: Array) -> Array:
    """The mean of (S,) values with one seed left out: (S,)."""
    return np.asarray((values.sum() - values) / (len(values) - 1))
