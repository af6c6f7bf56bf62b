"""The permutation test of two methods: group by group their predictions are exchanged, and the metric computed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmbench.evaluation.bootstrap import CHUNK_ENTRIES, RANKING_ENTRIES, Array, Cells, counts_by_group
from mmbench.evaluation.metrics import METRICS, from_counts, from_rankings, rank, row_counts
from mmbench.evaluation.significance import Test

ROUNDING = 1e-12  # two flips that give the same difference may differ in its last bits


def sign_flip(
    first: Cells, second: Cells, groups: NDArray[np.int64], metric: str, unit: str, n_flips: int = 9_999, seed: int = 0
) -> Test:
    """Exchange the two methods' predictions in random groups; |difference of the mean metric over seeds| is compared.

    A group is exchanged at all seeds together, for its rows are one draw. Where the groups in which the methods differ
    allow at most ``n_flips`` exchanges, all are counted and p is exact; otherwise p = (1 + #) / (1 + n_flips).

    Args:
        first: one method's cells in order of the seeds, predictions and thresholds.
        second: the other's, on the same rows.
        groups: (n,) int64, the group of each row, 0…n_groups-1.
        metric: any of the metrics.
        unit: the word for a group.
        n_flips: how many exchanges at most.
        seed: of the exchanges.
    """
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    null = f"the two methods' predictions are exchangeable within each {unit}, for these trained models"
    test = Test("sign flips by group", null, unit, n_groups, f"difference in {metric}")
    by_scores = METRICS[metric].needs == "scores"
    moved = np.flatnonzero(_differ(first, second, groups, n_groups, by_scores))
    if len(moved) == 0:
        return replace(test, effect=0.0 if n_groups else None, reason="the methods predict the same")
    enumerated = len(moved) < 63 and 2 ** len(moved) <= n_flips + 1
    difference = _ranked(first, second, groups, metric) if by_scores else _decided(first, second, groups, metric)
    observed = float(difference(np.ones((1, n_groups)))[0])
    if np.isnan(observed):
        return replace(test, reason=f"{metric} is not defined here")
    step = max(1, RANKING_ENTRIES // (2 * len(groups)) if by_scores else CHUNK_ENTRIES // n_groups)
    extreme = 0
    for kept in _flips(n_groups, moved, None if enumerated else n_flips, step, seed):
        extreme += int((np.abs(difference(kept)) >= abs(observed) - ROUNDING).sum())
    p = extreme / 2 ** len(moved) if enumerated else (1 + extreme) / (1 + n_flips)
    smallest = 2.0 ** (1 - len(moved)) if enumerated else 1 / (1 + n_flips)
    return replace(test, effect=observed, statistic=abs(observed), p=p, smallest_p=smallest)


def _differ(
    first: Cells, second: Cells, groups: NDArray[np.int64], n_groups: int, by_scores: bool
) -> NDArray[np.bool_]:
    """Groups (n_groups,) in which any row differs in what the metric is taken of."""
    differ = np.zeros(n_groups, dtype=bool)
    for (p, p_thresholds), (q, q_thresholds) in zip(first, second, strict=True):
        unlike = p.scores != q.scores if by_scores else row_counts(p, p_thresholds) != row_counts(q, q_thresholds)
        differ[groups[unlike.any(axis=1)]] = True
    return differ


def _flips(n_groups: int, moved: NDArray[np.int64], n_flips: int | None, step: int, seed: int) -> Iterator[Array]:
    """Which groups keep their own predictions, (chunk, n_groups) of 0 and 1: at random, or every way (None)."""
    generator = np.random.default_rng([seed, 2])
    total = 2 ** len(moved) if n_flips is None else n_flips
    for start in range(0, total, step):
        rows = np.arange(start, min(start + step, total))
        kept = np.ones((len(rows), n_groups))
        if n_flips is None:
            kept[:, moved] = (rows[:, None] >> np.arange(len(moved))) & 1
        else:
            kept[:, moved] = generator.integers(0, 2, (len(rows), len(moved)), dtype=np.int8)
        yield kept


def _decided(first: Cells, second: Cells, groups: NDArray[np.int64], metric: str) -> Callable[[Array], Array]:
    """Kept groups (R, n_groups) -> difference (R,), by sums of counts."""
    n_groups = int(groups.max()) + 1
    tables = [np.stack([counts_by_group(*cell, groups, n_groups) for cell in cells], 1) for cells in (first, second)]
    shape = tables[0].shape[1:]
    concept = first[0][0].concept
    apart = (tables[0] - tables[1]).reshape(n_groups, -1)
    sums = [table.sum(axis=0) for table in tables]

    def difference(kept: Array) -> Array:
        gained = (kept @ apart).reshape(-1, *shape)
        mine = from_counts(sums[1] + gained, concept)[metric].mean(axis=1)
        theirs = from_counts(sums[0] - gained, concept)[metric].mean(axis=1)
        return np.asarray(mine - theirs)

    return difference


def _ranked(first: Cells, second: Cells, groups: NDArray[np.int64], metric: str) -> Callable[[Array], Array]:
    """The same by one ranking of both methods' rows, in which a row has the weight of whoever holds it."""
    pooled = [
        [
            rank(np.concatenate([s, t]), np.concatenate([truth, truth]))
            for s, t, truth in zip(p.scores.T, q.scores.T, p.truth.T, strict=True)
        ]
        for (p, _), (q, _) in zip(first, second, strict=True)
    ]

    def difference(kept: Array) -> Array:
        by_row = kept[:, groups]
        mine = np.concatenate([by_row, 1 - by_row], axis=1)
        value = [from_rankings(r, mine)[metric] - from_rankings(r, 1 - mine)[metric] for r in pooled]
        return np.asarray(np.mean(value, axis=0))

    return difference
