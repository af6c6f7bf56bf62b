"""One network an objective: no sharing, the row that a multi-task gain is measured against."""

from __future__ import annotations

from torch import Tensor

from mmbench.contracts import Objective
from mmbench.modules import Strategy

NAME = "single"
KIND = "strategy"
SUMMARY = "A network of its own for every objective"


class Single(Strategy):
    """Each network sees its one objective."""

    separate = True

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """The one loss."""
        return losses.sum()


def build(objectives: tuple[Objective, ...]) -> Single:
    """The strategy ``single``."""
    return Single()
