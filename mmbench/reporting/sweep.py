"""Quality against a swept parameter: chosen on validation, told on test.

A sweep is a selector with several values of a parameter (``igfn:delta=0.1/0.5/0.9+dmtl``), as ``run.json`` remembers
it. One value is chosen for a problem: the one with the best primary metric on validation, mean over the problem's
concepts and seeds (where concepts have different metrics, the best mean rank). Where several parameters were swept the
best combination is chosen, and each is shown with the others at what was chosen.
"""

from __future__ import annotations

from collections.abc import Collection as Names
from functools import partial
from typing import Any

import numpy as np

from mmbench.contracts import Concept
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.metrics import METRICS, compute
from mmbench.evaluation.predictions import read_predictions
from mmbench.reporting import drawing
from mmbench.reporting.ablation import same_predictions
from mmbench.reporting.comparison import Record, primary_of
from mmbench.reporting.figures import LINE, Plot, stamped
from mmbench.reporting.records import Collection, Question, make_records, read_rows
from mmbench.reporting.study import Study
from mmbench.reporting.tables import (
    Entry,
    Table,
    number,
    p_text,
    seconds,
    short_verdict,
    table_notes,
    table_title,
    with_delta,
    with_interval,
)
from mmbench.running.store import Cell, RunFolder

Values = dict[str, dict[str, Any]]  # by method its value of each swept parameter


def sweep_study(folder: RunFolder, wanted: Names[str] | None = None) -> Study:
    """Every sweep that ``run.json`` names, or the ``wanted`` ones, with the values that are there on the same seeds."""
    info = folder.info()
    tables: list[Table] = []
    records: list[Record] = []
    plots: list[Plot] = []
    for selector, values in info.get("sweeps", {}).items():
        if wanted is not None and selector not in wanted:
            continue
        by_problem: dict[str, dict[str, dict[str, float]]] = {}
        for (problem, concept), means in _validation(folder, info, values).items():
            by_problem.setdefault(problem, {})[concept] = means
        for problem, by_concept in by_problem.items():
            methods = [m for m in values if all(m in means for means in by_concept.values())]
            if len(methods) < 2:
                continue
            chosen = _choose(info, methods, by_concept)
            collection = make_records(folder, Question(methods=tuple(methods), reference=chosen))
            for parameter in next(iter(values.values())):
                line = [m for m in methods if _differs_only_in(parameter, values[m], values[chosen])]
                if len(line) < 2:
                    continue
                line.sort(key=lambda m: _order(values[m][parameter]))
                for concept, means in by_concept.items():
                    found = _records(collection, problem, concept, line, parameter, values, means, chosen)
                    records += found
                    missing = [m for m in values if m not in methods]
                    tables.append(_table(folder, collection, selector, found, chosen, missing))
                    plots.append(_plot(collection, found, chosen))
    return Study(tuple(tables), tuple(records), tuple(plots))


def _validation(folder: RunFolder, info: dict[str, Any], values: Values) -> dict[tuple[str, str], dict[str, float]]:
    """By problem and concept the mean over seeds of the primary metric on validation, of methods on the same seeds."""
    concepts = {c["name"]: Concept.of(c) for c in info["concepts"]}
    tuned = info["config"]["thresholds"] == "val"
    found: dict[tuple[str, str], dict[str, float]] = {}
    for (problem, name), rows in read_rows(folder, tuple(values)).items():
        most = max(len(row.seeds) for row in rows)
        seeds = next(row.seeds for row in rows if len(row.seeds) == most)
        means, primary = {}, primary_of(info, name)
        for row in (row for row in rows if row.seeds == seeds):
            on_val = []
            for seed in seeds:
                path = folder.predictions_path(Cell(problem, row.method, seed))
                val = read_predictions(path, [concepts[name]], "val")[name]
                value = compute(val, tune_thresholds(val) if tuned else None)[primary].value
                on_val.append(np.nan if value is None else value)
            means[row.method] = float(np.mean(on_val))
        found[problem, name] = means
    return found


def _choose(info: dict[str, Any], methods: list[str], by_concept: dict[str, dict[str, float]]) -> str:
    """The method with the best mean over concepts, or mean rank where their metrics differ; of equals the first."""
    metrics = [primary_of(info, concept) for concept in by_concept]
    signs = [1 if METRICS[metric].better == "higher" else -1 for metric in metrics]
    quality = np.array([[s * v[m] for m in methods] for s, v in zip(signs, by_concept.values(), strict=True)])
    if len(set(metrics)) > 1:
        quality = (quality[:, :, None] > quality[:, None, :]).sum(axis=2)
    return methods[int(np.nan_to_num(quality.mean(axis=0), nan=-np.inf).argmax())]


def _differs_only_in(parameter: str, mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return all(mine[name] == theirs[name] for name in mine if name != parameter)


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then words."""
    number_ = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if number_ else (1, 0.0, str(value))


def _records(
    collection: Collection,
    problem: str,
    concept: str,
    line: list[str],
    parameter: str,
    values: Values,
    means: dict[str, float],
    chosen: str,
) -> list[Record]:
    """The line's records on the primary metric, each with its value, its validation mean and whether it was chosen."""
    primary = primary_of(collection.info, concept)
    by_method = {
        r["method"]: r
        for r in collection.records
        if (r["problem"], r["concept"], r["label"], r["metric"]) == (problem, concept, "", primary)
    }
    head = {"study": "sweep", "parameter": parameter}
    return [
        {**head, "value": values[m][parameter], "validation": means[m], "chosen": m == chosen, **by_method[m]}
        for m in line
    ]


def _shown(value: Any) -> str:
    return (
        ("on" if value else "off")
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _table(
    folder: RunFolder, collection: Collection, selector: str, records: list[Record], chosen: str, missing: list[str]
) -> Table:
    first = records[0]
    problem, concept, primary = first["problem"], first["concept"], first["metric"]
    parameter = first["parameter"].replace(":", " ")
    inert = same_predictions(folder, chosen, [r["method"] for r in records if not r["chosen"]])
    rows = []
    for r in records:
        verdict = "chosen on validation" if r["chosen"] else short_verdict(r)
        if (problem, concept, r["method"]) in inert:
            verdict = "inert: the same predictions"
        texts = (
            _shown(r["value"]), number(r["validation"]), with_interval(r), with_delta(r), p_text(r["p_raw"]),
            p_text(r["p_holm"]), verdict, seconds(r["train_seconds"]), r["method"],
        )  # fmt: skip
        rows.append(tuple(map(Entry, texts)))
    columns = (
        parameter, f"validation {primary}", f"test {primary} [95 %]", "Δ to the chosen [95 %]", "p", "p (Holm)",
        "verdict", "train s", "method",
    )  # fmt: skip
    notes = (
        *(note for note in table_notes(collection, problem, records, primary) if not note.startswith("underlined")),
        "chosen: the best mean on validation over the problem's concepts and seeds; test took no part, and the "
        "interval of the chosen value takes the choice as given; validation also stops training, so that it flatters",
        f"swept by {selector}" + (f"; not there on all seeds: {', '.join(missing)}" if missing else ""),
    )
    title = table_title(collection, problem, concept, f"{concept} · sweep of {parameter}")
    return Table(title, columns, tuple(rows), notes, f"sweep {parameter} {problem} {concept}")


def _plot(collection: Collection, records: list[Record], chosen: str) -> Plot:
    first = records[0]
    parameter = first["parameter"].replace(":", " ")
    best = next(r for r in records if r["chosen"])
    interval = "" if best["ci_low"] is None else f" [{best['ci_low']:.3f}, {best['ci_high']:.3f}]"
    caption = (
        f"{first['metric']} on {first['concept']} against {parameter}, mean over {first['n_seeds']} seeds: validation "
        "(dashed), on which the marked value was chosen, and test with 95 % intervals. At the chosen value "
        f"{_shown(best['value'])} ({chosen}) test is {number(best['mean'])}{interval}."
    )
    alt = "; ".join(
        f"{_shown(r['value'])}: validation {number(r['validation'])}, test {number(r['mean'])}" for r in records
    )
    bottom = 0.45 + LINE
    kind = f"sweep-{first['parameter'].replace(':', '-')}"
    plot = Plot(kind, first["problem"], first["concept"], chosen, caption, alt,
                1.8 + bottom, 0.6, bottom,
                partial(drawing.sweep, texts=[_shown(r["value"]) for r in records], records=records,
                        parameter=parameter))  # fmt: skip
    return stamped(plot) if collection.info["task"]["generated"] else plot
