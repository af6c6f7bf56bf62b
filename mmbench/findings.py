"""What an audit finds, and how it sees a data set: the rows used, the labels held, the first ids of some rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept, Dataset, Problem

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
SHOWN = 3
PAIRS = (("train", "test"), ("train", "val"), ("val", "test"))


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        where: the problem, concept or modality it is about; empty for the whole data set.
        splits: the pair of splits (``train, test``) or the split.
        count, of: how many rows (labels, columns) of how many.
        examples: at most three ids (labels, columns).
    """

    severity: Severity
    check: str
    where: str
    splits: str
    count: int
    of: int
    detail: str
    examples: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first, otherwise as they come."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def first_ids(dataset: Dataset, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """At most three ids of these rows."""
    return tuple(str(name) for name in dataset.ids[rows[:SHOWN]])


def used_rows(dataset: Dataset) -> NDArray[np.bool_]:
    """The rows that some problem uses, (n,)."""
    used: NDArray[np.bool_] = np.logical_or.reduce([problem.split != "" for problem in dataset.problems])
    return used


def held_labels(dataset: Dataset, concept: Concept) -> NDArray[np.bool_]:
    """Which labels each row holds, (n, K); an unlabelled row holds none."""
    target = dataset.targets[concept.name]
    held: NDArray[np.bool_] = target == 1 if target.ndim == 2 else target[:, None] == np.arange(len(concept.labels))
    return held


def posed(dataset: Dataset) -> Iterator[tuple[Problem, Concept, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Each problem's concepts with the labels held, (n, K), and the labelled rows, (n,); a score holds no labels."""
    for concept in dataset.concepts:
        if concept.kind == "score":
            continue
        held, labelled = held_labels(dataset, concept), dataset.labelled(concept.name)
        for problem in dataset.problems:
            if concept.name in problem.concepts:
                yield problem, concept, held, labelled


def place_of(problem: Problem, concept: Concept) -> str:
    """The name of a concept in a problem: its own where that tells which problem is meant."""
    return concept.name if problem.name in (concept.name, "joint") else f"{problem.name} {concept.name}"
