"""How methods trained on clean data hold up when the test inputs are stressed: tables, records and curves by axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mmbench.evaluation.stressed import Scenario, at_level, read_stressed, stored_scenarios
from mmbench.hashing import digest
from mmbench.reporting import panels
from mmbench.reporting.comparison import Record
from mmbench.reporting.figures import Plot, primary_records, stamped
from mmbench.reporting.panels import Panel, line_of
from mmbench.reporting.points import TO_METHOD, Point, bounds_of, in_legend, notes_on, point_records, value_of, without
from mmbench.reporting.records import Collection, Question, follows_from, make_records, read_rows
from mmbench.reporting.spreads import Row
from mmbench.reporting.study import NO_STUDY, Study
from mmbench.reporting.tables import Entry, Table, table_title, with_delta, with_interval
from mmbench.running.remember import remember
from mmbench.running.store import CEILING, Cell, RunFolder
from mmbench.running.stress import list_scenarios, scenario_of, targets

CLEAN = 0.0
RESAMPLES = 2_000  # of a point of a curve; the bounds of its interval are good to 3 % of its width
Found = dict[tuple[str, str, float], Record]  # by modality, method and level
NAMES = {"noise": "noise", "missing": "missing modalities", "conflict": "conflicting modalities"}
WHAT = {
    "noise": "Gaussian noise on every feature of the named modality (all: of every one) of every test row, in units of "
    "the feature's standard deviation over the training rows",
    "missing": "that share of the test rows that have the named modality lose it (any: each one of its modalities)",
    "conflict": "that share of the test rows that have the named modality get another group's in its place (any: each "
    "for one of its modalities)",
}


def stress_study(folder: RunFolder, methods: tuple[str, ...] | None = None) -> Study:
    """One table and figure a concept and axis of stress that ``run.json`` names, at all its levels.

    ``methods`` are the only ones to show. A note names those without predictions under it, as foreign ones always are.
    """
    if not folder.info().get("stress"):
        return NO_STUDY
    collection = make_records(folder, Question(methods=methods))
    files = sorted((folder.path / "cells").glob("*/*/seed-*/stress.npz"))
    key = digest(["stress", follows_from(folder, methods), *(part for f in files for part in (str(f), f.read_bytes()))])
    records: list[Record] = remember(key, partial(_records, folder, collection, methods))
    missing = set(collection.info["stress"]) - {record["axis"] for record in records}
    absent = tuple(f"{axis}: no method has predictions under it: give --stress again" for axis in sorted(missing))
    tables: list[Table] = []
    plots: list[Plot] = []
    places = dict.fromkeys((r["problem"], r["concept"], r["axis"]) for r in records)
    for problem, concept, axis in places:
        here = [r for r in records if (r["problem"], r["concept"], r["axis"]) == (problem, concept, axis)]
        found = {(r["modality"], r["method"], r["level"]): r for r in here}
        levels = list(dict.fromkeys(r["level"] for r in here))
        left_out = [m for m in _base(collection, problem, concept) if not any(r["method"] == m for r in here)]
        tables.append(_table(collection, axis, levels, found, [m for m in left_out if not m.startswith(CEILING)]))
        plots.append(_plot(collection, axis, levels, found))
    return Study(tuple(tables), tuple(records), tuple(plots), absent)


def _records(folder: RunFolder, collection: Collection, methods: tuple[str, ...] | None) -> list[Record]:
    """A record a method, concept, axis, modality and level, for the methods that have predictions under the axis."""
    modalities, stress = collection.info["config"]["modalities"], collection.info["stress"]
    records = []
    for (problem, concept), rows in read_rows(folder, methods).items():
        base = _base(collection, problem, concept)
        trained = [row for row in rows if not row.method.startswith(CEILING)]
        trained.sort(key=lambda row: list(base).index(row.method))
        stored = {row.method: _stored(folder, problem, row) for row in trained}
        for axis, given in stress.items():
            wanted = list_scenarios({axis: given}, modalities)
            usable = [row for row in trained if stored[row.method].issuperset(wanted)]
            for modality in targets(axis, modalities) if usable else ():
                points = _points(folder, problem, usable, base, axis, modality, (CLEAN, *given))
                metric = points[0].base["metric"]
                made = point_records(points, metric, CLEAN, "clean", collection.reference, RESAMPLES)
                records += [
                    {"study": "stress", "axis": axis, "modality": modality, "level": level, **record}
                    for (_, level), record in made.items()
                ]
    return records


def _base(collection: Collection, problem: str, concept: str) -> dict[str, Record]:
    """The concept's records on the primary metric, by method in the order of its table."""
    return {record["method"]: record for record in primary_records(collection, problem, concept)}


def _stored(folder: RunFolder, problem: str, row: Row) -> frozenset[Scenario]:
    """The scenarios under which every cell of a method has predictions."""
    paths = (folder.stress_path(Cell(problem, row.method, seed)) for seed in row.seeds)
    return frozenset.intersection(*map(stored_scenarios, paths))


def _points(
    folder: RunFolder,
    problem: str,
    rows: Sequence[Row],
    base: dict[str, Record],
    axis: str,
    modality: str,
    levels: Sequence[float],
) -> list[Point]:
    """Each method on clean rows, as it is in the comparison, and on those of each level, with the same thresholds."""
    points, scenarios = [], {level: scenario_of(axis, modality, level) for level in levels[1:]}
    for row in rows:
        metric, concept = base[row.method]["metric"], row.cells[0][0].concept.name
        points.append(Point(CLEAN, row, base[row.method]))
        paths = [folder.stress_path(Cell(problem, row.method, seed)) for seed in row.seeds]
        wanted = set(scenarios.values())
        read = [read_stressed(p, wanted, c[0].ids, concept) for p, c in zip(paths, row.cells, strict=True)]
        for level, scenario in scenarios.items():
            cells = [
                (replace(clean, scores=at_level(clean.scores, found[scenario], level)), thresholds)
                for (clean, thresholds), found in zip(row.cells, read, strict=True)
            ]
            values = [{metric: value_of(cell, metric)} for cell in cells]
            points.append(Point(level, Row(row.method, row.seeds, cells, row.results, values), base[row.method]))
    return points


def _named(axis: str, level: float) -> str:
    return "clean" if level == CLEAN else f"{level:g} sd" if axis == "noise" else f"{100 * level:g} %"


def _table(collection: Collection, axis: str, levels: Sequence[float], found: Found, left_out: Sequence[str]) -> Table:
    first = next(iter(found.values()))
    against, worst = first["to_method"], _named(axis, levels[-1])
    compared = against is not None and not collection.info["task"]["generated"]
    rows = []
    for modality, method in dict.fromkeys((modality, method) for modality, method, _ in found):
        here = [found[modality, method, level] for level in levels]
        texts = [method, modality, *map(with_interval, here), with_delta(here[-1])]
        texts += [with_delta(here[-1], TO_METHOD)] if compared else []
        rows.append(tuple(Entry(text) for text in texts))
    columns = ["method", "modality", *(_named(axis, level) for level in levels), f"Δ at {worst} to clean [95 %]"]
    columns += [f"Δ at {worst} to {against} [95 %]"] if compared else []
    notes = [note for note in notes_on(collection, _clean(found)) if not note.startswith("energy")]
    notes.append(
        f"{axis}: {WHAT[axis]}; the same rows and draws for every method and seed; training, validation and thresholds "
        f"are clean; Δ: paired by row and seed, unadjusted; what is not clean has {RESAMPLES:,} resamples"
    )
    if left_out:
        notes.append(f"without predictions under this {axis}: {', '.join(left_out)}")
    title = table_title(
        collection, first["problem"], first["concept"], f"{first['concept']} · {first['metric']} under {NAMES[axis]}"
    )
    name = f"stress {axis} {first['problem']} {first['concept']}"
    return Table(title, tuple(columns), tuple(rows), tuple(notes), name)


def _clean(found: Found) -> list[Record]:
    """Each method's record on clean rows, once."""
    return list({method: record for (_, method, level), record in found.items() if level == CLEAN}.values())


def _plot(collection: Collection, axis: str, levels: Sequence[float], found: Found) -> Plot:
    flat = {m for m in {key[1] for key in found} if len({r["mean"] for key, r in found.items() if key[1] == m}) == 1}
    clean, left_out = without(_clean(found), flat, "it looks at nothing that changes")
    first, named = clean[0], in_legend(collection, clean)
    unit = "noise, standard deviations" if axis == "noise" else "share of the test rows"
    ticks = tuple((level, f"{level:g}" if axis == "noise" else f"{level:.0%}") for level in levels)
    drawn = []
    for modality in dict.fromkeys(modality for modality, _, _ in found):
        lines = []
        for method in (record["method"] for record in clean):
            here = [found[modality, method, level] for level in levels]
            points = zip(levels, (r["mean"] for r in here), map(bounds_of, here), strict=True)
            lines.append(line_of(method, list(points)))
        drawn.append(Panel(modality, unit, first["metric"], tuple(lines), "", ticks))
    caption = f"{first['metric']} on {first['concept']} under {NAMES[axis]} at test time, with intervals: {WHAT[axis]}."
    caption += left_out + (" Faint: the other methods." if len(named) < len(clean) else "")
    height, bottom = panels.size(drawn, named, len(named) < len(clean))
    plot = Plot(f"stress-{axis}", first["problem"], first["concept"], "", caption, panels.describe(drawn), height,
                panels.LEFT, bottom, partial(panels.draw, panels=drawn, named=named, shared=True))  # fmt: skip
    return stamped(plot) if collection.info["task"]["generated"] else plot
