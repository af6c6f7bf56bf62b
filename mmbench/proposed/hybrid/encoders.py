"""What a modality goes through before the recurrent views, by kind: projection, transformer, or 3-D convolutions."""

from __future__ import annotations

from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn

from mmbench.training.attention import MultiHeadAttention, feed_forward
from mmbench.training.network import encoder

Kind = Literal["vector", "sequence", "video", "frames"]
CHANNELS = 3
STEM = (32, 64)


def positions(steps: int, width: int) -> Tensor:
    """Sines and cosines of geometric wavelengths (Vaswani et al. 2017): (steps, width) float64."""
    place = torch.arange(steps, dtype=torch.float64).unsqueeze(1)
    column = torch.arange(width, dtype=torch.float64)
    angle = place * 10_000.0 ** (-2 * (column // 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


class Layer(nn.Module):
    """A transformer layer, normalised where it is entered: x + MHA(x), then x + FFN(x), FFN 4 d wide with GELU."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = MultiHeadAttention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.feed = feed_forward(width, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, width) with the steps that are there, bool (B, T)."""
        normed = self.norm(x)
        x = x + self.dropout(self.attend(normed, normed, mask)[0])
        found: Tensor = x + self.feed(x)
        return found


class StepTransformer(nn.Module):
    """The common encoder at each step, times sqrt(width), positions added, then transformer layers over the steps.

    The factor is Vaswani et al.'s (2017, section 3.4): without it the positions are larger than what a step holds.
    """

    def __init__(self, features: int, width: int, dropout: float, heads: int, depth: int) -> None:
        super().__init__()
        self.project = encoder(features, width, dropout)
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(depth))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, T, features) with the steps that are there, bool (B, T) -> (B, T, width), zero where none is."""
        x = self.project(values)
        x = x * x.shape[2] ** 0.5 + positions(x.shape[1], x.shape[2]).to(x)
        for layer in self.layers:
            x = layer(x, mask)
        found: Tensor = x * mask.unsqueeze(-1)
        return found


class FrameStem(nn.Module):
    """3-D convolutions over flattened square frames, MR26's stem: 3 x 3 x 3 to 32, halved, 3 x 3 x 3 to 64, halved.

    Time keeps its length; space is averaged at the end. Frames that are not there are zero to each convolution, as what
    lies before the first and behind the last is.
    """

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.side = isqrt(features // CHANNELS)
        if CHANNELS * self.side**2 != features:
            raise ValueError(f"{features} features are no square frame of {CHANNELS} channels")
        channels = (CHANNELS, *STEM)
        self.convolutions = nn.ModuleList(
            nn.Conv3d(below, here, 3, padding=1) for below, here in zip(channels, STEM, strict=False)
        )
        self.halve = nn.MaxPool3d((1, 2, 2))
        self.project = encoder(STEM[-1], width, dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, T, 3 · side · side) with the frames that are there, bool (B, T) -> (B, T, width), zero where none is."""
        x = values.reshape(*mask.shape, CHANNELS, self.side, self.side).transpose(1, 2)
        there = mask[:, None, :, None, None]
        for convolve in self.convolutions:
            x = self.halve(torch.relu(convolve(x * there)))
        found: Tensor = self.project(x.mean(dim=(3, 4)).transpose(1, 2)) * mask.unsqueeze(-1)
        return found


def make_encoder(kind: Kind, features: int, width: int, dropout: float, heads: int, depth: int) -> nn.Module:
    """What MR26 gives a modality: a transformer a sequence, a convolution stem a video, a projection a vector.

    A video that comes as vectors of its frames has the projection at each; the recurrent views are its LSTM.
    """
    if kind == "sequence":
        return StepTransformer(features, width, dropout, heads, depth)
    if kind == "frames":
        return FrameStem(features, width, dropout)
    return encoder(features, width, dropout)
