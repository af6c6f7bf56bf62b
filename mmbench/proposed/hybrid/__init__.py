"""Hybrid model of Minukhin & Rudoi (MR26, 2026): early and late fusion, temporal memory, attention, contrastive loss.

Each modality: an encoder of its kind, then an LSTM. A vector is projected; a sequence goes through a transformer of
``depth`` layers; a video through 3-D convolutions where it comes as pictures (``--encoders video=pixels``), and
through the projection where it comes as vectors of its frames. Over the steps a delta memory M (10)-(12) reads all
modalities, and each is gated by it; each attends to each other (3), layers weighted (4). Early head (1): the memory and
the attended views side by side. Late heads (2): one a modality, on its own hidden state. Scores: half the early head's,
half the mean of the late ones'.

    loss = L_early + sum_m λ_m L_m (8) + 0.3 InfoNCE (5, 9), L cross-entropy, (13) where classes are weighted

Switches, for ablations: ``encoders`` (off: the projection for every kind), ``delta``, ``gated``, ``cross``,
``contrastive``, ``balance=off`` (no late heads at all) and ``class_weights``. With all of them off it is
``classical+equal``. ``memory_update`` reads (12), whose printed sign contradicts its text: ``convex`` (the text),
``printed``, ``printed_recursive``, ``mfn`` (two gates). Weights of (8): ``fixed`` 1/M, ``inverse`` ∝ 1/L, ``softmax``
∝ e^L; trained on the same loss they would end on the smallest L alone.
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
from mmbench.contracts import Concept, Examples, FitContext, Modality, Objective
from mmbench.modules import Strategy
from mmbench.proposed.hybrid.encoders import Kind
from mmbench.proposed.hybrid.losses import Balance
from mmbench.proposed.hybrid.memory import Update
from mmbench.proposed.hybrid.network import HybridNetwork, Settings
from mmbench.training.model import TrainedModel
from mmbench.training.network import Trainable

NAME = "hybrid"
KIND = "model"
SUMMARY = "Hybrid model (MR26): early and late heads, delta memory, cross-modal attention, contrastive alignment"
ABLATIONS = {
    "encoders by kind": "encoders=off",
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
        self.streams: tuple[Modality, ...] = ()

    def make_network(
        self,
        sizes: dict[str, int],
        sequences: frozenset[str],
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        settings: Training,
    ) -> Trainable:
        """The hybrid network for modalities of these sizes."""
        kinds: dict[str, Kind] = dict.fromkeys(sequences, "sequence")
        for stream in self.streams:
            if stream.kind == "video" and stream.name in sequences:
                kinds[stream.name] = "frames" if stream.encoder.partition(":")[0] == "pixels" else "video"
        return HybridNetwork(sizes, heads, concepts, settings.width, settings.dropout, self.settings, kinds)

    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        """Train with the run's class weights, or with those that the method's name asks for."""
        self.streams = context.modalities
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
    encoders: bool = True,
    depth: Annotated[int, Field(ge=1, le=12)] = 1,
    plateau: bool = False,
) -> Hybrid:
    """The model ``hybrid``."""
    settings = Settings(
        delta, gated, cross, contrastive, balance, memory_update, heads, layers, align_weight, temperature, symmetric,
        encoders, depth,
    )  # fmt: skip
    return Hybrid(settings, class_weights, plateau)
