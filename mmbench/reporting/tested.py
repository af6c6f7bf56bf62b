"""All tests of a comparison as a table: one line each, with what it can say and the reason where it cannot be made."""

from __future__ import annotations

from typing import Any

from mmbench.reporting.comparison import Record
from mmbench.reporting.records import Collection
from mmbench.reporting.tables import Entry, Table, count, decimals, number, p_text, signed, table_title

COLUMNS = ("method", "test", "effect", "interval", "p", "smallest p", "n", "unit", "no p because")


def significance_tables(collection: Collection) -> list[Table]:
    """Every method's tests against the reference on its concept's primary metric, one table a problem and concept."""
    here = [r for r in collection.records if r["label"] == "" and r["tests"]]
    places = dict.fromkeys((r["problem"], r["concept"]) for r in here)
    return [_table(collection, [r for r in here if (r["problem"], r["concept"]) == place]) for place in places]


def _table(collection: Collection, records: list[Record]) -> Table:
    problem, concept = records[0]["problem"], records[0]["concept"]
    rows = tuple(
        tuple(map(Entry, (record["method"], test["name"], *_cells(test))))
        for record in records
        for test in record["tests"]
    )
    nulls: dict[str, str] = {}
    for test in (test for record in records for test in record["tests"]):
        nulls.setdefault(test["name"], f"{test['name']}: null: {test['null']}")
    head = f"{concept} · tests of {records[0]['metric']} against {collection.reference}"
    notes = (
        "effect: the row minus the reference, the difference of the means where the test names no other; p: two-sided, "
        "of equivalence the larger of two one-sided ones; not adjusted, for Holm's is of the bootstrap's; smallest p: "
        "no data of this size give a smaller one",
        *nulls.values(),
    )
    return Table(table_title(collection, problem, concept, head), COLUMNS, rows, notes, f"tests {problem} {concept}")


def _cells(test: dict[str, Any]) -> tuple[str, ...]:
    places = decimals(test["low"], test["high"])
    text = number if test["effect_name"] in ("P(A>B)", "Kendall's W") else signed
    level = test["interval_kind"][:4]
    bounds = "–" if test["low"] is None else f"{level} [{text(test['low'], places)}, {text(test['high'], places)}]"
    smallest = f"{test['smallest_p']:.2g}" if test["p"] is not None and test["smallest_p"] else "–"
    return (
        text(test["effect"], places), bounds, p_text(test["p"]), smallest, count(test["n"]), test["unit"],
        test["reason"] or "–",
    )  # fmt: skip
