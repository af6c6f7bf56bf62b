"""MR26's "classical method": encode each modality, concatenate, classify; no attention, memory or contrastive loss.

Its encoders are those of ``hybrid``, an LSTM a modality after the common encoder, so that the difference between the
two is what ``hybrid`` adds: with every part switched off, ``hybrid`` is ``classical+equal``. Without the LSTMs it is
``concat``, which is early fusion (MR26 equation 1) of vectors.
"""

from __future__ import annotations

from torch import Tensor

from mmbench.modules import Fusion
from mmbench.proposed.hybrid.memory import RecurrentViews

NAME = "classical"
KIND = "fusion"
SUMMARY = "MR26's classical method: the hybrid model's encoders, concatenated"


class Classical(Fusion):
    """The last hidden states side by side: (B, T, N, d) -> (B, N d)."""

    reads_steps = True

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.views = RecurrentViews(modalities, width, width)
        self.out_features = modalities * width

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """Run each LSTM under the mask (B, T, N); a missing modality is a block of zeros."""
        hidden, _ = self.views(views, present)
        last: Tensor = hidden[:, -1].flatten(1)
        return last


def build(modalities: int, width: int) -> Classical:
    """The fusion ``classical``."""
    return Classical(modalities, width)
