"""From a run's stored predictions to records: one a (task, problem, concept, label, method, metric).

Everything here is a pure function of the predictions and ``run.json``: nothing is trained.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench import evaluation
from mmbench.contracts import Concept
from mmbench.errors import UsageError
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.metrics import MetricValue, compute
from mmbench.evaluation.predictions import Predictions, read_predictions
from mmbench.hashing import digest
from mmbench.locate import cache_folder
from mmbench.reporting import comparison
from mmbench.reporting.comparison import Family, Record, Row, concept_records, judge
from mmbench.running.store import CEILING, Cell, RunFolder, write_atomically


@dataclass(frozen=True)
class Collection:
    """The records of a run and what the tables need beside them.

    ``ranked`` names the methods that took part in finding the best, by "problem concept"; ``best`` holds (problem,
    concept, metric, method) of the best method and of all that its paired interval does not separate from it;
    ``reference`` is the method that differences are taken to, or None; ``remarks`` are lines on rows that come from
    other code and on cells that have no result.
    """

    info: dict[str, Any]
    records: list[Record]
    reference: str | None
    ranked: dict[str, list[str]]
    best: frozenset[tuple[str, str, str, str]]
    remarks: tuple[str, ...]


def make_records(folder: RunFolder, methods: Sequence[str] | None = None, reference: str | None = None) -> Collection:
    """All records of a run.

    Args:
        folder: the run.
        methods: only these, in this order, and the ceilings; by default all, in the order of the protocol's suite.
        reference: what differences are taken to; the task's proposed method by default, where it is in the run.

    What was computed before is kept in the cache, under a digest of all that it follows from.

    Raises:
        UsageError: a run without a finished cell, a reference that is not in it.
        NotComparableError: cells of one problem that were tested on different rows.
    """
    key = _digest(folder, methods, reference)
    cache = cache_folder() / "records" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        stored = json.loads(cache.read_text(encoding="utf-8"))
        if stored["digest"] == digest([json.dumps(stored["collection"])]):
            kept = stored["collection"]
            best = frozenset(tuple(place) for place in kept["best"])
            return Collection(
                kept["info"], kept["records"], kept["reference"], kept["ranked"], best, tuple(kept["remarks"])
            )
    collection = _collect(folder, methods, reference)
    content = json.loads(json.dumps(dataclasses.asdict(collection) | {"best": sorted(collection.best)}))
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no result
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, json.dumps({"digest": digest([json.dumps(content)]), "collection": content}))
    return collection


def _digest(folder: RunFolder, methods: Sequence[str] | None, reference: str | None) -> str:
    """Of all that the records follow from: the run, its cells and predictions, and the code that reads them."""
    code = [Path(__file__), Path(comparison.__file__), *sorted(Path(evaluation.__file__).parent.glob("*.py"))]
    parts: list[str | bytes] = [path.read_bytes() for path in code]
    parts += [json.dumps([methods, reference]), json.dumps(folder.info())]
    for cell, result in folder.results():
        path = folder.predictions_path(cell)
        parts += [str(cell), json.dumps(result), path.read_bytes() if path.is_file() else b""]
    return digest(parts)


def _collect(folder: RunFolder, methods: Sequence[str] | None, reference: str | None) -> Collection:
    """The records themselves; see :func:`make_records`."""
    info = folder.info()
    concepts = [Concept(c["name"], tuple(c["labels"]), c["kind"], c["background"]) for c in info["concepts"]]
    done: dict[str, dict[str, list[tuple[Cell, dict[str, Any]]]]] = defaultdict(lambda: defaultdict(list))
    failures = []
    for cell, result in folder.results():
        if methods is not None and cell.method not in methods and not cell.method.startswith(CEILING):
            continue
        if result["status"] == "done":
            done[cell.problem][cell.method].append((cell, result))
        else:
            failures.append(f"{result['status']}: {cell}: {result['error']['message']}")
    present = {method for by_method in done.values() for method in by_method}
    if not present:
        raise UsageError(f"{folder.path} has no finished cell to report")
    order = _order(present, methods or info["protocol"]["suite"])
    if reference is None:
        reference = info["task"]["proposed"] if info["task"]["proposed"] in present else None
    elif reference not in present:
        raise UsageError(f"--reference {reference} is not in this run: it has {', '.join(order)}")
    records: list[Record] = []
    family: Family = []
    ranked: dict[str, list[str]] = {}
    best: set[tuple[str, str, str, str]] = set()
    for problem in (p["name"] for p in info["problems"]):
        rows_by_concept = _read(folder, done[problem], concepts, order, info["config"]["thresholds"] == "val")
        for concept, rows in rows_by_concept.items():
            compared = concept_records(info, problem, concept, rows, reference)
            records += compared.records
            family += compared.family
            ranked[f"{problem} {concept.name}"] = list(compared.ranked)
            best |= {(problem, concept.name, metric, method) for metric, method in compared.best}
    judge(family, info, reference)
    notes = _provenance_notes(done)
    return Collection(info, records, reference, ranked, frozenset(best), (*notes, *failures))


def _provenance_notes(
    done: dict[str, dict[str, list[tuple[Cell, dict[str, Any]]]]],
) -> list[str]:
    """Where rows come from other code than the rest: plug-ins of the user's, and states or versions that differ."""
    plugins: dict[str, set[str]] = defaultdict(set)
    states: dict[str, set[str]] = defaultdict(set)
    for by_method in done.values():
        for method, cells in by_method.items():
            for _, result in cells:
                plugins[method].add(", ".join(f"{k} {v}" for k, v in sorted(result.get("plugins", {}).items())))
                states[json.dumps([result.get("source"), result.get("versions")])].add(method)
    notes = [
        f"{method} uses plug-ins that are not mmbench's: {' or '.join(sorted(found - {''}))}"
        for method, found in plugins.items()
        if found - {""}
    ]
    if len(states) > 1:
        notes.append(
            f"rows come from {len(states)} states of mmbench or its libraries; `mmbench run --force` renews them"
        )
    return notes


def _order(present: set[str], suite: Sequence[str]) -> list[str]:
    """The suite's order, then other methods by name, then the ceilings."""
    known = [method for method in suite if method in present]
    ceilings = sorted((m for m in present if m.startswith(CEILING)), key=lambda m: (m.count("+"), m))
    return [*known, *sorted(present - {*known, *ceilings}), *ceilings]


def _read(
    folder: RunFolder,
    by_method: dict[str, list[tuple[Cell, dict[str, Any]]]],
    concepts: list[Concept],
    order: list[str],
    tuned: bool,
) -> dict[Concept, list[Row]]:
    """Every method's cells of one problem, by concept."""
    rows: dict[Concept, list[Row]] = {}
    for method in (m for m in order if m in by_method):
        found: dict[str, list[tuple[Predictions, NDArray[np.float64] | None]]] = defaultdict(list)
        values: dict[str, list[dict[str, MetricValue]]] = defaultdict(list)
        computed: dict[tuple[str, int], tuple[Predictions, dict[str, MetricValue]]] = {}
        for cell, result in by_method[method]:
            path = folder.predictions_path(cell)
            val = read_predictions(path, concepts, "val") if tuned else {}
            for name, predictions in read_predictions(path, concepts, "test").items():
                thresholds = tune_thresholds(val[name]) if tuned else None
                twin = computed.get((name, result.get("same_as_seed", -1)))
                if twin is None or not np.array_equal(twin[0].scores, predictions.scores):
                    twin = (predictions, compute(predictions, thresholds))
                computed[name, cell.seed] = twin
                found[name].append((predictions, thresholds))
                values[name].append(twin[1])
        for concept in concepts:
            if found[concept.name]:
                seeds = tuple(cell.seed for cell, _ in by_method[method])
                results = [result for _, result in by_method[method]]
                rows.setdefault(concept, []).append(
                    Row(method, seeds, found[concept.name], results, values[concept.name])
                )
    return rows
