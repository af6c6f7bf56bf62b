"""One cell: fit on train and val, predict val and test, store. The only place where a method meets the data."""

from __future__ import annotations

import contextlib
import copy
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mmbench.config import RunConfig
from mmbench.contracts import Examples, FitContext, Model
from mmbench.errors import MmbenchError
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.metrics import compute
from mmbench.evaluation.predictions import labelled_rows, write_predictions
from mmbench.hashing import derive_seed, digest
from mmbench.methods import Method, build_model
from mmbench.plugins import Registry
from mmbench.running.energy import Meter
from mmbench.running.prepare import Part, Prepared
from mmbench.running.store import Cell, RunFolder

Report = Callable[[Cell, int, int, float], None]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Workplace:
    """What every cell of a run shares.

    ``provenance`` is stored with each cell; ``force`` has a deterministic method fitted for each seed anew.
    """

    folder: RunFolder
    config: RunConfig
    registry: Registry
    prepared: dict[str, Prepared]
    methods: dict[str, Method]
    provenance: dict[str, Any]
    force: bool = False


def run_cell(place: Workplace, cell: Cell, report: Report, meter: Meter | None) -> dict[str, Any]:
    """Run a cell and store it; return its record. A method that fails is recorded, not raised.

    Everything is single-threaded, so that bits depend neither on the machine's cores nor on ``--jobs``.

    Raises:
        UsageError: the results folder cannot be written.
    """
    torch.set_num_threads(1)
    method = place.methods[cell.method]
    for part in method.parts:  # the limit below binds only the libraries that are loaded by then
        place.registry.load(part.plugin, part.kind)
    record: dict[str, Any] = {
        "problem": cell.problem,
        "method": cell.method,
        "seed": cell.seed,
        "rows": place.prepared[cell.problem].rows,
        "plugins": plugin_digests(method, place.registry),
        **place.provenance,
    }
    started = time.perf_counter()
    predictions = None
    try:
        with threadpool_limits(1):
            twin = None if place.force else _twin(place, cell)
            if twin is not None:
                result, predictions = twin
            else:
                result, predictions = _train(place, cell, report, meter)
        record |= {"status": "done", **result}
    except Exception as error:
        out_of_memory = isinstance(error, MemoryError) or "not enough memory" in str(error)
        record |= {
            "status": "oom" if out_of_memory else "failed",
            "error": {
                "type": type(error).__name__,
                "message": str(error) or type(error).__name__,
                "traceback": "" if isinstance(error, MmbenchError) else traceback.format_exc(),
            },
            "timings": {"total_seconds": time.perf_counter() - started},
        }
    place.folder.write_cell(cell, record, predictions)
    return record


def seed_everything(seed: int) -> None:
    """Seed the global generators that a plug-in may draw from; our own methods bring generators of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def ready(place: Workplace, cell: Cell, report: Report) -> tuple[Model, Examples, Examples, FitContext]:
    """A cell's untrained model, with the global generators seeded for it, and what its ``fit`` is given."""
    prepared, method = place.prepared[cell.problem], place.methods[cell.method]
    context = FitContext(prepared.concepts, cell.seed, place.config.training, lambda *progress: report(cell, *progress))
    seed_everything(derive_seed(cell.seed, "cell"))
    model = build_model(method, place.registry)
    train, val = prepared.train.examples(), prepared.val.examples()
    if plugin_digests(method, place.registry):  # a stranger's method may write into what it is given
        train, val = copy.deepcopy((train, val))
    return model, train, val, context


def _train(
    place: Workplace, cell: Cell, report: Report, meter: Meter | None
) -> tuple[dict[str, Any], Callable[[Path], None]]:
    prepared = place.prepared[cell.problem]
    model, train, val, context = ready(place, cell, report)
    with meter.measure() if meter is not None else contextlib.nullcontext() as reading:
        started = time.perf_counter()
        history = model.fit(train, val, context)
        fitted = time.perf_counter()
        scores = [predict(model, part, prepared) for part in (prepared.val, prepared.test)]
        predicted = time.perf_counter()
    result = {
        "deterministic": model.deterministic,
        "parameters": model.n_parameters,
        "timings": {"fit_seconds": fitted - started, "predict_seconds": predicted - fitted},
        "energy": None if reading is None or reading.wh is None else {"wh": reading.wh, "source": reading.source},
        "metrics": _metrics(prepared, scores[0], scores[1], place.config.thresholds == "val"),
        "history": history,
    }
    joined = {c.name: np.concatenate([s[c.name] for s in scores]) for c in prepared.concepts}
    return result, predictions_writer(prepared, joined)


def _metrics(
    prepared: Prepared, val: dict[str, Scores], test: dict[str, Scores], tuned: bool
) -> dict[str, dict[str, float | None]]:
    """Every metric of the test split by concept, as the reports compute it from the stored predictions."""
    found = {}
    for concept in prepared.concepts:
        on_val, on_test = (
            labelled_rows(
                concept,
                part.ids,
                part.groups,
                scores[concept.name],
                (target := part.targets[concept.name]),
                known(target),
            )
            for part, scores in ((prepared.val, val), (prepared.test, test))
        )
        values = compute(on_test, tune_thresholds(on_val) if tuned else None)
        found[concept.name] = {name: value.value for name, value in values.items()}
    return found


def predict(model: Model, part: Part, prepared: Prepared) -> dict[str, Scores]:
    """Scores of one split, checked: a model that returns nonsense fails its cell."""
    scores = model.predict(part.inputs())
    for concept in prepared.concepts:
        shape = (len(part.ids), len(concept.labels))
        given = scores.get(concept.name)
        if given is None or given.shape != shape or not np.isfinite(given).all():
            found = "nothing" if given is None else f"shape {given.shape}, finite: {bool(np.isfinite(given).all())}"
            raise ValueError(f"scores of concept {concept.name}: expected finite {shape}, got {found}")
    return scores


def known(target: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows of a target, (n,) or (n, K), have a label."""
    rows: NDArray[np.bool_] = (target if target.ndim == 1 else target[:, 0]) >= 0
    return rows


def predictions_writer(prepared: Prepared, scores: dict[str, Scores]) -> Callable[[Path], None]:
    """Writes the scores of val and then test rows, (n_val + n_test, K) by concept, with ids, groups and targets."""
    parts = (prepared.val, prepared.test)
    targets = {c.name: np.concatenate([part.targets[c.name] for part in parts]) for c in prepared.concepts}

    def write(path: Path) -> None:
        write_predictions(
            path,
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.groups for part in parts]),
            np.repeat(["val", "test"], [len(part.ids) for part in parts]),
            scores,
            targets,
            {name: known(target) for name, target in targets.items()},
        )

    return write


def plugin_digests(method: Method, registry: Registry) -> dict[str, str]:
    """Digests of the sources of the method's plug-ins that did not ship with mmbench."""
    plugins = [registry.get(part.plugin, part.kind) for part in method.parts]
    return {p.name: digest([p.path.read_bytes()])[:16] for p in plugins if p.origin != "shipped"}


def _twin(place: Workplace, cell: Cell) -> tuple[dict[str, Any], Callable[[Path], None]] | None:
    """The stored result of a deterministic method at another seed, which serves this seed as well."""
    for other, record in place.folder.siblings(cell):
        if record.get("deterministic") and place.folder.is_done(other):
            code = {"plugins": plugin_digests(place.methods[cell.method], place.registry)}
            code |= {key: place.provenance[key] for key in ("source", "versions")}
            if any(record.get(key) != value for key, value in code.items()):
                continue
            stored = place.folder.predictions_path(other).read_bytes()
            kept = ("deterministic", "parameters", "timings", "energy", "metrics", "history")
            result = {**{key: record[key] for key in kept}, "same_as_seed": record.get("same_as_seed", other.seed)}
            return result, partial(_copy, stored)
    return None


def _copy(stored: bytes, path: Path) -> None:
    path.write_bytes(stored)
