"""Homoscedastic uncertainty (Kendall, Gal & Cipolla, CVPR 2018): L = sum_t L_t / (2 e^{s_t}) + s_t / 2.

s_t is learned with the network; its optimum for a fixed loss is e^{s_t} = L_t. It starts at -0.5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.contracts import Objective
from mmbench.modules import Strategy

NAME = "uncertainty"
KIND = "strategy"
SUMMARY = "Weights from learned homoscedastic uncertainty"


class Uncertainty(Strategy):
    """``log_variance`` (T,) is s."""

    def __init__(self, objectives: int) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.full((objectives,), -0.5))

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """The penalised sum over the active objectives."""
        s = self.log_variance[active]
        return (losses * torch.exp(-s) / 2 + s / 2).sum()

    def loss_weights(self) -> Tensor:
        """1 / (2 e^{s_t})."""
        return torch.exp(-self.log_variance.detach()) / 2


def build(objectives: tuple[Objective, ...]) -> Uncertainty:
    """The strategy ``uncertainty``."""
    return Uncertainty(len(objectives))
