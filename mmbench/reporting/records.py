"""From a run's stored predictions to records: one a (task, problem, concept, label, method, metric).

Everything here is a pure function of the predictions and ``run.json``: nothing is trained, nothing is remembered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept
from mmbench.evaluation.bootstrap import Draws, holm, interval, p_value, replicates
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.metrics import METRICS, Predictions, compute, per_label
from mmbench.evaluation.predictions import read_predictions
from mmbench.running.store import Cell, RunFolder

Record = dict[str, Any]
REPLICATES = 10_000
RANKING_REPLICATES = 2_000
POWER = 2.8016  # z(.975) + z(.80): the minimum detectable effect at 80 % power in standard errors
MARGIN = 0.01
CEILING = "ceiling:"


@dataclass(frozen=True)
class Collection:
    """The records of a run and what the tables need beside them.

    ``best`` holds (method, metric, problem, concept) of the best method and of all that its paired interval does not
    separate from it; ``reference`` is the method that differences are taken to, or None.
    """

    info: dict[str, Any]
    records: list[Record]
    reference: str | None
    best: frozenset[tuple[str, str, str, str]]
    replicates: int
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One method on one concept of one problem: a cell a seed, on the same test rows."""

    method: str
    cells: list[Predictions]
    thresholds: list[NDArray[np.float64] | None]
    results: list[dict[str, Any]]
    seeds: tuple[int, ...]
