"""One live display of a run in progress; plain lines where the output is not a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from mmbench.running.store import Cell

_console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """A line for the person at the terminal, on the error stream: the tables alone go to standard output."""
    _console.print(line, markup=False)


class Progress:
    """Cells done of all, the cell under way with its epoch and validation objective, and the time left."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.started = time.monotonic()
        self.live = _console.is_terminal
        self.bar = RichProgress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=_console,
            transient=True,
            disable=not self.live,
        )
        self.bar_task = self.bar.add_task("starting", total=total)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if kind is None:
            say(f"{self.done} cell{'s' * (self.done != 1)} in {time.monotonic() - self.started:.0f} s")

    def epoch(self, cell: Cell, epoch: int, of: int, loss: float) -> None:
        """An epoch ended."""
        self.bar.update(self.bar_task, description=f"{cell} · epoch {epoch}/{of} · val {loss:.4f}")

    def finished(self, cell: Cell, record: dict[str, Any]) -> None:
        """A cell ended, well or not."""
        self.done += 1
        self.bar.advance(self.bar_task)
        if record["status"] != "done":
            say(f"{record['status']}: {cell}: {record['error']['message']}")
        elif not self.live:
            seconds = record["timings"]["fit_seconds"]
            again = " (same as another seed)" if "same_as_seed" in record else ""
            say(f"[{self.done}/{self.total}] {cell}: {seconds:.1f} s{again}")
