"""A run on disk: ``run.json`` and one folder a cell, each written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmbench.errors import MmbenchError, UsageError

SCHEMA_VERSION = 1
RUN = "run.json"
INSIDE = "inside.json"
KEYS = {  # what every ``run.json`` holds, by its part
    "": (
        "task", "protocol", "config", "overrides", "metric_version", "fingerprint", "features", "concepts", "problems",
        "unreadable_inputs", "versions", "git", "machine",
    ),
    "task": ("name", "title", "licence", "citation", "group", "generated", "notes", "proposed", "obtain"),
    "protocol": ("name", "summary", "citation", "split", "primary_metric", "warning", "suite"),
    "config": (
        "task", "protocol", "options", "modalities", "concepts", "encoders", "split_seed", "thresholds", "training",
    ),
}  # fmt: skip
LISTS = {"concepts": ("name", "labels", "kind", "background"), "problems": ("name", "concepts")}
CEILING = "ceiling:"  # the methods of a generated sample's best possible scores


@dataclass(frozen=True, order=True)
class Cell:
    """(problem, method, seed): the unit that is trained, stored, resumed and distributed."""

    problem: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.problem} {self.method} seed {self.seed}"


def folder_name(name: str) -> str:
    """A problem's or method's name as a folder name: percent-encoded, with ``+`` as it is."""
    return quote(name, safe="+=,")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    def cell_path(self, cell: Cell) -> Path:
        """Where a cell is stored."""
        return self.path / "cells" / folder_name(cell.problem) / folder_name(cell.method) / f"seed-{cell.seed}"

    def predictions_path(self, cell: Cell) -> Path:
        """A cell's stored predictions."""
        return self.cell_path(cell) / "predictions.npz"

    def stress_path(self, cell: Cell) -> Path:
        """A cell's stored predictions on stressed test inputs."""
        return self.cell_path(cell) / "stress.npz"

    def checkpoint_path(self, cell: Cell) -> Path:
        """Where a cell that takes long keeps its state while it is trained."""
        return self.cell_path(cell).with_name(f".seed-{cell.seed}.checkpoint")

    def info(self) -> dict[str, Any]:
        """The contents of ``run.json``.

        Raises:
            UsageError: it is absent, damaged, or of another schema.
        """
        path = self.path / RUN
        try:
            info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"{self.path} is not a run: it has no run.json") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        if not isinstance(info, dict):
            raise UsageError(f"{path} cannot be read: it holds no JSON object")
        if info.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(
                f"{path} has schema version {info.get('schema_version')}, this mmbench reads {SCHEMA_VERSION}"
            )
        return info

    def check_info(self) -> None:
        """Raise a UsageError where ``run.json`` lacks what every one holds."""
        info = self.info()
        parts = {part: _whole(info.get(part)) if part else info for part in KEYS}
        absent = [f"{part}.{key}".strip(".") for part, keys in KEYS.items() for key in keys if key not in parts[part]]
        for name, keys in LISTS.items():
            listed = info.get(name)
            whole = isinstance(listed, list) and all(set(keys) <= _whole(item).keys() for item in listed)
            absent += [] if whole or name in absent else [f"whole {name}"]
        if absent:
            raise UsageError(
                f"{self.path / RUN} lacks {', '.join(absent)}: delete it, and the same command writes it again"
            )

    def check_writable(self) -> None:
        """Raise a UsageError where the run could not be written; nothing is left behind."""
        with writing(self.path):
            there = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
            with tempfile.TemporaryFile(dir=there):
                pass

    def write_info(self, info: dict[str, Any]) -> None:
        """Write ``run.json`` atomically."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / RUN, _json({"schema_version": SCHEMA_VERSION, **info}))

    def write_facets(self, facets: dict[str, dict[str, str]]) -> None:
        """Write ``facets.json`` atomically: by facet the value of each sample id."""
        with writing(self.path):
            write_atomically(self.path / "facets.json", _json(facets))

    def facets(self) -> dict[str, dict[str, str]]:
        """By facet the value of each sample id; {} where the task has none.

        Raises:
            UsageError: a damaged file.
        """
        path = self.path / "facets.json"
        if not path.is_file():
            return {}
        try:
            found: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}; run the same command again to renew it") from None
        return found

    def write_inside(self, cell: Cell, summary: dict[str, Any]) -> None:
        """Write beside a cell's record what was seen of its inside; it goes where the cell is run again."""
        with writing(self.path):
            write_atomically(self.cell_path(cell) / INSIDE, _json({"schema_version": SCHEMA_VERSION, **summary}))

    def insides(self) -> list[tuple[Cell, dict[str, Any]]]:
        """What was seen of the inside of cells, in order of problem, method and seed.

        Raises:
            UsageError: a damaged file.
        """
        found = []
        for cell, _ in self.results():
            path = self.cell_path(cell) / INSIDE
            if path.is_file():
                try:
                    summary = json.loads(path.read_text(encoding="utf-8"))
                    summary["arrays"].items()
                except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                    raise UsageError(
                        f"{path} cannot be read: {error}; delete it, and `mmbench explain` writes it again"
                    ) from None
                found.append((cell, summary))
        return found

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """A cell's record, or None where it was not run."""
        return _read_result(self.cell_path(cell))

    def is_done(self, cell: Cell) -> bool:
        """Whether the cell finished and its predictions are there."""
        result = self.result(cell)
        return result is not None and result["status"] == "done" and self.predictions_path(cell).is_file()

    def results(self) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """All cells with a record, in order of problem, method and seed."""
        yield from self._read((self.path / "cells").glob("*/*/seed-*"))

    def siblings(self, cell: Cell) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """The recorded cells of the same problem and method at other seeds."""
        here = self.cell_path(cell)
        yield from self._read(path for path in here.parent.glob("seed-*") if path != here)

    @staticmethod
    def _read(folders: Iterable[Path]) -> list[tuple[Cell, dict[str, Any]]]:
        records = [record for record in map(_read_result, folders) if record is not None]
        cells = [(Cell(record["problem"], record["method"], record["seed"]), record) for record in records]
        return sorted(cells, key=lambda pair: pair[0])

    def write_cell(
        self,
        cell: Cell,
        result: dict[str, Any],
        write_predictions: Callable[[Path], None] | None = None,
        write_stress: Callable[[Path], None] | None = None,
    ) -> None:
        """Store a cell: written beside its place, flushed, then renamed into it.

        Raises:
            UsageError: the folder cannot be written (full, read-only); nothing is left behind.
        """
        final = self.cell_path(cell)
        with writing(self.path):
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
            try:
                if write_predictions is not None:
                    write_predictions(temporary / "predictions.npz")
                if write_stress is not None:
                    write_stress(temporary / "stress.npz")
                (temporary / "result.json").write_text(
                    _json({"schema_version": SCHEMA_VERSION, **result}), encoding="utf-8"
                )
                for path in temporary.iterdir():
                    _flush(path)
                temporary.chmod(0o755)
                _replace_folder(temporary, final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def add_stress(self, cell: Cell, write: Callable[[Path], None]) -> None:
        """Put predictions on stressed inputs into a stored cell, under a temporary name that ends in .npz first.

        Raises:
            UsageError: the folder cannot be written; the cell stays as it was.
        """
        final = self.stress_path(cell)
        temporary = final.with_name(f".{os.getpid()}.{final.name}")
        with writing(self.path):
            try:
                write(temporary)
                _flush(temporary)
                temporary.replace(final)
            finally:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failed write below ``folder`` into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot write to {folder}: {reason}; finished cells are kept: free the folder or choose another with --out"
        ) from None


def write_atomically(path: Path, text: str) -> None:
    """Write a text file under a temporary name, flush it, and rename it into place."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _replace_folder(temporary: Path, final: Path) -> None:
    """Rename a folder into place, over an older one if there is one; of processes that do so at once one stays.

    The older one is gone only when the new one is there.
    """
    if _renamed(temporary, final):
        return
    old = Path(tempfile.mkdtemp(prefix=f".{final.name}.old.", dir=final.parent))
    taken = 0
    try:
        while not _renamed(temporary, final):
            with contextlib.suppress(FileNotFoundError):  # another process took it away first
                final.rename(old / str(taken))
                taken += 1
    except BaseException:
        if taken:
            with contextlib.suppress(OSError):
                (old / str(taken - 1)).rename(final)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _renamed(temporary: Path, final: Path) -> bool:
    """Rename a folder; False where there is one already."""
    try:
        temporary.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _whole(part: Any) -> dict[str, Any]:
    """A part of a file that someone may have edited; {} where it is no object."""
    return part if isinstance(part, dict) else {}


def _read_result(folder: Path) -> dict[str, Any] | None:
    path = folder / "result.json"
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _check_record(result)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise MmbenchError(
            f"{path} is damaged ({error}): delete its folder, and the same command runs the cell again"
        ) from None
    return result


def _check_record(record: Any) -> None:
    """Raise a ValueError where a cell's record lacks what all that read it rely on."""
    if not isinstance(record, dict):
        raise ValueError("it is no cell's record")
    kinds: dict[str, Any] = {"status": str, "problem": str, "method": str, "seed": int}
    if record.get("status") == "done":
        kinds |= {"timings": dict, "parameters": int | None, "energy": dict | None}
    else:
        kinds |= {"error": dict}
    wrong = [key for key, kind in kinds.items() if key not in record or not isinstance(record[key], kind)]
    if wrong:
        raise ValueError(f"no {' and no '.join(wrong)} as a cell's record holds")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def find_run(selector: str | None, out: Path) -> RunFolder:
    """The run that a RUN argument means: a path, a name (or its beginning) under ``out``, or omitted the latest.

    Raises:
        UsageError: no such run, a name that several runs begin with, or a run whose ``run.json`` is not whole.
    """
    folder = RunFolder(_run_path(selector, out))
    folder.check_info()
    return folder


def _run_path(selector: str | None, out: Path) -> Path:
    runs = (
        sorted((p.parent for p in out.glob("*/run.json")), key=lambda p: (_latest(p), p.name)) if out.is_dir() else []
    )
    if selector is None:
        if not runs:
            raise UsageError(f"no run under {out}: start one with `mmbench run --task crisismmd --method all`")
        return runs[-1]
    if (Path(selector) / "run.json").is_file():
        return Path(selector)
    matches = [run for run in runs if run.name == selector] or [r for r in runs if r.name.startswith(selector)]
    if len(matches) != 1:
        known = ", ".join(run.name for run in (matches or runs)) or "none"
        problem = "is ambiguous" if matches else "is no run"
        raise UsageError(f"'{selector}' {problem}: under {out} there {'are' if matches else 'is'} {known}")
    return matches[0]


def _latest(run: Path) -> float:
    return max([(run / "run.json").stat().st_mtime, *(p.stat().st_mtime for p in (run / "cells").glob("*/*"))])
