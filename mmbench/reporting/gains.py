"""What training objectives together gains: each strategy against the same fusion's single networks and tuned sum."""

from __future__ import annotations

from mmbench.evaluation.metrics import METRICS
from mmbench.reporting.comparison import BASELINES, Record
from mmbench.reporting.records import Collection
from mmbench.reporting.study import NO_STUDY, Study
from mmbench.reporting.tables import Entry, Table, p_text, table_title, with_delta
from mmbench.reporting.verdicts import ALPHA


def gain_study(collection: Collection) -> Study:
    """One table a concept, of the methods whose fusion is also there with ``single`` or ``tuned``."""
    if not collection.gains:
        return NO_STUDY
    places = dict.fromkeys((gain["problem"], gain["concept"]) for gain in collection.gains)
    tables = tuple(_table(collection, *place) for place in places)
    return Study(tables, tuple({"study": "gain", **gain} for gain in collection.gains))


def _table(collection: Collection, problem: str, concept: str) -> Table:
    here = [g for g in collection.gains if (g["problem"], g["concept"]) == (problem, concept)]
    by_method: dict[str, dict[str, Record]] = {}
    for gain in here:
        by_method.setdefault(gain["method"], {})[gain["over"]] = gain
    rows = []
    for method, found in by_method.items():
        texts = [method]
        for kind in BASELINES:
            over = found.get(kind)
            texts += ["–", "–", "–"] if over is None else [with_delta(over), p_text(over["p_holm"]), _verdict(over)]
        rows.append(tuple(map(Entry, texts[:7])))
    generated = collection.info["task"]["generated"]
    if generated:
        rows = [tuple(entry for n, entry in enumerate(row) if n not in (3, 6)) for row in rows]
    verdict = () if generated else ("verdict",)
    columns = (
        "method", "Δ over single [95 %]", "p (Holm)", *verdict, "Δ over tuned sum [95 %]", "p (Holm)", *verdict,
    )  # fmt: skip
    lacking = [
        f"{fusion}+{kind}"
        for fusion in dict.fromkeys(method.split("+")[0] for method in by_method)
        for kind in BASELINES
        if not any(g["over"] == kind and g["baseline"].split("+")[0] == fusion for g in here)
    ]
    sizes = [f"{len([g for g in collection.gains if g['over'] == kind])} with {kind}" for kind in BASELINES]
    notes = [
        f"differences in {here[0]['metric']}, paired, to the same fusion: single is one network an objective, tuned "
        "the plain sum with fixed weights chosen on validation among several draws, each a whole training",
        "a claim for a strategy needs both: better than single says that sharing helps, better than tuned that the "
        "strategy does more than good weights do",
        f"Holm over {' and '.join(sizes)}",
    ]
    if generated:
        notes.insert(0, "GENERATED DATA: these numbers say nothing about any method")
    if lacking:
        notes.append(f"not in this run: {', '.join(lacking)} (add them to --method)")
    title = table_title(collection, problem, concept, f"{concept} · multi-task gain")
    return Table(title, columns, tuple(rows), tuple(notes), f"gain {problem} {concept}")


def _verdict(gain: Record) -> str:
    if gain["p_holm"] >= ALPHA:
        return "not distinguishable"
    return "better" if (gain["delta"] > 0) == (METRICS[gain["metric"]].better == "higher") else "worse"
