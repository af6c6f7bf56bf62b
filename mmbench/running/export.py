"""What a model outside mmbench needs to answer a task: a row a sample, without its labels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mmbench.contracts import SPLITS, Concept
from mmbench.errors import unknown
from mmbench.running.coverage import unreadable
from mmbench.running.plan import Plan
from mmbench.splits import usable_split


def export_rows(plan: Plan, split: str) -> tuple[list[str], tuple[str, ...]]:
    """The rows of a split as lines of JSON, in the order of the data set, and the modalities that are left out.

    A row has ``id``, ``group``, ``text`` (by modality, verbatim), ``media`` (by modality, the path of a file, null
    where it is missing) and ``concepts``: by name the kind and the labels (of a score the bounds too) of those that its
    problems are about. Which of them the row has a label for is not told. Vectors, sequences and motions
    are left out.

    Raises:
        UsageError: no such split.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    dataset, bad = plan.dataset, unreadable(plan)
    kinds = {m.name: m.kind for m in plan.task.modalities if m.name in plan.config.modalities}
    about = {c.name: _asked(c) for c in dataset.concepts if c.name in plan.config.concepts}
    asked = {name: np.zeros(len(dataset.ids), dtype=np.bool_) for name in about}
    for problem in dataset.problems:
        for name in (name for name in problem.concepts if name in about):
            asked[name] |= usable_split(problem, bad) == split
    lines = []
    for row in np.flatnonzero(np.logical_or.reduce(list(asked.values()))).tolist():
        record: dict[str, Any] = {
            "id": str(dataset.ids[row]),
            "group": str(dataset.groups[row]),
            "text": {name: dataset.inputs[name][row] for name, kind in kinds.items() if kind == "text"},
            "media": {
                name: None if dataset.inputs[name][row] is None else str(dataset.inputs[name][row])
                for name, kind in kinds.items()
                if kind in ("image", "audio", "video")
            },
            "concepts": {name: described for name, described in about.items() if asked[name][row]},
        }
        lines.append(json.dumps(record, ensure_ascii=False))
    return lines, tuple(name for name, kind in kinds.items() if kind in ("vector", "sequence", "motion"))


def _asked(concept: Concept) -> dict[str, Any]:
    """What is asked of a row."""
    told: dict[str, Any] = {"kind": concept.kind, "labels": list(concept.labels)}
    return told if concept.bounds is None else told | {"bounds": list(concept.bounds)}
