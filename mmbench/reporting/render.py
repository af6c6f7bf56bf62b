"""A run's records as text: table, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from mmbench.errors import UsageError
from mmbench.reporting.comparison import Record
from mmbench.reporting.published import published_tables
from mmbench.reporting.records import Collection
from mmbench.reporting.study import NO_STUDY, Study
from mmbench.reporting.tables import Table, make_tables
from mmbench.reporting.terminal import to_text


def render(
    collection: Collection, form: str, metrics: Sequence[str], published: bool = False, studies: Study = NO_STUDY
) -> str:
    """The text of a report: ``table``, ``markdown``, ``latex``, ``csv`` or ``json``; ``published`` adds claims.

    What ``studies`` found stands behind the comparison; their records name their study.

    Raises:
        UsageError: published numbers asked for in records, which hold only what was measured.
        NotComparableError: published numbers where none is comparable.
    """
    if published and form in ("json", "csv"):
        raise UsageError(f"--published has no place in --format {form}, whose records are measured: ask for a table")
    if form == "json":
        return json.dumps([*collection.records, *studies.records], indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if form == "csv":
        return _csv([*collection.records, *studies.records])
    return tables_as([*all_tables(collection, metrics, published), *studies.tables], form)


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


def _csv(records: list[Record]) -> str:
    buffer = io.StringIO()
    fields = [field for record in records for field in record]
    writer = csv.DictWriter(buffer, fieldnames=list(dict.fromkeys(fields)) or ["task"], lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in record.items()})
    return buffer.getvalue()


def _markdown(table: Table) -> str:
    from tabulate import tabulate

    rows = [[f"**{_bar(entry.text)}**" if entry.best else _bar(entry.text) for entry in row] for row in table.rows]
    grid = tabulate(rows, headers=[_bar(c) for c in table.columns], tablefmt="github", disable_numparse=True)
    notes = "\n".join(f"- {note.replace('underlined', 'bold')}" for note in table.notes)
    return f"### {table.title}\n\n{grid}\n\n{notes}\n"


def _bar(text: str) -> str:
    """Text for one field of a Markdown table, which a bar would end."""
    return text.replace("|", "\\|")
