"""Predictions that mmbench did not train, as cells of a run: scored, reported and compared like any other.

A file that does not answer every test row is scored on the rows it answers only where that is asked for, and then in a
run of its own with a fingerprint of its own, so that nothing ever pairs or ranks it with predictions of all rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.config import Settings
from mmbench.contracts import Concept, Dataset, Problem
from mmbench.errors import NotComparableError, UsageError
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.metrics import compute
from mmbench.evaluation.predictions import labelled_rows, write_predictions
from mmbench.hashing import digest
from mmbench.locate import cache_folder
from mmbench.plugins import METHOD_KINDS, Registry
from mmbench.running.answer_files import AnswerFile, first, read_answer_file
from mmbench.running.answers import Matched, match_answers
from mmbench.running.execute import known
from mmbench.running.plan import Plan, describe, describe_problems
from mmbench.running.prepare import encode_stateless, split_digest, usable_split
from mmbench.running.provenance import provenance
from mmbench.running.store import CEILING, Cell, RunFolder, folder_name

Say = Callable[[str], None]
NAME = re.compile(r"\w(?:[\w .()-]{0,62}[\w.)])?")


def check_name(name: str, registry: Registry) -> None:
    """Refuse a name that means a method already, or could not be told from a selector.

    Raises:
        UsageError: says what a name may hold.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r}: expected up to 64 letters, digits, spaces and . - _ ( ), the first a letter or digit"
        )
    reserved = {"all", *(plugin.name for kind in METHOD_KINDS for plugin in registry.list(kind))}
    if name in reserved or name.startswith(CEILING.rstrip(":")):
        raise UsageError(f"--name {name} means something else in mmbench already: choose another")


def settings_of_run(info: Mapping[str, Any]) -> Settings:
    """The settings that a stored run was planned with, as far as its data and its name depend on them."""
    config = info["config"]
    return Settings(
        protocol=config["protocol"],
        modalities=",".join(config["modalities"]),
        concepts=",".join(config["concepts"]),
        split_seed=config["split_seed"],
        thresholds=config["thresholds"],
        encoders=config["encoders"],
        task=config["options"],
        training=config["training"],
    )


def unreadable(plan: Plan) -> dict[int, str]:
    """The rows that a run of this plan leaves out because an input cannot be read; else such rows stop a run."""
    if plan.config.options.get("bad_images", "error") != "drop":
        return {}
    return encode_stateless(plan.dataset, plan.task, plan.config.encoders, cache_folder()).bad


@dataclass(frozen=True)
class Posed:
    """What one problem scores: its split, and targets that are -1 where a test row has no answer.

    ``rows`` is the :func:`mmbench.running.prepare.split_digest`, of a partial run another one.
    """

    problem: Problem
    concepts: tuple[Concept, ...]
    split: NDArray[np.str_]
    targets: Mapping[str, NDArray[np.int64]]
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


def score(
    plan: Plan,
    files: Sequence[Path],
    name: str,
    first_seed: int,
    registry: Registry,
    say: Say,
    *,
    allow_partial: bool = False,
    force: bool = False,
) -> RunFolder:
    """Store each file's predictions as the cells of method ``name`` at the seeds ``first_seed``, ``first_seed`` + 1 …

    Args:
        plan: names the run and holds the data.
        files: one a seed.
        name: see :func:`check_name`.
        first_seed: of the first file.
        registry: to know which names are taken.
        say: takes a line for the user.
        allow_partial: score the answered rows of files that do not answer all, in a run of its own.
        force: replace cells of the same name that came from another file.

    Returns:
        the run's folder.

    Raises:
        UsageError: a file that is not sound, answers that are missing, a name that is taken.
        NotComparableError: the run that is there already is of other data, or another split.
    """
    check_name(name, registry)
    concepts = [c for c in plan.dataset.concepts if c.name in plan.config.concepts]
    read = [read_answer_file(path) for path in files]
    matched = [match_answers(file, plan.dataset, concepts) for file in read]
    bad = unreadable(plan)
    posed = _pose(plan, bad, None)
    _check_same(plan, posed)
    covered = {c.name: _covered(c.name, matched, len(plan.dataset.ids)) for c in concepts}
    asked = {c.name: _asked(c.name, posed) for c in concepts}
    if any((asked[c.name] & ~covered[c.name]).any() for c in concepts):
        if not allow_partial:
            raise UsageError(_missing(read, asked, covered, plan.dataset))
        plan = _partial(plan, covered, asked)
        say(plan.overrides[-1])
        posed = _pose(plan, bad, covered)
        _check_same(plan, posed)
    cells = [
        (problem, Cell(problem.problem.name, name, first_seed + n), n) for problem in posed for n in range(len(read))
    ]
    _check_free(plan.folder, {cell: read[n] for _, cell, n in cells}, force)
    source = provenance()
    if not (plan.folder.path / "run.json").exists():
        plan.folder.write_info({**_info(plan, bad, posed), "energy_source": None, **source})
    for problem, cell, n in cells:
        record, write = _result(plan, problem, read[n], matched[n])
        place = {"problem": cell.problem, "method": cell.method, "seed": cell.seed}
        plan.folder.write_cell(cell, {**place, **record, **source}, write)
    for file, found in zip(read, matched, strict=True):
        for line in _remarks(plan, file, found, posed):
            say(f"{file.path}: {line}")
    return plan.folder


def _check_same(plan: Plan, posed: Sequence[Posed]) -> None:
    """Refuse a stored run whose data, labels or split are not those that are loaded.

    Raises:
        NotComparableError: says which of them.
    """
    if not (plan.folder.path / "run.json").exists():
        return
    info, here = plan.folder.info(), describe(plan, {})
    for what, key in (("data", "fingerprint"), ("concepts", "concepts")):
        if info[key] != here[key]:
            raise NotComparableError(f"{plan.folder.path} is a run on other {what} than are loaded: give its --data")
    rows = {problem["name"]: problem.get("rows") for problem in info["problems"]}
    if any(rows.get(problem.problem.name) != problem.rows for problem in posed):
        raise NotComparableError(f"{plan.folder.path} is a run on another split than the one that is loaded")


def _pose(plan: Plan, bad: dict[int, str], covered: Mapping[str, NDArray[np.bool_]] | None) -> list[Posed]:
    """The problems that test something; with ``covered`` on these rows only."""
    posed = []
    for problem in plan.dataset.problems:
        split = usable_split(problem, bad)
        targets = {name: plan.dataset.targets[name].copy() for name in problem.concepts if name in plan.config.concepts}
        rows = split_digest(plan.dataset.ids, split)
        if covered is not None:
            for name, target in targets.items():
                target[(split == "test") & ~covered[name]] = -1
            rows = digest([rows, plan.dataset.fingerprint])[:16]
        concepts = [c for c in plan.dataset.concepts if c.name in targets]
        concepts = [c for c in concepts if ((split == "test") & known(targets[c.name])).any()]
        if concepts:
            posed.append(Posed(problem, tuple(concepts), split, targets, rows))
    return posed


def _covered(concept: str, matched: Sequence[Matched], n: int) -> NDArray[np.bool_]:
    """The rows with an answer in every file, (n,)."""
    nothing = np.zeros(n, dtype=np.bool_)
    given = [found.answers[concept].given if concept in found.answers else nothing for found in matched]
    rows: NDArray[np.bool_] = np.logical_and.reduce(given)
    return rows


def _asked(concept: str, posed: Sequence[Posed]) -> NDArray[np.bool_]:
    """The rows that some problem tests a concept on, (n,)."""
    tested = [problem.tested(concept) for problem in posed if concept in problem.targets]
    rows: NDArray[np.bool_] = np.logical_or.reduce(tested)
    return rows


def _missing(
    files: Sequence[AnswerFile],
    asked: Mapping[str, NDArray[np.bool_]],
    covered: Mapping[str, NDArray[np.bool_]],
    dataset: Dataset,
) -> str:
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


def _partial(plan: Plan, covered: Mapping[str, NDArray[np.bool_]], asked: Mapping[str, NDArray[np.bool_]]) -> Plan:
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


def _check_free(folder: RunFolder, files: Mapping[Cell, AnswerFile], force: bool) -> None:
    """Refuse a name that is a trained method's, or whose cells came from another file.

    Raises:
        UsageError: says what is there.
    """
    names = {cell.method for cell in files}
    for cell, record in folder.results():
        if cell.method not in names:
            continue
        if not record.get("foreign"):
            raise UsageError(f"{cell.method} is a method that was trained in {folder.path}: choose another --name")
        if cell in files and record["file"]["sha256"] != files[cell].sha256 and not force:
            raise UsageError(
                f"{cell.method} has predictions of another file at seed {cell.seed} in {folder.path} "
                f"({record['file']['name']}): choose another --name or --seed, or replace them with --force"
            )


def _info(plan: Plan, bad: dict[int, str], posed: Sequence[Posed]) -> dict[str, Any]:
    """The contents of ``run.json``, with the sizes of what is scored."""
    problems = []
    for here in posed:
        alone = replace(here.problem, concepts=tuple(here.targets))
        dataset = replace(plan.dataset, problems=(alone,), targets={**plan.dataset.targets, **here.targets})
        problems += [found | {"rows": here.rows} for found in describe_problems(replace(plan, dataset=dataset), bad)]
    return describe(plan, bad) | {"problems": problems}


def _result(
    plan: Plan, posed: Posed, file: AnswerFile, found: Matched
) -> tuple[dict[str, Any], Callable[[Path], None]]:
    """A cell's record, and what writes its predictions: the test rows, and the val rows where all have an answer."""
    dataset, answers = plan.dataset, {c.name: found.answers[c.name] for c in posed.concepts}
    labelled = {name: known(posed.targets[name]) for name in answers}
    val, given = posed.val(found)
    rows = np.concatenate([np.flatnonzero(val & (val == given).all()), np.flatnonzero(posed.split == "test")])
    split = posed.split[rows]
    write = partial(
        write_predictions,
        ids=dataset.ids[rows],
        groups=dataset.groups[rows],
        split=split,
        scores={name: given.scores[rows] for name, given in answers.items()},
        targets={name: posed.targets[name][rows] for name in answers},
        mask={name: labelled[name][rows] for name in answers},
    )
    metrics = {}
    for concept in posed.concepts:
        on_val, on_test = (
            labelled_rows(
                concept,
                dataset.ids[rows],
                dataset.groups[rows],
                answers[concept.name].scores[rows],
                posed.targets[concept.name][rows],
                labelled[concept.name][rows] & (split == part),
            )
            for part in ("val", "test")
        )
        values = compute(on_test, tune_thresholds(on_val) if plan.config.thresholds == "val" else None)
        metrics[concept.name] = {name: value.value for name, value in values.items()}
    record = {
        "status": "done",
        "foreign": True,
        "file": {"name": file.path.name, "sha256": file.sha256, "rows": len(file.rows), "format": file.format},
        "hard": [name for name, given in answers.items() if given.hard],
        "unparsed": {name: int((given.unparsed & posed.tested(name)).sum()) for name, given in answers.items()},
        "normalised": {name: int((given.normalised & posed.tested(name)).sum()) for name, given in answers.items()},
        "deterministic": False,
        "parameters": None,
        "timings": {},
        "energy": None,
        "metrics": metrics,
        "history": {},
        "rows": posed.rows,
        "plugins": {},
    }
    return record, write


def _remarks(plan: Plan, file: AnswerFile, found: Matched, posed: Sequence[Posed]) -> list[str]:
    """What the user should know of a file that was scored."""
    lines = []
    if found.ignored:
        lines.append(f"{len(found.ignored)} fields answer no concept: {first(found.ignored)}")
    used = np.logical_or.reduce([np.isin(problem.split, ("val", "test")) for problem in posed])
    if surplus := int((found.rows & ~used).sum()):
        lines.append(f"{surplus:,} of {len(file.rows):,} rows are neither test nor val rows here: not used")
    for problem in posed:
        val, answered = problem.val(found)
        if (found.rows & val).any() and (val != answered).any():
            lines.append(
                f"{answered.sum():,} of {val.sum():,} val rows of {problem.problem.name} have answers: val is left out"
            )
    for name, given in found.answers.items():
        tested = _asked(name, posed)
        if lost := int((given.unparsed & tested).sum()):
            samples = (str(sample) for sample in plan.dataset.ids[given.unparsed & tested])
            lines.append(
                f"{lost:,} of {tested.sum():,} answers to {name} cannot be read and count as wrong ({first(samples)})"
            )
        if matched := int((given.normalised & tested).sum()):
            lines.append(f"{matched:,} answers to {name} were matched but for case, space, quotes or a final period")
    if hard := [name for name, given in found.answers.items() if given.hard]:
        lines.append(f"labels, not scores, of {', '.join(hard)}: map and roc_auc there are those of hard decisions")
    return lines
