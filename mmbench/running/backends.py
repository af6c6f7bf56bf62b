"""Where cells run: one after another in this process, or in worker processes of this machine."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess
from typing import Any

from mmbench.running.energy import Meter
from mmbench.running.execute import Report, Workplace, run_cell
from mmbench.running.store import Cell
from mmbench.workers import worker

Outcome = tuple[Cell, dict[str, Any]]


def run_serially(place: Workplace, cells: Iterable[Cell], report: Report, meter: Meter | None) -> Iterator[Outcome]:
    """Run the cells here, one at a time; only so can each have its own energy reading."""
    for cell in cells:
        yield cell, run_cell(place, cell, report, meter)


def run_in_processes(place: Workplace, cells: Iterable[Cell], report: Report, jobs: int) -> Iterator[Outcome]:
    """Run the cells in ``jobs`` processes; results come as they finish.

    Cells are begun in the order of :func:`next_cell`.

    Each worker has a pipe of its own, so that one that dies takes no other cell with it: its cell is recorded as
    ``oom`` where it was killed, else as ``failed``, and another worker takes its place. Closing the generator ends the
    workers.

    Raises:
        UsageError: the results folder cannot be written.
    """
    waiting = list(cells)
    seconds: dict[tuple[str, str], float] = {}
    workers: dict[Connection, BaseProcess] = {}
    busy: dict[Connection, Cell] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                idle = [pipe for pipe in workers if pipe not in busy]
                pipe = idle[0] if idle else _start(place, workers)
                cell = next_cell(waiting, seconds)
                try:
                    pipe.send(cell)
                    busy[pipe] = cell
                    waiting.remove(cell)
                    seconds.setdefault((cell.problem, cell.method), 0.0)
                except OSError:  # an idle worker that was killed: the cell has not begun
                    workers.pop(pipe).join()
            for pipe in [pipe for pipe in wait(list(busy)) if isinstance(pipe, Connection)]:
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError):
                    ended = workers.pop(pipe)
                    ended.join()
                    kind, value = "done", _died(busy[pipe], ended.exitcode)
                    place.folder.write_cell(busy[pipe], value)
                if kind == "error":
                    raise value
                if kind == "epoch":
                    report(busy[pipe], *value)
                else:
                    cell = busy.pop(pipe)
                    seconds[cell.problem, cell.method] = sum(value.get("timings", {}).values())
                    yield cell, value
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.join()


def next_cell(waiting: Sequence[Cell], seconds: Mapping[tuple[str, str], float]) -> Cell:
    """Which cell to begin, so that no process is left with a long one at the end.

    ``seconds`` is by problem and method what its last cell took, 0 while its first one is under way. What has not begun
    comes first, to tell how long its other seeds will take; then what takes longest.
    """
    return max(waiting, key=lambda cell: seconds.get((cell.problem, cell.method), math.inf))


def _start(place: Workplace, workers: dict[Connection, BaseProcess]) -> Connection:
    ours, theirs = Pipe()
    workers[ours] = worker(_work, place, theirs)
    workers[ours].start()
    theirs.close()
    return ours


def _died(cell: Cell, code: int | None) -> dict[str, Any]:
    """The record of a cell whose process ended with this exit code; a signal is told by its negative number."""
    killed = code == -signal.SIGKILL
    message = (
        "its process was killed, most likely for want of memory: run it with fewer --jobs or smaller features"
        if killed
        else f"its process ended with exit code {code} before the cell was done"
    )
    return {
        "problem": cell.problem,
        "method": cell.method,
        "seed": cell.seed,
        "status": "oom" if killed else "failed",
        "error": {"type": "ProcessDied", "message": message, "traceback": ""},
    }


def _work(place: Workplace, pipe: Connection) -> None:
    """Run the cells that come until the pipe closes."""
    while True:
        try:
            cell = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("done", run_cell(place, cell, lambda _, *progress: pipe.send(("epoch", progress)), None)))
        except BrokenPipeError:
            return
        except Exception as error:
            pipe.send(("error", error))
