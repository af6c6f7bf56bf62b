"""Costs are gated as ratios to a method measured in the same run, since seconds of another machine say nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbench.errors import UsageError, unknown

COSTS = ("train_seconds", "predict_seconds", "energy_wh")
MEASURED = ("rapl", "nvml")


@dataclass(frozen=True)
class Ratio:
    """``method``'s cost over ``reference``'s, medians over seeds summed over problems, in the run alone."""

    quantity: str
    method: str
    reference: str
    limit: float
    value: float | None = None
    reason: str = ""

    @property
    def exceeded(self) -> bool:
        """Whether it was measured and lies above its limit."""
        return self.value is not None and self.value > self.limit

    def __str__(self) -> str:
        return f"{self.quantity} of {self.method} / {self.reference}"


def parse_ratio(text: str) -> Ratio:
    """``train_seconds:igfn+dmtl/concat+equal<=20``.

    Raises:
        UsageError: anything else.
    """
    left, bound, limit = text.partition("<=")
    quantity, colon, methods = left.partition(":")
    method, slash, reference = methods.partition("/")
    try:
        number = float(limit)
    except ValueError:
        number = 0.0
    if not (bound and colon and slash and method.strip() and reference.strip() and 0 < number < float("inf")):
        raise UsageError(
            f"--ratio {text}: expected METRIC:METHOD/REFERENCE<=LIMIT, "
            "for example 'train_seconds:igfn+dmtl/concat+equal<=20'"
        )
    if quantity.strip() not in COSTS:
        raise unknown("metric of --ratio", quantity.strip(), COSTS)
    return Ratio(quantity.strip(), method.strip(), reference.strip(), number)


def measure_ratio(ratio: Ratio, results: Sequence[dict[str, Any]]) -> Ratio:
    """The ratio from a run's cell records; without a value, and with the reason, where it was not measured.

    Energy counts only where every cell has a figure from a meter: an estimate is none.
    """
    costs = []
    for method in (ratio.method, ratio.reference):
        cost = _cost(ratio.quantity, method, results)
        if isinstance(cost, str):
            return Ratio(ratio.quantity, ratio.method, ratio.reference, ratio.limit, reason=cost)
        costs.append(cost)
    if costs[1] <= 0:
        reason = f"{ratio.reference} has {ratio.quantity} 0"
        return Ratio(ratio.quantity, ratio.method, ratio.reference, ratio.limit, reason=reason)
    return Ratio(ratio.quantity, ratio.method, ratio.reference, ratio.limit, costs[0] / costs[1])


def _cost(quantity: str, method: str, results: Sequence[dict[str, Any]]) -> float | str:
    """The sum over problems of the median over seeds; or why there is none."""
    here = [result for result in results if result["method"] == method]
    if not here:
        return f"the run has no {method}"
    by_problem: dict[str, list[float]] = defaultdict(list)
    for result in here:
        if result["status"] != "done":
            return f"{method} seed {result['seed']} {result['status']}"
        if "same_as_seed" in result:
            continue
        energy = result.get("energy") or {}
        if quantity == "energy_wh" and energy.get("source") not in MEASURED:
            return f"energy of {method} is {energy.get('source') or 'not measured'}, not from a meter"
        value = {
            "train_seconds": result["timings"].get("fit_seconds"),
            "predict_seconds": result["timings"].get("predict_seconds"),
            "energy_wh": energy.get("wh"),
        }[quantity]
        if value is None:
            return f"{method} has no {quantity}"
        by_problem[result["problem"]].append(value)
    return sum(float(np.median(values)) for values in by_problem.values())
