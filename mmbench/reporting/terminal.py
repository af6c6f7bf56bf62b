"""Tables as a person reads them in a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mmbench.reporting.records import Collection
from mmbench.reporting.tables import TABLE_METRICS, Table, make_tables

WIDTH = 150


def print_tables(collection: Collection, metrics: Sequence[str] = TABLE_METRICS) -> None:
    """Print one table a problem and concept to standard output."""
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for table in make_tables(collection, metrics):
        _print(console, table)


def to_text(tables: Sequence[Table]) -> str:
    """The same as plain text; the best and its ties bear an underscore on each side."""
    buffer = io.StringIO()
    console = Console(file=buffer, highlight=False, width=WIDTH, force_terminal=False)
    for table in tables:
        _print(console, table)
    return buffer.getvalue()


def _print(console: Console, table: Table) -> None:
    plain = not console.is_terminal
    grid = RichTable(title=Text(table.title, style="bold"), title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(table.columns):
        grid.add_column(Text(column), justify="left" if number == 0 else "right", overflow="fold")
    for row in table.rows:
        grid.add_row(*(_entry(entry.text, entry.best, plain) for entry in row))
    console.print()
    console.print(grid)
    for note in table.notes:
        console.print(Text(f"  {note}", style="" if note.isupper() else "dim"), soft_wrap=True)


def _entry(text: str, best: bool, plain: bool) -> Text:
    if not best:
        return Text(text)
    return Text(f"_{text}_") if plain else Text(text, style="underline bold")
