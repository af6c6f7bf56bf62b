"""One concept's methods compared: values, intervals, differences to the reference, ties, and the verdicts of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept
from mmbench.errors import NotComparableError
from mmbench.evaluation.bootstrap import Draws, decision_replicates, holm, interval, p_value, ranking_replicates
from mmbench.evaluation.metrics import LABEL_METRICS, METRICS, MetricValue, per_label
from mmbench.evaluation.predictions import Predictions
from mmbench.running.store import CEILING

Record = dict[str, Any]
REPLICATES = 10_000
RANKING_REPLICATES = 1_000
POWER = 2.8016  # z(.975) + z(.80): the effect that is detected with 80 % power, in standard errors
ALPHA = 0.05


@dataclass(frozen=True)
class Row:
    """One method on one concept: a cell a seed, on the same test rows."""

    method: str
    seeds: tuple[int, ...]
    cells: list[tuple[Predictions, NDArray[np.float64] | None]]
    results: list[dict[str, Any]]
    values: list[dict[str, MetricValue]]


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


def concept_records(
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


def adjust(records: list[Record], info: dict[str, Any], reference: str | None) -> None:
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
