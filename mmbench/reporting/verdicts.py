"""What a run's comparisons say: tests, Holm's adjustment over their family, and a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmbench.evaluation.bootstrap import FEWEST_CROSSED_SEEDS, holm, p_value
from mmbench.evaluation.decisions import decide
from mmbench.evaluation.metrics import METRICS
from mmbench.evaluation.permutation import sign_flip
from mmbench.evaluation.significance import (
    Test,
    bootstrap_difference,
    equivalence,
    mcnemar,
    minimum_detectable_effect,
    paired_t,
    superiority,
    wilcoxon,
)
from mmbench.reporting.comparison import Comparison, Record

ALPHA = 0.05
MARGIN = 0.01
FLIPS = 1_999
RANKING_FLIPS = 199  # a ranking of all rows each


def judge(family: Sequence[Comparison], info: dict[str, Any], reference: str | None, margin: float) -> None:
    """p, Holm's adjustment over all methods and concepts of the run, the verdict that follows it, and the difference
    that such a comparison detects with 80 % power. Each concept is compared on its own primary metric.

    Generated data gets no verdict, for it says nothing about any method.
    """
    metrics = ", ".join(dict.fromkeys(compared.record["metric"] for compared in family))
    p_values = [p_value(compared.difference) for compared in family]
    for compared, raw, adjusted in zip(family, p_values, holm(p_values), strict=True):
        record, spread = compared.record, compared.difference
        primary = record["metric"]
        record["p_raw"], record["p_holm"] = raw, adjusted
        record["family"] = f"{len(family)} comparisons with {reference} on {metrics}"
        record["mde"] = minimum_detectable_effect(float(spread.std(ddof=1)), len(family))
        tests = _tests(compared, primary, margin, info["task"]["group"])
        record["tests"] = [test.as_dict() for test in tests]
        if not info["task"]["generated"]:
            record["verdict"] = _verdict(record, reference, tests[1], primary, margin)


def _tests(compared: Comparison, primary: str, margin: float, group: str) -> list[Test]:
    """All that can be tested of one comparison, the bootstrap and the equivalence first; then the seeds' tests, which
    hold for this test set, and those of the trained models as they are."""
    record = compared.record
    first, second = (
        np.array([value[primary].value for value in row.values], dtype=np.float64)
        for row in (compared.row, compared.reference)
    )
    higher = METRICS[primary].better == "higher"
    unit, n, delta = record["unit"], record["n_groups"], record["delta"]
    return [
        bootstrap_difference(compared.difference, delta, primary, unit, n, compared.kind),
        equivalence(compared.difference, delta, margin, unit, n),
        superiority(first, second, higher),
        paired_t(first, second),
        wilcoxon(first, second),
        *_of_these_models(compared, primary, group),
    ]


def _of_these_models(compared: Comparison, primary: str, group: str) -> list[Test]:
    """The tests of the trained models as they are: sign flips and, where each method is one model, McNemar's."""
    mine, theirs = compared.row.cells, compared.reference.cells
    groups = np.unique(mine[0][0].groups, return_inverse=True)[1].astype(np.int64)
    needs = METRICS[primary].needs
    flips = sign_flip(mine, theirs, groups, primary, group, RANKING_FLIPS if needs == "scores" else FLIPS)
    if len(mine) > 1 or needs == "numbers":
        return [flips]
    right = [(decide(*cell) == cell[0].truth).all(axis=1) for cell in (mine[0], theirs[0])]
    return [flips, mcnemar(right[0], right[1], groups)]


def _verdict(record: Record, reference: str | None, equivalent: Test, primary: str, margin: float) -> str:
    """What the adjusted p and the equivalence say, in words."""
    wins = (record["delta"] > 0) == (METRICS[primary].better == "higher")
    same = equivalent.low is not None and equivalent.high is not None
    same = same and -margin < equivalent.low and equivalent.high < margin  # type: ignore[operator]
    if record["p_holm"] < ALPHA:
        verdict = f"{'better' if wins else 'worse'} than {reference}{f', within ±{margin:g}' * same}"
    elif same:
        verdict = f"equivalent to {reference} within ±{margin:g}"
    elif record["delta_low"] > 0 or record["delta_high"] < 0:
        verdict = f"not distinguishable from {reference} (only the unadjusted interval excludes zero)"
    else:
        verdict = f"not distinguishable from {reference}"
    return verdict if record["n_seeds"] >= FEWEST_CROSSED_SEEDS else f"{verdict}, on these seeds"
