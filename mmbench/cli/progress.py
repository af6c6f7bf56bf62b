"""One live display of a run in progress; plain lines where the output is not a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
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


class Transfer:
    """Bytes of all of a download; a plain line each 10 % (or 100 MB) where the output is not a terminal."""

    def __init__(self) -> None:
        self.bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=_console,
            transient=True,
            disable=not _console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.told: dict[str, int] = {}

    def __enter__(self) -> Transfer:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def progress(self, name: str, done: int, total: int) -> None:
        """So many bytes are here, of so many (0: unknown)."""
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(name, total=total or None)
        self.bar.update(self.tasks[name], completed=done)
        step = 10 * done // total if total else done // 10**8
        if step > self.told.get(name, 0) and not _console.is_terminal:
            self.told[name] = step
            say(f"{name}: {done / 1e6:,.0f} MB" + (f" of {total / 1e6:,.0f} MB" if total else ""))
