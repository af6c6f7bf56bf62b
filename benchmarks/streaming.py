"""Cost and memory of a task whose features are too large to hold, as its number of rows grows, measured in one run.

For each N a task card is written with two matrices of N x 512 float32 beside a table, and ``mmbench run`` trains one
method on it for an epoch in a process of its own, from the files to the printed table. Processes take turns over the
sizes, and the cheaper round of a size counts, since other programs can only slow one down.

CPU seconds are those of the process and its children. Memory is what Linux says of the process (``/proc/PID/status``),
polled twenty times a second: ``RssAnon``, which is memory of its own, and ``RssFile``, the pages of mapped files that
happen to be in memory and cost nothing to drop. The smallest size is a task that fits into memory: what it takes is the
program itself.

    python benchmarks/streaming.py [--rows 2000,50000,100000,200000] [--rounds 2] [--folder DIR] [-- OPTION…]

What stands after ``--`` goes to ``mmbench run``: ``-- --method concat+equal,graph+moo --epochs 2``. The folder needs
three times the size of the features: 12 KB a row.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WIDTH, CLASSES, BLOCK = 512, 10, 20_000
OPTIONS = ["--method", "concat+equal", "--epochs", "1"]
CARD = """\
name = "large"
table = "rows.csv"
id = "id"
licence = "CC0"
[modalities.one]
kind = "features"
file = "one.npy"
[modalities.other]
kind = "features"
file = "other.npy"
[concepts.class]
kind = "exclusive"
column = "class"
[split]
column = "part"
"""


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds of a run, and the most memory that its process held at a time, in MB."""

    cpu: float
    wall: float
    own: float
    files: float


def generate(folder: Path, n: int) -> None:
    """A task of ``n`` rows whose classes show a little in both matrices."""
    rng = np.random.default_rng(n)
    labels = rng.integers(0, CLASSES, n)
    parts = rng.choice(("train", "val", "test"), n, p=(0.6, 0.2, 0.2))
    for name in ("one", "other"):
        centres = rng.normal(size=(CLASSES, WIDTH)).astype(np.float32) / 4
        values = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (n, WIDTH))
        for start in range(0, n, BLOCK):
            own = labels[start : start + BLOCK]
            values[start : start + BLOCK] = centres[own] + rng.standard_normal((len(own), WIDTH), dtype=np.float32)
        values.flush()
    with (folder / "rows.csv").open("w", encoding="utf-8") as file:
        file.write("id,class,part\n")
        file.writelines(
            f"s{row},c{label},{part}\n" for row, (label, part) in enumerate(zip(labels, parts, strict=True))
        )
    (folder / "large.toml").write_text(CARD, encoding="utf-8")


def run(folder: Path, options: list[str]) -> Cost:
    """What a run of the task costs, with a cache and results of its own that go away with it."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "mmbench", "run", "large", "--plugin", str(folder / "large.toml")]
        command += ["--seeds", "1", "--no-energy", "--out", scratch, *options]
        before, started = os.times(), time.perf_counter()
        with subprocess.Popen(
            command, env={**os.environ, "MMBENCH_CACHE": scratch}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            own = files = 0.0
            while process.poll() is None:
                held = _memory(process.pid)
                own, files = max(own, held.get("RssAnon", 0.0)), max(files, held.get("RssFile", 0.0))
                time.sleep(0.05)
            told = process.stderr.read().decode() if process.stderr else ""
        after = os.times()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{told}")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(spent, time.perf_counter() - started, own, files)


def _memory(process: int) -> dict[str, float]:
    """Megabytes by kind, nothing once the process has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return {}
    return {name: int(kilobytes) / 1024 for name, kilobytes in re.findall(r"(Rss\w+):\s+(\d+) kB", status)}


def main() -> None:
    """Print one line a size."""
    own, extra = sys.argv[1:], []
    if "--" in own:
        place = own.index("--")
        own, extra = own[:place], own[place + 1 :]
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="2000,50000,100000,200000")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args(own)
    sizes = [int(size) for size in asked.rows.split(",")]
    best: dict[int, Cost] = {}
    for _ in range(asked.rounds):
        for n in sizes:
            folder = Path(tempfile.mkdtemp(dir=asked.folder))
            try:
                generate(folder, n)
                cost = run(folder, [*OPTIONS, *extra])
            finally:
                shutil.rmtree(folder)
            best[n] = min(cost, best.get(n, cost), key=lambda one: one.cpu)
    base = best[sizes[0]]
    print(f"{'rows':>10}{'features':>11}{'CPU s':>9}{'ms a row':>10}{'own memory':>12}{'of files':>10}")
    for n, cost in best.items():
        slope = "" if n == sizes[0] else f"{1000 * (cost.cpu - base.cpu) / (n - sizes[0]):.3f}"
        size = f"{8 * WIDTH * n / 2**20:,.0f} MB"
        print(f"{n:>10,}{size:>11}{cost.cpu:>9.1f}{slope:>10}{cost.own:>9,.0f} MB{cost.files:>7,.0f} MB")


if __name__ == "__main__":
    main()
