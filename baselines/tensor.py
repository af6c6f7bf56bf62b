"""Tensor fusion network (Zadeh et al., EMNLP 2017): z = vec(⊗_m [1; h_m]), the first modality slowest.

Each view is first projected to d_t = min(32, floor(2^(20/N)) - 1) and normalised, so that the product has at most
2^20 entries and neither explodes nor vanishes. (B, N, d) -> (B, (d_t + 1)^N). From thirteen modalities on d_t would be
1, which LayerNorm makes constant: such a fusion is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.errors import UsageError
from mmbench.modules import Fusion

NAME = "tensor"
KIND = "fusion"
SUMMARY = "Tensor fusion: the outer product of all modalities, each with a constant 1 appended"
PAPER_NAME = "ТМЗ"

MOST_MODALITIES = 12


def outer_product(views: list[Tensor]) -> Tensor:
    """[1; h_1] ⊗ … ⊗ [1; h_N], flattened: N tensors (B, d_m) -> (B, prod (d_m + 1))."""
    fused = torch.ones_like(views[0][:, :1])
    for view in views:
        extended = torch.cat([torch.ones_like(view[:, :1]), view], dim=1)
        fused = torch.einsum("bi,bj->bij", fused, extended).flatten(1)
    return fused


class TensorFusion(Fusion):
    """Projection, LayerNorm, outer product; a missing modality leaves the products without it."""

    min_modalities = 2

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        if modalities > MOST_MODALITIES:
            raise UsageError(
                f"tensor fuses at most {MOST_MODALITIES} modalities and was given {modalities}: "
                "name fewer with --modalities, or use lowrank"
            )
        size = min(32, int(2 ** (20 / modalities)) - 1)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(width, size), nn.LayerNorm(size)) for _ in range(modalities)
        )
        self.out_features = (size + 1) ** modalities

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """(B, N, d) -> (B, (d_t + 1)^N)."""
        return outer_product([p(views[:, m]) * present[:, m, None] for m, p in enumerate(self.project)])


def build(modalities: int, width: int) -> TensorFusion:
    """The fusion ``tensor``."""
    return TensorFusion(modalities, width)
