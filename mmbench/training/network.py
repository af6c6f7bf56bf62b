"""The network of a fusion and a strategy: encoders by modality -> fusion -> trunk -> heads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn

from mmbench.contracts import Concept, Examples, Inputs, Inside
from mmbench.modules import Fusion
from mmbench.training.losses import Measure, without_labels
from mmbench.training.sequences import Recurrent, aligned

PREDICT_ROWS = 512


@dataclass(frozen=True)
class Output:
    """What a network gives for a batch.

    Attributes:
        z: the trunk's output, (B, width), of several branches (B, branches, width); or what else it is that all
            objectives share.
        branches: by branch, the list of predictions of its heads (the prediction first, then deep supervision), each a
            dictionary concept -> logits (B, K_c).
        logits: by concept (B, K_c), the branches mixed.
        penalty: a scalar without targets that is added to what the strategy made of the losses, or None.
    """

    z: Tensor
    branches: list[list[dict[str, Tensor]]]
    logits: dict[str, Tensor]
    penalty: Tensor | None = None


class Trainable(nn.Module):
    """What the loop trains: a network that says how its predictions become the objectives' losses.

    Attributes:
        modalities: the inputs it sees, in order.
        concepts: what it predicts.
        trunks: by branch Linear, ReLU, Dropout; the Linear is the last shared layer.
        heads: by branch, a module (B, width) -> list of {concept: logits}.
    """

    modalities: tuple[str, ...]
    concepts: tuple[Concept, ...]
    trunks: nn.ModuleList
    heads: nn.ModuleList

    @abstractmethod
    def forward(self, inputs: Inputs) -> Output:
        """Predict a batch."""

    @abstractmethod
    def losses(self, output: Output, batch: Examples, measure: Measure) -> tuple[Tensor, Tensor]:
        """The objectives' losses, (A,) with graph, and their places among the objectives, (A,) int64, rising.

        ``measure`` takes logits and targets by concept and returns the same of one prediction.
        """

    def look(self, inputs: Inputs) -> dict[str, Inside]:
        """What the network shows of its inside on a batch, by name."""
        return {}

    def trunk_weights(self) -> list[nn.Parameter]:
        """W: the weights of the last shared layer, one a branch."""
        return [trunk[0].weight for trunk in self.trunks]  # type: ignore[index]


def trunk(features: int, width: int, dropout: float) -> nn.Module:
    """The last shared layer of a branch: Linear, ReLU, Dropout."""
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout))


def labelled_where(present: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The targets of rows where ``present`` (B,) holds, unlabelled elsewhere: what a branch of one modality learns."""
    return {c: without_labels(t, ~present) for c, t in targets.items()}


def supervised(
    branch: list[dict[str, Tensor]], targets: Mapping[str, Tensor], measure: Measure
) -> tuple[Tensor, Tensor]:
    """The losses of a branch's prediction, those of its deep supervision added, and their places."""
    if len(branch) == 1:
        return measure(branch[0], targets)
    losses, active = measure({c: torch.stack([each[c] for each in branch]) for c in branch[0]}, targets)
    return reduce(torch.add, losses.unbind()), active


def encoder(features: int, width: int, dropout: float) -> nn.Module:
    """One modality's vector to the common width: LayerNorm, Linear, ReLU, Dropout."""
    return nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout))


class Network(Trainable):
    """Encoders -> fusion -> trunk (Linear, ReLU, Dropout) -> heads; trunk and heads once a branch of the fusion.

    A sequence is encoded step by step; a fusion that does not read steps is given the last state of an LSTM over them.

    Args:
        sizes: features of each modality, in the order in which the fusion sees them.
        fusion: takes (B, N, width), or aligned sequences.
        heads: makes the heads of one branch from the width.
        concepts: what is predicted.
        sequences: the modalities that are sequences.
    """

    def __init__(
        self,
        sizes: dict[str, int],
        fusion: Fusion,
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        width: int,
        dropout: float,
        sequences: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.modalities = tuple(sizes)
        self.concepts = concepts
        self.encoders = nn.ModuleList(encoder(size, width, dropout) for size in sizes.values())
        read = frozenset[str]() if fusion.reads_steps else sequences
        self.recurrent = nn.ModuleDict({str(m): Recurrent(width) for m, name in enumerate(sizes) if name in read})
        self.fusion = fusion
        self.trunks = nn.ModuleList(trunk(fusion.out_features, width, dropout) for _ in range(fusion.branches))
        self.heads = nn.ModuleList(heads(width, concepts) for _ in range(fusion.branches))

    def encode(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """What the fusion is given: views (B, N, width) and present (B, N), or both aligned with an axis of steps."""
        present = torch.stack([inputs.present[m] for m in self.modalities], dim=1)
        views = [e(inputs.values[m]) for m, e in zip(self.modalities, self.encoders, strict=True)]
        if self.fusion.reads_steps:
            return aligned(views, [inputs.steps.get(m) for m in self.modalities], present)
        for m, recurrent in self.recurrent.items():
            views[int(m)] = recurrent(views[int(m)], inputs.steps[self.modalities[int(m)]])
        stacked = torch.stack(views, dim=1)
        return stacked if present.all() else stacked * present.unsqueeze(-1), present

    def look(self, inputs: Inputs) -> dict[str, Inside]:
        """What the fusion shows."""
        return self.fusion.look(*self.encode(inputs), self.modalities)

    def fuse(self, views: Tensor, present: Tensor) -> Tensor:
        """What the fusion makes of them, (B, D) or (B, branches, D).

        Raises:
            ValueError: another shape, which a loss might broadcast.
        """
        fused: Tensor = self.fusion(views, present)
        branches = (self.fusion.branches,) if self.fusion.branches > 1 else ()
        expected, given = (len(present), *branches, self.fusion.out_features), tuple(fused.shape)
        if given != expected:
            raise ValueError(f"the fusion returned shape {given}, expected {expected}: rows, branches if any, features")
        return fused

    def forward(self, inputs: Inputs) -> Output:
        """Predict a batch."""
        fused = self.fuse(*self.encode(inputs))
        if self.fusion.branches == 1:
            z = self.trunks[0](fused)
            predictions = self.heads[0](z)
            return Output(z, [predictions], predictions[0])
        present = torch.stack([inputs.present[m] for m in self.modalities], dim=1)
        z = torch.stack([last(fused[:, b]) for b, last in enumerate(self.trunks)], dim=1)
        branches = [head(z[:, b]) for b, head in enumerate(self.heads)]
        logits = {
            concept.name: self.fusion.mix(
                torch.stack([predictions[0][concept.name] for predictions in branches], dim=1), present, concept.kind
            )
            for concept in self.concepts
        }
        return Output(z, branches, logits)

    def losses(self, output: Output, batch: Examples, measure: Measure) -> tuple[Tensor, Tensor]:
        """Each branch on its own loss (mean over branches), deep supervision added.

        Where there is a branch a modality, a row counts in it only where that modality is present.
        """
        if len(output.branches) == 1:
            return supervised(output.branches[0], batch.targets, measure)
        total, count = output.z.new_zeros(len(measure)), output.z.new_zeros(len(measure))
        by_modality = len(output.branches) == len(self.modalities)
        for b, branch in enumerate(output.branches):
            targets = batch.targets
            if by_modality:
                targets = labelled_where(batch.inputs.present[self.modalities[b]], targets)
            for prediction in branch:
                losses, active = measure(prediction, targets)
                total = total.index_add(0, active, losses)
            count = count.index_add(0, active, torch.ones_like(losses))
        if self.fusion.learns_mix:
            losses, active = measure(output.logits, batch.targets)
            total = total.index_add(0, active, losses * count[active].clamp(min=1))
        active = count.nonzero().squeeze(1)
        return (total / count.clamp(min=1))[active], active


def predict_logits(network: Trainable, inputs: Inputs) -> dict[str, Tensor]:
    """Logits (n, K_c) by concept, on the CPU, in evaluation mode, without gradient, a few hundred rows at a time."""
    network.eval()
    device = next(network.parameters()).device
    chunks: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(inputs)), PREDICT_ROWS):
            logits = network(inputs.rows(rows).to(device)).logits
            chunks.append({name: found.cpu() for name, found in logits.items()})
    return {concept.name: torch.cat([chunk[concept.name] for chunk in chunks]) for concept in network.concepts}


def look_into(network: Trainable, inputs: Inputs) -> dict[str, Inside]:
    """What a network shows of all samples, in evaluation mode, without gradient, a few hundred rows at a time.

    Where batches have different numbers of common steps the shorter ones end in NaN; of a single step, which is what
    vectors are, no axis is made.
    """
    network.eval()
    with torch.no_grad():
        device = next(network.parameters()).device
        batches = torch.split(torch.arange(len(inputs)), PREDICT_ROWS)
        chunks = [network.look(inputs.rows(rows).to(device)) for rows in batches]
    return {name: _join([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _join(parts: list[Inside]) -> Inside:
    """The same of consecutive batches as one."""
    values = [part.values for part in parts]
    if parts[0].steps:
        longest = max(v.shape[-1] for v in values)
        fill = [(0, 0)] * (values[0].ndim - 1)
        if longest == 1:
            return replace(parts[0], values=np.concatenate(values)[..., 0], steps=(), shares=False)
        values = [np.pad(v, [*fill, (0, longest - v.shape[-1])], constant_values=np.nan) for v in values]
    return replace(parts[0], values=np.concatenate(values))
