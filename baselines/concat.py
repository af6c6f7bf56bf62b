"""Early concatenation: z = h_1 ⊕ … ⊕ h_N, (B, N, d) -> (B, N d). A missing modality is a block of zeros."""

from __future__ import annotations

from torch import Tensor

from mmbench.modules import Fusion

NAME = "concat"
KIND = "fusion"
SUMMARY = "Early concatenation of the encoded modalities"
PAPER_NAME = "КЗ"


class Concat(Fusion):
    """The views side by side."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.out_features = modalities * width

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """(B, N, d) -> (B, N d)."""
        return views.flatten(1)


def build(modalities: int, width: int) -> Concat:
    """The fusion ``concat``."""
    return Concat(modalities, width)
