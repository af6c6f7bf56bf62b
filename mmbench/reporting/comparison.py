"""One concept's methods compared: values, intervals, differences to the reference, ties, and the verdicts of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept
from mmbench.errors import NotComparableError
from mmbench.evaluation.bootstrap import FEWEST_CROSSED_SEEDS, interval, p_value
from mmbench.evaluation.metrics import LABEL_METRICS, METRICS, metrics_of, per_label, primary_metric
from mmbench.evaluation.significance import Test
from mmbench.evaluation.ties import letters
from mmbench.reporting.spreads import Row, Spread, make_spreads, roughness
from mmbench.running.store import CEILING

Record = dict[str, Any]
BASELINES = ("single", "tuned")  # strategies that a strategy's gain is taken over
RANKED = ("average_precision", "roc_auc")  # of a label; they need scores


@dataclass(frozen=True)
class Comparison:
    """A method against the reference on the primary metric: the bootstrap differences (replicates,) and their kind."""

    record: Record
    row: Row
    reference: Row
    difference: NDArray[np.float64]
    kind: str


@dataclass(frozen=True)
class Compared:
    """One concept's comparison.

    Attributes:
        records: one a method and metric, and one a method, label and metric.
        ranked: the methods that were compared for the best: those with all seeds.
        best: (metric, method) of the best and of its ties.
        ties: by method letters; two ranked methods share one where their interval on the primary metric holds zero.
        family: the comparisons on the primary metric, which Holm adjusts together.
        rough: a line on labels that are too rare for these intervals, or ''.
        gains: what strategies gain on the primary metric over the same fusion's baselines, see :func:`_gains`.
    """

    records: list[Record]
    ranked: tuple[str, ...]
    best: set[tuple[str, str]]
    ties: dict[str, str]
    family: list[Comparison]
    rough: str
    gains: list[Record]


def primary_of(info: dict[str, Any], concept: str) -> str:
    """The metric that a concept of this run is compared on: the protocol's, or the one of its kind."""
    kind = next(c["kind"] for c in info["concepts"] if c["name"] == concept)
    return primary_metric(info["protocol"]["primary_metric"], kind)


def _on_same_samples(rows: list[Row], mixed: bool) -> list[list[Row]]:
    """The rows by the samples on which they were trained, tuned and tested; more than one list only if ``mixed``.

    Raises:
        NotComparableError: names two methods, or one whose seeds differ.
    """
    found: list[list[Row]] = []
    for row in rows:
        place = next((alike for alike in found if _same_samples(row, alike[0])), [])
        if not place and ((found and not mixed) or not _same_samples(row, row)):
            raise NotComparableError(
                f"{row.method} was trained or tested on other rows than {(found or [[row]])[0][0].method}: "
                "run both again with --force, or compare over splits with --resplit"
            )
        if not place:
            found.append(place)
        place.append(row)
    return found


def _same_samples(row: Row, other: Row) -> bool:
    """Whether every cell of a row has the test rows and labels, and the training rows, of another's first."""
    first = other.cells[0][0]
    tested = all(
        np.array_equal(predictions.ids, first.ids)
        and np.array_equal(predictions.groups, first.groups)
        and np.array_equal(predictions.truth, first.truth)
        for predictions, _ in row.cells
    )
    return tested and {result.get("rows") for result in row.results} == {other.results[0].get("rows")}


def concept_records(
    info: dict[str, Any],
    problem: str,
    concept: Concept,
    rows: list[Row],
    reference: str | None,
    mixed: bool = False,
) -> Compared:
    """Compare the rows of one concept; if ``mixed``, rows on other samples than the reference's are shown unpaired.

    Raises:
        NotComparableError: rows that were trained or tested on different samples, unless ``mixed``.
    """
    blocks = _on_same_samples(rows, mixed)
    alike = next((block for block in blocks if any(row.method == reference for row in block)), blocks[0])
    primary = primary_of(info, concept.name)
    family: list[Comparison] = []
    by_name = {row.method: row for row in rows}
    spreads: dict[str, Spread] = {}
    for block in blocks:
        spreads |= make_spreads(block)
    records = []
    for row in rows:
        base = _base(info | row.info, problem, concept, row, reference)
        spread, other = spreads.get(row.method), by_name.get(reference or "")
        apart = _why_unpaired(row, other, alike, spread) if other is not None and other is not row else None
        for metric in metrics_of(concept.kind):
            by_seed = [value[metric] for value in row.values]
            record = base | {"label": "", "metric": metric} | _summary([v.value for v in by_seed])
            record["n_labels_used"] = by_seed[0].n_labels_used
            if spread is not None:
                bounds, record["ci_kind"] = spread.interval(metric)
                if record["mean"] is not None and bounds is not None:
                    record["ci_low"], record["ci_high"] = bounds
            if apart == "" and spread is not None and other is not None:
                difference = spread.replicates(metric, spreads[other.method])
                record |= _difference(record, other, metric, difference)
                if metric == primary and record["delta"] is not None and not row.method.startswith(CEILING):
                    family.append(Comparison(record, row, other, difference, spread.kind))
            if metric == primary and apart is not None and record["delta"] is None:
                record["tests"] = [untested(record, apart or f"{metric} is not defined in every resample").as_dict()]
            records.append(record)
        records += _label_records(base, concept, row)
    rivals = _rivals([row for row in alike if row.method in spreads])
    ranked = tuple(row.method for row in rivals)
    rough = roughness(alike[0].cells[0][0], info["task"]["group"])
    gains = _gains(problem, concept.name, [row for row in alike if row.method in spreads], spreads, primary)
    return Compared(records, ranked, _winners(rivals, spreads), _ties(rivals, spreads, primary), family, rough, gains)


def _gains(problem: str, concept: str, rows: list[Row], spreads: dict[str, Spread], primary: str) -> list[Record]:
    """What a strategy gains over the same fusion with one network an objective, and with a tuned plain sum.

    One record a method and baseline that share their seeds: the paired difference with its 95 % interval and p.
    """
    found = []
    baselines = {kind: [row for row in rows if _sides(row.method)[1] == kind] for kind in BASELINES}
    for row in rows:
        fusion, strategy = _sides(row.method)
        for kind, others in baselines.items():
            other = next((o for o in others if _sides(o.method)[0] == fusion and o.seeds == row.seeds), None)
            if other is None or not strategy or strategy in BASELINES:
                continue
            difference = spreads[row.method].replicates(primary, spreads[other.method])
            bounds = interval(difference)
            mine, theirs = (_summary([value[primary].value for value in r.values])["mean"] for r in (row, other))
            if bounds is None or mine is None or theirs is None:
                continue
            found.append(
                {
                    "problem": problem, "concept": concept, "method": row.method, "baseline": other.method,
                    "over": kind, "metric": primary, "delta": mine - theirs, "delta_low": bounds[0],
                    "delta_high": bounds[1], "p_raw": p_value(difference), "p_holm": None, "n_seeds": len(row.seeds),
                }
            )  # fmt: skip
    return found


def _sides(method: str) -> tuple[str, str]:
    """The fusion with its parameters and the name of the strategy, "" for a model: of ``concat:a=1+tuned:trials=4``."""
    fusion, *others = method.split("+")
    return fusion, others[-1].split(":")[0] if others else ""


def _why_unpaired(row: Row, reference: Row, alike: list[Row], spread: Spread | None) -> str:
    """Why a row has no difference to the reference, in a few words; '' where it is a pair."""
    if not any(row is other for other in alike):
        return "other rows than the reference"
    if row.seeds != reference.seeds:
        return "other seeds than the reference"
    return "" if spread is not None else "one group shows nothing about others"


def untested(record: Record, reason: str) -> Test:
    """The primary test that a record lacks, with the reason."""
    metric = record["metric"]
    return Test(
        "bootstrap", f"equal {metric}", record["unit"], record["n_groups"], f"difference in {metric}",
        record["delta"], reason=reason,
    )  # fmt: skip


def _base(info: dict[str, Any], problem: str, concept: Concept, row: Row, reference: str | None) -> Record:
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
        "ci_kind": "",
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


def _difference(record: Record, other: Row, metric: str, difference: NDArray[np.float64]) -> Record:
    """Δ to the reference with its interval, unadjusted for the other comparisons."""
    theirs = _summary([value[metric].value for value in other.values])["mean"]
    bounds = interval(difference)
    if record["mean"] is None or theirs is None or bounds is None:
        return {}
    return {"delta": record["mean"] - theirs, "delta_low": bounds[0], "delta_high": bounds[1]}


def _label_records(base: Record, concept: Concept, row: Row) -> list[Record]:
    if concept.kind == "score":
        return []
    tables = [per_label(predictions, thresholds) for predictions, thresholds in row.cells]
    hard = any(concept.name in result.get("hard", ()) for result in row.results)
    return [
        base
        | {"label": label, "metric": metric}
        | _summary([None if hard and metric in RANKED else table[label][metric] for table in tables])
        for label in concept.labels
        for metric in LABEL_METRICS
    ]


def _rivals(rows: list[Row]) -> list[Row]:
    """The rows with the largest number of seeds, the same for all, so that all are paired; never a ceiling."""
    rivals = [row for row in rows if not row.method.startswith(CEILING)]
    most = max((len(row.seeds) for row in rivals), default=0)
    rivals = [row for row in rivals if len(row.seeds) == most]
    return [row for row in rivals if row.seeds == rivals[0].seeds]


def _winners(rivals: list[Row], spreads: dict[str, Spread]) -> set[tuple[str, str]]:
    """(metric, method) of the best method of each metric, and of those whose paired 95 % interval to it holds zero."""
    winners = set()
    for name, metric in METRICS.items():
        means = {row.method: _summary([value[name].value for value in row.values])["mean"] for row in rivals}
        known = {method: mean for method, mean in means.items() if mean is not None}
        if not known:
            continue
        top = (max if metric.better == "higher" else min)(known, key=lambda m: known[m])
        for method in known:
            bounds = interval(spreads[method].replicates(name, spreads[top]))
            if bounds is not None and bounds[0] <= 0 <= bounds[1]:
                winners.add((name, method))
    return winners


def _ties(rivals: list[Row], spreads: dict[str, Spread], primary: str) -> dict[str, str]:
    """Each rival's letters, the best first; none where the metric is not defined."""
    means = {row.method: _summary([value[primary].value for value in row.values])["mean"] for row in rivals}
    known = {method: mean for method, mean in means.items() if mean is not None}
    order = sorted(known, key=lambda m: known[m], reverse=METRICS[primary].better == "higher")
    separated = np.zeros((len(order), len(order)), dtype=bool)
    for i, first in enumerate(order):
        for j, second in enumerate(order[:i]):
            bounds = interval(spreads[first].replicates(primary, spreads[second]))
            separated[i, j] = separated[j, i] = bounds is not None and not bounds[0] <= 0 <= bounds[1]
    return dict(zip(order, letters(separated), strict=True))
