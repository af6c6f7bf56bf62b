"""Which rows a file of answers is scored on: all that a run tests, or in a run of its own those it answers.

A partial run bears another fingerprint and other rows, so that nothing ever pairs or ranks it with predictions of all
rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept, Dataset, Problem, known, unlabelled
from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.locate import cache_folder
from mmbench.running.answer_files import AnswerFile, first
from mmbench.running.answers import Matched
from mmbench.running.plan import Plan
from mmbench.running.prepare import encode_stateless
from mmbench.running.store import RunFolder, folder_name
from mmbench.splits import split_digest, usable_split


@dataclass(frozen=True)
class Posed:
    """What one problem scores: its split, and targets that are unlabelled where a test row has no answer.

    ``rows`` is the :func:`mmbench.splits.split_digest`, of a partial run another one.
    """

    problem: Problem
    concepts: tuple[Concept, ...]
    split: NDArray[np.str_]
    targets: Mapping[str, NDArray[Any]]
    rows: str

    def tested(self, concept: str) -> NDArray[np.bool_]:
        """The test rows that are scored, (n,)."""
        rows: NDArray[np.bool_] = (self.split == "test") & known(self.targets[concept])
        return rows

    def val(self, found: Matched) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The val rows, and those of them that have an answer to every concept they are labelled for, (n,) each."""
        rows = self.split == "val"
        answered = rows.copy()
        for concept in self.concepts:
            answered &= found.answers[concept.name].given | ~known(self.targets[concept.name])
        return rows, answered


def unreadable(plan: Plan) -> dict[int, str]:
    """The rows that a run of this plan leaves out because an input cannot be read; else such rows stop a run."""
    if plan.config.options.get("bad_images", "error") != "drop":
        return {}
    return encode_stateless(plan.dataset, plan.task, plan.config.encoders, cache_folder()).bad


def pose(plan: Plan, bad: dict[int, str], covered: Mapping[str, NDArray[np.bool_]] | None) -> list[Posed]:
    """The problems that test something; with ``covered`` on these rows only."""
    posed = []
    for problem in plan.dataset.problems:
        split = usable_split(problem, bad)
        targets = {name: plan.dataset.targets[name].copy() for name in problem.concepts if name in plan.config.concepts}
        rows = split_digest(plan.dataset.ids, split)
        if covered is not None:
            for name, target in targets.items():
                target[(split == "test") & ~covered[name]] = unlabelled(target)
            rows = digest([rows, plan.dataset.fingerprint])[:16]
        concepts = [c for c in plan.dataset.concepts if c.name in targets]
        concepts = [c for c in concepts if ((split == "test") & known(targets[c.name])).any()]
        if concepts:
            posed.append(Posed(problem, tuple(concepts), split, targets, rows))
    return posed


def covered_rows(concept: str, matched: Sequence[Matched], n: int) -> NDArray[np.bool_]:
    """The rows with an answer in every file, (n,)."""
    nothing = np.zeros(n, dtype=np.bool_)
    given = [found.answers[concept].given if concept in found.answers else nothing for found in matched]
    rows: NDArray[np.bool_] = np.logical_and.reduce(given)
    return rows


def asked_rows(concept: str, posed: Sequence[Posed]) -> NDArray[np.bool_]:
    """The rows that some problem tests a concept on, (n,)."""
    tested = [problem.tested(concept) for problem in posed if concept in problem.targets]
    rows: NDArray[np.bool_] = np.logical_or.reduce(tested)
    return rows


def missing_line(
    files: Sequence[AnswerFile],
    asked: Mapping[str, NDArray[np.bool_]],
    covered: Mapping[str, NDArray[np.bool_]],
    dataset: Dataset,
) -> str:
    """How many test rows of each concept have no answer, the first three of them, and what to do."""
    parts = []
    for name, rows in asked.items():
        lost = rows & ~covered[name]
        if lost.any():
            shown = "" if lost.sum() == rows.sum() else f" ({first(str(sample) for sample in dataset.ids[lost])})"
            parts.append(f"{lost.sum():,} of {rows.sum():,} test rows have no answer to {name}{shown}")
    return (
        f"{', '.join(str(file.path) for file in files)}: {'; '.join(parts)}: give them, name fewer concepts with "
        "--concepts, or score what is there, apart from all other methods, with --allow-partial"
    )


def partial_plan(plan: Plan, covered: Mapping[str, NDArray[np.bool_]], asked: Mapping[str, NDArray[np.bool_]]) -> Plan:
    """The plan for the answered rows: another fingerprint and folder, and a warning that every table bears.

    Raises:
        UsageError: no row that is tested has an answer.
    """
    kept = tuple(name for name in plan.config.concepts if (covered[name] & asked[name]).any())
    if not kept:
        raise UsageError("no test row has an answer in every file: nothing can be scored")
    counts = [f"{name} {(covered[name] & rows).sum():,} of {rows.sum():,}" for name, rows in asked.items()]
    line = (
        f"PARTIAL: only the test rows with an answer are scored ({', '.join(counts)}); never compare with full results"
    )
    parts = [part for name in kept for part in (name, covered[name] & asked[name])]
    fingerprint = digest([plan.dataset.fingerprint, *parts])
    folder = f"{plan.name}-{plan.protocol.name}-partial-{digest([plan.folder.path.name, fingerprint])[:8]}"
    return replace(
        plan,
        dataset=replace(plan.dataset, fingerprint=fingerprint),
        protocol=replace(plan.protocol, warning="; ".join(filter(None, (line, plan.protocol.warning)))),
        config=plan.config.model_copy(update={"concepts": kept}),
        folder=RunFolder(plan.folder.path.parent / folder_name(folder)),
        overrides=(*plan.overrides, line),
    )
