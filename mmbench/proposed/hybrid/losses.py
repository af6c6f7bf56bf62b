"""The loss terms of MR26 besides cross-entropy: contrastive alignment (5) and the balance of modalities (8)."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

Balance = Literal["fixed", "inverse", "softmax"]
SMALLEST_LOSS = 1e-8


def info_nce(first: Tensor, second: Tensor, temperature: float, symmetric: bool = False) -> Tensor:
    """(5): -mean_i log softmax_j(cos(a_i, b_j) / τ) at j = i, for a and b (n, d); symmetric: the mean of both ways.

    0 for one row; ln n where all rows are alike; ln(1 + (n - 1) e^(-1/τ)) for orthonormal pairs.
    """
    logits = normalize(first, dim=1) @ normalize(second, dim=1).T / temperature
    same = torch.arange(len(logits), device=logits.device)
    loss = cross_entropy(logits, same)
    return (loss + cross_entropy(logits.T, same)) / 2 if symmetric else loss


def alignment(embeddings: Tensor, present: Tensor, temperature: float, symmetric: bool = False) -> Tensor:
    """The mean of (5) over the pairs of views, each over the rows that have both.

    Args:
        embeddings: (B, N, d).
        present: bool (B, N).
        temperature: τ.
        symmetric: both directions of a pair; (5) as printed goes from the first to the second alone.

    Returns:
        A scalar; 0 where no pair has two rows.
    """
    losses = []
    for i, j in combinations(range(embeddings.shape[1]), 2):
        both = present[:, i] & present[:, j]
        if both.sum() > 1:
            losses.append(info_nce(embeddings[both, i], embeddings[both, j], temperature, symmetric))
    return torch.stack(losses).mean() if losses else embeddings.new_zeros(())


def balance_weights(losses: Tensor, mode: Balance) -> Tensor:
    """λ of (8), (M,), detached and summing to one, from the modalities' losses L (M,).

    fixed: 1 / M; inverse: λ ∝ 1 / L; softmax: λ ∝ e^L, more for the modality that is behind. λ trained on the same loss
    would end on the smallest L alone.
    """
    losses = losses.detach()
    if mode == "softmax":
        return torch.softmax(losses, dim=0)
    weights = torch.ones_like(losses) if mode == "fixed" else 1 / losses.clamp(min=SMALLEST_LOSS)
    return weights / weights.sum()
