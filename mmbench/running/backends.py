"""Where cells run: one after another in this process, or in worker processes of this machine."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from mmbench.running.energy import Meter
from mmbench.running.execute import Report, Workplace, run_cell
from mmbench.running.store import Cell

Outcome = tuple[Cell, dict[str, Any]]
IMPORTS = ["mmbench.running.execute", "mmbench.training.model", "sklearn.linear_model", "torch._dynamo"]


def expect_workers() -> BaseContext:
    """What worker processes are started by; they come at once where this was called some seconds before.

    On Linux they are forked from a process that imports in the background what they need, is deaf to Ctrl-C as they
    are, and ends with this one. Elsewhere, where forking after such imports is not safe, each imports for itself.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    multiprocessing.set_forkserver_preload(IMPORTS)
    resource_tracker.ensure_running()  # else it is started below, and unblocks what is blocked there
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    except OSError:  # its socket, named by a process number, is taken by another container on the same network
        return multiprocessing.get_context("spawn")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return multiprocessing.get_context("forkserver")


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
    context = expect_workers()
    waiting = list(cells)
    seconds: dict[tuple[str, str], float] = {}
    workers: dict[Connection, BaseProcess] = {}
    busy: dict[Connection, Cell] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                idle = [pipe for pipe in workers if pipe not in busy]
                pipe = idle[0] if idle else _start(context, place, workers)
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
                    worker = workers.pop(pipe)
                    worker.join()
                    kind, value = "done", _died(busy[pipe], worker.exitcode)
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


def _start(context: Any, place: Workplace, workers: dict[Connection, BaseProcess]) -> Connection:
    ours: Connection
    ours, theirs = context.Pipe()
    workers[ours] = context.Process(target=_work, args=(place, theirs, dict(os.environ)))
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


def _work(place: Workplace, pipe: Connection, environment: dict[str, str]) -> None:
    """Run the cells that come until the pipe closes; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()  # a worker that is forked has the variables that were set when that process was started
    os.environ.update(environment)
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
