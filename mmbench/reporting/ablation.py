"""A method against itself without each of its parts: the full model is the reference."""

from __future__ import annotations

from collections.abc import Collection as Names
from functools import partial

import numpy as np

from mmbench.reporting import drawing
from mmbench.reporting.comparison import Record, primary_of
from mmbench.reporting.figures import Plot, name_margin
from mmbench.reporting.records import Collection, Question, make_records, read_rows
from mmbench.reporting.study import Study
from mmbench.reporting.tables import (
    Entry,
    Table,
    count,
    p_text,
    seconds,
    short_verdict,
    table_notes,
    table_title,
    with_delta,
    with_interval,
)
from mmbench.running.store import RunFolder

INERT = "inert: the same predictions"


def ablation_study(folder: RunFolder, wanted: Names[str] | None = None) -> Study:
    """Every ablation that ``run.json`` names, or those of the ``wanted`` full methods, where the full one is there.

    Holm's family is one ablation: its variants and concepts. A variant whose scores are the full model's bit for bit
    lacks a part that does nothing in this run, and its row says so.
    """
    done = {cell.method for cell, result in folder.results() if result["status"] == "done"}
    tables: list[Table] = []
    records: list[Record] = []
    plots: list[Plot] = []
    for full, parts in folder.info().get("ablations", {}).items():
        if full not in done or not done & set(parts) or (wanted is not None and full not in wanted):
            continue
        collection = make_records(folder, Question(methods=(full, *parts), reference=full))
        inert = same_predictions(folder, full, parts)
        here = [r for r in collection.records if r["method"] in (full, *parts) and r["label"] == ""]
        records += [{"study": "ablation", "part": parts.get(r["method"], ""), **r} for r in here]
        for problem, concept in dict.fromkeys((r["problem"], r["concept"]) for r in here):
            place = (problem, concept, primary_of(collection.info, concept))
            chosen = [r for r in here if (r["problem"], r["concept"], r["metric"]) == place]
            tables.append(_table(collection, full, parts, chosen, inert))
            against = [r for r in chosen if r["delta"] is not None]
            if against and not collection.info["task"]["generated"]:
                plots.append(_plot(full, parts, against))
    return Study(tuple(tables), tuple(records), tuple(plots))


def same_predictions(folder: RunFolder, full: str, others: Names[str]) -> set[tuple[str, str, str]]:
    """(problem, concept, method) of the other methods whose scores are those of ``full`` at every seed."""
    found = set()
    for (problem, concept), rows in read_rows(folder, (full, *others)).items():
        by_name = {row.method: row for row in rows}
        if full in by_name:
            mine = by_name[full].cells
            for name in set(others) & by_name.keys():
                theirs = by_name[name].cells
                if len(mine) == len(theirs) and all(
                    np.array_equal(a.scores, b.scores) for (a, _), (b, _) in zip(mine, theirs, strict=True)
                ):
                    found.add((problem, concept, name))
    return found


def _table(
    collection: Collection,
    full: str,
    parts: dict[str, str],
    records: list[Record],
    inert: set[tuple[str, str, str]],
) -> Table:
    problem, concept, primary = records[0]["problem"], records[0]["concept"], records[0]["metric"]
    rows = []
    for record in records:
        name = record["method"]
        verdict = "the full model" if name == full else short_verdict(record)
        if (problem, concept, name) in inert:
            verdict = INERT
        elif name != full and record["delta"] is None:
            verdict = "not paired with the full model: other seeds"
        texts = (
            full if name == full else f"without {parts[name]}", with_interval(record), with_delta(record),
            p_text(record["p_raw"]), p_text(record["p_holm"]), verdict,
            count(record["parameters"]), seconds(record["train_seconds"]),
        )  # fmt: skip
        rows.append(tuple(Entry(text) for text in texts))
    columns = (
        "method", f"{primary} [95 % interval]", f"Δ to {full} [95 %]", "p", "p (Holm)", "verdict", "parameters",
        "train s",
    )  # fmt: skip
    switches = ", ".join(f"{words} {name}" for name, words in parts.items())
    notes = (
        *(note for note in table_notes(collection, problem, records, primary) if not note.startswith("underlined")),
        "each row is the full model without that part, trained anew on the same seeds and rows; a verdict of worse "
        "says that the part helps; inert: without the part every score is the same, bit for bit",
        f"switched off by: {switches}",
    )
    title = table_title(collection, problem, concept, f"{concept} · ablation of {full}")
    return Table(title, columns, tuple(rows), notes, f"ablation {full} {problem} {concept}")


def _plot(full: str, parts: dict[str, str], records: list[Record]) -> Plot:
    problem, concept, primary = records[0]["problem"], records[0]["concept"], records[0]["metric"]
    named = [{**record, "method": f"without {parts[record['method']]}"} for record in records]
    caption = (
        f"Ablation of {full} on {concept}: difference in {primary} of the method without a part to the full one, with "
        "paired 95 % intervals, unadjusted. Filled: better or worse after Holm's adjustment; hollow: not separated."
    )
    alt = ", ".join(f"{r['method']} {r['delta']:+.3f} ({r['delta_low']:+.3f} to {r['delta_high']:+.3f})" for r in named)
    return Plot("ablation", problem, concept, full, caption, alt, 0.55 + 0.17 * len(named),
                name_margin([r["method"] for r in named]), 0.4,
                partial(drawing.forest, records=named, reference=full))  # fmt: skip
