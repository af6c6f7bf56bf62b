"""The network of a fusion and a strategy: encoders by modality -> fusion -> trunk -> heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmbench.contracts import Concept, Inputs
from mmbench.modules import Fusion

PREDICT_ROWS = 512


@dataclass(frozen=True)
class Output:
    """What a network gives for a batch.

    Attributes:
        z: (B, branches, width), the trunk's output.
        branches: by branch, the list of predictions of its heads (the prediction first, then deep supervision), each a
            dictionary concept -> logits (B, K_c).
        logits: by concept (B, K_c), the branches mixed.
    """

    z: Tensor
    branches: list[list[dict[str, Tensor]]]
    logits: dict[str, Tensor]


def encoder(features: int, width: int, dropout: float) -> nn.Module:
    """One modality's vector to the common width: LayerNorm, Linear, ReLU, Dropout."""
    return nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout))


class Network(nn.Module):
    """Encoders -> fusion -> trunk (Linear, ReLU, Dropout) -> heads; trunk and heads once a branch of the fusion.

    Args:
        sizes: features of each modality, in the order in which the fusion sees them.
        fusion: takes (B, N, width).
        heads: makes the heads of one branch from the width.
        concepts: what is predicted.
    """

    def __init__(
        self,
        sizes: dict[str, int],
        fusion: Fusion,
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities = tuple(sizes)
        self.concepts = concepts
        self.encoders = nn.ModuleList(encoder(size, width, dropout) for size in sizes.values())
        self.fusion = fusion
        self.trunks = nn.ModuleList(
            nn.Sequential(nn.Linear(fusion.out_features, width), nn.ReLU(), nn.Dropout(dropout))
            for _ in range(fusion.branches)
        )
        self.heads = nn.ModuleList(heads(width, concepts) for _ in range(fusion.branches))

    def forward(self, inputs: Inputs) -> Output:
        """Predict a batch."""
        present = torch.stack([inputs.present[m] for m in self.modalities], dim=1)
        views = torch.stack([e(inputs.values[m]) for m, e in zip(self.modalities, self.encoders, strict=True)], dim=1)
        fused = self.fusion(views * present.unsqueeze(-1), present)
        if self.fusion.branches == 1:
            fused = fused.unsqueeze(1)
        z = torch.stack([trunk(fused[:, b]) for b, trunk in enumerate(self.trunks)], dim=1)
        branches = [head(z[:, b]) for b, head in enumerate(self.heads)]
        logits = {
            concept.name: self.fusion.mix(
                torch.stack([predictions[0][concept.name] for predictions in branches], dim=1), present, concept.kind
            )
            for concept in self.concepts
        }
        return Output(z, branches, logits)

    def trunk_weights(self) -> list[nn.Parameter]:
        """W: the weights of the last shared layer, one a branch."""
        return [trunk[0].weight for trunk in self.trunks]  # type: ignore[index]


def predict_logits(network: Network, inputs: Inputs) -> dict[str, Tensor]:
    """Logits (n, K_c) by concept in evaluation mode, without gradient, a few hundred rows at a time."""
    network.eval()
    with torch.no_grad():
        chunks = [network(inputs.rows(rows)).logits for rows in torch.split(torch.arange(len(inputs)), PREDICT_ROWS)]
    return {concept.name: torch.cat([chunk[concept.name] for chunk in chunks]) for concept in network.concepts}
