"""The network of AI25: projections, bidirectional cross-attention, pooling, gates, joint and unimodal heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor, nn

from mmbench.contracts import Concept, Examples, Inputs, Inside
from mmbench.modules import masked_softmax, shown
from mmbench.proposed.hybrid.losses import alignment
from mmbench.training.attention import MultiHeadAttention, feed_forward
from mmbench.training.losses import Measure
from mmbench.training.network import Output, Trainable, labelled_where, trunk


@dataclass(frozen=True)
class Settings:
    """One reading of the model; ``mmbench info xattn`` tells what each means."""

    cross: bool = True
    gates: bool = True
    unimodal: bool = True
    heads: int = 8
    layers: int = 2
    dropout: float = 0.1
    unimodal_weight: float = 0.3
    contrastive_weight: float = 0.0
    temperature: float = 0.07


class Block(nn.Module):
    """Every modality attends to each other one, all at once, then goes through a feed-forward layer of its own.

        T' = T + MHA(T, V, V)    V' = V + MHA(V, T, T)    T'' = T' + FFN(T')    V'' = V' + FFN(V')

    All are normalised where they enter MHA and FFN (pre-LN); a modality has one norm as query, key and value. Of more
    than two modalities each takes the mean over what it finds in the others that are there, by a MHA for each ordered
    pair. FFN: Linear to 4 d, GELU, Linear; dropout after MHA and FFN.
    """

    def __init__(self, modalities: int, width: int, settings: Settings) -> None:
        super().__init__()
        self.pairs = list(permutations(range(modalities), 2)) if settings.cross else []
        self.attend = nn.ModuleList(MultiHeadAttention(width, settings.heads) for _ in self.pairs)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(modalities if self.pairs else 0))
        self.dropout = nn.Dropout(settings.dropout)
        self.feed = nn.ModuleList(feed_forward(width, settings.dropout) for _ in range(modalities))

    def forward(
        self, tokens: Sequence[Tensor], masks: Sequence[Tensor], seen: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Tokens (B, T_m, d) and masks, bool (B, T_m), of each modality -> tokens of the same shapes.

        Where a sample has no other modality its tokens see the feed-forward layer alone. ``seen`` is given each pair's
        attention, (B, heads, T_i, T_j).
        """
        found: list[list[Tensor]] = [[] for _ in tokens]
        normed = [norm(x) for norm, x in zip(self.norms, tokens, strict=True)] if self.pairs else []
        for (i, j), attend in zip(self.pairs, self.attend, strict=True):
            attended, attention = attend(normed[i], normed[j], masks[j])
            found[i].append(attended)
            if seen is not None:
                seen.append(attention)
        there = torch.stack([mask.any(dim=1) for mask in masks], dim=1)
        others = (there.sum(dim=1, keepdim=True) - there.long()).clamp(min=1)
        after = []
        for m, x in enumerate(tokens):
            if found[m]:
                x = x + self.dropout(torch.stack(found[m]).sum(dim=0) / others[:, m, None, None])
            after.append(x + self.feed[m](x))
        return after


class Gates(nn.Module):
    """The modalities' weights, from what all of them say: g = softmax(W_2 ReLU(W_1 [m_1; …; m_N]))."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(modalities * width, width), nn.ReLU(), nn.Linear(width, modalities))

    def forward(self, pooled: Tensor, present: Tensor) -> Tensor:
        """Pooled (B, N, d), present bool (B, N) -> (B, N), a softmax over those present, 0 where none is."""
        return masked_softmax(self.layers(pooled.flatten(1)), present)


@dataclass(frozen=True)
class Fused:
    """``joint`` (B, d) = sum_m g_m m, of the pooled modalities ``pooled`` (B, N, d) and the gates ``gates`` (B, N)."""

    joint: Tensor
    pooled: Tensor
    gates: Tensor


class Core(nn.Module):
    """Features of N modalities, vectors or sequences, to :class:`Fused`.

    Each step goes through LayerNorm and Linear and gets its modality's embedding; a vector is one step. No positions
    are added: the order of the steps means nothing but what the encoder has put into them.
    """

    def __init__(self, sizes: Sequence[int], width: int, settings: Settings) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width, bias=False)) for size in sizes
        )
        self.embedding = nn.Parameter(0.02 * torch.randn(len(sizes), width))
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(Block(len(sizes), width, settings) for _ in range(settings.layers))
        self.gates = Gates(len(sizes), width) if settings.gates else None

    def forward(
        self, values: Sequence[Tensor], masks: Sequence[Tensor], seen: list[list[Tensor]] | None = None
    ) -> Fused:
        """Values (B, T_m, d_m) and masks, bool (B, T_m), of each modality; ``seen`` is given each block's attention."""
        tokens = [
            self.dropout(project(x) + embedding)
            for project, x, embedding in zip(self.project, values, self.embedding, strict=True)
        ]
        for block in self.blocks:
            attention: list[Tensor] = []
            tokens = block(tokens, masks, None if seen is None else attention)
            if seen is not None:
                seen.append(attention)
        pooled = torch.stack([masked_mean(x, mask) for x, mask in zip(tokens, masks, strict=True)], dim=1)
        present = torch.stack([mask.any(dim=1) for mask in masks], dim=1)
        gates = (
            masked_softmax(torch.zeros_like(pooled[..., 0]), present)
            if self.gates is None
            else self.gates(pooled, present)
        )
        return Fused((gates.unsqueeze(-1) * pooled).sum(dim=1), pooled, gates)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean over the steps that are there: (B, T, d), bool (B, T) -> (B, d), zero without any."""
    kept = tokens.masked_fill(~mask.unsqueeze(-1), 0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


class CrossAttentionNetwork(Trainable):
    """:class:`Core` -> a joint branch, whose predictions are the network's, and one on each modality's pooled vector.

    Branches are trunk (Linear, ReLU, Dropout) and heads; ``unimodal=off`` leaves the joint one alone.
    """

    def __init__(
        self,
        sizes: dict[str, int],
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        width: int,
        dropout: float,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.modalities, self.concepts, self.settings = tuple(sizes), concepts, settings
        self.core = Core(list(sizes.values()), width, settings)
        branches = 1 + (len(sizes) if settings.unimodal else 0)
        self.trunks = nn.ModuleList(trunk(width, width, dropout) for _ in range(branches))
        self.heads = nn.ModuleList(heads(width, concepts) for _ in range(branches))

    def fuse(self, inputs: Inputs) -> Fused:
        """What the heads are given; the gates are the modalities' weights for each sample."""
        fused: Fused = self.core(*self.tokens(inputs))
        return fused

    def tokens(self, inputs: Inputs) -> tuple[list[Tensor], list[Tensor]]:
        """Each modality's features and mask, with an axis of steps."""
        values, masks = [], []
        for name in self.modalities:
            x, present, steps = inputs.values[name], inputs.present[name].unsqueeze(1), inputs.steps.get(name)
            values.append(x.unsqueeze(1) if steps is None else x)
            masks.append(present if steps is None else steps & present)
        return values, masks

    def look(self, inputs: Inputs) -> dict[str, Inside]:
        """The modalities' weights, and by ordered pair where one modality's steps look in the other's."""
        values, masks = self.tokens(inputs)
        seen: list[list[Tensor]] = []
        gates = self.core(values, masks, seen).gates
        says = "weight g of each modality in the joint vector" + " (equal: gates=off)" * (not self.settings.gates)
        present = torch.stack([mask.any(dim=1) for mask in masks], dim=1)
        found = {"modality weights": Inside(says, shown(gates, present), self.modalities, shares=True)}
        blocks = tuple(f"block {number}" for number in range(1, len(seen) + 1))
        for place, (i, j) in enumerate(self.core.blocks[0].pairs):  # type: ignore[arg-type]
            ours, theirs = masks[i], masks[j]
            asked = ours[:, None, :, None] / ours.sum(dim=1).clamp(min=1)[:, None, None, None]
            mean = torch.stack(
                [(block[place].mean(dim=1, keepdim=True) * asked).sum(dim=(1, 2)) for block in seen], dim=1
            )
            says = f"where {self.modalities[i]} looks in {self.modalities[j]}: mean over heads and over its own steps"
            there = (theirs & present[:, i, None]).unsqueeze(1)
            name = f"attention {self.modalities[i]} → {self.modalities[j]}"
            found[name] = Inside(says, shown(mean, there), blocks, (self.modalities[j],), shares=True)
        return found

    def forward(self, inputs: Inputs) -> Output:
        """Predict a batch. In training the penalty is λ_c times the alignment of the pooled modalities, if any."""
        fused = self.fuse(inputs)
        branches = [fused.joint, *fused.pooled.unbind(dim=1)][: len(self.trunks)]
        z = torch.stack([last(x) for last, x in zip(self.trunks, branches, strict=True)], dim=1)
        predictions = [head(z[:, b]) for b, head in enumerate(self.heads)]
        penalty = None
        if self.training and self.settings.contrastive_weight > 0 and len(self.modalities) > 1:
            present = torch.stack([inputs.present[m] for m in self.modalities], dim=1)
            penalty = self.settings.contrastive_weight * alignment(
                fused.pooled, present, self.settings.temperature, symmetric=True
            )
        return Output(z, predictions, predictions[0][0], penalty)

    def losses(self, output: Output, batch: Examples, measure: Measure) -> tuple[Tensor, Tensor]:
        """By objective L_joint + λ_u sum_m L_m; a modality counts on the rows that have it."""
        joint, active = measure(output.branches[0][0], batch.targets)
        alone = output.z.new_zeros(len(measure))
        for name, branch in zip(self.modalities, output.branches[1:], strict=False):
            losses, places = measure(branch[0], labelled_where(batch.inputs.present[name], batch.targets))
            alone = alone.index_add(0, places, losses)
        return joint + self.settings.unimodal_weight * alone[active], active
