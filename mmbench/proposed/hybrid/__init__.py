"""Hybrid model of Minukhin & Rudoi (MR26, 2026): early and late fusion, temporal memory, attention, contrastive loss.

Each modality: encoder, then an LSTM. Over the steps a delta memory M (10)-(12) reads all of them, and each is gated by
it; each attends to each other (3), layers weighted (4). Early head (1): the memory and the attended views side by side.
Late heads (2): one a modality, on its own hidden state. Scores: half the early head's, half the mean of the late ones'.

    loss = L_early + sum_m λ_m L_m (8) + 0.3 InfoNCE (5, 9), L cross-entropy, (13) where classes are weighted

Switches, for ablations: ``delta``, ``gated``, ``cross``, ``contrastive``, ``balance=off`` (no late heads at all) and
``class_weights``. With all of them off it is ``classical+equal``. ``memory_update`` reads (12), whose printed sign
contradicts its text: ``convex`` (the text), ``printed``, ``printed_recursive``, ``mfn`` (two gates). Weights of (8):
``fixed`` 1/M, ``inverse`` ∝ 1/L, ``softmax`` ∝ e^L; trained on the same loss they would end on the smallest L alone.
The printed (5) goes one way, from the first modality of a pair to the second; ``symmetric=on`` takes both.

The budget is that of every network, and so are the class weights unless ``class_weights`` is on or off: ``--config
mr26`` gives all methods alike the paper's 20 epochs and (13). ``plateau=on`` divides the learning rate by ten after two
epochs without a better validation objective: the paper says "adaptive" and no more.

On vectors a sequence has one step. Then the readings convex, printed and printed_recursive are one, the attention's
softmax runs over a single key, so that queries and keys learn nothing, and no memory is carried: of the temporal
mechanism only its layers remain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Objective
from mmbench.modules import Strategy
from mmbench.proposed.hybrid.losses import Balance
from mmbench.proposed.hybrid.memory import Update
from mmbench.proposed.hybrid.network import HybridNetwork, Settings
from mmbench.training.model import TrainedModel
from mmbench.training.network import Trainable

NAME = "hybrid"
KIND = "model"
SUMMARY = "Hybrid model (MR26): early and late heads, delta memory, cross-modal attention, contrastive alignment"
ABLATIONS = {
    "delta memory": "delta=off",
    "gated views": "gated=off",
    "cross-modal attention": "cross=off",
    "contrastive alignment": "contrastive=off",
    "modality balance": "balance=off",
    "class weights": "class_weights=off",
}

ClassWeights = Literal["run", "on", "off"]


class Sum(Strategy):
    """The sum of the objectives."""

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """Their sum."""
        return losses.sum()


def _sum(objectives: tuple[Objective, ...]) -> Strategy:
    return Sum()


class Hybrid(TrainedModel):
    """The hybrid network under the loop that trains every network."""

    def __init__(self, settings: Settings, class_weights: ClassWeights, plateau: bool) -> None:
        super().__init__(_sum)
        self.settings, self.class_weights, self.plateau = settings, class_weights, plateau

    def make_network(
        self,
        sizes: dict[str, int],
        sequences: frozenset[str],
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        settings: Training,
    ) -> Trainable:
        """The hybrid network for modalities of these sizes."""
        return HybridNetwork(sizes, heads, concepts, settings.width, settings.dropout, self.settings)

    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        """Train with the run's class weights, or with those that the method's name asks for."""
        if self.class_weights != "run":
            chosen = "balanced" if self.class_weights == "on" else "none"
            context = replace(context, settings=context.settings.model_copy(update={"class_weights": chosen}))
        return super().fit(train, val, context)


def build(
    *,
    delta: bool = True,
    gated: bool = True,
    cross: bool = True,
    contrastive: bool = True,
    balance: Literal[Balance, "off"] = "fixed",
    class_weights: ClassWeights = "run",
    memory_update: Update = "convex",
    heads: Annotated[int, Field(ge=1, le=64)] = 4,
    layers: Annotated[int, Field(ge=1, le=12)] = 2,
    align_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.3,
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.07,
    symmetric: bool = False,
    plateau: bool = False,
) -> Hybrid:
    """The model ``hybrid``."""
    settings = Settings(
        delta, gated, cross, contrastive, balance, memory_update, heads, layers, align_weight, temperature, symmetric
    )
    return Hybrid(settings, class_weights, plateau)
