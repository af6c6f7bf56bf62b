"""Memory Fusion Network (Zadeh et al., AAAI 2018): (B, T, N, d) -> [h_T of all views ⊕ u_T].

An LSTM a view; over each window of two steps, attention on the cells of all views proposes what two gates write into a
shared memory u; see :class:`mmbench.proposed.hybrid.memory.MfnMemory` for the equations. The original's output layers
are the network's trunk and heads. On vectors a sequence has one step, and the memory is what is written in it.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.contracts import Inside
from mmbench.modules import Fusion
from mmbench.proposed.hybrid.memory import MfnMemory, RecurrentViews, look_at_gates

NAME = "mfn"
KIND = "fusion"
SUMMARY = "Memory fusion network: an LSTM a modality and a shared gated memory"


class MemoryFusion(nn.Module):
    """Sequences (B, T, N, features) with a mask (B, T, N) -> (B, N hidden + memory)."""

    def __init__(self, views: int, features: int, hidden: int, memory: int, layer: int, dropout: float) -> None:
        super().__init__()
        self.views = RecurrentViews(views, features, hidden)
        self.memory = MfnMemory(views * hidden, memory, layer, dropout)
        self.out_features = views * hidden + memory

    def forward(self, views: Tensor, mask: Tensor) -> Tensor:
        """The last hidden states and the last memory."""
        h, c = self.views(views, mask)
        u, _ = self.memory(h.flatten(2), c.flatten(2), mask.any(dim=2))
        return torch.cat([h[:, -1].flatten(1), u[:, -1]], dim=1)


class Mfn(Fusion):
    """The memory fusion: (B, T, N, d) -> (B, N d + memory)."""

    reads_steps = True

    def __init__(self, modalities: int, width: int, memory: int, dropout: float) -> None:
        super().__init__()
        self.fuse = MemoryFusion(modalities, width, width, memory, width, dropout)
        self.out_features = self.fuse.out_features

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """Fuse; ``present`` is the mask (B, T, N)."""
        fused: Tensor = self.fuse(views, present)
        return fused

    def look(self, views: Tensor, present: Tensor, modalities: tuple[str, ...]) -> dict[str, Inside]:
        """The two gates of the memory over time."""
        h, c = self.fuse.views(views, present)
        here = present.any(dim=2)
        gates = self.fuse.memory.trace(h.flatten(2), c.flatten(2), here)[2]
        says = "what the memory keeps (γ1) and what it takes in (γ2) at each step, mean over its units"
        return {"memory gates": look_at_gates(gates, here, modalities, says)}


def build(
    modalities: int,
    width: int,
    *,
    memory: Annotated[int, Field(ge=1, le=4096)] = 64,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3,
) -> Mfn:
    """The fusion ``mfn``; LSTMs and hidden layers are as wide as the network."""
    return Mfn(modalities, width, memory, dropout)
