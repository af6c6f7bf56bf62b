"""Worker processes: which cell comes next."""

from __future__ import annotations

from mmbench.running.backends import next_cell
from mmbench.running.store import Cell


def test_what_has_not_begun_comes_first_and_then_what_takes_longest() -> None:
    waiting = [Cell(problem, method, seed) for seed in (0, 1) for problem in "pq" for method in ("short", "long")]
    seconds: dict[tuple[str, str], float] = {}
    takes = {("p", "short"): 1.0, ("p", "long"): 7.0, ("q", "short"): 2.0, ("q", "long"): 9.0}
    begun = []
    while waiting:
        cell = next_cell(waiting, seconds)
        waiting.remove(cell)
        begun.append(f"{cell.problem} {cell.method} {cell.seed}")
        seconds[cell.problem, cell.method] = takes[cell.problem, cell.method]
    assert begun == [
        "p short 0", "p long 0", "q short 0", "q long 0", "q long 1", "p long 1", "q short 1", "p short 1"
    ]  # fmt: skip


def test_of_a_method_under_way_nothing_is_known_yet() -> None:
    waiting = [Cell("p", "under way", 1), Cell("p", "short", 1)]
    assert next_cell(waiting, {("p", "under way"): 0.0, ("p", "short"): 0.1}).method == "short"
