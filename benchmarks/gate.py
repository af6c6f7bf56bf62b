"""How often the gate alarms on unchanged code, and what it finds: ``python benchmarks/gate.py --output docs/gate.md``.

Generated reruns: 8 methods on three concepts (2 classes, 8 labels, 3 classes), so 24 comparisons, on 300 test rows in
200 groups; rows, methods and both runs' seeds are new in each rerun. Logits have a part that rows of a group share, a
part of the row, a bias that each seed has for each label (what moves a whole column of decisions) and noise of the seed
and row. Three mixes of the last two: seeds hardly differ, seeds differ by label, a seed fails now and then.

Trained reruns: real networks on the digits and the generated CrisisMMD sample at many seeds; each rerun draws two
disjoint sets of five of them, one as the baseline and one as the run.

With ``--output`` the block between the markers of that file is replaced.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept
from mmbench.evaluation.bootstrap import Draws, decision_replicates, holm
from mmbench.evaluation.predictions import Predictions
from mmbench.regression import ALPHA, REPLICATES, Place, Side, gate, reduce, value_of
from mmbench.reporting.baseline import read_run
from mmbench.running.store import find_run

ROWS, GROUPS, METHODS, SEEDS = 300, 200, 8, 5
CONCEPTS = (
    Concept("two", ("a", "b")),
    Concept("eight", tuple("abcdefgh"), "multilabel"),
    Concept("three", ("a", "b", "c")),
)
# by regime: sd of a seed's bias by label, sd of the noise of seed and row, share of seeds that fail
REGIMES = {
    "seeds hardly differ": (0.0, 0.4, 0.0),
    "seeds differ by label": (0.4, 0.3, 0.0),
    "one seed in ten fails": (0.2, 0.4, 0.1),
}
DROPS = (0.0, 0.3, 0.6, 1.0, 1.5)  # by how much the broken method's logits tell the truth less
BEGIN, END = "<!-- begin: benchmarks/gate.py -->", "<!-- end: benchmarks/gate.py -->"
TRAINED = {
    "digits": ("--method", "concat+equal,igfn+dmtl,concat+moo,only:left", "--epochs", "8"),
    "crisismmd": ("--method", "concat+equal,igfn+dmtl,tensor+moo,concat+gradnorm,linear:text", "--epochs", "10"),
}
TITLES = {"digits": "digits", "crisismmd": "CrisisMMD sample (generated)"}
Pairs = dict[Place, tuple[Side, Side]]


def _truth(concept: Concept, rng: np.random.Generator) -> NDArray[np.bool_]:
    k = len(concept.labels)
    if concept.kind == "multilabel":
        return rng.random((ROWS, k)) < np.linspace(0.35, 0.06, k)
    shares = np.linspace(2, 1, k)
    drawn: NDArray[np.bool_] = rng.choice(k, ROWS, p=shares / shares.sum())[:, None] == np.arange(k)
    return drawn


def _cell(concept: Concept, truth: NDArray[np.bool_], fixed: NDArray[np.float64], signal: float, regime: str,
          rng: np.random.Generator) -> NDArray[np.bool_]:  # fmt: skip
    """The decisions of one trained seed, (n, K)."""
    bias, noise, failing = REGIMES[regime]
    if rng.random() < failing:
        signal *= 0.7
    logits = signal * (truth - 0.5) + fixed + bias * rng.standard_normal(truth.shape[1])
    logits += noise * rng.standard_normal(truth.shape)
    if concept.kind == "multilabel":
        return np.asarray(logits > 0)
    return np.asarray(logits.argmax(1)[:, None] == np.arange(truth.shape[1]))


def rerun(number: int, regime: str, drop: float) -> Pairs:
    """A baseline and a run of the same code, but that method 0 of the run tells the truth by ``drop`` less."""
    rng = np.random.default_rng([number, list(REGIMES).index(regime), int(100 * drop)])
    group = np.sort(np.append(np.arange(GROUPS), rng.integers(0, GROUPS, ROWS - GROUPS)))
    ids, groups = np.array([f"{n:04d}" for n in range(ROWS)]), np.array([f"g{n:04d}" for n in group])
    pairs = {}
    for concept in CONCEPTS:
        truth = _truth(concept, rng)
        for method in range(METHODS):
            shared = rng.standard_normal((GROUPS, truth.shape[1]))[group]
            fixed = 0.7 * shared + 0.7 * rng.standard_normal(truth.shape)
            sides = []
            for lost in (0.0, drop if method == 0 else 0.0):
                decided = [_cell(concept, truth, fixed, 2.4 - lost, regime, rng) for _ in range(SEEDS)]
                cells = tuple(Predictions(concept, ids, groups, d.astype(np.float64), truth) for d in decided)
                sides.append(Side(tuple(range(SEEDS)), cells, tuple(value_of(c, "macro_f1") for c in cells)))
            pairs[Place("joint", concept.name, f"m{method}")] = sides[0], sides[1]
    return pairs


def percentile_p(pairs: Pairs) -> list[float]:
    """One-sided p read off the crossed replicates themselves, for comparison with the gate's."""
    found = []
    for concept in dict.fromkeys(place.concept for place in pairs):
        alike = [pair for place, pair in pairs.items() if place.concept == concept]
        names, groups = np.unique(alike[0][0].cells[0].groups, return_inverse=True)
        old, new = (
            decision_replicates(
                [[(cell, None) for cell in pair[side].cells] for pair in alike],
                groups,
                Draws(len(names), SEEDS, REPLICATES, seed_stream=side),
            )
            for side in (0, 1)
        )
        for before, after in zip(old, new, strict=True):
            difference = after["macro_f1"] - before["macro_f1"]
            found.append((int((difference >= 0).sum()) + 1) / (REPLICATES + 1))
    return found


def _drop_of(pairs: Pairs, p_values: list[float], adjust: bool, min_effect: float) -> bool:
    adjusted = holm(p_values) if adjust else p_values
    gains = [float(np.mean(new.values) - np.mean(old.values)) for old, new in pairs.values()]  # type: ignore[arg-type]
    return any(p < ALPHA and -gain > min_effect for p, gain in zip(adjusted, gains, strict=True))


def judge(pairs: Pairs, percentile: bool) -> dict[str, bool]:
    """Whether each rule alarms on a rerun; the percentile rules, which cost as much again, only where asked for."""
    made = gate(pairs, [], "macro_f1", 0.01)
    alarms = {
        "gate": bool(made.regressions),
        "without minimum effect": _drop_of(pairs, [c.p for c in made.comparisons], True, 0.0),
    }
    if percentile:
        plain = percentile_p(pairs)
        alarms["percentile, Holm"] = _drop_of(pairs, plain, True, 0.01)
        alarms["percentile, unadjusted"] = _drop_of(pairs, plain, False, 0.01)
    return alarms


def _null(regime: str, number: int) -> dict[str, bool]:
    return judge(rerun(number, regime, 0.0), number % 4 == 0)


def _broken(regime: str, drop: float, number: int) -> list[tuple[str, float, bool]]:
    made = gate(rerun(number, regime, drop), [], "macro_f1", 0.01)
    return [(c.place.concept, c.gain, c.verdict == "REGRESSION") for c in made.comparisons if c.place.method == "m0"]


def train(task: str, seeds: int, jobs: int, out: Path) -> None:
    """Train the pool of one task."""
    command = [sys.executable, "-m", "mmbench", "run", task, *TRAINED[task], "--seeds", str(seeds), "--no-energy"]
    subprocess.run([*command, "--jobs", str(jobs), "--out", str(out)], check=True, stdout=subprocess.DEVNULL)


@cache
def _pool(out: Path) -> dict[Place, dict[int, tuple[Predictions, float | None]]]:
    """The trained cells of a task by seed, with their value."""
    pool = {}
    for place, cells in read_run(find_run(None, out)).cells.items():
        reduced = {seed: reduce(p, decided, "macro_f1") for seed, (p, decided) in cells.items()}
        pool[place] = {seed: (p, value_of(p, "macro_f1")) for seed, p in reduced.items()}
    return pool


def trained_rerun(out: Path, number: int) -> Pairs:
    """Two disjoint draws of five of the trained seeds, the same for every method and concept."""
    pool = _pool(out)
    drawn = np.random.default_rng(number).permutation(list(next(iter(pool.values()))))[: 2 * SEEDS]
    pairs = {}
    for place, cells in pool.items():
        old, new = (
            Side(tuple(seeds), tuple(cells[s][0] for s in seeds), tuple(cells[s][1] for s in seeds))
            for seeds in (drawn[:SEEDS].tolist(), drawn[SEEDS:].tolist())
        )
        pairs[place] = old, new
    return pairs


def _trained(out: Path, number: int) -> dict[str, bool]:
    return judge(trained_rerun(out, number), number % 4 == 0)


def _share(alarms: list[bool]) -> str:
    rate = float(np.mean(alarms))
    return f"{rate:.1%} ± {1.96 * np.sqrt(max(rate * (1 - rate), 1 / len(alarms) / 4) / len(alarms)):.1%}"


def _table(rows: list[list[str]]) -> list[str]:
    head, *body = rows
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]


def report(a: argparse.Namespace, run: Callable[..., list[Any]]) -> str:
    """The Markdown block."""
    rules: list[str] = []
    rows: list[list[str]] = []
    for regime in REGIMES:
        alarms = run(partial(_null, regime), range(a.reruns))
        rules = list(alarms[0])
        rows.append(
            [regime, f"{a.reruns:,}", "24", *(_share([x[rule] for x in alarms if rule in x]) for rule in rules)]
        )
        print(rows[-1], flush=True)
    for task in TRAINED if a.seeds else ():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(a.runs or folder) / task
            train(task, a.seeds, a.jobs, out)
            alarms = run(partial(_trained, out), range(a.trained))
            n = len(_pool(out))
        rows.append(
            [f"{TITLES[task]}, trained, {a.seeds} seeds", f"{a.trained:,}", str(n)]
            + [_share([x[rule] for x in alarms if rule in x]) for rule in rules]
        )
        print(rows[-1], flush=True)
    lines = [
        "Share of reruns of unchanged code, with other seeds, in which at least one comparison alarms (five seeds a "
        "side; ± is the 95 % Monte-Carlo error; the percentile rules on a quarter of the reruns; trained reruns draw "
        "their seeds from one pool, so they are not independent):",
        "",
        *_table([["reruns", "number", "comparisons", *rules], *rows]),
        "",
        "Share of broken methods that are found, by the drop of macro F1 that was built in (one method of eight is "
        "broken, in a family of 24 comparisons):",
        "",
    ]
    rows = []
    for regime in REGIMES:
        for drop in DROPS[1:]:
            found = [c for made in run(partial(_broken, regime, drop), range(a.broken)) for c in made]
            row = [regime]
            for concept in CONCEPTS:
                here = [(gain, alarm) for name, gain, alarm in found if name == concept.name]
                effect = float(np.mean([gain for gain, _ in here]))
                row.append(f"{-effect:.3f}: {np.mean([alarm for _, alarm in here]):.0%}")
            rows.append(row)
            print(row, flush=True)
    return "\n".join([*lines, *_table([["reruns", *(f"{len(c.labels)} labels" for c in CONCEPTS)], *rows])]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reruns", type=int, default=400, help="generated reruns of each of three kinds")
    parser.add_argument("--broken", type=int, default=40, help="generated reruns with a broken method, of each kind")
    parser.add_argument("--seeds", type=int, default=20, help="trained seeds of each task; 0 trains nothing")
    parser.add_argument("--trained", type=int, default=200, help="reruns drawn from them")
    parser.add_argument("--runs", type=Path, help="keep the trained runs here, and use those that are there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, help="a Markdown file with the markers")
    a = parser.parse_args()
    started = time.monotonic()
    with ProcessPoolExecutor(a.jobs) as pool:
        block = report(a, lambda function, items: list(pool.map(function, items, chunksize=4)))
    print(block)
    print(f"{time.monotonic() - started:.0f} s")
    if a.output:
        text = a.output.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        a.output.write_text(f"{before}{BEGIN}\n{block}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
