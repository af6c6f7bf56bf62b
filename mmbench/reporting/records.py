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
from mmbench.errors import NotComparableError, UsageError
from mmbench.evaluation.bootstrap import (
    Draws,
    decision_replicates,
    holm,
    interval,
    p_value,
    ranking_replicates,
)
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.metrics import LABEL_METRICS, METRICS, MetricValue, compute, per_label
from mmbench.evaluation.predictions import Predictions, read_predictions
from mmbench.hashing import digest
from mmbench.locate import cache_folder
from mmbench.running.store import CEILING, Cell, RunFolder, write_atomically

Record = dict[str, Any]
REPLICATES = 10_000
RANKING_REPLICATES = 1_000
POWER = 2.8016  # z(.975) + z(.80): the effect that is detected with 80 % power, in standard errors
ALPHA = 0.05


@dataclass(frozen=True)
class Collection:
    """The records of a run and what the tables need beside them.

    ``best`` holds (problem, concept, metric, method) of the best method and of all that its paired interval does not
    separate from it; ``reference`` is the method that differences are taken to, or None; ``failures`` are lines on
    cells that have no result.
    """

    info: dict[str, Any]
    records: list[Record]
    reference: str | None
    best: frozenset[tuple[str, str, str, str]]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One method on one concept: a cell a seed, on the same test rows."""

    method: str
    seeds: tuple[int, ...]
    cells: list[tuple[Predictions, NDArray[np.float64] | None]]
    results: list[dict[str, Any]]
    values: list[dict[str, MetricValue]]


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
            return Collection(kept["info"], kept["records"], kept["reference"], best, tuple(kept["failures"]))
    collection = _collect(folder, methods, reference)
    content = json.loads(json.dumps(dataclasses.asdict(collection) | {"best": sorted(collection.best)}))
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no result
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, json.dumps({"digest": digest([json.dumps(content)]), "collection": content}))
    return collection


def _digest(folder: RunFolder, methods: Sequence[str] | None, reference: str | None) -> str:
    """Of all that the records follow from: the run, its cells and predictions, and the code that reads them."""
    code = [Path(__file__), *sorted(Path(evaluation.__file__).parent.glob("*.py"))]
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
    best: set[tuple[str, str, str, str]] = set()
    for problem in (p["name"] for p in info["problems"]):
        rows_by_concept = _read(folder, done[problem], concepts, order, info["config"]["thresholds"] == "val")
        for concept, rows in rows_by_concept.items():
            made, winners = _concept_records(info, problem, concept, rows, reference)
            records += made
            best |= {(problem, concept.name, metric, method) for metric, method in winners}
    _adjust(records, info, reference)
    return Collection(info, records, reference, frozenset(best), tuple(failures))


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
        for cell, result in by_method[method]:
            path = folder.predictions_path(cell)
            val = read_predictions(path, concepts, "val") if tuned else {}
            twin = "same_as_seed" in result and len(values) > 0
            for name, predictions in read_predictions(path, concepts, "test").items():
                thresholds = tune_thresholds(val[name]) if tuned else None
                found[name].append((predictions, thresholds))
                values[name].append(values[name][0] if twin else compute(predictions, thresholds))
        for concept in concepts:
            if found[concept.name]:
                seeds = tuple(cell.seed for cell, _ in by_method[method])
                results = [result for _, result in by_method[method]]
                rows.setdefault(concept, []).append(
                    Row(method, seeds, found[concept.name], results, values[concept.name])
                )
    return rows


def _n_replicates(metric: str) -> int:
    return RANKING_REPLICATES if METRICS[metric].needs == "scores" else REPLICATES


def _replicates(rows: list[Row], seeds: tuple[int, ...]) -> tuple[Draws, list[dict[str, NDArray[np.float64]]]]:
    """The replicates of every metric for rows with the same seeds and test set."""
    first = rows[0].cells[0][0]
    for row in rows:
        for predictions, _ in row.cells:
            if not np.array_equal(predictions.ids, first.ids):
                raise NotComparableError(f"{row.method} was tested on other rows than {rows[0].method}")
    names, groups = np.unique(first.groups, return_inverse=True)
    draws = Draws(len(names), len(seeds), REPLICATES)
    ranked = Draws(len(names), len(seeds), RANKING_REPLICATES)
    cells = [row.cells for row in rows]
    decided = decision_replicates(cells, groups, draws)
    return draws, [d | r for d, r in zip(decided, ranking_replicates(cells, groups, ranked), strict=True)]


def _concept_records(
    info: dict[str, Any], problem: str, concept: Concept, rows: list[Row], reference: str | None
) -> tuple[list[Record], set[tuple[str, str]]]:
    """One concept's records, and (metric, method) of the best and its ties among the rows that have all seeds."""
    primary = info["protocol"]["primary_metric"]
    by_seeds: dict[tuple[int, ...], list[Row]] = defaultdict(list)
    for row in rows:
        by_seeds[row.seeds].append(row)
    replicates: dict[str, dict[str, NDArray[np.float64]]] = {}
    kinds: dict[str, str] = {}
    if len(np.unique(rows[0].cells[0][0].groups)) > 1:  # one group shows nothing about others
        for seeds, alike in by_seeds.items():
            draws, made = _replicates(alike, seeds)
            for row, values in zip(alike, made, strict=True):
                replicates[row.method], kinds[row.method] = values, draws.kind
    paired = {
        row.method: reference is not None
        and row.method != reference
        and any(r.method == reference and r.seeds == row.seeds for r in rows)
        for row in rows
    }
    records = []
    for row in rows:
        base = _base(info, problem, concept, row, reference, kinds.get(row.method, ""))
        for metric in METRICS:
            by_seed = [value[metric] for value in row.values]
            record = base | {"label": "", "metric": metric} | _summary([v.value for v in by_seed])
            record["n_labels_used"] = by_seed[0].n_labels_used
            spread = replicates.get(row.method, {}).get(metric)
            bounds = None if spread is None else interval(spread)
            record["ci_low"], record["ci_high"] = bounds or (None, None)
            if paired[row.method] and spread is not None and reference is not None:
                difference = spread - replicates[reference][metric]
                record |= _difference(record, rows, reference, metric, difference, metric == primary)
            records.append(record)
        records += _label_records(base, concept, row)
    return records, _winners(rows, replicates)


def _base(info: dict[str, Any], problem: str, concept: Concept, row: Row, reference: str | None, kind: str) -> Record:
    sizes = next(p for p in info["problems"] if p["name"] == problem)["concepts"][concept.name]
    config = info["config"]
    energies = [result.get("energy") for result in row.results]
    measured = [energy for energy in energies if energy]
    seconds = [result["timings"].get("fit_seconds") for result in row.results]
    known = [second for second in seconds if second is not None]
    return {
        "task": config["task"],
        "protocol": config["protocol"],
        "problem": problem,
        "concept": concept.name,
        "label": "",
        "method": row.method,
        "metric": "",
        "mean": None,
        "sd": None,
        "ci_low": None,
        "ci_high": None,
        "ci_kind": kind,
        "n_seeds": len(row.seeds),
        "n_train": sizes["n_train"],
        "n_test": sizes["n_test"],
        "n_groups": sizes["n_groups"],
        "n_labels_used": len(concept.labels),
        "reference": reference,
        "delta": None,
        "delta_low": None,
        "delta_high": None,
        "p_raw": None,
        "p_holm": None,
        "family": None,
        "verdict": None,
        "mde": None,
        "unit": f"{info['task']['group']} × seed" if len(row.seeds) >= 5 else info["task"]["group"],
        "tests": [],
        "parameters": row.results[0].get("parameters"),
        "train_seconds": float(np.mean(known)) if known else None,
        "energy_wh": float(np.mean([e["wh"] for e in measured])) if len(measured) == len(energies) else None,
        "energy_source": measured[0]["source"] if len(measured) == len(energies) else None,
        "generated": info["task"]["generated"],
        "labels": config["options"].get("labels", ""),
        "split": f"{info['protocol']['split']}, split seed {config['split_seed']}",
        "encoders": ", ".join(f"{m}={e}" for m, e in config["encoders"].items()),
        "overrides": info["overrides"],
    }


def _summary(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return {"mean": None, "sd": None}
    return {"mean": float(np.mean(known)), "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None}


def _difference(
    record: Record, rows: list[Row], reference: str, metric: str, difference: NDArray[np.float64], test: bool
) -> Record:
    """Δ to the reference with its interval; for the primary metric also p and the minimum detectable effect."""
    other = next(row for row in rows if row.method == reference)
    theirs = _summary([value[metric].value for value in other.values])["mean"]
    bounds = interval(difference)
    if record["mean"] is None or theirs is None or bounds is None:
        return {}
    made: Record = {"delta": record["mean"] - theirs, "delta_low": bounds[0], "delta_high": bounds[1]}
    if test and not record["method"].startswith(CEILING):
        made["p_raw"] = p_value(difference)
        made["mde"] = POWER * float(difference.std(ddof=1))
    return made


def _label_records(base: Record, concept: Concept, row: Row) -> list[Record]:
    tables = [per_label(predictions, thresholds) for predictions, thresholds in row.cells]
    return [
        base | {"label": label, "metric": metric} | _summary([table[label][metric] for table in tables])
        for label in concept.labels
        for metric in LABEL_METRICS
    ]


def _winners(rows: list[Row], replicates: dict[str, dict[str, NDArray[np.float64]]]) -> set[tuple[str, str]]:
    """The best method of each metric, and those whose paired 95 % interval to it holds zero.

    Only rows with the largest number of seeds take part, so that all are paired; ceilings never do.
    """
    rivals = [row for row in rows if not row.method.startswith(CEILING) and row.method in replicates]
    most = max((len(row.seeds) for row in rivals), default=0)
    rivals = [row for row in rivals if len(row.seeds) == most]
    rivals = [row for row in rivals if row.seeds == rivals[0].seeds]
    winners = set()
    for name, metric in METRICS.items():
        means = {row.method: _summary([value[name].value for value in row.values])["mean"] for row in rivals}
        known = {method: mean for method, mean in means.items() if mean is not None}
        if not known:
            continue
        top = (max if metric.better == "higher" else min)(known, key=lambda m: known[m])
        for method in known:
            bounds = interval(replicates[method][name] - replicates[top][name])
            if bounds is not None and bounds[0] <= 0 <= bounds[1]:
                winners.add((name, method))
    return winners


def _adjust(records: list[Record], info: dict[str, Any], reference: str | None) -> None:
    """Holm over all methods and concepts of the run, and the verdict that follows the adjusted p.

    Generated data gets no verdict: it says nothing about any method.
    """
    family = [record for record in records if record["p_raw"] is not None]
    primary = info["protocol"]["primary_metric"]
    better = METRICS[primary].better
    for record, adjusted in zip(family, holm([record["p_raw"] for record in family]), strict=True):
        record["p_holm"] = adjusted
        record["family"] = f"{len(family)} comparisons with {reference} on {primary}"
        record["tests"] = [
            {
                "name": "crossed bootstrap"
                if record["n_seeds"] >= 5
                else "group bootstrap, conditional on these seeds",
                "null": f"equal {primary}",
                "unit": record["unit"],
                "n": record["n_groups"],
                "p": record["p_raw"],
                "smallest_p": 2 / (_n_replicates(primary) + 1),
            }
        ]
        if not info["task"]["generated"]:
            wins = (record["delta"] > 0) == (better == "higher")
            unadjusted = record["delta_low"] > 0 or record["delta_high"] < 0
            if adjusted < ALPHA:
                record["verdict"] = f"{'better' if wins else 'worse'} than {reference}"
            elif unadjusted:
                record["verdict"] = f"not distinguishable from {reference} (only the unadjusted interval excludes zero)"
            else:
                record["verdict"] = f"not distinguishable from {reference}"
