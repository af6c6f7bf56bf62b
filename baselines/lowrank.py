"""Low-rank fusion (Liu et al., ACL 2018): y = sum_r ω_r ⊙_m ([1; h_m] F_m^(r)) + b, (B, N, d) -> (B, d).

It equals the tensor fusion of the same views contracted with W = sum_r ω_r ⊗_m F_m^(r). Factors start at
N(0, 1/(d + 1)) and ω at 1/sqrt(R), so that the product over modalities keeps its scale.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.modules import Fusion

NAME = "lowrank"
KIND = "fusion"
SUMMARY = "Low-rank approximation of tensor fusion"


class LowRank(Fusion):
    """``factors`` (N, R, d + 1, d), ``omega`` (R,), ``bias`` (d,)."""

    min_modalities = 2

    def __init__(self, modalities: int, width: int, rank: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.randn(modalities, rank, width + 1, width) / (width + 1) ** 0.5)
        self.omega = nn.Parameter(torch.full((rank,), rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(width))
        self.out_features = width

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """(B, N, d) -> (B, d)."""
        extended = torch.cat([torch.ones_like(views[..., :1]), views], dim=-1)
        mapped = torch.einsum("bni,nrio->bnro", extended, self.factors)
        return torch.einsum("bro,r->bo", mapped.prod(dim=1), self.omega) + self.bias


def build(modalities: int, width: int, *, rank: Annotated[int, Field(ge=1, le=1024)] = 4) -> LowRank:
    """The fusion ``lowrank``."""
    return LowRank(modalities, width, rank)
