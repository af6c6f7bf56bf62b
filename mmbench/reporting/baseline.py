"""A baseline of the gate: ``NAME.json`` with what names the run and its values, ``NAME.npz`` with its decisions.

The decisions of each gated cell are packed bits of shape (seeds, rows × labels); a baseline of a ranking metric also
holds each label's dense ranks, one of a score's metric the predicted numbers instead. It gates the concepts that its
metric is of: scores and labels have a baseline each. Neither file holds a text, an image, an id or a label: ids, groups
and labels of the test rows enter as one digest, since the run that is checked must have been tested on the same rows
and brings them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept
from mmbench.errors import NotComparableError
from mmbench.evaluation.decisions import decide, tune_thresholds
from mmbench.evaluation.metrics import METRIC_VERSION, METRICS, applies
from mmbench.evaluation.predictions import UNREADABLE, Predictions, read_predictions
from mmbench.features import TABLE
from mmbench.hashing import digest
from mmbench.regression import Place, Side, ranks, reduce, value_of
from mmbench.running.store import CEILING, Cell, RunFolder, write_atomically, writing

SCHEMA_VERSION = 1
TOLERANCE = 1e-9  # of values recomputed on another machine
AGAIN = "restore it, or write it again with --update"
Cells = dict[int, tuple[Predictions, NDArray[Any]]]


@dataclass(frozen=True)
class Baseline:
    """A baseline as read: its record and its arrays."""

    path: Path
    record: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    @property
    def metric(self) -> str:
        """The metric it was made for."""
        return str(self.record["metric"])


@dataclass(frozen=True)
class Tested:
    """A run's test results by place and seed, each with its decisions (n, K), and failures by problem and method.

    The decisions of a score are its predictions: they decide nothing.
    """

    cells: dict[Place, Cells]
    failed: dict[tuple[str, str], str]


def read_run(folder: RunFolder) -> Tested:
    """The test predictions of all finished cells but a generated sample's ceilings.

    Raises:
        NotComparableError: cells of one concept that were tested on different rows.
    """
    info = folder.info()
    concepts = [Concept.of(c) for c in info["concepts"]]
    tuned = info["config"]["thresholds"] == "val"
    cells: dict[Place, Cells] = defaultdict(dict)
    failed: dict[tuple[str, str], str] = {}
    first: dict[tuple[str, str], Predictions] = {}
    for cell, result in folder.results():
        if cell.method.startswith(CEILING):
            continue
        if result["status"] != "done":
            failed.setdefault((cell.problem, cell.method), _failure(cell, result))
            continue
        path = folder.predictions_path(cell)
        val = read_predictions(path, concepts, "val") if tuned else {}
        for name, predictions in read_predictions(path, concepts, "test").items():
            same = first.setdefault((cell.problem, name), predictions)
            if not np.array_equal(same.ids, predictions.ids):
                raise NotComparableError(f"{cell} was tested on other rows than the run's other cells")
            score = predictions.concept.kind == "score"
            decided = (
                predictions.scores if score else decide(predictions, tune_thresholds(val[name]) if tuned else None)
            )
            cells[Place(cell.problem, name, cell.method)][cell.seed] = predictions, decided
    return Tested(dict(cells), failed)


def _failure(cell: Cell, result: Mapping[str, Any]) -> str:
    message = " ".join(str(result.get("error", {}).get("message", "")).split())
    return f"seed {cell.seed} {result['status']}{': ' if message else ''}{message[:200]}"


def _rows(predictions: Predictions) -> str:
    """A digest of the test rows: their ids, groups and labels."""
    return digest(["\n".join(predictions.ids), "\n".join(predictions.groups), predictions.truth])


def write_baseline(path: Path, folder: RunFolder, metric: str) -> Baseline:
    """Make a run the baseline: ``path`` and the ``.npz`` beside it.

    Raises:
        NotComparableError: a run with a failed cell, or with nothing to gate.
        UsageError: the folder cannot be written.
    """
    tested = read_run(folder)
    for (_, method), reason in tested.failed.items():
        raise NotComparableError(f"{folder.path} cannot be a baseline: {method} {reason}")
    if not tested.cells:
        raise NotComparableError(f"{folder.path} cannot be a baseline: it has no finished cell")
    arrays: dict[str, NDArray[Any]] = {}
    cells, tests = [], {}
    gated = _gated(tested, metric)
    if not gated:
        raise NotComparableError(f"{folder.path} cannot be a baseline: {metric} is a metric of none of its concepts")
    for number, (place, by_seed) in enumerate(sorted(gated.items())):
        some = next(iter(by_seed.values()))[0]
        tests[place.problem, place.concept] = {"n": len(some.ids), "rows": _rows(some)}
        if METRICS[metric].needs == "numbers":
            arrays[f"numbers/{number}"] = np.stack([d for _, d in by_seed.values()])
        else:
            arrays[f"decisions/{number}"] = np.packbits([d.ravel() for _, d in by_seed.values()], axis=1)
        if METRICS[metric].needs == "scores":
            ranked = np.stack([ranks(p.scores) for p, _ in by_seed.values()])
            arrays[f"ranks/{number}"] = ranked.astype(np.uint16 if ranked.max(initial=0) < 2**16 else np.uint32)
        values = [value_of(reduce(p, d, metric), metric) for p, d in by_seed.values()]
        cells.append(
            {"problem": place.problem, "concept": place.concept, "method": place.method}
            | {"seeds": list(by_seed), "values": values}
        )
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # its allow_pickle came after NumPy 2.1
    record = {
        "schema_version": SCHEMA_VERSION,
        "kind": "baseline of mmbench check",
        "metric": metric,
        "metric_version": METRIC_VERSION,
        "tests": [{"problem": p, "concept": c, **test} for (p, c), test in tests.items()],
        "cells": cells,
        "predictions": {"file": _arrays_path(path).name, "sha256": hashlib.sha256(content.getvalue()).hexdigest()},
        "run": folder.info(),
    }
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_bytes(_arrays_path(path), content.getvalue())
        write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return Baseline(path, record, arrays)


def _gated(tested: Tested, metric: str) -> dict[Place, Cells]:
    """The cells of the concepts that the metric is of."""
    return {
        place: cells
        for place, cells in tested.cells.items()
        if applies(metric, next(iter(cells.values()))[0].concept.kind)
    }


def _arrays_path(path: Path) -> Path:
    return path.with_suffix(".npz")


def _write_bytes(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def read_baseline(path: Path) -> Baseline:
    """Read and check both files.

    Raises:
        NotComparableError: they are absent, damaged, of another schema or of another version of the metrics.
    """
    if not path.is_file():
        raise NotComparableError(f"no baseline at {path}: write one with `mmbench check RUN --against {path} --update`")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema_version"] != SCHEMA_VERSION:
            raise NotComparableError(
                f"baseline {path} has schema version {record['schema_version']}, this mmbench reads {SCHEMA_VERSION}: "
                "write it again with --update"
            )
        if record["metric_version"] != METRIC_VERSION:
            raise NotComparableError(
                f"baseline {path} has metric version {record['metric_version']}, this mmbench has {METRIC_VERSION}: "
                "write it again with --update"
            )
        content = _arrays_path(path).read_bytes()
        if hashlib.sha256(content).hexdigest() != record["predictions"]["sha256"]:
            raise NotComparableError(f"baseline {path}: {_arrays_path(path).name} is not the one it was written with")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if record["metric"] not in METRICS or not record["cells"] or not isinstance(record["run"]["config"], dict):
            raise ValueError("it gates nothing")
    except UNREADABLE as error:
        raise NotComparableError(f"baseline {path} is damaged ({type(error).__name__}: {error}): {AGAIN}") from None
    return Baseline(path, record, arrays)


def check_comparable(baseline: Baseline, info: Mapping[str, Any]) -> list[str]:
    """Notes on what differs without harm.

    Raises:
        NotComparableError: the run is of another task, data, protocol, options, encoders or training settings.
    """
    old = baseline.record["run"]
    before, now = (_flat(side["config"]) for side in (old, info))
    for key in [*before, *(key for key in now if key not in before)]:
        if before.get(key) != now.get(key):
            raise _differs(baseline, key, before.get(key), now.get(key))
    if old["fingerprint"] != info["fingerprint"]:
        raise _differs(baseline, "data fingerprint", old["fingerprint"][:12], info["fingerprint"][:12])
    for concept, other in zip(old["concepts"], info["concepts"], strict=False):
        if concept != other:
            what = f"labels of {concept['name']}"
            raise _differs(baseline, what, ", ".join(concept["labels"]), ", ".join(other["labels"]))
    notes = []
    for modality, selector in info["config"]["encoders"].items():
        if old["features"].get(modality) == info["features"].get(modality):
            continue
        if TABLE[selector.partition(":")[0]].named:
            raise NotComparableError(
                f"not comparable with {baseline.path}: the checkpoint {selector} or the libraries that read it changed"
            )
        notes.append(
            f"the encoder {selector}, or a library under it, changed since the baseline: that is gated as well"
        )
    return notes


def _differs(baseline: Baseline, what: str, before: object, now: object) -> NotComparableError:
    shown = ["absent" if value is None else str(value) for value in (before, now)]
    return NotComparableError(f"not comparable with {baseline.path}: {what} is {shown[0]} there, {shown[1]} in the run")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def match(
    baseline: Baseline, tested: Tested, metric: str
) -> tuple[dict[Place, tuple[Side, Side]], list[tuple[Place, str]], list[str]]:
    """The pairs to gate, what the run lacks of the baseline (with the reason), and what else the run has.

    Raises:
        NotComparableError: other test rows, or a baseline that is damaged or does not hold what the metric needs.
    """
    if (METRICS[metric].needs == "numbers") != (METRICS[baseline.metric].needs == "numbers"):
        raise NotComparableError(
            f"baseline {baseline.path} is of {baseline.metric}, and {metric} is a metric of other concepts: write one "
            f"for it with --metric {metric} --update"
        )
    if METRICS[metric].needs == "scores" and "ranks/0" not in baseline.arrays:
        raise NotComparableError(
            f"baseline {baseline.path} holds decisions only: for {metric} write it with --metric {metric} --update"
        )
    rows = {(test["problem"], test["concept"]): test["rows"] for test in baseline.record["tests"]}
    seen: set[tuple[str, str]] = set()
    cells = _gated(tested, metric)
    for place, by_seed in cells.items():
        here = place.problem, place.concept
        if here in rows and here not in seen:
            seen.add(here)
            if _rows(next(iter(by_seed.values()))[0]) != rows[here]:
                raise NotComparableError(
                    f"not comparable with {baseline.path}: "
                    f"the test rows of {place.concept} have other ids, groups or labels"
                )
    pairs, incomplete, known = {}, [], set()
    for number, cell in enumerate(baseline.record["cells"]):
        place = Place(cell["problem"], cell["concept"], cell["method"])
        known.add(place)
        if (place.problem, place.method) in tested.failed:
            incomplete.append((place, tested.failed[place.problem, place.method]))
        elif place not in cells:
            incomplete.append((place, "the run has no such cell"))
        else:
            now = {s: reduce(p, d, metric) for s, (p, d) in cells[place].items()}
            old = _stored(baseline, number, cell, next(iter(now.values())), metric)
            pairs[place] = old, Side(tuple(now), tuple(now.values()), tuple(value_of(p, metric) for p in now.values()))
    apart = {place.concept for place in tested.cells if place not in cells}
    ungated = sorted({place.method for place in cells if place not in known})
    return pairs, incomplete, [*ungated, *(f"{concept} ({metric} is not its metric)" for concept in sorted(apart))]


def _stored(baseline: Baseline, number: int, cell: Mapping[str, Any], rows: Predictions, metric: str) -> Side:
    """The baseline's side of a comparison, on the rows that the run brings."""
    n_seeds, shape = len(cell["seeds"]), rows.truth.shape
    try:
        if METRICS[metric].needs != "decisions":
            held = "ranks" if METRICS[metric].needs == "scores" else "numbers"
            scores = baseline.arrays[f"{held}/{number}"].reshape(n_seeds, *shape).astype(np.float64)
        else:
            packed = baseline.arrays[f"decisions/{number}"]
            bits = np.unpackbits(packed, axis=1, count=shape[0] * shape[1])
            scores = bits.reshape(n_seeds, *shape).astype(np.float64)
        cells = tuple(Predictions(rows.concept, rows.ids, rows.groups, s, rows.truth) for s in scores)
        values = tuple(value_of(predictions, metric) for predictions in cells)
        if metric == baseline.metric and not _agree(cell["values"], values):
            raise ValueError(f"its predictions do not give its {metric}")
    except UNREADABLE as error:
        raise NotComparableError(f"baseline {baseline.path} is damaged ({cell['method']}: {error}): {AGAIN}") from None
    return Side(tuple(cell["seeds"]), cells, values)


def _agree(recorded: list[float | None], computed: tuple[float | None, ...]) -> bool:
    if len(recorded) != len(computed):
        return False
    return all(
        a is b if a is None or b is None else abs(a - b) <= TOLERANCE for a, b in zip(recorded, computed, strict=True)
    )
