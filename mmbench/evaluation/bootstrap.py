"""The crossed bootstrap: every replicate draws groups once, for all methods and seeds alike, and new seeds.

All seeds of a method share one test set, so seeds and groups are crossed. A replicate is the mean over seeds of the
metric on the drawn groups; what new seeds add to it is :func:`spread_over_seeds`. Below five seeds only groups are
drawn, and the interval holds for these seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.evaluation.metrics import METRICS, count_width, from_counts, from_rankings, rankings_of, row_counts
from mmbench.evaluation.predictions import Predictions

Array = NDArray[np.float64]
Cell = tuple[Predictions, Array | None]  # with the thresholds of its decisions
Cells = Sequence[Cell]
FEWEST_CROSSED_SEEDS = 5
FEWEST_POSITIVE_GROUPS = 50
CHUNK_ENTRIES = 4_000_000
BLOCK_ENTRIES = 64_000_000
PRODUCT_ENTRIES = 8_000_000
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

    ``n_seeds`` below five draws no seeds. Chunks keep memory bounded and change no draw. Two ``seed_stream`` share the
    groups and draw their seeds independently; None draws none, however many there are.
    """

    n_groups: int
    n_seeds: int
    n_replicates: int
    seed: int = 0
    seed_stream: int | None = 0

    @property
    def crossed(self) -> bool:
        """Whether seeds are drawn as well as groups."""
        return self.seed_stream is not None and self.n_seeds >= FEWEST_CROSSED_SEEDS

    @property
    def kind(self) -> str:
        """What an interval over these draws covers, in words."""
        if self.crossed:
            return "95 % percentile, crossed bootstrap over seeds and groups (seeds by Student's t)"
        return "95 % percentile, bootstrap over groups, conditional on these seeds"

    def seeds(self) -> Array:
        """Weights of the seeds, (replicates, seeds), rows summing to one."""
        if self.seed_stream is None or not self.crossed:
            return np.full((self.n_replicates, self.n_seeds), 1 / self.n_seeds)
        generator = np.random.default_rng([self.seed, 1 + self.seed_stream])
        drawn = generator.integers(0, self.n_seeds, (self.n_replicates, self.n_seeds))
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
    counts = np.empty((len(drawn), size))
    for row, count in zip(drawn, counts, strict=True):
        count[:] = np.bincount(row, minlength=size)
    return counts


def decision_replicates(methods: Sequence[Cells], groups: NDArray[np.int64], draws: Draws) -> list[dict[str, Array]]:
    """The decision metrics of each method in each replicate; of a score all metrics.

    Args:
        methods: by method, its cells in order of the seeds: predictions and thresholds. All on the same rows.
        groups: (n,) int64, the group of each row, 0…n_groups-1.
        draws: shared by all methods.

    Returns:
        by method, metric -> (replicates,).
    """
    return [_over_seeds(values, draws) for values in decisions_by_seed(methods, groups, draws)]


def ranking_replicates(methods: Sequence[Cells], groups: NDArray[np.int64], draws: Draws) -> list[dict[str, Array]]:
    """The ranking metrics of each method in each replicate, of a score none; see :func:`decision_replicates`."""
    return [_over_seeds(values, draws) for values in rankings_by_seed(methods, groups, draws)]


def decisions_by_seed(methods: Sequence[Cells], groups: NDArray[np.int64], draws: Draws) -> list[dict[str, Array]]:
    """The decision metrics of each method at each seed on the drawn groups, no seeds drawn: (replicates, seeds)."""
    distinct, concept = _distinct_cells(methods), methods[0][0][0].concept
    width = count_width(concept)
    largest = int(np.bincount(groups).max(initial=0))
    dtype = np.dtype(np.float64) if concept.kind == "score" else np.min_scalar_type(largest)
    table = np.empty((draws.n_groups, len(distinct) * width), dtype=dtype)
    for column, cell in enumerate(distinct.values()):
        table[:, column * width : (column + 1) * width] = counts_by_group(*cell, groups, draws.n_groups)
    collected: dict[str, Array] = {}
    for rows, drawn in _blocks(draws, table.shape[1]):
        sums = _product(drawn, table).reshape(len(drawn), len(distinct), width)
        for name, value in from_counts(sums, concept).items():
            collected.setdefault(name, np.empty((draws.n_replicates, len(distinct))))[rows] = value
    return _by_method(methods, list(distinct), collected)


def rankings_by_seed(methods: Sequence[Cells], groups: NDArray[np.int64], draws: Draws) -> list[dict[str, Array]]:
    """The ranking metrics of each method at each seed on the drawn groups, no seeds drawn: (replicates, seeds)."""
    if methods[0][0][0].concept.kind == "score":
        return [{} for _ in methods]
    distinct = _distinct_cells(methods)
    collected = {
        name: np.empty((draws.n_replicates, len(distinct))) for name, m in METRICS.items() if m.needs == "scores"
    }
    small = max(1, RANKING_ENTRIES // max(len(groups), 1))
    for rows, drawn in _blocks(draws, 1):
        for column, (predictions, _) in enumerate(distinct.values()):
            rankings = rankings_of(predictions)  # one cell's at a time: those of all cells may not fit the memory
            for start in range(0, len(drawn), small):
                by_row = np.take(drawn[start : start + small], groups, axis=1)
                here = slice(rows.start + start, rows.start + start + len(by_row))
                for name, value in from_rankings(rankings, by_row).items():
                    collected[name][here, column] = value
    return _by_method(methods, list(distinct), collected)


def _blocks(draws: Draws, width: int) -> Iterator[tuple[slice, NDArray[np.uint16]]]:
    """Which replicates, and (block, groups) uint16 multiplicities: few blocks, of bounded size.

    A block has at most ``BLOCK_ENTRIES``, and ``width`` numbers for each of its replicates ``PRODUCT_ENTRIES``.
    """
    step = min(draws.n_replicates, BLOCK_ENTRIES // max(draws.n_groups, 1), PRODUCT_ENTRIES // width)
    step = max(step, 1)
    block, filled, start = np.empty((step, draws.n_groups), dtype=np.uint16), 0, 0
    for _, weights in draws.groups():
        while len(weights):
            taken = min(len(weights), step - filled)
            block[filled : filled + taken] = weights[:taken]
            weights, filled = weights[taken:], filled + taken
            if filled == step:
                yield slice(start, start + step), block
                start, filled = start + step, 0
    if filled:
        yield slice(start, start + filled), block[:filled]


def counts_by_group(
    predictions: Predictions, thresholds: Array | None, groups: NDArray[np.int64], n_groups: int
) -> Array:
    """Sums of the rows' counts (:func:`mmbench.evaluation.metrics.row_counts`) by group, (n_groups, W)."""
    sums = np.zeros((n_groups, count_width(predictions.concept)))
    np.add.at(sums, groups, row_counts(predictions, thresholds))
    return sums


def _product(drawn: NDArray[np.uint16], table: NDArray[Any]) -> Array:
    """``drawn @ table``: of counts exact, in single precision where every sum is an integer that it holds."""
    exact = table.dtype.kind == "u" and len(table) * int(table.max(initial=0)) < 2**24
    kind = np.float32 if exact else np.float64
    step = max(1, PRODUCT_ENTRIES // max(len(drawn), table.shape[1], 1))
    sums = np.zeros((len(drawn), table.shape[1]))
    for start in range(0, len(table), step):
        sums += drawn[:, start : start + step].astype(kind) @ table[start : start + step].astype(kind)
    return sums


def lost_labels(predictions: Predictions, groups: NDArray[np.int64], draws: Draws) -> float:
    """The share of replicates that lose a label: its last positive row, or its last negative one.

    Labels that the full sample lacks are not counted. In such replicates the metrics follow their own rules.
    """
    truth = predictions.truth
    table = np.zeros((draws.n_groups, 2 * truth.shape[1]))
    np.add.at(table, groups, np.concatenate([truth, ~truth], axis=1))
    table = table[:, table.any(axis=0)]
    lost = sum(int((weights @ table == 0).any(axis=1).sum()) for _, weights in draws.groups())
    return lost / draws.n_replicates


def rare_labels(predictions: Predictions, fewest: int = FEWEST_POSITIVE_GROUPS) -> dict[str, int]:
    """The labels with a positive row in fewer than ``fewest`` groups, and in how many: intervals are rough there.

    A score has no labels.
    """
    if predictions.concept.kind == "score":
        return {}
    found = {
        label: len(np.unique(predictions.groups[positive]))
        for label, positive in zip(predictions.concept.labels, predictions.truth.T, strict=True)
    }
    return {label: n for label, n in found.items() if n < fewest}


def _key(cell: Cell) -> bytes:
    """The same for cells of equal scores and equal thresholds, on the same rows."""
    predictions, thresholds = cell
    found = hashlib.blake2b(np.ascontiguousarray(predictions.scores).tobytes())
    found.update(b"" if thresholds is None else thresholds.tobytes())
    return found.digest()


def _distinct_cells(methods: Sequence[Cells]) -> dict[bytes, Cell]:
    """The cells by their key, equal ones once: what is equal is computed once, and differs by nothing."""
    return {_key(cell): cell for cells in methods for cell in cells}


def _by_method(methods: Sequence[Cells], keys: list[bytes], collected: dict[str, Array]) -> list[dict[str, Array]]:
    """Columns of distinct cells to (replicates, seeds) by method."""
    place = {key: column for column, key in enumerate(keys)}
    result: list[dict[str, Array]] = []
    for cells in methods:
        used = [place[_key(cell)] for cell in cells]
        result.append({name: values[:, used].view(Replicates) for name, values in collected.items()})
    return result


def _over_seeds(by_seed: dict[str, Array], draws: Draws) -> dict[str, Array]:
    """The mean over the drawn seeds."""
    shares = draws.seeds()
    return {name: (values * shares).sum(axis=1) for name, values in by_seed.items()}


def spread_over_seeds(by_seed: Array, values: Array, seed: int = 0) -> Array:
    """Replicates of a mean over seeds whose spread is that of new groups and new seeds, each counted once.

    A group replicate of the mean over seeds, plus the seeds' own effect: a t variate with S - 1 degrees of freedom
    times its estimated standard error. With s² the variance of the seeds' values, that is s²/S less the part that is
    there only because each seed errs on rows of its own, which the groups' spread holds already. Drawing seeds as the
    crossed bootstrap does counts that part up to three times, and with few seeds misses the seeds' own tails.

    Args:
        by_seed: (replicates, S), as :func:`decisions_by_seed` gives, of one method or of a difference of two.
        values: (S,) the same on the full sample.
        seed: of the t variates.
    """
    mean: Array = by_seed.mean(axis=1)
    n_seeds = by_seed.shape[1]
    if n_seeds == 1:
        return mean
    of_mean, of_one = mean.var(ddof=1), by_seed.var(axis=0, ddof=1).mean()
    own_rows = max(0.0, float(of_one - of_mean)) / (n_seeds - 1)
    error = np.sqrt(max(0.0, float(values.var(ddof=1)) / n_seeds - own_rows))
    own: Array = error * np.random.default_rng([seed, 1]).standard_t(n_seeds - 1, len(mean))
    return mean + own


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
