"""Where cells run: one after another in this process, or in worker processes of this machine."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from mmbench.running.energy import Meter
from mmbench.running.execute import Report, Workplace, run_cell
from mmbench.running.store import Cell

Outcome = tuple[Cell, dict[str, Any]]
POLL_SECONDS = 0.2

_place: Workplace
_events: Any


def run_serially(place: Workplace, cells: Iterable[Cell], report: Report, meter: Meter | None) -> Iterator[Outcome]:
    """Run the cells here, one at a time; only so can each have its own energy reading."""
    for cell in cells:
        yield cell, run_cell(place, cell, report, meter)


def run_in_processes(place: Workplace, cells: Iterable[Cell], report: Report, jobs: int) -> Iterator[Outcome]:
    """Run the cells in ``jobs`` processes; results come as they finish.

    A worker that dies (out of memory, killed) takes no other cell with it: the cells that were under way are run again
    one at a time, and the one that dies alone is recorded as ``oom``.
    """
    waiting = list(cells)
    context = multiprocessing.get_context("spawn")
    alone = False
    while waiting:
        events = context.Queue()
        running: dict[Future[dict[str, Any]], Cell] = {}
        with ProcessPoolExecutor(1 if alone else jobs, context, _start, (place, events)) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < (1 if alone else jobs):
                        cell = waiting.pop(0)
                        running[pool.submit(_work, cell)] = cell
                    done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                    _drain(events, report)
                    for future in done:
                        record = future.result()
                        yield running.pop(future), record
            except BrokenProcessPool:
                lost = list(running.values())
                if alone:
                    record = _died(lost[0])
                    place.folder.write_cell(lost[0], record)
                    yield lost[0], record
                waiting, alone = waiting if alone else lost + waiting, not alone
            except BaseException:
                for process in list(pool._processes.values()):
                    process.terminate()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _died(cell: Cell) -> dict[str, Any]:
    message = "its process died, most likely killed for want of memory: run it with fewer --jobs or smaller features"
    return {
        "problem": cell.problem,
        "method": cell.method,
        "seed": cell.seed,
        "status": "oom",
        "error": {"type": "ProcessDied", "message": message, "traceback": ""},
    }


def _start(place: Workplace, events: Any) -> None:
    """Set up a worker: it ignores Ctrl-C, which the parent handles."""
    global _place, _events
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _place, _events = place, events


def _work(cell: Cell) -> dict[str, Any]:
    report: Callable[[Cell, int, int, float], None] = lambda *event: _events.put(event)  # noqa: E731
    return run_cell(_place, cell, report, None)


def _drain(events: Any, report: Report) -> None:
    while not events.empty():
        report(*events.get())
