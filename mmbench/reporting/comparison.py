"""One concept's methods compared: values, intervals, differences to the reference, ties, and the verdicts of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mmbench.contracts import Concept
from mmbench.errors import NotComparableError
from mmbench.evaluation.bootstrap import (
    FEWEST_CROSSED_SEEDS,
    Draws,
    decision_replicates,
    holm,
    interval,
    p_value,
    ranking_replicates,
)
from mmbench.evaluation.metrics import LABEL_METRICS, METRICS, MetricValue, per_label
from mmbench.evaluation.predictions import Predictions
from mmbench.running.store import CEILING

Record = dict[str, Any]
REPLICATES = 10_000
RANKING_REPLICATES = 1_000
ALPHA = 0.05
POWER = 0.8
Family = list[tuple[Record, NDArray[np.float64]]]


@dataclass(frozen=True)
class Row:
    """One method on one concept: a cell a seed, on the same test rows."""

    method: str
    seeds: tuple[int, ...]
    cells: list[tuple[Predictions, NDArray[np.float64] | None]]
    results: list[dict[str, Any]]
    values: list[dict[str, MetricValue]]


@dataclass(frozen=True)
class Compared:
    """One concept's comparison.

    Attributes:
        records: one a method and metric, and one a method, label and metric.
        ranked: the methods that were compared for the best: those with all seeds.
        best: (metric, method) of the best and of its ties.
        family: records and bootstrap differences of the comparisons on the primary metric, which Holm adjusts together.
    """

    records: list[Record]
    ranked: tuple[str, ...]
    best: set[tuple[str, str]]
    family: Family


def _n_replicates(metric: str) -> int:
    return RANKING_REPLICATES if METRICS[metric].needs == "scores" else REPLICATES


def _replicates(rows: list[Row], seeds: tuple[int, ...]) -> tuple[Draws, list[dict[str, NDArray[np.float64]]]]:
    """The replicates of every metric for rows with the same seeds and test set."""
    first = rows[0].cells[0][0]
    names, groups = np.unique(first.groups, return_inverse=True)
    draws = Draws(len(names), len(seeds), REPLICATES)
    ranked = Draws(len(names), len(seeds), RANKING_REPLICATES)
    cells = [row.cells for row in rows]
    decided = decision_replicates(cells, groups, draws)
    return draws, [d | r for d, r in zip(decided, ranking_replicates(cells, groups, ranked), strict=True)]


def _check_alike(rows: list[Row]) -> None:
    """Refuse rows that were trained, tuned or tested on other samples than the first.

    Raises:
        NotComparableError: names the two methods.
    """
    first = rows[0]
    for row in rows:
        tested = all(np.array_equal(predictions.ids, first.cells[0][0].ids) for predictions, _ in row.cells)
        if not tested or {result.get("rows") for result in row.results} != {first.results[0].get("rows")}:
            raise NotComparableError(
                f"{row.method} was trained or tested on other rows than {first.method}: run both again with --force"
            )


def concept_records(
    info: dict[str, Any], problem: str, concept: Concept, rows: list[Row], reference: str | None
) -> Compared:
    """Compare the rows of one concept.

    Raises:
        NotComparableError: rows that were trained or tested on different samples.
    """
    _check_alike(rows)
    primary = info["protocol"]["primary_metric"]
    family: Family = []
    by_seeds: dict[tuple[int, ...], list[Row]] = defaultdict(list)
    for row in rows:
        by_seeds[row.seeds].append(row)
    replicates: dict[str, dict[str, NDArray[np.float64]]] = {}
    kinds: dict[str, str] = {}
    if len(np.unique(rows[0].cells[0][0].groups)) > 1:  # one group shows nothing about others
        for seeds, alike in by_seeds.items():
            draws, made = _replicates(alike, seeds)
            for row, values in zip(alike, made, strict=True):
                replicates[row.method], kinds[row.method] = values, f"{draws.kind}, {REPLICATES} replicates"
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
                record |= _difference(record, rows, reference, metric, difference)
                if metric == primary and record["delta"] is not None and not row.method.startswith(CEILING):
                    family.append((record, difference))
            records.append(record)
        records += _label_records(base, concept, row)
    rivals = _rivals([row for row in rows if row.method in replicates])
    return Compared(records, tuple(row.method for row in rivals), _winners(rivals, replicates), family)


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
        "unit": f"{info['task']['group']} × seed" if len(row.seeds) >= FEWEST_CROSSED_SEEDS else info["task"]["group"],
        "tests": [],
        "parameters": row.results[0].get("parameters"),
        "train_seconds": float(np.mean(known)) if known else None,
        "energy_wh": float(np.mean([e["wh"] for e in measured])) if len(measured) == len(energies) else None,
        "energy_source": _weakest([e["source"] for e in measured]) if len(measured) == len(energies) else None,
        "generated": info["task"]["generated"],
        "labels": config["options"].get("labels", ""),
        "split": f"{info['protocol']['split']}, split seed {config['split_seed']}",
        "encoders": ", ".join(f"{m}={e}" for m, e in config["encoders"].items()),
        "overrides": info["overrides"],
    }


def _weakest(sources: Sequence[str]) -> str | None:
    """An average with an estimate in it is an estimate."""
    return "estimate" if "estimate" in sources else "+".join(sorted(set(sources))) or None


def _summary(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return {"mean": None, "sd": None}
    return {"mean": float(np.mean(known)), "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None}


def _difference(
    record: Record, rows: list[Row], reference: str, metric: str, difference: NDArray[np.float64]
) -> Record:
    """Δ to the reference with its interval, unadjusted for the other comparisons."""
    other = next(row for row in rows if row.method == reference)
    theirs = _summary([value[metric].value for value in other.values])["mean"]
    bounds = interval(difference)
    if record["mean"] is None or theirs is None or bounds is None:
        return {}
    return {"delta": record["mean"] - theirs, "delta_low": bounds[0], "delta_high": bounds[1]}


def _label_records(base: Record, concept: Concept, row: Row) -> list[Record]:
    tables = [per_label(predictions, thresholds) for predictions, thresholds in row.cells]
    return [
        base | {"label": label, "metric": metric} | _summary([table[label][metric] for table in tables])
        for label in concept.labels
        for metric in LABEL_METRICS
    ]


def _rivals(rows: list[Row]) -> list[Row]:
    """The rows with the largest number of seeds, the same for all, so that all are paired; never a ceiling."""
    rivals = [row for row in rows if not row.method.startswith(CEILING)]
    most = max((len(row.seeds) for row in rivals), default=0)
    rivals = [row for row in rivals if len(row.seeds) == most]
    return [row for row in rivals if row.seeds == rivals[0].seeds]


def _winners(rivals: list[Row], replicates: dict[str, dict[str, NDArray[np.float64]]]) -> set[tuple[str, str]]:
    """(metric, method) of the best method of each metric, and of those whose paired 95 % interval to it holds zero."""
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


def judge(family: Family, info: dict[str, Any], reference: str | None) -> None:
    """p, Holm's adjustment over all methods and concepts of the run, the verdict that follows it, and the difference
    that such a comparison detects with 80 % power.

    Generated data gets no verdict: it says nothing about any method.
    """
    primary = info["protocol"]["primary_metric"]
    better = METRICS[primary].better
    p_values = [p_value(difference) for _, difference in family]
    for (record, difference), raw, adjusted in zip(family, p_values, holm(p_values), strict=True):
        record["p_raw"], record["p_holm"] = raw, adjusted
        record["family"] = f"{len(family)} comparisons with {reference} on {primary}"
        record["mde"] = _detectable(difference, len(family))
        crossed = record["n_seeds"] >= FEWEST_CROSSED_SEEDS
        record["tests"] = [
            {
                "name": "crossed bootstrap" if crossed else "group bootstrap, conditional on these seeds",
                "null": f"equal {primary}",
                "unit": record["unit"],
                "n": record["n_groups"],
                "n_replicates": _n_replicates(primary),
                "p": raw,
                "smallest_p": 2 / (_n_replicates(primary) + 1),
            }
        ]
        if not info["task"]["generated"]:
            wins = (record["delta"] > 0) == (better == "higher")
            unadjusted = record["delta_low"] > 0 or record["delta_high"] < 0
            if adjusted < ALPHA:
                verdict = f"{'better' if wins else 'worse'} than {reference}"
            elif unadjusted:
                verdict = f"not distinguishable from {reference} (only the unadjusted interval excludes zero)"
            else:
                verdict = f"not distinguishable from {reference}"
            record["verdict"] = verdict if crossed else f"{verdict}, on these seeds"


def _detectable(difference: NDArray[np.float64], comparisons: int) -> float | None:
    """The difference found with 80 % power at 5 % shared between the comparisons; None where nothing varies."""
    error = float(difference.std(ddof=1))
    return (float(norm.isf(ALPHA / 2 / comparisons)) + float(norm.ppf(POWER))) * error if error > 0 else None
