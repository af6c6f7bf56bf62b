"""From a run's stored predictions to records: one a (task, problem, concept, label, method, metric).

Everything here is a pure function of the predictions and ``run.json``: nothing is trained.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench import evaluation
from mmbench.contracts import Concept
from mmbench.errors import MmbenchError, UsageError, unknown
from mmbench.evaluation.bootstrap import holm
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.metrics import METRICS, MetricValue, compute
from mmbench.evaluation.predictions import Predictions, read_predictions, shared
from mmbench.hashing import digest
from mmbench.reporting.comparison import BASELINES, Comparison, Record, concept_records, primary_of
from mmbench.reporting.merging import Gathered, Stored, gather
from mmbench.reporting.spreads import Row
from mmbench.reporting.verdicts import MARGIN, judge
from mmbench.running.remember import remember
from mmbench.running.store import CEILING, RunFolder

Done = dict[str, dict[str, list[Stored]]]


@dataclass(frozen=True)
class Collection:
    """The records of a run and what the tables need beside them.

    ``ranked`` names the methods that took part in finding the best, by "problem concept", and ``ties`` their letters on
    the primary metric: those that share one are not told apart. ``best`` holds (problem, concept, metric, method) of
    the best method and of all that its paired interval does not separate from it; ``rough`` says by "problem concept"
    which labels are too rare for the intervals; ``reference`` is the method that
    differences are taken to, or None; ``remarks`` are lines on rows that come from other code and on cells that have
    no result; ``gains`` are those of strategies over their fusion's baselines, Holm-adjusted by baseline.
    """

    info: dict[str, Any]
    records: list[Record]
    reference: str | None
    ranked: dict[str, list[str]]
    ties: dict[str, dict[str, str]]
    best: frozenset[tuple[str, str, str, str]]
    rough: dict[str, str]
    remarks: tuple[str, ...]
    gains: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """What is asked of stored cells.

    ``methods`` are the only ones to show, in this order; None is all, in the order of the protocol's suite.
    ``reference`` is what differences are taken to; None is the task's proposed method, where it is there. ``metric``
    takes the place of the protocol's primary metric. Within ±``margin`` of the reference a method is equivalent.
    """

    methods: tuple[str, ...] | None = None
    reference: str | None = None
    metric: str | None = None
    margin: float = MARGIN


def make_records(
    folders: RunFolder | Sequence[RunFolder], question: Question = Question(), allow_mixed: bool = False
) -> Collection:
    """All records of a run, or of several in one table.

    What was computed before is kept in the cache, under a digest of all that it follows from.

    Raises:
        UsageError: no finished cell, a reference that is not there.
        NotComparableError: runs of other data, protocols or metrics; cells of one problem on different rows.
    """
    gathered = gather([folders] if isinstance(folders, RunFolder) else folders, allow_mixed)

    def collect() -> dict[str, Any]:
        collection = _collect(gathered, question)
        return vars(collection) | {"best": sorted(collection.best)}

    kept = remember(_digest(gathered, question), collect)
    best = frozenset(tuple(place) for place in kept["best"])
    return Collection(**kept | {"best": best, "remarks": tuple(kept["remarks"])})


def follows_from(folder: RunFolder, methods: Sequence[str] | None) -> str:
    """Of all that a study of these methods' cells follows from, but for files of its own."""
    return _digest(gather([folder]), Question(None if methods is None else tuple(methods)))


def _digest(gathered: Gathered, question: Question) -> str:
    """Of all that the records follow from: the run, its cells and predictions, and the code that reads them."""
    code = [*sorted(Path(__file__).parent.glob("*.py")), *sorted(Path(evaluation.__file__).parent.glob("*.py"))]
    parts: list[str | bytes] = [path.read_bytes() for path in code]
    parts += [repr(question), json.dumps(gathered.info), *gathered.remarks]
    for stored in gathered.cells:
        parts += [str(stored.cell), json.dumps([stored.result, stored.info])]
        parts += [stored.predictions.read_bytes() if stored.predictions.is_file() else b""]
    return digest(parts)


def _collect(gathered: Gathered, question: Question) -> Collection:
    """The records themselves; see :func:`make_records`."""
    info, remarks = gathered.info, list(gathered.remarks)
    if question.metric not in (None, info["protocol"]["primary_metric"]):
        remarks.append(
            f"compared on {question.metric}; the protocol's primary metric is {info['protocol']['primary_metric']}"
        )
        info = info | {"protocol": info["protocol"] | {"primary_metric": question.metric}}
        own = {c["name"]: primary_of(info, c["name"]) for c in info["concepts"]}
        others = [f"{concept} on {metric}" for concept, metric in own.items() if metric != question.metric]
        remarks += [f"{question.metric} is not a metric of every concept: compared is {', '.join(others)}"] * bool(
            others
        )
    done, failures = _done(gathered, question.methods)
    present = {method for by_method in done.values() for method in by_method}
    if not present:
        raise UsageError("there is no finished cell to report: run the same command again, or name another run")
    order = _order(present, question.methods or info["protocol"]["suite"])
    reference = question.reference
    if reference is None:
        reference = info["task"]["proposed"] if info["task"]["proposed"] in present else None
    elif reference not in present:
        raise unknown("reference", reference, order)
    records: list[Record] = []
    family: list[Comparison] = []
    gains: list[Record] = []
    ranked: dict[str, list[str]] = {}
    ties: dict[str, dict[str, str]] = {}
    rough: dict[str, str] = {}
    best: set[tuple[str, str, str, str]] = set()
    for problem in (p["name"] for p in info["problems"]):
        rows_by_concept = _read(done[problem], info, order)
        for concept, rows in rows_by_concept.items():
            compared = concept_records(info, problem, concept, rows, reference, gathered.mixed)
            records += compared.records
            family += compared.family
            gains += compared.gains
            ranked[f"{problem} {concept.name}"] = list(compared.ranked)
            ties[f"{problem} {concept.name}"] = compared.ties
            if compared.rough:
                rough[f"{problem} {concept.name}"] = compared.rough
            best |= {(problem, concept.name, metric, method) for metric, method in compared.best}
    judge(family, info, reference, question.margin)
    for kind in BASELINES:
        here = [gain for gain in gains if gain["over"] == kind]
        for gain, adjusted in zip(here, holm([gain["p_raw"] for gain in here]), strict=True):
            gain["p_holm"] = adjusted
    return Collection(
        info, records, reference, ranked, ties, frozenset(best), rough,
        (*remarks, *_provenance_notes(done), *failures), gains,
    )  # fmt: skip


def _done(gathered: Gathered, methods: Sequence[str] | None) -> tuple[Done, list[str]]:
    """The finished cells of the asked methods by problem and method, and a line for each that is not finished."""
    done: Done = defaultdict(lambda: defaultdict(list))
    failures = []
    for stored in gathered.cells:
        cell, result = stored.cell, stored.result
        if methods is not None and cell.method not in methods and not cell.method.startswith(CEILING):
            continue
        if result["status"] == "done":
            done[cell.problem][cell.method].append(stored)
        else:
            failures.append(f"{result['status']}: {cell}: {result['error']['message']}")
    return done, failures


def read_rows(folder: RunFolder, methods: Sequence[str] | None = None) -> dict[tuple[str, str], list[Row]]:
    """The finished cells of a run as rows, by problem and concept: values only, nothing is resampled."""
    gathered = gather([folder])
    done, _ = _done(gathered, methods)
    return {
        (problem, concept.name): rows
        for problem, by_method in done.items()
        for concept, rows in _read(by_method, gathered.info, sorted(by_method)).items()
    }


def _provenance_notes(done: Done) -> list[str]:
    """Where rows come from other code than the rest: plug-ins of the user's, and states or versions that differ."""
    plugins: dict[str, set[str]] = defaultdict(set)
    states: dict[str, set[str]] = defaultdict(set)
    for by_method in done.values():
        for method, cells in by_method.items():
            for result in (stored.result for stored in cells):
                plugins[method].add(", ".join(f"{k} {v}" for k, v in sorted(result.get("plugins", {}).items())))
                if not result.get("foreign"):
                    states[json.dumps([result.get("source"), result.get("versions")])].add(method)
    notes = [
        f"{method} uses plug-ins that are not mmbench's: {' or '.join(sorted(found - {''}))}"
        for method, found in plugins.items()
        if found - {""}
    ]
    for by_method in done.values():
        for method, cells in by_method.items():
            notes += [_foreign_note(method, stored.result) for stored in cells if stored.result.get("foreign")]
    if len(states) > 1:
        notes.append(
            f"rows come from {len(states)} states of mmbench or its libraries; `mmbench run --force` renews them"
        )
    return notes


def _foreign_note(method: str, result: dict[str, Any]) -> str:
    """Where a row's predictions come from, and what of them could not be used as given."""
    note = f"{method}: predictions of {result['file']['name']}, not trained here"
    unread = ", ".join(f"{count:,} of {name}" for name, count in result["unparsed"].items() if count)
    note += f"; answers that cannot be read count as wrong: {unread}" if unread else ""
    hard = ", ".join(result["hard"])
    return note + (f"; labels, not scores, of {hard}: nothing that needs scores" if hard else "")


def _values(predictions: Predictions, thresholds: NDArray[np.float64] | None, hard: bool) -> dict[str, MetricValue]:
    """Every metric; of ``hard`` labels, which rank nothing, none that needs scores."""
    values = compute(predictions, thresholds)
    if hard:
        values |= {name: MetricValue(None, 0) for name, metric in METRICS.items() if metric.needs == "scores"}
    return values


def _order(present: set[str], suite: Sequence[str]) -> list[str]:
    """The suite's order, then other methods by name, then the ceilings."""
    known = [method for method in suite if method in present]
    ceilings = sorted((m for m in present if m.startswith(CEILING)), key=lambda m: (m.count("+"), m))
    return [*known, *sorted(present - {*known, *ceilings}), *ceilings]


def _read(by_method: dict[str, list[Stored]], info: dict[str, Any], order: list[str]) -> dict[Concept, list[Row]]:
    """Every method's cells of one problem, by concept."""
    concepts = [Concept.of(c) for c in info["concepts"]]
    rows: dict[Concept, list[Row]] = {}
    held: dict[str, Predictions] = {}
    for method in (m for m in order if m in by_method):
        found: dict[str, list[tuple[Predictions, NDArray[np.float64] | None]]] = defaultdict(list)
        values: dict[str, list[dict[str, MetricValue]]] = defaultdict(list)
        computed: dict[tuple[str, int], tuple[Predictions, dict[str, MetricValue]]] = {}
        source = by_method[method][0].info
        tuned = (source or info)["config"]["thresholds"] == "val"
        for cell, result, path in ((s.cell, s.result, s.predictions) for s in by_method[method]):
            val = read_predictions(path, concepts, "val") if tuned else {}
            test = read_predictions(path, concepts, "test")
            if found and found.keys() != test.keys():
                raise MmbenchError(
                    f"{path} has other concepts than {method} at other seeds: delete the folder of the one that lacks "
                    "some, and the same command runs the cell again"
                )
            for name, predictions in test.items():
                thresholds = tune_thresholds(val[name]) if tuned else None
                own = shared(predictions, held.setdefault(name, predictions))
                twin = computed.get((name, result.get("same_as_seed", -1)))
                if twin is None or not np.array_equal(twin[0].scores, own.scores):
                    twin = (own, _values(own, thresholds, name in result.get("hard", ())))
                computed[name, cell.seed] = twin
                found[name].append((shared(own, twin[0]), thresholds))
                values[name].append(twin[1])
        for concept in concepts:
            if found[concept.name]:
                seeds = tuple(stored.cell.seed for stored in by_method[method])
                results = [stored.result for stored in by_method[method]]
                rows.setdefault(concept, []).append(
                    Row(method, seeds, found[concept.name], results, values[concept.name], source)
                )
    return rows
