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
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import nn

from mmbench.config import Training
from mmbench.contracts import Concept
from mmbench.proposed.cross_attention.network import CrossAttentionNetwork, Settings
from mmbench.proposed.hybrid import Sum
from mmbench.training.model import TrainedModel
from mmbench.training.network import Trainable

NAME = "xattn"
KIND = "model"
SUMMARY = "Cross-attention model (AI25): bidirectional attention over tokens, dynamic weights, joint objective"

Count = Annotated[int, Field(ge=1, le=64)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.07,
) -> CrossAttention:
    """The model ``xattn``."""
    settings = Settings(
        cross, gates, unimodal, heads, layers, dropout, unimodal_weight, contrastive_weight, temperature
    )
    return CrossAttention(settings, width)
