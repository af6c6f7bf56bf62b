"""A plain sum with fixed weights, the best of several draws on validation: what a strategy has to beat.

    L = sum_t w_t L_t,  w = 1 first, then w_t = e^{u_t}, u_t uniform in ±ln 4, rescaled to sum T

Each draw is a training of its own with the common budget, so that ``trials=8`` costs eight times ``equal``; the one
with the lowest unweighted validation objective is kept, by which every method stops early. Draws differ by seed.
Tuned fixed weights match or beat many balancing strategies (Xin et al., NeurIPS 2022; Kurin et al., NeurIPS 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mmbench.contracts import Objective
from mmbench.hashing import derive_seed
from mmbench.modules import Strategy

NAME = "tuned"
KIND = "strategy"
SUMMARY = "Sum of the objectives with fixed weights, chosen on validation among several trainings"

WIDEST = 4.0


class Fixed(Strategy):
    """Fixed weights (T,)."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.weights: Tensor

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """sum_t w_t L_t."""
        return (self.weights[active].to(losses.dtype) * losses).sum()

    def loss_weights(self) -> Tensor:
        """w."""
        return self.weights.clone()


class Tuned(Fixed):
    """Equal weights, and ``trials`` - 1 other draws."""

    def __init__(self, objectives: int, trials: int) -> None:
        super().__init__(torch.ones(objectives, dtype=torch.float64))
        self.trials = trials

    def candidates(self, seed: int) -> Sequence[Strategy]:
        """The trials, equal weights first; one objective has nothing to weigh."""
        if len(self.weights) == 1:
            return (self,)
        draw = torch.Generator().manual_seed(derive_seed(seed, "weights"))
        span = 2 * math.log(WIDEST)
        drawn = torch.rand(self.trials - 1, len(self.weights), generator=draw, dtype=torch.float64)
        weights = torch.exp((drawn - 0.5) * span)
        return (self, *(Fixed(w * len(w) / w.sum()) for w in weights))


def build(objectives: tuple[Objective, ...], *, trials: Annotated[int, Field(ge=2, le=1000)] = 8) -> Tuned:
    """The strategy ``tuned``."""
    return Tuned(len(objectives), trials)
