"""``+unimodal``: each modality's own prediction, and its losses as further objectives of the strategy's list.

Where fusion and multi-objective training meet: a fused network may neglect a modality that learns more slowly, which
losses on each modality alone keep in training (Wang, Tran & Feiszli, CVPR 2020). Here they are not added with a weight
of their own, but are objectives like the others, T (1 + N) in all, for the strategy to balance. Predictions and early
stopping are the fused branch's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from mmbench.contracts import Concept, Examples, Inputs, Objective
from mmbench.modules import Fusion
from mmbench.training.losses import Measure, list_objectives
from mmbench.training.network import Network, Output, labelled_where, supervised, trunk
from mmbench.training.sequences import Recurrent


def unimodal_objectives(
    concepts: tuple[Concept, ...], train: Examples, modalities: tuple[str, ...], mode: Literal["concept", "label"]
) -> tuple[Objective, ...]:
    """The objectives of each modality alone, in order of modality, counted on the training rows that have it."""
    return tuple(
        replace(objective, modality=name)
        for name in modalities
        for objective in list_objectives(concepts, labelled_where(train.inputs.present[name], train.targets), mode)
    )


class UnimodalNetwork(Network):
    """A network with a branch, trunk and heads, a modality beside the fused one.

    What all objectives share are the encoders: ``Output.z`` is what they give, and W are their weights. The fusion has
    one branch.
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
        super().__init__(sizes, fusion, heads, concepts, width, dropout, sequences)
        self.readers = nn.ModuleList(Recurrent(width) for _ in sizes) if fusion.reads_steps else None
        self.trunks.extend(trunk(width, width, dropout) for _ in sizes)
        self.heads.extend(heads(width, concepts) for _ in sizes)

    def forward(self, inputs: Inputs) -> Output:
        """Predict a batch from all modalities, and from each."""
        views, present = self.encode(inputs)
        alone = [views[..., m, :] for m in range(len(self.modalities))]
        if self.readers is not None:
            alone = [
                read(view, present[..., m]) for m, (read, view) in enumerate(zip(self.readers, alone, strict=True))
            ]
        vectors = [self.fuse(views, present), *alone]
        branches = [head(last(vector)) for head, last, vector in zip(self.heads, self.trunks, vectors, strict=True)]
        return Output(views, branches, branches[0][0])

    def losses(self, output: Output, batch: Examples, measure: Measure) -> tuple[Tensor, Tensor]:
        """The fused branch's, then each modality's on the rows that have it."""
        found = [supervised(output.branches[0], batch.targets, measure)]
        for m, (name, branch) in enumerate(zip(self.modalities, output.branches[1:], strict=True)):
            targets = labelled_where(batch.inputs.present[name], batch.targets)
            losses, places = supervised(branch, targets, measure)
            found.append((losses, places + (1 + m) * len(measure)))
        return torch.cat([losses for losses, _ in found]), torch.cat([places for _, places in found])

    def trunk_weights(self) -> list[nn.Parameter]:
        """The weights of the encoders' linear layers."""
        return [encoder[1].weight for encoder in self.encoders]  # type: ignore[index]
