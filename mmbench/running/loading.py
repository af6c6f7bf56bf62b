"""A task's data as its loader gives them, checked against the contract before anything is made of them."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections import Counter
from collections.abc import Sized
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import SPLITS, Concept, ConceptKind, Dataset, InputKind, LoadRequest, Problem, Task
from mmbench.errors import MmbenchError, UsageError


def load_dataset(name: str, task: Task, request: LoadRequest) -> Dataset:
    """What the task loads.

    Raises:
        UsageError: what the loader raises, with the place where it did, and data that are not as the contract says.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            dataset = task.load(request)
    except MmbenchError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = traceback.format_exception_only(error)[-1].strip()
        raise UsageError(
            f"task {name} cannot load its data: {told} ({Path(last.filename).name}, line {last.lineno})"
        ) from error
    try:
        _check(dataset, {m.name: m.kind for m in task.modalities if m.name in request.modalities})
    except ValueError as error:
        raise UsageError(f"task {name} loads data that are not as mmbench.contracts.Dataset says: {error}") from None
    return dataset


AXES = {"vector": 2, "sequence": 3}  # of an array of inputs


def _check(dataset: Dataset, kinds: dict[str, InputKind]) -> None:
    """Raise a ValueError that names the first thing that is wrong; ``kinds`` are those of the modalities in use."""
    if not isinstance(dataset, Dataset):
        raise ValueError(f"load returned {type(dataset).__name__}")
    for what, rows in (("ids", dataset.ids), ("groups", dataset.groups)):
        if np.ndim(rows) != 1 or not isinstance(rows, np.ndarray):
            raise ValueError(f"{what}: a {type(rows).__name__}, expected an array of texts, one a row")
    texts: dict[str, Any] = {"fingerprint": (dataset.fingerprint,), "title": (dataset.title,), "notes": dataset.notes}
    for what, found in texts.items():
        if isinstance(found, str) or not all(isinstance(text, str) for text in found):
            raise ValueError(f"{what}: {found!r}, expected texts")
    _check_concepts(dataset.concepts)
    if not dataset.problems:
        raise ValueError("there are no problems")
    n = len(dataset.ids)
    twice = [sample for sample, count in Counter(dataset.ids.tolist()).items() if count > 1]
    if twice:
        raise ValueError(f"the id '{twice[0]}' stands for {dataset.ids.tolist().count(twice[0])} rows")
    sized: dict[str, Sized] = {
        "groups": dataset.groups,
        **{f"facet {key}": value for key, value in dataset.facets.items()},
    }
    for modality, kind in kinds.items():
        if modality not in dataset.inputs:
            raise ValueError(f"there are no inputs of modality {modality}")
        inputs = dataset.inputs[modality]
        sized[f"inputs of {modality}"] = inputs
        if isinstance(inputs, np.ndarray) and inputs.ndim != AXES.get(kind, inputs.ndim):
            raise ValueError(f"inputs of {modality}: shape {inputs.shape}, expected {AXES[kind]} axes of a {kind}")
    for what, values in sized.items():
        if len(values) != n:
            raise ValueError(f"{what}: {len(values)} values for {n} rows")
    for concept in dataset.concepts:
        if concept.name not in dataset.targets:
            raise ValueError(f"there are no targets of concept {concept.name}")
        _check_target(concept, dataset.targets[concept.name], n)
    for problem in dataset.problems:
        _check_problem(problem, {concept.name for concept in dataset.concepts}, n)


def _check_concepts(concepts: tuple[Concept, ...]) -> None:
    names = [concept.name for concept in concepts]
    for what, listed in (("concepts", names), *((f"labels of {c.name}", c.labels) for c in concepts)):
        if len(set(listed)) < len(listed):
            raise ValueError(f"{what}: {', '.join(listed)}, expected each once")
    for concept in concepts:
        if concept.kind not in get_args(ConceptKind):
            raise ValueError(f"concept {concept.name} is {concept.kind!r}, expected {', '.join(get_args(ConceptKind))}")


def _check_target(concept: Concept, target: NDArray[Any], n: int) -> None:
    many, k = concept.kind == "multilabel", len(concept.labels)
    shape, kind = ((n, k) if many else (n,)), "f" if concept.kind == "score" else "i"
    if not isinstance(target, np.ndarray) or target.shape != shape or target.dtype.kind != kind:
        target, expected = np.asarray(target), f"{'float' if kind == 'f' else 'integer'} array {shape}"
        raise ValueError(f"targets of {concept.name}: {target.dtype} {target.shape}, expected {expected}")
    if kind == "i" and n and not (target.min() >= -1 and target.max() < (2 if many else k)):
        raise ValueError(
            f"targets of {concept.name}: {target.min()} to {target.max()}, expected -1 to {1 if many else k - 1}"
        )
    if many and ((target == -1).any(axis=1) != (target == -1).all(axis=1)).any():
        raise ValueError(f"targets of {concept.name}: a row is -1 in some of its labels, expected -1 in all or in none")


def _check_problem(problem: Problem, concepts: set[str], n: int) -> None:
    for concept in problem.concepts:
        if concept not in concepts:
            raise ValueError(f"problem {problem.name} has a concept {concept} that is not declared")
    if not isinstance(problem.split, np.ndarray) or problem.split.shape != (n,):
        raise ValueError(f"the split of problem {problem.name}: shape {np.shape(problem.split)}, expected array {(n,)}")
    for part in np.unique(problem.split).tolist():
        if part not in (*SPLITS, ""):
            raise ValueError(f"the split of problem {problem.name} holds '{part}', expected {', '.join(SPLITS)} or ''")
