"""Cross-modal attention between all ordered pairs of views, MR26 (3) and (4)."""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor, nn

from mmbench.contracts import Inside
from mmbench.modules import shown
from mmbench.training.attention import MultiHeadAttention


class PairAttention(nn.Module):
    """What one view finds in another: Z = sum_l softmax(a)_l A_l over L layers, a = 0 at the start (4).

    A_l attends from q_(l-1) to the other view, both normalised; q_l = q_(l-1) + A_l, and q_0 is the view itself.
    """

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MultiHeadAttention(width, heads) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.norm_other = nn.LayerNorm(width)
        self.scores = nn.Parameter(torch.zeros(layers))

    def forward(self, view: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """view (B, S, width), other (B, T, width) with mask (B, T) bool -> (B, S, width)."""
        return self.trace(view, other, mask)[0]

    def trace(self, view: Tensor, other: Tensor, mask: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """What ``forward`` gives, and each layer's weight and attention, (B, heads, S, T)."""
        keys = self.norm_other(other)
        found, seen = torch.zeros_like(view), []
        for layer, norm, weight in zip(self.layers, self.norms, torch.softmax(self.scores, dim=0), strict=True):
            attended, attention = layer(norm(view), keys, mask)
            found = found + weight * attended
            seen.append((weight, attention))
            view = view + attended
        return found, seen

    def attention(self, view: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Where the view looks in the other one: (B, S, T), mean over heads, layers by their weights."""
        seen = self.trace(view, other, mask)[1]
        return torch.stack([weight * attention.mean(dim=1) for weight, attention in seen]).sum(dim=0)


class CrossModal(nn.Module):
    """Each view plus the mean of what it finds in the other views that are there.

    With one step a view the softmax runs over one key: its weights are one, queries and keys get no gradient, and a
    pair is a linear map of the other view.
    """

    def __init__(self, views: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.pairs = list(permutations(range(views), 2))
        self.attend = nn.ModuleList(PairAttention(width, heads, layers) for _ in self.pairs)

    def forward(self, queries: Tensor, views: Tensor, mask: Tensor) -> Tensor:
        """queries (B, S, N, width), views (B, T, N, width), mask (B, T, N) bool -> (B, S, N, width).

        A view that has no step at all stays as it is.
        """
        present = mask.any(dim=1)
        total = list(torch.zeros_like(queries).unbind(dim=2))
        for (i, j), attend in zip(self.pairs, self.attend, strict=True):
            total[i] = total[i] + attend(queries[:, :, i], views[:, :, j], mask[:, :, j])
        others = (present.sum(dim=1, keepdim=True) - present.long()).clamp(min=1)
        found = torch.stack(total, dim=2) / others[:, None, :, None]
        return queries + found * present[:, None, :, None]

    def look(self, queries: Tensor, views: Tensor, mask: Tensor, modalities: tuple[str, ...]) -> dict[str, Inside]:
        """Where the last of the queries of each view looks in each other view, and the layers' weights of each pair."""
        seen, weights = [], []
        for (i, j), attend in zip(self.pairs, self.attend, strict=True):
            assert isinstance(attend, PairAttention)
            seen.append(attend.attention(queries[:, -1:, i], views[:, :, j], mask[:, :, j])[:, 0])
            weights.append(torch.softmax(attend.scores, dim=0))
        first, second = torch.tensor(self.pairs, device=mask.device).T
        both = mask.any(dim=1)[:, first] & mask.any(dim=1)[:, second]
        there = mask.transpose(1, 2)[:, second] & both.unsqueeze(-1)
        pairs = tuple(f"{modalities[i]} → {modalities[j]}" for i, j in self.pairs)
        says = "attention (3) of the last step over the other modality's steps, mean over heads, layers weighted (4)"
        found = {
            "cross-modal attention": Inside(
                says, shown(torch.stack(seen, dim=1), there), pairs, modalities, shares=True
            )
        }
        layers = len(weights[0])
        if layers > 1:
            says = (
                "weights of the attention's layers (4), learned for each pair of modalities: the same for every sample"
            )
            places = tuple(f"{pair}, layer {layer}" for pair in pairs for layer in range(1, layers + 1))
            values = torch.stack(weights).flatten().expand(len(mask), -1)
            found["layer weights"] = Inside(says, shown(values, both.repeat_interleave(layers, dim=1)), places)
        return found
