"""The crossed bootstrap: every replicate draws seeds once and groups once, for all methods alike.

All seeds of a method share one test set, so seeds and groups are crossed. A replicate is the mean over the drawn seeds
of the metric on the drawn groups. Below five seeds only groups are drawn, and the interval holds for these seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.evaluation.metrics import METRICS, from_counts, from_rankings, rankings_of, row_counts
from mmbench.evaluation.predictions import Predictions

Array = NDArray[np.float64]
FEWEST_CROSSED_SEEDS = 5
CHUNK_ENTRIES = 4_000_000
RANKING_ENTRIES = 25_000  # what a ranking touches many times over stays in the processor's cache


class Replicates(np.ndarray[tuple[int, ...], np.dtype[np.float64]]):
    """Bootstrap replicates, (replicates,) float64: an array that says what it is, and stays so under arithmetic.

    Replicates are draws given the data, and as many as one likes: no test may count them as observations.
    """

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """A mean of replicates is a number, not replicates."""
        return array[()] if array.ndim == 0 else super().__array_wrap__(array, context, return_scalar)


@dataclass(frozen=True)
class Draws:
    """Which groups and seeds each replicate takes; the same object gives the same draws each time it is iterated.

    ``n_seeds`` below five draws no seeds. Chunks keep memory bounded and change no draw.
    """

    n_groups: int
    n_seeds: int
    n_replicates: int
    seed: int = 0

    @property
    def crossed(self) -> bool:
        """Whether seeds are drawn as well as groups."""
        return self.n_seeds >= FEWEST_CROSSED_SEEDS

    @property
    def kind(self) -> str:
        """What an interval over these draws covers, in words."""
        if self.crossed:
            return "95 % percentile, crossed bootstrap over seeds and groups"
        return "95 % percentile, bootstrap over groups, conditional on these seeds"

    def seeds(self) -> Array:
        """Weights of the seeds, (replicates, seeds), rows summing to one."""
        if not self.crossed:
            return np.full((self.n_replicates, self.n_seeds), 1 / self.n_seeds)
        drawn = np.random.default_rng([self.seed, 1]).integers(0, self.n_seeds, (self.n_replicates, self.n_seeds))
        return _multiplicities(drawn, self.n_seeds) / self.n_seeds

    def groups(self) -> Iterator[tuple[slice, Array]]:
        """Multiplicities of the groups, chunk by chunk: which replicates, and (chunk, groups) float64."""
        generator = np.random.default_rng([self.seed, 0])
        step = max(1, CHUNK_ENTRIES // max(self.n_groups, 1))
        for start in range(0, self.n_replicates, step):
            rows = min(step, self.n_replicates - start)
            drawn = generator.integers(0, self.n_groups, (rows, self.n_groups), dtype=np.int32)
            yield slice(start, start + rows), _multiplicities(drawn, self.n_groups)


def _multiplicities(drawn: NDArray[np.integer], size: int) -> Array:
    """How often each of ``size`` things was drawn, row by row."""
    offset = np.arange(len(drawn), dtype=np.int64)[:, None] * size
    counts = np.bincount((drawn + offset).ravel(), minlength=len(drawn) * size)
    return counts.reshape(len(drawn), size).astype(np.float64)


def decision_replicates(
    methods: Sequence[Sequence[tuple[Predictions, Array | None]]], groups: NDArray[np.int64], draws: Draws
) -> list[dict[str, Array]]:
    """The decision metrics of each method in each replicate.

    Args:
        methods: by method, its cells in order of the seeds: predictions and thresholds. All on the same rows.
        groups: (n,) int64, the group of each row, 0…n_groups-1.
        draws: shared by all methods.

    Returns:
        by method, metric -> (replicates,).
    """
    distinct, sums = _distinct_cells(methods), []
    for predictions, thresholds in distinct.values():
        by_group = np.zeros((draws.n_groups, 3 * predictions.truth.shape[1] + 2))
        np.add.at(by_group, groups, row_counts(predictions, thresholds))
        sums.append(by_group)
    width = sums[0].shape[1]
    table = np.concatenate(sums, axis=1)
    exclusive = methods[0][0][0].concept.kind == "exclusive"
    collected: dict[str, Array] = {}
    for rows, weights in draws.groups():
        values = from_counts((weights @ table).reshape(len(weights), len(sums), width), exclusive)
        for name, value in values.items():
            collected.setdefault(name, np.empty((draws.n_replicates, len(sums))))[rows] = value
    return _over_seeds(methods, list(distinct), collected, draws)


def ranking_replicates(
    methods: Sequence[Sequence[tuple[Predictions, Array | None]]], groups: NDArray[np.int64], draws: Draws
) -> list[dict[str, Array]]:
    """The score metrics of each method in each replicate; see :func:`decision_replicates`."""
    distinct = _distinct_cells(methods)
    rankings = [rankings_of(predictions) for predictions, _ in distinct.values()]
    collected = {
        name: np.empty((draws.n_replicates, len(rankings))) for name, m in METRICS.items() if m.needs == "scores"
    }
    small = max(1, RANKING_ENTRIES // max(len(groups), 1))
    for rows, weights in draws.groups():
        for start in range(0, len(weights), small):
            by_row = np.take(weights[start : start + small], groups, axis=1)
            here = slice(rows.start + start, rows.start + start + len(by_row))
            for column, ranking in enumerate(rankings):
                for name, value in from_rankings(ranking, by_row).items():
                    collected[name][here, column] = value
    return _over_seeds(methods, list(distinct), collected, draws)


def _distinct_cells(
    methods: Sequence[Sequence[tuple[Predictions, Array | None]]],
) -> dict[tuple[int, int], tuple[Predictions, Array | None]]:
    """The cells by (method, place), a deterministic method's equal cells once."""
    distinct = {}
    for number, cells in enumerate(methods):
        for place, cell in enumerate(cells):
            if place == 0 or not _same(cell, cells[0]):
                distinct[number, place] = cell
    return distinct


def _same(first: tuple[Predictions, Array | None], second: tuple[Predictions, Array | None]) -> bool:
    """Whether two cells have equal scores and equal thresholds."""
    thresholds = first[1] is second[1] or (
        first[1] is not None and second[1] is not None and np.array_equal(first[1], second[1])
    )
    return thresholds and np.array_equal(first[0].scores, second[0].scores)


def _over_seeds(
    methods: Sequence[Sequence[object]], columns: list[tuple[int, int]], collected: dict[str, Array], draws: Draws
) -> list[dict[str, Array]]:
    """The mean over the drawn seeds."""
    place = {key: column for column, key in enumerate(columns)}
    shares = draws.seeds()
    result = []
    for number, cells in enumerate(methods):
        used = [place.get((number, s), place[number, 0]) for s in range(len(cells))]
        result.append(
            {name: (values[:, used] * shares).sum(axis=1).view(Replicates) for name, values in collected.items()}
        )
    return result


def interval(replicates: Array, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of (replicates,); None where there is none or one is not defined."""
    if len(replicates) == 0 or np.isnan(replicates).any():
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(replicates), [tail, 1 - tail])
    return float(low), float(high)


def p_value(differences: Array) -> float:
    """Two-sided p of "no difference" from bootstrap differences (replicates,); never below 2 / (replicates + 1)."""
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment over a family: (.01, .04, .03, .005) -> (.03, .06, .06, .02)."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank_, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank_) * p_values[place]))
        adjusted[place] = highest
    return adjusted
