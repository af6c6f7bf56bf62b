"""The cells of one run or of several, as one table's rows: merged where they can be compared, refused where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.contracts import Concept
from mmbench.errors import NotComparableError
from mmbench.evaluation.predictions import read_predictions
from mmbench.running.store import CEILING, Cell, RunFolder

# What has to agree before rows of two runs stand in one table, by its place in run.json.
SAME = {
    "data fingerprint": ("fingerprint",),
    "task": ("config", "task"),
    "protocol": ("protocol", "name"),
    "labels": ("config", "options", "labels"),
    "metric version": ("metric_version",),
}


@dataclass(frozen=True)
class Stored:
    """A cell as it lies on disk: its record, and where its predictions are."""

    cell: Cell
    result: dict[str, Any]
    predictions: Path


@dataclass(frozen=True)
class Gathered:
    """Cells that may stand in one table, with the ``run.json`` they share; ``remarks`` say where the runs differ."""

    info: dict[str, Any]
    cells: tuple[Stored, ...]
    remarks: tuple[str, ...] = ()


def gather(folders: Sequence[RunFolder], allow_mixed: bool = False) -> Gathered:
    """The cells of one run, or of several that agree in data, protocol and metrics.

    A run's own settings (training, encoders, modalities, thresholds) may differ: the methods of a later run then bear
    its eight digits, ``igfn+dmtl@3fa91c07``, and a remark says what it did otherwise.

    Raises:
        NotComparableError: names what differs, unless ``allow_mixed``; or one cell stored twice with other predictions.
    """
    info = folders[0].info()
    cells = {stored.cell: stored for stored in _cells(folders[0], "")}
    remarks: list[str] = []
    for folder in folders[1:]:
        other = folder.info()
        mixed = check_alike(folders[0], info, folder, other, allow_mixed)
        remarks += [f"WARNING: {folder.path.name}: {line}" for line in mixed]
        found = differences(info, other)
        mark = f"@{folder.path.name[-8:]}" if found else ""
        remarks += [f"{mark}: {', '.join(found)}"] if found else []
        for stored in _cells(folder, mark):
            if stored.cell.method.startswith(CEILING) and mark:
                continue
            if stored.cell in cells and not _same(stored, cells[stored.cell], info):
                raise NotComparableError(f"{stored.cell} is in two runs with other predictions: name only one of them")
            cells.setdefault(stored.cell, stored)
        info = info | {"problems": [*info["problems"], *(p for p in other["problems"] if p["name"] not in
                                                         {q["name"] for q in info["problems"]})]}  # fmt: skip
    return Gathered(info, tuple(cells[cell] for cell in sorted(cells)), tuple(remarks))


def check_alike(
    folder: RunFolder, info: dict[str, Any], other: RunFolder, other_info: dict[str, Any], allow_mixed: bool = False
) -> list[str]:
    """In what another run's data, protocol or metrics differ, a line each.

    Raises:
        NotComparableError: names what differs, unless ``allow_mixed``.
    """
    mixed = [f"{what} is {_at(other_info, place)}, not {_at(info, place)}" for what, place in SAME.items()
             if _at(other_info, place) != _at(info, place)]  # fmt: skip
    if mixed and not allow_mixed:
        raise NotComparableError(
            f"{other.path.name} cannot be compared with {folder.path.name}: its {'; its '.join(mixed)}"
        )
    return mixed


def _cells(folder: RunFolder, mark: str) -> list[Stored]:
    return [
        Stored(replace(cell, method=cell.method + mark), result, folder.predictions_path(cell))
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
