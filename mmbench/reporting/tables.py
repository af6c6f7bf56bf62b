"""Records to tables, one a problem and concept, and tables to Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmbench.errors import UsageError
from mmbench.evaluation.metrics import METRICS, applies, metrics_of
from mmbench.reporting.comparison import Record, primary_of
from mmbench.reporting.records import Collection
from mmbench.splits import leaks

TABLE_METRICS = ("macro_f1", "micro_f1", "weighted_f1", "hamming", "map")


@dataclass(frozen=True)
class Entry:
    """One cell of a table; ``best`` marks the best value and all that is tied with it."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of one problem and concept; ``notes`` are what a reader must know to judge it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...]
    name: str


def make_tables(collection: Collection, metrics: Sequence[str]) -> list[Table]:
    """The comparison tables of a run: the primary metric first, with its interval, then the other metrics.

    A concept shows those of ``metrics`` that are of its kind; a score, where none is, all that its scale defines.
    """
    kinds = {c["name"]: c["kind"] for c in collection.info["concepts"]}
    places = dict.fromkeys((r["problem"], r["concept"]) for r in collection.records)
    defined = {(r["concept"], r["metric"]) for r in collection.records if r["label"] == "" and r["mean"] is not None}
    tables = []
    for problem, concept in places:
        primary, kind = primary_of(collection.info, concept), kinds[concept]
        asked = [name for name in metrics if applies(name, kind)]
        if kind == "score" and not asked:
            asked = [name for name in metrics_of(kind) if (concept, name) in defined]
        tables.append(_table(collection, problem, concept, [primary, *(name for name in asked if name != primary)]))
    return tables


def _table(collection: Collection, problem: str, concept: str, metrics: list[str]) -> Table:
    info = collection.info
    here = [r for r in collection.records if (r["problem"], r["concept"], r["label"]) == (problem, concept, "")]
    methods = list(dict.fromkeys(record["method"] for record in here))
    found = {(record["method"], record["metric"]): record for record in here}
    deltas = not info["task"]["generated"] and any(found[m, metrics[0]]["delta"] is not None for m in methods)
    columns = [
        "method",
        f"{metrics[0]} [95 % interval]",
        *([f"Δ to {collection.reference} [95 %]"] if deltas else []),
        *metrics[1:],
        "parameters",
        "train s",
        "energy Wh",
    ]
    rows = []
    for method in methods:
        first = found[method, metrics[0]]
        row = [Entry(method), Entry(with_interval(first), (problem, concept, metrics[0], method) in collection.best)]
        if deltas:
            row.append(Entry(with_delta(first)))
        row += [
            Entry(_value(found[method, name]), (problem, concept, name, method) in collection.best)
            for name in metrics[1:]
        ]
        row += [Entry(count(first["parameters"])), Entry(seconds(first["train_seconds"])), Entry(energy(first))]
        rows.append(tuple(row))
    title = f"{concept} · {info['task']['title']} · protocol {info['protocol']['name']}"
    if len(info["problems"]) > 1 and problem != concept:
        title += f" · {problem}"
    return Table(
        title, tuple(columns), tuple(rows), table_notes(collection, problem, here, metrics[0]), f"{problem} {concept}"
    )


def comparison_tables(collection: Collection) -> list[Table]:
    """Every method against the reference on the primary metric, one table a problem and concept.

    Raises:
        UsageError: a collection without a reference.
    """
    if collection.reference is None:
        raise UsageError(
            f"the proposed method {collection.info['task']['proposed']} is not in this run: "
            "say with --reference which method the others are compared with"
        )
    info = collection.info
    here = [r for r in collection.records if r["label"] == "" and r["metric"] == primary_of(info, r["concept"])]
    places = dict.fromkeys((r["problem"], r["concept"]) for r in here)
    return [
        _comparison(
            collection, problem, concept, [r for r in here if (r["problem"], r["concept"]) == (problem, concept)]
        )
        for problem, concept in places
    ]


def _comparison(collection: Collection, problem: str, concept: str, records: list[Record]) -> Table:
    primary = records[0]["metric"]
    letters = collection.ties.get(f"{problem} {concept}", {})
    rows = []
    for record in sorted(records, key=lambda r: -(r["mean"] or 0) * (1 if METRICS[primary].better == "higher" else -1)):
        compared = record["method"] == collection.reference
        texts = (
            record["method"], with_interval(record), with_delta(record),
            p_text(record["p_raw"]), p_text(record["p_holm"]),
            _superiority(record), letters.get(record["method"], "–"),
            "reference" if compared else _verdict(record),
        )  # fmt: skip
        best = (problem, concept, primary, record["method"]) in collection.best
        rows.append(tuple(Entry(text, best and column == 1) for column, text in enumerate(texts)))
    columns = (
        "method", f"{primary} [95 % interval]", f"Δ to {collection.reference} [95 %]", "p", "p (Holm)", "P(A>B)",
        "ties", "verdict",
    )  # fmt: skip
    notes = (
        *table_notes(collection, problem, records, primary),
        "p: two-sided, from the resamples of the intervals; P(A>B): share of the seeds at which "
        "the row is better, ties half; ties: rows that share a letter are not separated by their paired 95 % interval; "
        "but unadjusted: the interval excludes zero before Holm's correction only",
    )
    title = table_title(collection, problem, concept, f"{concept} · {primary} against {collection.reference}")
    return Table(title, columns, tuple(rows), notes, f"compare {problem} {concept}")


def p_text(value: float | None) -> str:
    """Three decimals, or that it is smaller."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def short_verdict(record: Record) -> str:
    """The verdict without what the table's title and notes say: the reference, and that it holds for these seeds."""
    text = record["verdict"] or "–"
    for word in ("than", "from", "to"):
        text = text.replace(f" {word} {record['reference']}", "")
    text = text.removesuffix(", on these seeds")
    return text.replace("(only the unadjusted interval excludes zero)", "(but unadjusted)")


def _verdict(record: Record) -> str:
    """The short verdict, or why there is none."""
    reasons = [test["reason"] for test in record["tests"] if record["p_raw"] is None]
    return f"not tested: {reasons[0]}" if reasons else short_verdict(record)


def _superiority(record: Record) -> str:
    found = [test for test in record["tests"] if test["name"].startswith("P(A>B)")]
    return f"{found[0]['effect']:.2f}" if found and found[0]["effect"] is not None else "–"


def table_title(collection: Collection, problem: str, concept: str, head: str) -> str:
    """The head with task, protocol and, where several hold the concept, problem."""
    info = collection.info
    title = f"{head} · {info['task']['title']} · protocol {info['protocol']['name']}"
    return f"{title} · {problem}" if len(info["problems"]) > 1 and problem != concept else title


def decimals(low: float | None, high: float | None) -> int:
    """Decimals that an interval supports: two significant digits of its half-width, at most three decimals.

    An interval that three decimals would print as a point is given one significant digit; one that is a point but for
    rounding has three.
    """
    if low is None or high is None or high < low or math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-9):
        return 3
    half = (high - low) / 2
    first = -math.floor(math.log10(half))
    return first if half < 0.0005 else min(3, max(0, 1 + first))


def number(value: float | None, places: int = 3) -> str:
    """That many decimals, or a dash where there is no value."""
    return "–" if value is None else f"{value:.{places}f}"


def signed(value: float | None, places: int = 3) -> str:
    """A difference with its sign; one that rounds to zero has none."""
    return "–" if value is None else f"{0:.{places}f}" if abs(value) < 0.5 * 10**-places else f"{value:+.{places}f}"


def _value(record: Record) -> str:
    return number(record["mean"], decimals(record["ci_low"], record["ci_high"]))


def with_interval(record: Record) -> str:
    """The mean and its interval, with the digits that it supports."""
    if record["ci_low"] is None:
        return number(record["mean"])
    places = decimals(record["ci_low"], record["ci_high"])
    return f"{_value(record)} [{number(record['ci_low'], places)}, {number(record['ci_high'], places)}]"


def with_delta(record: Record, of: str = "") -> str:
    """Δ and its interval, with the digits that it supports; a dash without a reference. ``of`` begins its fields."""
    delta, low, high = (record[f"{of}{field}"] for field in ("delta", "delta_low", "delta_high"))
    if delta is None:
        return "–"
    places = decimals(low, high)
    return f"{signed(delta, places)} [{signed(low, places)}, {signed(high, places)}]"


def count(value: int | None) -> str:
    """A whole number with its thousands apart."""
    return "–" if not value else f"{value:,}"


def seconds(value: float | None) -> str:
    """Seconds to a tenth."""
    return "–" if value is None else f"{value:.1f}"


def energy(record: Record) -> str:
    """Watt-hours a cell; an estimate bears a tilde, and nothing stands where the meter was shared."""
    if record["energy_wh"] is None:
        return "–"
    return f"{'~' if record['energy_source'] == 'estimate' else ''}{record['energy_wh']:.3g}"


def table_notes(collection: Collection, problem: str, records: list[Record], primary: str) -> tuple[str, ...]:
    """What a reader must know to judge the table: warnings first, then data, networks, intervals and costs."""
    info = collection.info
    here = [record for record in records if record["metric"] == primary]
    first = here[0]
    notes = [
        f"WARNING: {line}" for line in (info["protocol"]["warning"], *_leaks(info, problem, first["concept"])) if line
    ]
    notes += [remark for remark in collection.remarks if remark.startswith("WARNING")]
    if info["task"]["generated"]:
        notes.append(
            "GENERATED DATA: these numbers say nothing about any method; ceiling rows are the scores of the true "
            "posterior, decided at .5 or by argmax"
        )
    notes += [
        *_told(here, lambda record: _rows_note(record, info["task"]["group"])),
        *_data_notes(info),
        *_told(here, lambda record: f"encoders: {record['encoders']}"),
        "networks: untuned defaults, one budget; linear: class-balanced, C chosen on validation",
        *_told(here, _interval_note),
        *filter(None, [collection.rough.get(f"{problem} {first['concept']}"), _outside_note(here)]),
        *_underlining(collection, here),
    ]
    notes += _told(here, lambda record: "overrides: " * bool(record["overrides"]) + "; ".join(record["overrides"]))
    sources = {record["energy_source"] for record in here} - {None}
    if sources:
        notes.append(
            f"energy a cell by codecarbon, source: {', '.join(sorted(sources))} (~ is an estimate, not ranked)"
        )
    effects = [record["mde"] for record in here if record["mde"] is not None]
    if effects:
        notes.append(
            f"minimum detectable difference in {primary} to {collection.reference} at 80 % power, as one of "
            f"{_family(here)}: {min(effects):.3f} to {max(effects):.3f}, by method"
        )
    return (*notes, *(remark for remark in collection.remarks if not remark.startswith("WARNING")))


def _family(records: list[Record]) -> str:
    """The family that these records' tests belong to."""
    return next(str(record["family"]) for record in records if record["family"] is not None)


def _leaks(info: dict[str, Any], problem: str, concept: str) -> list[str]:
    """A line where validation or test rows of the concept share a group with train."""
    sizes = next(p for p in info["problems"] if p["name"] == problem)["concepts"][concept]
    return leaks([{"name": concept, "concepts": {concept: sizes}}], info["task"]["group"])


def _told(records: Sequence[Record], note: Callable[[Record], str]) -> list[str]:
    """What is noted of each record, if anything, once, and with its methods where it is not the same for all."""
    lines: dict[str, list[str]] = {}
    for record in records:
        lines.setdefault(note(record), []).append(record["method"])
    return [line + (f" ({', '.join(methods)})" if len(lines) > 1 else "") for line, methods in lines.items() if line]


def _rows_note(record: Record, group: str) -> str:
    labels = f"; labels: {record['labels']}" if record["labels"] else ""
    return (
        f"n_train {record['n_train']:,}, n_test {record['n_test']:,} rows in {record['n_groups']:,} groups "
        f"({group}){labels}; split: {record['split']}"
    )


def _data_notes(info: dict[str, Any]) -> list[str]:
    """What holds for all concepts: how many images are missing, say, and how many rows were left out."""
    concepts = tuple(f"{concept['name']}: " for concept in info["concepts"])
    told = [note for note in info["task"]["notes"] if not note.startswith(concepts)]
    if info["unreadable_inputs"]:
        told.append(f"{info['unreadable_inputs']:,} rows are left out, their input cannot be read")
    return [f"data: {'; '.join(told)}"] if told else []


def _outside_note(records: list[Record]) -> str:
    """A line on the values that their own intervals leave out; '' where there is none."""
    outside = [
        record["method"]
        for record in records
        if record["ci_low"] is not None and not record["ci_low"] <= record["mean"] <= record["ci_high"]
    ]
    if not outside:
        return ""
    return (
        f"outside its own interval: {records[0]['metric']} of {', '.join(outside)}; resamples repeat rows and lose "
        "rare labels, which moves it: such an interval tells how far a value may lie, not where"
    )


def _interval_note(record: Record) -> str:
    kind = record["ci_kind"] or "none, one group cannot be resampled"
    return f"intervals: {kind}; seeds: {record['n_seeds']}"


def _underlining(collection: Collection, records: list[Record]) -> list[str]:
    """What the underline means and which rows it leaves out."""
    out = [r["method"] for r in records if r["method"] not in collection.ranked[f"{r['problem']} {r['concept']}"]]
    line = "underlined: the best and what its paired interval does not separate from it"
    if not collection.info["task"]["generated"] and any(record["delta"] is not None for record in records):
        line += "; intervals of Δ are not adjusted for the number of comparisons, verdicts are"
    return [line + (f"; not ranked: {', '.join(out)}" if out else "")]
