"""The sum of the objectives, each with weight one: L = sum_t L_t."""

from __future__ import annotations

from torch import Tensor

from mmbench.contracts import Objective
from mmbench.modules import Strategy

NAME = "equal"
KIND = "strategy"
SUMMARY = "Sum of the objectives with equal weights"
PAPER_NAME = "ЛСРВ"


class Equal(Strategy):
    """Equal weights."""

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """The sum."""
        return losses.sum()


def build(objectives: tuple[Objective, ...]) -> Equal:
    """The strategy ``equal``."""
    return Equal()
