"""What a reader of results on CrisisMMD must know about the data: counts only, never a row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept, Problem

from .files import Annotations


def notes(
    annotations: Annotations,
    concepts: tuple[Concept, ...],
    targets: Mapping[str, NDArray[np.int64]],
    problems: tuple[Problem, ...],
) -> list[str]:
    """One line each: masked rows, rows with two labels, concepts that determine each other, leaks between splits."""
    lines = []
    for concept in concepts:
        used = np.logical_or.reduce([problem.split != "" for problem in problems if concept.name in problem.concepts])
        target = targets[concept.name][used]
        if target.ndim == 2:
            lines.append(f"{concept.name}: {(target.sum(axis=1) > 1).mean():.1%} of rows have two labels")
        elif (target < 0).any():
            lines.append(
                f"{concept.name}: {(target >= 0).sum():,} of {used.sum():,} rows have a label, the rest is masked"
            )
    lines += _determined(targets)
    for problem in problems:
        lines += leaks(annotations, problem)
    return lines


def _determined(targets: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Whether informative holds exactly where humanitarian is not background, over the rows with both labels."""
    informative, humanitarian = targets["informative"], targets["humanitarian"]
    first = humanitarian if humanitarian.ndim == 1 else humanitarian[:, 0]
    positive = first != (0 if humanitarian.ndim == 1 else 1)
    both = (informative >= 0) & (first >= 0)
    same = (informative == 1)[both] == positive[both]
    where = "every row" if same.all() else f"{same.sum():,} of {both.sum():,} rows"
    return [
        f"informative holds exactly where humanitarian is not not_humanitarian, in {where}: not independent evidence"
    ]


def leaks(annotations: Annotations, problem: Problem) -> list[str]:
    """Val and test rows of tweets that are in train too.

    Texts that repeat under another tweet are not counted: once links are left out they are 4 of the 3,616 test rows of
    ``mt25``.
    """
    train = annotations.tweet[problem.split == "train"]
    found = []
    for part in ("val", "test"):
        rows = problem.split == part
        shared = int(np.isin(annotations.tweet[rows], train).sum())
        if shared:
            found.append(f"{problem.name}: {shared:,} of {rows.sum():,} {part} rows share a tweet with train")
    return found
