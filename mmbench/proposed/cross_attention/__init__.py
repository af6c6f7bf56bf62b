"""Cross-attention between modalities with dynamic weights and a joint objective (AI25).

The paper names its parts (ResNet-50 and BERT-base, multi-head attention between them, weighting by context, modality-
specific and joint objectives) and gives no equation, data or figure; what follows is this project's reading.

Each modality is a sequence of steps, a vector one step. Each step: LayerNorm, Linear to d, plus its modality's own
embedding. Two blocks (``layers``) of 8 ``heads``, normalised where they are entered (pre-LN):

    T' = T + MHA(T, V, V)    V' = V + MHA(V, T, T)    then each X' + FFN(X'), FFN 4 d wide, ``dropout`` .1

Masked means over the steps, t and v; weights g = softmax(W_2 ReLU(W_1 [t; v])); joint vector g_t t + g_v v.

    loss = L_joint + λ_u (L_t + L_v) + λ_c InfoNCE(t, v)

λ_u is ``unimodal_weight``, .3; λ_c is ``contrastive_weight``, 0. Predictions are the joint branch's alone. Of more than
two modalities each attends to every other, and takes the mean over those that are there; a missing one has no keys, no
weight and no loss. The width is the run's, or ``width`` where it is not 0; the paper's size would be 512. The budget is
that of every network.

Switches, for ablations: ``cross`` (no attention; the feed-forward layers stay), ``gates`` (the plain mean of the
modalities present), ``unimodal`` (no heads on one modality).

Steps come from encoders that keep them: ``--encoders text=hf:bert-base-uncased:pool=none,
image=hf:microsoft/resnet-50:pool=none``. On vectors a modality is one step: attention has a single key, its queries and
keys learn nothing, and a pair of modalities exchanges a linear map.

``finetune=on`` (the flag ``--finetune``) trains the checkpoints of texts and images with it, all tokens and places of
them, whatever their ``pool``; other modalities keep their features. It has a budget of its own, the paper's: AdamW,
``backbone_rate`` 2e-5 for the checkpoints and ``rate`` 1e-4 for the rest, rising over ``warmup`` 10 % of the steps and
then falling to zero (as BERT does it; the paper is silent), at most ``max_epochs`` 10 and the run's; ``decay`` of
matrices .01. A batch is the run's; ``micro_batch`` rows of it at a time go through the checkpoints (0: all), which
changes memory and not the gradient. ``precision``: on a GPU bf16, or fp16 with scaled gradients where it has no bf16;
float32 on a CPU. Batch normalisation keeps the checkpoint's statistics. Each epoch's state is kept until the cell is
stored: the same command goes on with a training that was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Modality
from mmbench.modules import Strategy
from mmbench.proposed.cross_attention import end_to_end
from mmbench.proposed.cross_attention.end_to_end import EndToEnd, Precision, Recipe
from mmbench.proposed.cross_attention.network import CrossAttentionNetwork, Settings
from mmbench.proposed.hybrid import Sum
from mmbench.training.model import TrainedModel
from mmbench.training.network import Trainable
from mmbench.training.optimiser import Optimiser

NAME = "xattn"
KIND = "model"
SUMMARY = "Cross-attention model (AI25): bidirectional attention over tokens, dynamic weights, joint objective"
ABLATIONS = {
    "cross-attention": "cross=off",
    "dynamic weights": "gates=off",
    "unimodal objectives": "unimodal=off",
}

Count = Annotated[int, Field(ge=1, le=64)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CrossAttention(TrainedModel):
    """The cross-attention network under the loop that trains every network; ``width`` 0 is the run's."""

    def __init__(self, settings: Settings, width: int) -> None:
        super().__init__(lambda objectives: Sum())
        self.settings, self.width = settings, width

    def make_network(
        self,
        sizes: dict[str, int],
        sequences: frozenset[str],
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        settings: Training,
    ) -> Trainable:
        """The cross-attention network for modalities of these sizes."""
        width = self.width or settings.width
        return CrossAttentionNetwork(sizes, heads, concepts, width, settings.dropout, self.settings)


class FineTuned(CrossAttention):
    """The same with the checkpoints of its texts and images in it."""

    resumes = True

    def __init__(self, settings: Settings, width: int, recipe: Recipe) -> None:
        super().__init__(settings, width)
        self.recipe = recipe
        self.streams: tuple[Modality, ...] = ()

    def wants_raw(self, modalities: tuple[Modality, ...]) -> frozenset[str]:
        """Its texts and images with a checkpoint."""
        return end_to_end.trainable(modalities)

    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        """Train with the paper's budget, in the precision of the device."""
        self.streams = tuple(m for m in context.modalities if m.name in train.inputs.raw)
        self.recipe = self.recipe.on(context.device)
        epochs = min(context.settings.epochs, self.recipe.max_epochs)
        context = replace(context, settings=context.settings.model_copy(update={"epochs": epochs}))
        history = super().fit(train, val, context)
        return {**history, **end_to_end.described(self.recipe, self.streams)}

    def make_network(
        self,
        sizes: dict[str, int],
        sequences: frozenset[str],
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        settings: Training,
    ) -> Trainable:
        """The network with its backbones."""
        width = self.width or settings.width
        return EndToEnd(self.streams, sizes, heads, concepts, width, settings.dropout, self.settings, self.recipe)

    def make_optimiser(self, network: Trainable, strategy: Strategy, settings: Training, rows: int) -> Optimiser:
        """AdamW with two rates, warmed up."""
        assert isinstance(network, EndToEnd)
        return end_to_end.make_optimiser(network, strategy, self.recipe, settings, rows)


def build(
    *,
    cross: bool = True,
    gates: bool = True,
    unimodal: bool = True,
    heads: Count = 8,
    layers: Annotated[int, Field(ge=1, le=12)] = 2,
    width: Annotated[int, Field(ge=0, le=4096)] = 0,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    unimodal_weight: Weight = 0.3,
    contrastive_weight: Weight = 0.0,
    temperature: Rate = 0.07,
    finetune: bool = False,
    backbone_rate: Rate = Recipe.backbone_rate,
    rate: Rate = Recipe.rate,
    warmup: Annotated[float, Field(ge=0, le=1)] = Recipe.warmup,
    max_epochs: Annotated[int, Field(ge=1)] = Recipe.max_epochs,
    decay: Weight = Recipe.decay,
    micro_batch: Annotated[int, Field(ge=0)] = Recipe.micro_batch,
    precision: Precision = Recipe.precision,
) -> CrossAttention:
    """The model ``xattn``.

    Raises:
        ValueError: a setting of the fine-tuning without it.
    """
    recipe = Recipe(backbone_rate, rate, warmup, max_epochs, decay, micro_batch, precision)
    settings = Settings(
        cross, gates, unimodal, heads, layers, dropout, unimodal_weight, contrastive_weight, temperature
    )
    if finetune:
        return FineTuned(settings, width, recipe)
    if recipe != Recipe():
        raise ValueError("its rates, warm-up, decay, micro-batches and precision are for finetune=on")
    return CrossAttention(settings, width)
