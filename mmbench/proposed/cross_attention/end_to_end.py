"""Cross-attention over checkpoints that are trained with it: the network, and what moves its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmbench.config import Training
from mmbench.contracts import Concept, Inputs, Modality
from mmbench.errors import UsageError
from mmbench.modules import Strategy
from mmbench.proposed.cross_attention.network import CrossAttentionNetwork, Settings
from mmbench.training.network import Output
from mmbench.training.optimiser import Optimiser, warm_up

Precision = Literal["auto", "float32", "bf16", "fp16"]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """How it is trained; ``mmbench info xattn`` tells what each means."""

    backbone_rate: float = 2e-5
    rate: float = 1e-4
    warmup: float = 0.1
    max_epochs: int = 10
    decay: float = 0.01
    micro_batch: int = 16
    precision: Precision = "auto"

    def on(self, device: str) -> Recipe:
        """With the precision that ``auto`` means on a device: half of it on a GPU."""
        if self.precision != "auto":
            return self
        if torch.device(device).type != "cuda":
            return replace(self, precision="float32")
        return replace(self, precision="bf16" if torch.cuda.is_bf16_supported() else "fp16")


def trainable(modalities: tuple[Modality, ...]) -> frozenset[str]:
    """The modalities whose encoder can be trained: texts and images with a checkpoint of transformers.

    Raises:
        UsageError: none.
    """
    found = frozenset(m.name for m in modalities if m.kind in ("text", "image") and m.encoder.partition(":")[0] == "hf")
    if not found:
        given = ", ".join(f"{m.name}={m.encoder}" for m in modalities)
        raise UsageError(
            f"xattn:finetune=on trains checkpoints of texts and images, and was given {given}: name some, for example "
            "--encoders text=hf:bert-base-uncased,image=hf:microsoft/resnet-50"
        )
    return found


class EndToEnd(CrossAttentionNetwork):
    """The cross-attention network on what its backbones make of the raw inputs; other modalities come as features.

    Below ``precision`` matrix products are computed in half of it (torch.autocast); logits and losses never are.
    """

    def __init__(
        self,
        streams: tuple[Modality, ...],
        sizes: dict[str, int],
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        width: int,
        dropout: float,
        settings: Settings,
        recipe: Recipe,
    ) -> None:
        from mmbench.proposed.cross_attention.backbones import Backbones, backbone  # image readers: half a second

        backbones = {stream.name: backbone(stream) for stream in streams}
        sizes = sizes | {name: one.features for name, one in backbones.items()}
        super().__init__(sizes, heads, concepts, width, dropout, settings)
        self.backbones = Backbones(backbones, recipe.micro_batch)
        self.lower = HALVES.get(recipe.precision)

    def tokens(self, inputs: Inputs) -> tuple[list[Tensor], list[Tensor]]:
        """What the backbones make of the raw inputs, and features of the others."""
        return super().tokens(self.backbones(inputs))

    def forward(self, inputs: Inputs) -> Output:
        """Predict a batch of raw inputs, in float32."""
        kind = next(iter(inputs.present.values())).device.type
        with torch.autocast(kind, self.lower, enabled=self.lower is not None):
            output = super().forward(inputs)
        if self.lower is None:
            return output
        return Output(
            output.z.float(),
            [[_full(prediction) for prediction in branch] for branch in output.branches],
            _full(output.logits),
            None if output.penalty is None else output.penalty.float(),
        )


def _full(logits: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: found.float() for name, found in logits.items()}


def make_optimiser(network: EndToEnd, strategy: Strategy, recipe: Recipe, settings: Training, rows: int) -> Optimiser:
    """AdamW: a small rate for the backbones, a larger one for the rest; weights decay, biases and norms do not.

    The rates rise over a share of all steps and then fall to zero at the last epoch allowed.
    """
    inner = {id(p) for p in network.backbones.parameters()}
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for p in (*network.parameters(), *strategy.parameters()):
        if p.requires_grad:
            groups.setdefault((id(p) in inner, p.ndim > 1), []).append(p)
    adam = torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": recipe.backbone_rate if within else recipe.rate,
                "weight_decay": recipe.decay if matrix else 0.0,
            }
            for (within, matrix), parameters in groups.items()
        ],
        fused=True,
    )
    device = next(network.parameters()).device.type
    scaler = torch.amp.GradScaler(device) if recipe.precision == "fp16" else None
    steps = settings.epochs * -(-rows // settings.batch_size)
    return Optimiser(adam, rate=warm_up(recipe.warmup, steps), scaler=scaler)


def described(recipe: Recipe, streams: tuple[Modality, ...]) -> dict[str, Any]:
    """For the history: what was trained, and in which precision."""
    return {"precision": recipe.precision, "trained": {stream.name: stream.encoder for stream in streams}}
