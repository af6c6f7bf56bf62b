"""How far methods' values, and the differences of two, spread over new groups and seeds: on the same draws for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.evaluation.bca import bca, jackknife
from mmbench.evaluation.bootstrap import (
    Draws,
    decisions_by_seed,
    interval,
    lost_labels,
    rankings_by_seed,
    rare_labels,
    spread_over_seeds,
)
from mmbench.evaluation.metrics import METRICS, MetricValue
from mmbench.evaluation.predictions import Predictions

Array = NDArray[np.float64]
REPLICATES = 10_000
RANKING_REPLICATES = 1_000


@dataclass(frozen=True)
class Row:
    """One method on one concept: a cell a seed, on the same test rows.

    ``info`` is the ``run.json`` of the run it was merged in from, {} for a row of the table's own run.
    """

    method: str
    seeds: tuple[int, ...]
    cells: list[tuple[Predictions, Array | None]]
    results: list[dict[str, Any]]
    values: list[dict[str, MetricValue]]
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """One method on the shared resamples.

    Attributes:
        kind: what an interval covers, in words.
        crossed: whether it covers other seeds as well as other groups.
        by_seed: metric -> (replicates, S) on the drawn groups.
        values: metric -> (S,) on the test rows; nan where it is not defined.
        jackknives: metric -> (groups,) with one group left out, where the method is one trained model.
    """

    kind: str
    crossed: bool
    by_seed: dict[str, Array]
    values: dict[str, Array]
    jackknives: dict[str, Array]

    def replicates(self, metric: str, other: Spread | None = None) -> Array:
        """Replicates (R,) of the mean over seeds, or of its difference to another method's at the same seeds."""
        by_seed, values = self.by_seed[metric], self.values[metric]
        if other is not None:
            by_seed, values = by_seed - other.by_seed[metric], values - other.values[metric]
        return spread_over_seeds(by_seed, values) if self.crossed else by_seed.mean(axis=1)

    def interval(self, metric: str) -> tuple[tuple[float, float] | None, str]:
        """The 95 % interval of the mean over seeds, None where the metric is not defined, and its kind."""
        replicates = self.replicates(metric)
        drawn = f"{len(replicates):,} resamples"
        if metric not in self.jackknives:
            return interval(replicates), f"{self.kind}, {drawn}"
        found = bca(replicates, float(self.values[metric].mean()), [self.jackknives[metric]])
        if found is None:
            return None, f"{self.kind}, {drawn}"
        kind = self.kind.replace("percentile", found.kind) + f", {drawn}"
        return (found.low, found.high), kind + (f" (no BCa: {found.reason})" if found.reason else "")


def make_spreads(
    rows: Sequence[Row], metrics: Collection[str] = METRICS.keys(), resamples: int | None = None
) -> dict[str, Spread]:
    """Every method's spread; methods with the same seeds share all draws. One group shows nothing about others: {}.

    ``resamples`` takes the place of the usual number where it is smaller.
    """
    first = rows[0].cells[0][0]
    names, groups = np.unique(first.groups, return_inverse=True)
    if len(names) < 2:
        return {}
    by_seeds: dict[tuple[int, ...], list[Row]] = defaultdict(list)
    for row in rows:
        by_seeds[row.seeds].append(row)
    spreads = {}
    for seeds, alike in by_seeds.items():
        counts = (min(resamples or usual, usual) for usual in (REPLICATES, RANKING_REPLICATES))
        draws, ranked = (Draws(len(names), len(seeds), n) for n in counts)
        cells = [row.cells for row in alike]
        needed = {METRICS[metric].needs for metric in metrics}
        nothing: list[dict[str, Array]] = [{} for _ in alike]
        decisions = decisions_by_seed(cells, groups, draws) if needed & {"decisions", "numbers"} else nothing
        scores = rankings_by_seed(cells, groups, ranked) if "scores" in needed else nothing
        for row, decided, rankings in zip(alike, decisions, scores, strict=True):
            values = {m: np.array([v[m].value for v in row.values], dtype=np.float64) for m in metrics}
            single = {m for m in metrics if len(seeds) == 1 and np.isfinite(values[m]).all()}
            left_out = jackknife(row.cells, groups, len(names), single) if single else {}
            spreads[row.method] = Spread(draws.kind, draws.crossed, decided | rankings, values, left_out)
    return spreads


def roughness(predictions: Predictions, unit: str) -> str:
    """A line on the labels for which these intervals are rough; '' where there is none."""
    rare = rare_labels(predictions)
    if not rare:
        return ""
    names, groups = np.unique(predictions.groups, return_inverse=True)
    share = lost_labels(predictions, groups, Draws(len(names), 1, RANKING_REPLICATES)) if len(names) > 1 else 0.0
    listed = ", ".join(f"{label} ({n})" for label, n in sorted(rare.items(), key=lambda item: item[1])[:8])
    more = f" and {len(rare) - 8} labels more" if len(rare) > 8 else ""
    lost = f"; {share:.1%} of the resamples lose a label" if share >= 0.001 else ""
    return (
        f"rough intervals: fewer than 50 {unit}s of the test set hold {listed}{more}; 95 % intervals of what averages "
        f"over labels cover less there{lost}"
    )
