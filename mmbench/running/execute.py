"""One cell: fit on train and val, predict val and test, store. The only place where a method meets the data."""

from __future__ import annotations

import contextlib
import json
import operator
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmbench.config import RunConfig
from mmbench.contracts import Concept, Examples, FitContext, Modality, Model, known
from mmbench.errors import MmbenchError
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.metrics import compute
from mmbench.evaluation.predictions import labelled_rows, read_scores, write_predictions
from mmbench.evaluation.stressed import Scenario, Stressed, stored_scenarios, write_stressed
from mmbench.hashing import derive_seed, digest
from mmbench.methods import Method, build_model, plugin_digests
from mmbench.plugins import Registry
from mmbench.running.energy import Meter
from mmbench.running.prepare import Part, Prepared
from mmbench.running.store import Cell, RunFolder
from mmbench.running.stress import deviations, stress
from mmbench.threads import one_thread
from mmbench.training.checkpoint import Checkpoint
from mmbench.training.devices import describe_device, reset_peak

Report = Callable[[Cell, int, int, float], None]
Scores = NDArray[np.float64]
ROUNDING = 1e-6  # how far a score of a model in float32 may lie beyond 0 and 1


@dataclass(frozen=True)
class Workplace:
    """What every cell of a run shares.

    ``provenance`` is stored with each cell; ``force`` has a deterministic method fitted for each seed anew.
    ``scenarios`` are the stresses of the test inputs that every cell is to be predicted under. The last three are as in
    a plan.
    """

    folder: RunFolder
    config: RunConfig
    registry: Registry
    prepared: dict[str, Prepared]
    methods: dict[str, Method]
    provenance: dict[str, Any]
    force: bool = False
    scenarios: tuple[Scenario, ...] = ()
    streams: tuple[Modality, ...] = ()
    raw: Mapping[str, frozenset[str]] = field(default_factory=dict)
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """What a trained cell, or its deterministic twin, gives: the scores (n, K) of val and test, and what to store."""

    result: dict[str, Any]
    scores: dict[str, Scores]
    write_predictions: Callable[[Path], None]
    write_stress: Callable[[Path], None] | None


def run_cell(place: Workplace, cell: Cell, report: Report, meter: Meter | None) -> dict[str, Any]:
    """Run a cell and store it; return its record. A method that fails is recorded, not raised.

    Everything is single-threaded, so that bits depend neither on the machine's cores nor on ``--jobs``. What a method
    prints goes to the error stream, and the folder it changes to is left again. A cell that is
    there and lacks only predictions under stress is trained again for them, and stays as it is; they are taken only
    where its clean predictions come out the same bit for bit. ``stress_error`` says why a cell got none.

    Raises:
        UsageError: the results folder cannot be written.
    """
    torch.set_default_dtype(torch.float32)  # an earlier cell's plug-in may have changed these
    torch.set_grad_enabled(True)
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
    scenarios = tuple(sorted({*place.scenarios, *stored_scenarios(place.folder.stress_path(cell))}))
    stored = place.folder.result(cell) if place.folder.is_done(cell) and not place.force else None
    again = stored is not None and stored.get("plugins", {}) == record["plugins"]
    outcome = None
    try:
        with one_thread(), contextlib.redirect_stdout(sys.stderr), contextlib.chdir("."):
            outcome = None if place.force else _twin(place, cell, scenarios)
            outcome = outcome or _train(place, cell, report, None if again else meter, scenarios)
        record |= {"status": "done", **outcome.result}
    except (Exception, SystemExit) as error:
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            told in str(error) for told in ("not enough memory", "can't allocate memory")
        )
        record |= {
            "status": "oom" if out_of_memory else "failed",
            "error": _described(error),
            "timings": {"total_seconds": time.perf_counter() - started},
        }
    if stored is not None and again:
        return _add_stress(place, cell, stored, record, outcome)
    if outcome is None:
        place.folder.write_cell(cell, record)
    else:  # an error under stress is told, not kept: the cell itself is sound, and the next try may ask for less
        sound = {key: value for key, value in record.items() if key != "stress_error"}
        place.folder.write_cell(cell, sound, outcome.write_predictions, outcome.write_stress)
        place.folder.checkpoint_path(cell).unlink(missing_ok=True)
    return record


def _add_stress(
    place: Workplace, cell: Cell, stored: dict[str, Any], record: dict[str, Any], outcome: Outcome | None
) -> dict[str, Any]:
    """Put the predictions under stress of a cell that was trained again beside those that it is stored with."""
    problem = record.get("error") or record.get("stress_error")
    if outcome is not None and problem is None:
        clean = read_scores(place.folder.predictions_path(cell))
        if any(not np.array_equal(clean[name], scores) for name, scores in outcome.scores.items()):
            problem = _described(
                MmbenchError(
                    "trained again for --stress, its clean predictions are not the stored ones (other code, libraries "
                    "or machine): renew the cell with --force"
                )
            )
        elif outcome.write_stress is not None:
            place.folder.add_stress(cell, outcome.write_stress)
    if outcome is not None:
        place.folder.checkpoint_path(cell).unlink(missing_ok=True)
    return stored if problem is None else stored | {"stress_error": problem}


def _described(error: BaseException) -> dict[str, str]:
    """An error as a record keeps it: its message in one line, and the traceback of what is not meant for the user."""
    told = " ".join(str(error).split())
    kind = type(error).__name__
    return {
        "type": kind,
        "message": f"{kind}: {told}" if isinstance(error, (LookupError, SystemExit)) else told or kind,
        "traceback": "" if isinstance(error, MmbenchError) and error.__cause__ is None else traceback.format_exc(),
    }


def _identity(place: Workplace, cell: Cell) -> str:
    """Of what a training follows from besides settings, method and seed, which name its place."""
    code = [place.provenance["source"], json.dumps(place.provenance["versions"], sort_keys=True)]
    plugins = plugin_digests(place.methods[cell.method], place.registry)
    return digest([*code, *plugins.values(), place.prepared[cell.problem].rows, place.device])


def seed_everything(seed: int) -> None:
    """Seed the global generators that a plug-in may draw from; our own methods bring generators of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def ready(
    place: Workplace, cell: Cell, report: Report, checkpoint: Checkpoint | None = None
) -> tuple[Model, Examples, Examples, FitContext]:
    """A cell's untrained model, with the global generators seeded for it, and what its ``fit`` is given."""
    prepared, method = place.prepared[cell.problem], place.methods[cell.method]
    context = FitContext(
        prepared.concepts, cell.seed, place.config.training, lambda *progress: report(cell, *progress),
        place.streams, place.device, checkpoint,
    )  # fmt: skip
    seed_everything(derive_seed(cell.seed, "cell"))
    model = build_model(method, place.registry)
    own, raw = may_write(place, cell), wanted_raw(place, cell)
    return model, prepared.train.examples(own, raw), prepared.val.examples(own, raw), context


def wanted_raw(place: Workplace, cell: Cell) -> frozenset[str]:
    """The modalities whose inputs a cell's model gets as they are."""
    return place.raw.get(cell.method, frozenset())


def may_write(place: Workplace, cell: Cell) -> bool:
    """Whether a cell's model is a stranger's, which may write into what it is given."""
    parts = place.methods[cell.method].parts
    return any(place.registry.get(p.plugin, p.kind).origin != "shipped" for p in parts if p.kind == "model")


def _train(
    place: Workplace, cell: Cell, report: Report, meter: Meter | None, scenarios: tuple[Scenario, ...]
) -> Outcome:
    prepared = place.prepared[cell.problem]
    checkpoint = Checkpoint(place.folder.checkpoint_path(cell), _identity(place, cell))
    model, train, val, context = ready(place, cell, report, checkpoint)
    torch.optim.Adam([torch.zeros(1)])  # the first one of a process imports for two seconds, which are no method's own
    reset_peak(place.device)
    with meter.measure() if meter is not None else contextlib.nullcontext() as reading:
        started = time.perf_counter()
        history = _plain(model.fit(train, val, context))
        fitted = time.perf_counter()
        scores = [predict(place, cell, model, part) for part in (prepared.val, prepared.test)]
        predicted = time.perf_counter()
    energy = None
    if reading is not None and reading.wh is not None and checkpoint.epochs == 0:  # else an earlier process spent some
        energy = {"wh": reading.wh, "source": reading.source}
    result = {
        "deterministic": bool(model.deterministic),
        "parameters": operator.index(model.n_parameters),
        **describe_device(model.device),
        "timings": {"fit_seconds": checkpoint.seconds + fitted - started, "predict_seconds": predicted - fitted},
        "energy": energy,
        "metrics": _metrics(prepared, scores[0], scores[1], place.config.thresholds == "val"),
        "history": history,
    }
    joined = {c.name: np.concatenate([s[c.name] for s in scores]) for c in prepared.concepts}
    write_stress = None
    if scenarios:
        try:
            stressed = list(_predict_stressed(place, cell, model, scenarios))
            write_stress = partial(write_stressed, ids=prepared.test.ids, found=stressed)
        except (Exception, SystemExit) as error:  # the clean predictions are there and shall be kept
            result["stress_error"] = _described(error)
    return Outcome(result, joined, predictions_writer(prepared, joined), write_stress)


def _predict_stressed(
    place: Workplace, cell: Cell, model: Model, scenarios: tuple[Scenario, ...]
) -> Iterator[Stressed]:
    prepared, raw = place.prepared[cell.problem], wanted_raw(place, cell)
    deviation = deviations(prepared.train)
    for scenario in scenarios:
        if scenario.axis == "noise" and raw:
            raise MmbenchError("noise is added to features, and this method reads its inputs themselves: leave it out")
        part, since = stress(prepared.test, scenario, deviation)
        yield Stressed(scenario, since, predict(place, cell, model, part))


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


def _plain(history: object) -> dict[str, Any]:
    """A history as JSON keeps it: numbers of NumPy and torch become plain ones, what is not finite None.

    Raises:
        TypeError: it is no dictionary, or holds what JSON cannot.
    """
    if not isinstance(history, Mapping):
        raise TypeError(f"fit returned a {type(history).__name__}, expected a dictionary (its history)")

    def unpacked(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise TypeError(
            f"the history that fit returned holds a {type(value).__name__}, expected numbers, texts and lists"
        )

    plain: dict[str, Any] = json.loads(json.dumps(history, default=unpacked), parse_constant=lambda _: None)
    return plain


def predict(place: Workplace, cell: Cell, model: Model, part: Part) -> dict[str, Scores]:
    """A fitted model's scores of a part of its cell's rows, checked: one that returns nonsense fails its cell."""
    prepared = place.prepared[cell.problem]
    found = model.predict(part.inputs(may_write(place, cell), wanted_raw(place, cell)))
    if not isinstance(found, Mapping):
        raise TypeError(f"predict returned a {type(found).__name__}, expected scores by concept")
    return {concept.name: _scores(found, concept, len(part.ids)) for concept in prepared.concepts}


def _scores(found: Mapping[str, Any], concept: Concept, n: int) -> Scores:
    """The scores of one concept, float64 (n, K): finite, and in [0, 1] where they are probabilities."""
    shape = (n, len(concept.labels))
    given = np.asarray(found.get(concept.name), dtype=np.float64)
    if given.shape != shape or not np.isfinite(given).all():
        got = f"shape {given.shape}, finite: {bool(np.isfinite(given).all())}" if concept.name in found else "nothing"
        raise ValueError(f"scores of concept {concept.name}: expected finite {shape}, got {got}")
    if concept.kind != "score" and n and not (given.min() >= -ROUNDING and given.max() <= 1 + ROUNDING):
        raise ValueError(
            f"scores of concept {concept.name}: expected 0 to 1, got {given.min():.3g} to {given.max():.3g}"
        )
    return given


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


def _twin(place: Workplace, cell: Cell, scenarios: tuple[Scenario, ...]) -> Outcome | None:
    """The stored result of a deterministic method at another seed, which serves this seed as well."""
    for other, record in place.folder.siblings(cell):
        if record.get("deterministic") and place.folder.is_done(other):
            code = {"plugins": plugin_digests(place.methods[cell.method], place.registry)}
            code |= {key: place.provenance[key] for key in ("source", "versions")}
            if any(record.get(key) != value for key, value in code.items()):
                continue
            path, stress_path = place.folder.predictions_path(other), place.folder.stress_path(other)
            if not stored_scenarios(stress_path).issuperset(scenarios):
                continue
            kept = ("deterministic", "parameters", "device", "timings", "energy", "metrics", "history")
            result = {key: record[key] for key in kept if key in record}
            result["same_as_seed"] = record.get("same_as_seed", other.seed)
            write_stress = partial(_copy, stress_path.read_bytes()) if scenarios else None
            return Outcome(result, read_scores(path), partial(_copy, path.read_bytes()), write_stress)
    return None


def _copy(stored: bytes, path: Path) -> None:
    path.write_bytes(stored)
