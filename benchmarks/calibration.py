"""Measure the intervals and tests on generated data whose truth is known: ``python benchmarks/calibration.py``.

Writes tables of coverage and type I error with their Monte-Carlo error into ``docs/statistics.md``, between markers,
and draws what is offered as ``docs/calibration.svg``. ``--quick`` runs a few of each and writes nothing.

A row's score for label k is strength × [label is k] plus noise of variance one, made of parts: one of the row's group,
one of the row alone, one of the method on that group (the same at every seed) and one of the seed on that row. Strength
varies with the seed. Given its strength a method's population value depends on nothing else, so one large sample gives
it; the truth is its expectation over seeds, or, for an interval that is conditional on the seeds, its mean over them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from mmbench.contracts import Concept
from mmbench.evaluation.bca import bca, jackknife, without_each_seed
from mmbench.evaluation.bootstrap import (
    Draws,
    decisions_by_seed,
    interval,
    p_value,
    rankings_by_seed,
    spread_over_seeds,
)
from mmbench.evaluation.metrics import METRICS, compute
from mmbench.evaluation.permutation import sign_flip
from mmbench.evaluation.predictions import Predictions
from mmbench.evaluation.significance import (
    Test,
    equivalence,
    friedman,
    mcnemar,
    nadeau_bengio,
    paired_t,
    superiority,
    wilcoxon,
)

Array = NDArray[np.float64]
PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"
FIGURE = PAGE.with_name("calibration.svg")
CRISIS = tuple(np.array([504, 235, 126, 81, 9]) / 955)  # the agreed humanitarian test rows of CrisisMMD
EVEN = (1 / 3, 1 / 3, 1 / 3)
POPULATION = 200_000


@dataclass(frozen=True)
class World:
    """Where samples come from; ``method``, ``own`` and ``cluster`` are shares of the noise, the rest is the row's."""

    name: str
    prior: tuple[float, ...]
    metrics: tuple[str, ...]
    n_groups: int = 300
    rows: int = 1
    kind: str = "exclusive"
    n_seeds: int = 5
    method: float = 0.2
    own: float = 0.2
    cluster: float = 0.0
    seed_sd: float = 0.1
    strength: float = 1.5
    runs: int = 400
    replicates: int = 1_000

    @property
    def concept(self) -> Concept:
        return Concept("c", tuple("abcdefgh"[: len(self.prior)]), self.kind)  # type: ignore[arg-type]

    @property
    def thresholds(self) -> Array | None:
        return None if self.kind == "exclusive" else np.full(len(self.prior), 0.6 * self.strength)

    def positives(self) -> int:
        """About how many groups hold a positive row of the rarest label."""
        chance = min(self.prior)
        share = chance * (1 if self.rows == 1 else np.mean([1 + 0.3 * (r - 1) for r in range(1, self.rows + 1)]))
        return round(self.n_groups * share)


def labels(world: World, group: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Truth (n, K): seven rows in ten have their group's labels, the others labels of their own."""
    n, k = len(group), len(world.prior)
    own = rng.random(n) < 0.3

    def draw(m: int) -> NDArray[np.bool_]:
        if world.kind == "exclusive":
            return np.eye(k, dtype=bool)[rng.choice(k, m, p=world.prior)]
        return rng.random((m, k)) < world.prior

    return np.where(own[:, None], draw(n), draw(group.max() + 1)[group])


def sample(
    world: World, rng: np.random.Generator, strengths: tuple[float, float]
) -> tuple[list[list[tuple[Predictions, Array | None]]], NDArray[np.int64], Array]:
    """Two methods' cells on one test set, the groups, and the strengths (2, S)."""
    group = np.repeat(np.arange(world.n_groups), rng.integers(1, world.rows + 1, world.n_groups))
    truth = labels(world, group, rng)
    shape = truth.shape
    shared = np.sqrt(world.cluster) * rng.normal(size=(world.n_groups, shape[1]))[group]
    shared += np.sqrt(1 - world.cluster - world.method - world.own) * rng.normal(size=shape)
    drawn = np.array(strengths)[:, None] + world.seed_sd * rng.normal(size=(2, world.n_seeds))
    ids = np.arange(len(group)).astype(np.str_)
    methods = []
    for own in drawn:
        mine = shared + np.sqrt(world.method) * rng.normal(size=(world.n_groups, shape[1]))[group]
        scores = [a * truth + mine + np.sqrt(world.own) * rng.normal(size=shape) for a in own]
        methods.append([(Predictions(world.concept, ids, ids, s, truth), world.thresholds) for s in scores])
    return methods, group, drawn


def population(world: World, strength: float) -> dict[str, float]:
    """The metrics of a method of this strength on a large sample of independent rows."""
    rng = np.random.default_rng(0)
    rows = np.arange(POPULATION)
    truth = labels(world, rows, rng)
    scores = strength * truth + rng.normal(size=truth.shape)
    ids = np.zeros(POPULATION, dtype="U1")
    found = compute(Predictions(world.concept, ids, ids, scores, truth), world.thresholds)
    return {name: found[name].value or 0.0 for name in world.metrics}


def curve(world: World) -> tuple[Array, Array, dict[str, Array]]:
    """Strengths (Gauss–Hermite nodes), their weights, and the metrics there."""
    nodes, weights = np.polynomial.hermite.hermgauss(5)
    strengths = world.strength + np.sqrt(2) * world.seed_sd * nodes
    values = [population(world, a) for a in strengths]
    return strengths, weights / weights.sum(), {m: np.array([v[m] for v in values]) for m in world.metrics}


def by_seed(
    world: World, methods: list[list[tuple[Predictions, Array | None]]], group: NDArray[np.int64], draws: Draws
) -> list[dict[str, Array]]:
    """The replicates (B, S) of both methods in the world's metrics."""
    found: list[dict[str, Array]] = [{}, {}]
    for needs, function in (("decisions", decisions_by_seed), ("scores", rankings_by_seed)):
        if any(METRICS[m].needs == needs for m in world.metrics):
            for mine, more in zip(found, function(methods, group, draws), strict=True):
                mine |= more
    return found


def one_run(world: World, known: tuple[Array, Array, dict[str, Array]], number: int) -> dict[str, dict[str, float]]:
    """Of one sample by metric: whether each interval holds the truth, and whether each test rejects a true null."""
    rng = np.random.default_rng([number, world.n_groups, world.n_seeds])
    methods, group, strengths = sample(world, rng, (world.strength, world.strength))
    draws = Draws(world.n_groups, world.n_seeds, world.replicates, seed=number)
    first, second = by_seed(world, methods, group, draws)
    nodes, weights, values = known
    full = [[compute(*cell) for cell in cells] for cells in methods]
    left_out = jackknife(methods[0], group, world.n_groups, world.metrics)
    shares = draws.seeds()
    result = {}
    for m in world.metrics:
        truth = float(weights @ values[m])
        if not draws.crossed:  # the interval speaks of these seeds
            truth = float(np.interp(strengths[0], nodes, values[m]).mean())
        at_seeds = [np.array([cell[m].value for cell in cells], dtype=float) for cells in full]
        crossed = (first[m] * shares).sum(axis=1)
        once = spread_over_seeds(first[m], at_seeds[0], number)
        apart = first[m] - second[m]
        differences = (apart * shares).sum(axis=1)
        apart_once = spread_over_seeds(apart, at_seeds[0] - at_seeds[1], number)
        seeds = [without_each_seed(at_seeds[0])] if draws.crossed else []
        corrected = bca(crossed, float(at_seeds[0].mean()), [left_out[m], *seeds])
        expected = float(weights @ values[m])
        result[m] = {
            "percentile": holds(interval(crossed), truth),
            "BCa": holds(None if corrected is None else (corrected.low, corrected.high), truth),
            "seeds t": holds(interval(once), expected),
            "crossed p": float(p_value(differences) <= 0.05),
            "seeds-t p": float(p_value(apart_once) <= 0.05),
            "t over replicates": float(stats.ttest_1samp(np.asarray(differences), 0).pvalue <= 0.05),
            "width": float(np.ptp(interval(apart_once) or (np.nan,)) / np.ptp(interval(differences) or (np.nan,))),
        }
    return result


def holds(bounds: tuple[float, float] | None, truth: float) -> float:
    """1 or 0; nan where there is no interval."""
    return np.nan if bounds is None else float(bounds[0] <= truth <= bounds[1])


F1 = ("macro_f1", "weighted_f1")
WORLDS = (
    *(World("independent rows", EVEN, F1, n_seeds=s) for s in (3, 5, 10)),
    World("independent rows", EVEN, ("map",)),
    *(World("clustered, 1–6 rows a group", EVEN, F1, rows=6, cluster=0.3, n_seeds=s) for s in (3, 5, 10)),
    World("clustered, 1–6 rows a group", EVEN, ("map",), rows=6, cluster=0.3, runs=200, replicates=500),
    *(World("CrisisMMD shape", CRISIS, F1, n_groups=955, n_seeds=s, strength=2.0) for s in (3, 5, 10)),
    World("CrisisMMD shape", CRISIS, ("map",), n_groups=955, strength=2.0, runs=120, replicates=500),
    *(
        World(f"multi-label, {n} positive", (n / 300,) * 3, ("macro_f1", "map"), kind="multilabel", runs=300)
        for n in (9, 15, 30, 50, 100)
    ),
    *(
        World("seeds err on the same rows", EVEN, F1, own=0.0, method=0.4, seed_sd=0.02, n_seeds=s, runs=1600)
        for s in (5, 10)
    ),
    *(World("each seed errs on its own rows", EVEN, F1, own=0.6, method=0.0, seed_sd=0.0, n_seeds=s) for s in (5, 10)),
    *(
        World("seeds matter more than rows", EVEN, F1, own=0.05, method=0.05, seed_sd=0.4, n_seeds=s)
        for s in (3, 5, 10)
    ),
    World("equal at these seeds", EVEN, F1, seed_sd=0.0, n_seeds=3),
    World("equal at these seeds, clustered", EVEN, F1, rows=6, cluster=0.3, seed_sd=0.0, n_seeds=3),
)


def part(world: World, numbers: range) -> list[dict[str, dict[str, float]]]:
    """Some runs of a world, in a process of their own."""
    known = curve(world)
    return [one_run(world, known, number) for number in numbers]


def share(values: Iterable[float]) -> str:
    """A percentage with its Monte-Carlo error."""
    known = np.array([v for v in values if not np.isnan(v)])
    if len(known) == 0:
        return "–"
    rate = known.mean()
    error = max(float(known.std()), 1 / len(known)) / np.sqrt(len(known))
    return f"{100 * rate:.1f} ± {100 * error:.1f}"


def worlds_table(pool: ProcessPoolExecutor, quick: bool) -> str:
    """Coverage and type I error of the intervals and their tests."""
    lines = [
        "| world | groups | metric | rarest | S | coverage: percentile | BCa | seeds-t |"
        " false alarms: crossed p | seeds-t p | t over replicates | width |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    pending = []
    for world in WORLDS:
        runs = 4 if quick else world.runs
        half = runs // 2
        pending.append([pool.submit(part, world, numbers) for numbers in (range(half), range(half, runs))])
    for world, parts in zip(WORLDS, pending, strict=True):
        found = [run for piece in parts for run in piece.result()]
        for m in world.metrics:
            columns = [
                share(run[m][c] for run in found)
                for c in ("percentile", "BCa", "seeds t", "crossed p", "seeds-t p", "t over replicates")
            ]
            width = np.nanmedian([run[m]["width"] for run in found])
            head = [world.name, str(world.n_groups), m, str(world.positives()), str(world.n_seeds)]
            lines.append(f"| {' | '.join([*head, *columns, f'{width:.2f}'])} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


SEEDS = World("", EVEN, F1, n_seeds=10, method=0.0, own=0.4, seed_sd=0.05)
MODELS = World("", EVEN, F1, n_seeds=1, seed_sd=0.0)
CLUSTERED = World("", EVEN, F1, n_seeds=1, seed_sd=0.0, rows=6, cluster=0.3)
MARGINS = (0.03, 0.06)


def rejects(test: Test) -> float:
    """1 or 0; nan where it cannot be tested."""
    return np.nan if test.p is None else float(test.p <= 0.05)


def over_seeds(number: int) -> dict[str, float]:
    """The tests over ten seeds where both methods are one: equal in expectation on this test set."""
    methods, _, _ = sample(SEEDS, np.random.default_rng([number, 1]), (1.5, 1.5))
    a, b = (np.array([compute(*cell)["macro_f1"].value for cell in cells], dtype=float) for cells in methods)
    return {
        "paired t, 10 seeds": rejects(paired_t(a, b)),
        "Wilcoxon, 10 seeds": rejects(wilcoxon(a, b)),
        "sign test of P(A>B), 10 seeds": rejects(superiority(a, b)),
        "sign test of P(A>B), 5 seeds": rejects(superiority(a[:5], b[:5])),
    }


def right_rows(cells: list[tuple[Predictions, Array | None]]) -> NDArray[np.bool_]:
    p = cells[0][0]
    return np.asarray(p.scores.argmax(axis=1) == p.truth.argmax(axis=1))


def over_rows(number: int) -> dict[str, float]:
    """The tests of two trained models."""
    methods, group, _ = sample(MODELS, np.random.default_rng([number, 2]), (1.5, 1.5))
    a, b = map(right_rows, methods)
    n = int((a != b).sum())
    sizes = stats.binom.pmf(np.arange(n + 1), n, 0.5)
    smaller = stats.binom.cdf(np.minimum(np.arange(n + 1), n - np.arange(n + 1)), n, 0.5)
    return {
        "exact McNemar": rejects(mcnemar(a, b, group)),
        "exact McNemar, enumerated size": float(sizes[2 * smaller <= 0.05].sum()),
    }


def over_groups(number: int) -> dict[str, float]:
    """Sign flips of clustered rows; and the McNemar that is refused there."""
    methods, group, _ = sample(CLUSTERED, np.random.default_rng([number, 3]), (1.5, 1.5))
    a, b = map(right_rows, methods)
    return {
        f"sign flips by group, {m}": rejects(sign_flip(*methods, group, m, "group", n_flips, number))
        for m, n_flips in (("macro_f1", 999), ("map", 199))
    } | {"(refused) McNemar on clustered rows": rejects(mcnemar(a, b, np.arange(len(a))))}


def over_splits(number: int) -> dict[str, float]:
    """Nadeau–Bengio over ten splits of a new data set; two learners (nearest mean) on features of equal worth."""
    rng = np.random.default_rng([number, 4])
    y = np.arange(200) % 2
    views = 0.4 * y[:, None] + rng.normal(size=(2, 200, 5))
    differences = []
    for _ in range(10):
        order = rng.permutation(200)
        train, test = order[:160], order[160:]
        right = []
        for x in views:
            low, high = (x[train][y[train] == c].mean(axis=0) for c in (0, 1))
            nearer = ((x[test] - high) ** 2).sum(1) < ((x[test] - low) ** 2).sum(1)
            right.append((nearer == y[test]).mean())
        differences.append(right[0] - right[1])
    d = np.array(differences)
    return {
        "Nadeau–Bengio, 10 splits": rejects(nadeau_bengio(d, 160, 40)),
        "(refused) paired t over 10 splits": float(stats.ttest_1samp(d, 0).pvalue <= 0.05),
    }


def over_data_sets(number: int) -> dict[str, float]:
    """Friedman's test on tables without any difference."""
    rng = np.random.default_rng([number, 5])
    return {
        f"Friedman (Iman–Davenport), {n} data sets × {k} methods": rejects(friedman(rng.normal(size=(n, k))))
        for n, k in ((5, 3), (5, 8), (10, 5))
    }


def at_the_margin(number: int) -> dict[str, float]:
    """Equivalence where the true difference is the margin, two and four standard errors: finding it is the error."""
    world = World("", EVEN, ("macro_f1",), n_groups=955)
    found = {}
    for margin in MARGINS:
        if margin not in WEAKER:
            WEAKER[margin] = weaker_by(world, margin)
        methods, group, _ = sample(world, np.random.default_rng([number, 6]), (world.strength, WEAKER[margin]))
        draws = Draws(world.n_groups, world.n_seeds, 1_000, seed=number)
        first, second = (replicates["macro_f1"] for replicates in by_seed(world, methods, group, draws))
        a, b = (np.array([compute(*cell)["macro_f1"].value for cell in cells], dtype=float) for cells in methods)
        kinds = {
            "crossed": ((first - second) * draws.seeds()).sum(1),
            "seeds t": spread_over_seeds(first - second, a - b),
        }
        found |= {
            f"equivalence at a margin of {margin}, {kind}": rejects(
                equivalence(values, float((a - b).mean()), margin, "group", world.n_groups)
            )
            for kind, values in kinds.items()
        }
    return found


def weaker_by(world: World, margin: float) -> float:
    """The strength at which a method's macro F1 lies the margin below the world's."""
    wanted = population(world, world.strength)["macro_f1"] - margin
    return float(optimize.brentq(lambda a: population(world, a)["macro_f1"] - wanted, 1.2, world.strength, xtol=1e-3))


WEAKER: dict[float, float] = {}
TESTS = (
    (over_seeds, 2000),
    (over_rows, 2000),
    (over_groups, 1000),
    (over_splits, 2000),
    (over_data_sets, 4000),
    (at_the_margin, 2000),
)


def several(function: Callable[[int], dict[str, float]], numbers: range) -> list[dict[str, float]]:
    return [function(number) for number in numbers]


def tests_table(pool: ProcessPoolExecutor, quick: bool) -> str:
    """Type I error of the other tests at nominal 5 %."""
    lines = ["| test | rejects a true null, % |", "|---|---|"]
    pending = []
    for function, runs in TESTS:
        n = 10 if quick else runs
        halves = (range(n // 2), range(n // 2, n))
        pending.append([pool.submit(several, function, numbers) for numbers in halves])
    for parts in pending:
        found = [run for piece in parts for run in piece.result()]
        lines += [f"| {name} | {share(run[name] for run in found)} |" for name in found[0]]
        print(*lines[-len(found[0]) :], sep="\n", flush=True)
    return "\n".join(lines)


def write(title: str, table: str) -> None:
    """Replace what stands between the page's two markers of this title."""
    begin, end = f"<!-- {title}: written by benchmarks/calibration.py -->\n", f"\n<!-- end of {title} -->"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    PAGE.write_text(before + begin + table + end + after, encoding="utf-8")


def draw(table: str) -> None:
    """What mmbench offers from five seeds on: coverage and type I error against the groups of the rarest label."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    from mmbench.reporting.drawing import COLOURS

    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    plt.rcParams.update({"svg.hashsalt": "calibration", "svg.fonttype": "none", "font.size": 9})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    metrics = ("macro_f1", "weighted_f1", "map")
    for axes, column, title, band in ((left, 7, "coverage, %", (93, 97)), (right, 9, "true nulls rejected, %", (3, 7))):
        axes.axhspan(*band, color="0.92")
        axes.axvline(50, color="0.6", linewidth=0.8, linestyle=":")
        for number, metric in enumerate(metrics):
            shown = [row for row in rows if row[2] == metric and int(row[4]) >= 5]
            rate, error = np.array([[float(v) for v in row[column].split("±")] for row in shown]).T
            groups = np.array([float(row[3]) for row in shown]) * 1.05 ** (number - 1)
            axes.errorbar(groups, rate, error, fmt="os^"[number], color=COLOURS[number], label=metric, linewidth=1)
        axes.set(xscale="log", xticks=(10, 20, 50, 100, 200), xticklabels=("10", "20", "50", "100", "200"))
        axes.set(xlabel="groups that hold a row of the rarest label", ylabel=title)
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    right.set_ylim(bottom=0)
    left.legend(frameon=False, loc="lower right")
    figure.savefig(FIGURE, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few runs of each, and nothing is written")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    a = parser.parse_args()
    with ProcessPoolExecutor(a.jobs) as pool:
        for title, table in (("tests", tests_table), ("intervals", worlds_table)):
            made = table(pool, a.quick)
            if not a.quick:
                write(title, made)
    if not a.quick:
        draw(made)


if __name__ == "__main__":
    main()
