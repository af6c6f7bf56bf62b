"""Reference row: the network of ``concat+equal`` on one modality alone."""

from __future__ import annotations

from torch import Tensor

from mmbench.contracts import Objective
from mmbench.modules import Fusion, Strategy
from mmbench.training.model import NetworkModel

NAME = "only"
KIND = "model"
SUMMARY = "The same network on one modality, objectives summed: what the others add is measured against it"


class Alone(Fusion):
    """One view passes through: (B, 1, d) -> (B, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_features = width

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """The only view."""
        return views[:, 0]


class Sum(Strategy):
    """The sum of the objectives."""

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """Their sum."""
        return losses.sum()


def _sum(objectives: tuple[Objective, ...]) -> Strategy:
    return Sum()


def build(*, modality: str) -> NetworkModel:
    """The reference row ``only:<modality>``."""
    return NetworkModel(lambda modalities, width: Alone(width), _sum, (modality,))
