"""Time the bootstrap beside a plain loop over scikit-learn: ``python benchmarks/bootstrap.py``.

10,000 resamples of N = 5,000 rows and 10 labels for the decision metrics, 1,000 (as a report takes) and 10,000 for MAP
and ROC-AUC. The loop computes the same metrics of fewer resamples; ratios are of the time a resample takes. Seconds are
the processor's, which depend less on what else the machine does. ``--large`` instead takes N = 200,000 rows, 15 methods
and 5 seeds, and tells the memory.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from sklearn import metrics as sk

from mmbench.contracts import Concept
from mmbench.evaluation.bootstrap import Draws, decision_replicates, ranking_replicates
from mmbench.evaluation.predictions import Predictions


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def predictions(n: int, k: int, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng([n, k]).random((n, k)) < 0.2  # the same for every seed
    ids = np.arange(n).astype(np.str_)
    concept = Concept("c", tuple(map(str, range(k))), "multilabel")
    return Predictions(concept, ids, ids, np.clip(rng.random((n, k)) + 0.2 * truth, 0, 1), truth)


def loop_decisions(p: Predictions, n_replicates: int) -> None:
    """The decision metrics of each resample by scikit-learn."""
    rng, decided = np.random.default_rng(0), p.scores >= 0.5
    for _ in range(n_replicates):
        rows = rng.integers(0, len(p.ids), len(p.ids))
        truth, said = p.truth[rows], decided[rows]
        for average in ("macro", "micro", "weighted"):
            sk.f1_score(truth, said, average=average, zero_division=0)
        sk.precision_score(truth, said, average="macro", zero_division=0)
        sk.recall_score(truth, said, average="macro", zero_division=0)
        sk.hamming_loss(truth, said)
        sk.accuracy_score(truth, said)


def loop_rankings(p: Predictions, n_replicates: int) -> None:
    """MAP and ROC-AUC of each resample by scikit-learn."""
    rng = np.random.default_rng(0)
    for _ in range(n_replicates):
        rows = rng.integers(0, len(p.ids), len(p.ids))
        sk.average_precision_score(p.truth[rows], p.scores[rows], average="macro")
        sk.roc_auc_score(p.truth[rows], p.scores[rows], average="macro")


def large(n: int, k: int, n_methods: int, n_seeds: int) -> None:
    """Seconds and gigabytes of a comparison on many rows, the score metrics on a hundredth of the resamples."""
    methods = [[(predictions(n, k, n_seeds * m + s), None) for s in range(n_seeds)] for m in range(n_methods)]
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # noqa: E731
    print(f"{n:,} rows, {k} labels, {n_methods} methods, {n_seeds} seeds: the predictions take {peak():.2f} GB")
    for function, replicates in ((decision_replicates, 10_000), (ranking_replicates, 100)):
        taken = seconds(partial(function, methods, np.arange(n), Draws(n, n_seeds, replicates)))
        print(f"{function.__name__}, {replicates:,} resamples: {taken:.0f} s, at most {peak():.2f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--replicates", type=int, default=10_000)
    parser.add_argument("--loop", type=int, default=20, help="resamples of the scikit-learn loop")
    parser.add_argument("--large", action="store_true", help="200,000 rows, 15 methods, 5 seeds")
    a = parser.parse_args()
    if a.large:
        large(200_000, a.labels, 15, 5)
        return
    warnings.simplefilter("ignore")
    p = predictions(a.rows, a.labels)
    groups = np.arange(a.rows)
    few = max(1, a.replicates // 10)
    loops = {"decisions": loop_decisions, "rankings": loop_rankings}
    per_loop = {name: seconds(partial(loop, p, a.loop)) / a.loop for name, loop in loops.items()}
    print(f"{a.rows:,} rows, {a.labels} labels; the loop is timed on {a.loop} resamples")
    print(f"{'':32}{'resamples':>10}{'seconds':>10}{'scikit-learn':>14}{'ratio':>8}")
    for title, kind, function, n in (
        ("F1 family, Hamming, accuracy", "decisions", decision_replicates, a.replicates),
        ("MAP and ROC-AUC", "rankings", ranking_replicates, few),
        ("MAP and ROC-AUC", "rankings", ranking_replicates, a.replicates),
    ):
        taken = seconds(partial(function, [[(p, None)]], groups, Draws(a.rows, 1, n)))
        loop = per_loop[kind] * n
        print(f"{title:32}{n:>10,}{taken:>10.2f}{loop:>13.0f}*{loop / taken:>8.0f}")
    print("* extrapolated from the loop's time a resample")


if __name__ == "__main__":
    main()
