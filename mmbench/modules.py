"""The part of the contracts that is made of torch modules: what a fusion and a strategy implement.

A network is encoders -> fusion -> trunk -> heads. A plug-in file names itself with the constants ``NAME``, ``KIND``
("fusion", "strategy" or "model") and ``SUMMARY``, and offers ``build``; the keyword-only parameters of ``build``,
with their annotations and defaults, are the parameters of the selector (``igfn:delta=0.1``).

    fusion:    build(modalities: int, width: int, *, ...) -> Fusion
    strategy:  build(objectives: tuple[Objective, ...], *, ...) -> Strategy
    model:     build(*, ...) -> Model
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmbench.contracts import Concept, ConceptKind, Inside


class Fusion(nn.Module):
    """Encoded modalities to one vector, or to one vector a branch.

    Attributes:
        out_features: D, the width of the fused vector.
        branches: how many vectors a sample gets; each has a trunk, heads and losses of its own, and ``mix`` joins their
            logits. As many as modalities are one a modality, in their order, each trained on the rows that have it; any
            other number are all trained on every row.
        learns_mix: True has the losses of the mixed logits added, for a ``mix`` with parameters.
        min_modalities: a fusion that needs two modalities says so here.
        reads_steps: True has ``forward`` given sequences, aligned, (B, T, N, d) with a mask (B, T, N); vectors are
            sequences of one step. Otherwise the network reduces every sequence to a vector first.
    """

    out_features: int
    branches: int = 1
    learns_mix: bool = False
    min_modalities: ClassVar[int] = 1
    reads_steps: ClassVar[bool] = False

    @abstractmethod
    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """Fuse.

        Args:
            views: (B, N, d) float; the row of a missing modality is zero.
            present: (B, N) bool.

        Returns:
            (B, D), or (B, branches, D) where ``branches`` > 1.
        """

    def mix(self, logits: Tensor, present: Tensor, kind: ConceptKind) -> Tensor:
        """Join the logits of several branches, (B, branches, K) -> (B, K); one branch has nothing to join.

        Of a score, K is 1 and what is joined are numbers on its standardised scale.
        """
        raise NotImplementedError(f"a fusion of {self.branches} branches defines mix, which joins their logits")

    def look(self, views: Tensor, present: Tensor, modalities: tuple[str, ...]) -> dict[str, Inside]:
        """What the fusion shows of its inside, by name, given what ``forward`` is given and the modalities' names."""
        return {}


class LinearHeads(nn.Module):
    """One linear layer a concept: (B, width) -> K_c logits."""

    def __init__(self, width: int, concepts: tuple[Concept, ...]) -> None:
        super().__init__()
        self.names = [concept.name for concept in concepts]
        self.layers = nn.ModuleList(nn.Linear(width, len(concept.labels)) for concept in concepts)

    def forward(self, z: Tensor) -> list[dict[str, Tensor]]:
        """One prediction: logits (B, K_c) by concept."""
        return [{name: layer(z) for name, layer in zip(self.names, self.layers, strict=True)}]


class Strategy(nn.Module):
    """How several objectives are trained together; the loop asks it to combine their losses once a step.

    Attributes:
        gradients: whose gradients the Gramian is taken of: ``"none"`` (it is not computed), ``"features"`` (Z, the
            trunk's output over the whole batch), ``"trunk"`` (W, the weight of the last shared layer) or ``"heads"``.
        separate: True trains one network an objective.
        focus: the exponent beta of the focal factor (1 - p)^beta in every objective but a score's; 0 is plain
            cross-entropy.

    Parameters of a strategy are trained with the network's optimiser.
    """

    gradients: Literal["none", "features", "trunk", "heads"] = "none"
    separate: ClassVar[bool] = False
    focus: float = 0.0

    @abstractmethod
    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """The scalar to differentiate.

        Args:
            losses: (A,) unweighted mean losses, with graph, of the objectives that have labels in this batch.
            active: (A,) int64, their places in the list of objectives.
            gramian: (A, A) float64 inner products of the losses' gradients, or None where ``gradients`` is "none".
        """

    def end_epoch(self, mean_losses: Tensor) -> None:
        """Told the epoch's mean unweighted training losses, (T,) float64; nan where an objective never had a label."""

    def loss_weights(self) -> Tensor | None:
        """The current weights, (T,), for the history; None where they are all one."""
        return None

    def candidates(self, seed: int) -> Sequence[Strategy]:
        """What is trained, each in a training of its own; the one with the lowest validation objective is kept."""
        return (self,)

    def heads(self, width: int, concepts: tuple[Concept, ...]) -> nn.Module:
        """A module (B, width) -> list of {concept: logits (B, K_c)}: the prediction first, then deep supervision."""
        return LinearHeads(width, concepts)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis within ``mask`` (bool, same shape); 0 elsewhere, and a row without any is all 0."""
    filled = scores.masked_fill(~mask, -torch.inf)
    weights = torch.softmax(torch.where(mask.any(-1, keepdim=True), filled, torch.zeros_like(filled)), dim=-1)
    return weights * mask


def shown(values: Tensor, there: Tensor) -> NDArray[np.float32]:
    """The values of an :class:`Inside`, NaN where ``there`` (bool, broadcast to their shape) does not hold."""
    array: NDArray[np.float32] = values.detach().float().masked_fill(~there, torch.nan).cpu().numpy()
    return array
