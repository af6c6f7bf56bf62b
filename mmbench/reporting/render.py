"""A run's records as text: table, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from mmbench.errors import UsageError
from mmbench.reporting.comparison import Record
from mmbench.reporting.published import published_tables
from mmbench.reporting.records import Collection
from mmbench.reporting.study import NO_STUDY, Study
from mmbench.reporting.tables import Table, make_tables
from mmbench.reporting.terminal import printable, to_text

FORMULA = re.compile(r"[=@\t\r]|[+-](?!(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$)", re.IGNORECASE)


def render(
    collection: Collection, form: str, metrics: Sequence[str], published: bool = False, studies: Study = NO_STUDY
) -> str:
    """The text of a report: ``table``, ``markdown``, ``latex``, ``csv`` or ``json``; ``published`` adds claims.

    The tables of ``studies`` stand behind those of the comparison. Their records, whose keys differ, are not among
    the comparison's.

    Raises:
        UsageError: published numbers asked for in records, which hold only what was measured.
        NotComparableError: published numbers where none is comparable.
    """
    if published and form in ("json", "csv"):
        raise UsageError(f"--published has no place in --format {form}, whose records are measured: ask for a table")
    if form in ("json", "csv"):
        return records_as(collection.records, form)
    return tables_as([*all_tables(collection, metrics, published), *studies.tables], form)


def records_as(records: Sequence[Record], form: str) -> str:
    """Records as ``json``, a list of objects, or ``csv``, where lists are JSON again."""
    if form == "json":
        return json.dumps(list(records), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return _csv(records)


def all_tables(collection: Collection, metrics: Sequence[str], published: bool) -> list[Table]:
    """The comparison tables of a run, and where asked for those of the published numbers."""
    return [*make_tables(collection, metrics), *(published_tables(collection) if published else [])]


def tables_as(tables: Sequence[Table], form: str) -> str:
    """Tables as ``table`` (plain text), ``markdown`` or ``latex``."""
    if form == "latex":
        from mmbench.reporting.latex import to_latex

        return to_latex(tables)
    if form == "markdown":
        return "\n".join(_markdown(table) for table in tables)
    return to_text(tables)


def _csv(records: Sequence[Record]) -> str:
    buffer = io.StringIO()
    fields = [field for record in records for field in record]
    writer = csv.DictWriter(buffer, fieldnames=list(dict.fromkeys(fields)) or ["task"], lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({field: _field(value) for field, value in record.items()})
    return buffer.getvalue()


def _field(value: Any) -> Any:
    """A value of a record in CSV; a text that a spreadsheet would run as a formula begins with an apostrophe there."""
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def _markdown(table: Table) -> str:
    from tabulate import tabulate

    rows = [[f"**{_plain(entry.text)}**" if entry.best else _plain(entry.text) for entry in row] for row in table.rows]
    grid = tabulate(rows, headers=[_plain(c) for c in table.columns], tablefmt="github", disable_numparse=True)
    notes = "\n".join(f"- {_plain(note.replace('underlined', 'bold'))}" for note in table.notes)
    return f"### {_plain(table.title)}\n\n{grid}\n\n{notes}\n"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*<|])", r"\\\1", printable(text))
