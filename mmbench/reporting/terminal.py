"""Tables as a person reads them in a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from mmbench.reporting.tables import Table

GAP = 2  # between columns
WIDTH = 500  # of text that goes to a file: no line is ever folded


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables to standard output, as wide as the terminal is."""
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for table in tables:
        _print(console, table)


def to_text(tables: Sequence[Table]) -> str:
    """The same as plain text; the best and its ties bear an underscore on each side."""
    buffer = io.StringIO()
    console = Console(file=buffer, highlight=False, width=WIDTH, force_terminal=False)
    for table in tables:
        _print(console, table)
    return buffer.getvalue()


def printable(text: str) -> str:
    """Text in one line without what would steer a terminal."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _print(console: Console, table: Table) -> None:
    """Print a table; where the terminal is too narrow the last columns are left out, and a line says so."""
    widths = [max(map(cell_len, (name, *(row[n].text for row in table.rows)))) for n, name in enumerate(table.columns)]
    shown = len(table.columns)
    while shown > 2 and sum(widths[:shown]) + GAP * (shown - 1) > console.width:
        shown -= 1
    console.print()
    console.print(Text(printable(table.title), style="bold"), soft_wrap=True)
    console.print(_grid(table, shown, console.is_terminal))
    if shown < len(table.columns):
        console.print(f"  this terminal is too narrow for: {', '.join(table.columns[shown:])}", markup=False)
    for note in table.notes:
        if console.is_terminal:  # lines break between words
            console.print(Padding(Text(printable(note), style="dim"), (0, 0, 0, GAP), expand=False))
        else:
            console.print(f"{' ' * GAP}{printable(note)}", markup=False, soft_wrap=True)


def _grid(table: Table, columns: int, styled: bool) -> RichTable:
    grid = RichTable(box=None, pad_edge=False)
    for number, column in enumerate(table.columns[:columns]):
        grid.add_column(Text(printable(column)), justify="left" if number == 0 else "right", no_wrap=True)
    for row in table.rows:
        grid.add_row(*(_entry(entry.text, entry.best, styled) for entry in row[:columns]))
    return grid


def _entry(text: str, best: bool, styled: bool) -> Text:
    text = printable(text)
    if not best:
        return Text(text)
    return Text.assemble((text, "underline bold")) if styled else Text(f"_{text}_")
