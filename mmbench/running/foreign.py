"""Predictions that mmbench did not train, as cells of a run: scored, reported and compared like any other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.config import Settings
from mmbench.contracts import known
from mmbench.errors import NotComparableError, UsageError
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.metrics import compute
from mmbench.evaluation.predictions import labelled_rows, write_predictions
from mmbench.plugins import METHOD_KINDS, Registry
from mmbench.running.answer_files import AnswerFile, first, read_answer_file, shown
from mmbench.running.answers import Matched, match_answers
from mmbench.running.coverage import (
    Posed,
    asked_rows,
    covered_rows,
    missing_line,
    partial_plan,
    pose,
    unreadable,
)
from mmbench.running.plan import Plan, describe, describe_problems
from mmbench.running.provenance import provenance
from mmbench.running.store import CEILING, Cell, RunFolder

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
        near_duplicates="group" if any(o.startswith("near_duplicates=group") for o in info["overrides"]) else None,
        train_fraction=f"{config.get('train_fraction', 1)}",
        encoders=config["encoders"],
        task=config["options"],
        training=config["training"],
    )


def score(
    plan: Plan,
    files: Sequence[Path],
    name: str,
    first_seed: int,
    registry: Registry,
    *,
    allow_partial: bool = False,
    force: bool = False,
) -> tuple[RunFolder, list[str]]:
    """Store each file's predictions as the cells of method ``name`` at the seeds ``first_seed``, ``first_seed`` + 1 …

    Args:
        plan: names the run and holds the data.
        files: one a seed.
        name: see :func:`check_name`.
        first_seed: of the first file.
        registry: to know which names are taken.
        allow_partial: score the answered rows of files that do not answer all, in a run of its own.
        force: replace cells of the same name that came from another file.

    Returns:
        the run's folder, and lines on what was scored that the user should know.

    Raises:
        UsageError: a file that is not sound, answers that are missing, a name that is taken.
        NotComparableError: the run that is there already is of other data, or another split.
    """
    check_name(name, registry)
    concepts = [c for c in plan.dataset.concepts if c.name in plan.config.concepts]
    read = [read_answer_file(path) for path in files]
    matched = [match_answers(file, plan.dataset, concepts) for file in read]
    lines: list[str] = []
    bad = unreadable(plan)
    posed = pose(plan, bad, None)
    _check_same(plan, posed)
    covered = {c.name: covered_rows(c.name, matched, len(plan.dataset.ids)) for c in concepts}
    asked = {c.name: asked_rows(c.name, posed) for c in concepts}
    if any((asked[c.name] & ~covered[c.name]).any() for c in concepts):
        if not allow_partial:
            raise UsageError(missing_line(read, asked, covered, plan.dataset))
        plan = partial_plan(plan, covered, asked)
        lines.append(plan.overrides[-1])
        posed = pose(plan, bad, covered)
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
        lines += [f"{file.path}: {line}" for line in _remarks(plan, file, found, posed)]
    return plan.folder, lines


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
    tested_somewhere = np.logical_or.reduce([problem.split == "test" for problem in posed])
    for problem in posed:
        val, answered = problem.val(found)
        if (found.rows & val & ~tested_somewhere).any() and (val != answered).any():
            lines.append(
                f"{answered.sum():,} of {val.sum():,} val rows of {problem.problem.name} have answers: val is left out"
            )
    for name, given in found.answers.items():
        tested = asked_rows(name, posed)
        if lost := int((given.unparsed & tested).sum()):
            rows = np.flatnonzero(given.unparsed & tested)
            said = [f"{shown(str(plan.dataset.ids[row]))} says {given.unread[row]}" for row in rows[:3].tolist()]
            lines.append(
                f"{lost:,} of {tested.sum():,} answers to {name} cannot be read and count as wrong: {', '.join(said)}"
                + ", …" * (lost > 3)
            )
        if matched := int((given.normalised & tested).sum()):
            lines.append(f"{matched:,} answers to {name} were matched but for case, space, quotes or a final period")
    if hard := [name for name, given in found.answers.items() if given.hard]:
        lines.append(f"labels, not scores, of {', '.join(hard)}: map and roc_auc need scores and are left out")
    return lines
