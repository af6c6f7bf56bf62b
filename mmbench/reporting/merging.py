"""The cells of one run or of several, as one table's rows: merged where they can be compared, refused where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.contracts import Concept
from mmbench.errors import NotComparableError
from mmbench.evaluation.predictions import read_predictions
from mmbench.running.store import CEILING, Cell, RunFolder
from mmbench.splits import leaks

# What has to agree before rows of two runs stand in one table, by its place in run.json.
SAME: dict[str, tuple[str, ...]] = {
    "data fingerprint": ("fingerprint",),
    "task": ("config", "task"),
    "protocol": ("protocol", "name"),
    "labels": ("config", "options", "labels"),
    "metric version": ("metric_version",),
}
WITH_SPLIT = SAME | {"split": ("protocol", "split"), "split seed": ("config", "split_seed")}
NEVER = {"task": ("config", "task"), "data, generated": ("task", "generated")}  # no flag brings these into one table


@dataclass(frozen=True)
class Stored:
    """A cell as it lies on disk: its record, and where its predictions are.

    ``info`` is the ``run.json`` of a further run that was merged in, {} for the cells of the first.
    """

    cell: Cell
    result: dict[str, Any]
    predictions: Path
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Gathered:
    """Cells that may stand in one table, with the first run's ``run.json``.

    ``remarks`` say where the runs differ; ``mixed`` whether in more than their settings: then rows need not be pairs.
    """

    info: dict[str, Any]
    cells: tuple[Stored, ...]
    remarks: tuple[str, ...] = ()
    mixed: bool = False


def gather(folders: Sequence[RunFolder], allow_mixed: bool = False) -> Gathered:
    """The cells of one run, or of several that agree in data, split, protocol and metrics.

    A run's own settings (training, encoders, modalities, thresholds) may differ: the methods of a later run then bear
    its eight digits, ``igfn+dmtl@3fa91c07``, and a remark says what it did otherwise.

    Raises:
        NotComparableError: names what differs, unless ``allow_mixed``; one cell stored twice with other predictions;
            in any case other tasks, other labels of a concept, and generated data beside real ones.
    """
    info = folders[0].info()
    cells = {stored.cell: stored for stored in _cells(folders[0], "", {})}
    remarks: list[str] = []
    any_mixed = False
    for folder in folders[1:]:
        other = folder.info()
        mixed = _check_mergeable(folders[0], info, folder, other, allow_mixed)
        any_mixed |= bool(mixed)
        remarks += [f"WARNING: {folder.path.name}: {line}" for line in (*mixed, *_warnings(info, other))]
        found = differences(info, other)
        mark = f"@{folder.path.name[-8:]}" if found or mixed else ""
        remarks += [f"{mark}: {', '.join(found)}"] if found else []
        for stored in _cells(folder, mark, other):
            if stored.cell.method.startswith(CEILING) and mark:
                continue
            if stored.cell in cells and not _same(stored, cells[stored.cell], info):
                raise NotComparableError(f"{stored.cell} is in two runs with other predictions: name only one of them")
            cells.setdefault(stored.cell, stored)
        info = info | {"problems": [*info["problems"], *(p for p in other["problems"] if p["name"] not in
                                                         {q["name"] for q in info["problems"]})]}  # fmt: skip
    return Gathered(info, tuple(cells[cell] for cell in sorted(cells)), tuple(remarks), any_mixed)


def check_alike(folder: RunFolder, info: dict[str, Any], other: RunFolder, other_info: dict[str, Any]) -> None:
    """Refuse a run whose data, protocol or metrics differ.

    Raises:
        NotComparableError: names what differs.
    """
    _refuse(folder, other, _unlike(info, other_info, SAME))


def _check_mergeable(
    folder: RunFolder, info: dict[str, Any], other: RunFolder, other_info: dict[str, Any], allow_mixed: bool
) -> list[str]:
    """In what another run's data, split, protocol or metrics differ, a line each; see :func:`gather`."""
    mixed = _unlike(info, other_info, WITH_SPLIT)
    labels = {c["name"]: c["labels"] for c in info["concepts"]}
    never = _unlike(info, other_info, NEVER) + [
        f"{c['name']} has the labels {', '.join(c['labels'])}, not {', '.join(labels[c['name']])}"
        for c in other_info["concepts"]
        if labels.get(c["name"], c["labels"]) != c["labels"]
    ]
    partial = [side["protocol"]["warning"].startswith("PARTIAL") for side in (info, other_info)]
    never += ["test set is another part of the whole"] if mixed and any(partial) else []
    _refuse(folder, other, never if allow_mixed else mixed)
    return mixed


def _refuse(folder: RunFolder, other: RunFolder, unlike: Sequence[str]) -> None:
    if unlike:
        hint = "; splits are compared with --resplit" if any(line.startswith("split") for line in unlike) else ""
        raise NotComparableError(
            f"{other.path.name} cannot be compared with {folder.path.name}: its {'; its '.join(unlike)}{hint}"
        )


def _unlike(info: dict[str, Any], other: dict[str, Any], places: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"{what} is {_at(other, place)}, not {_at(info, place)}"
        for what, place in places.items()
        if _at(other, place) != _at(info, place)
    ]


def _warnings(info: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What another run's own tables would warn of, and the first one's do not."""
    first, second = (
        [side["protocol"]["warning"], *leaks(side["problems"], side["task"]["group"])] for side in (info, other)
    )
    return [line for line in second if line and line not in first]


def _cells(folder: RunFolder, mark: str, info: dict[str, Any]) -> list[Stored]:
    return [
        Stored(replace(cell, method=cell.method + mark), result, folder.predictions_path(cell), info)
        for cell, result in folder.results()
    ]


def _at(info: Any, place: Sequence[str]) -> Any:
    for key in place:
        info = info.get(key) if isinstance(info, dict) else None
    return info


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The settings in which the second run departs from the first, ``training.epochs=5``."""
    flat, other = (_flatten(info["config"]) for info in (first, second))
    return [f"{key}={value}" for key, value in other.items() if flat.get(key) != value]


def _flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _same(first: Stored, second: Stored, info: dict[str, Any]) -> bool:
    """Whether a cell that two folders hold is one and the same."""
    if first.result["status"] != "done" or second.result["status"] != "done":
        return bool(first.result["status"] == second.result["status"])
    concepts = [Concept.of(c) for c in info["concepts"]]
    one, two = (read_predictions(stored.predictions, concepts, "test") for stored in (first, second))
    return one.keys() == two.keys() and all(np.array_equal(one[name].scores, two[name].scores) for name in one)
