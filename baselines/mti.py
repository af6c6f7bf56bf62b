"""Multi-scale task interaction (MTI-Net; Vandenhende, Georgoulis & Van Gool, ECCV 2020), adapted to vectors.

What is kept: predictions of every concept at every scale, propagation of their features from coarse to fine,
distillation between concepts at each scale, aggregation over scales, and deep supervision. What is not: space. A scale
is a level of abstraction x_s = φ_s(x_{s-1}) of widths 16, 32, 64, 128, every convolution is a linear layer, BatchNorm
is LayerNorm.

    F_{s,t} = Res(Res(x_s ⊕ P_{s+1,t}))                        y_{s,t} = Linear(F_{s,t})
    m = softmax over tasks of f(⊕_t F_{s,t}),  r = Res(vec(m ⊙ F)),  P_{s,t} = r ⊙ σ(W_2 ReLU(W_1 r)) + F_{s,t}
    F°_{s,k} = F_{s,k} + sum_{l≠k} σ(A_kl F_{s,l}) ⊙ (V_kl F_{s,l}),  out_k = head_k(⊕_s F°_{s,k})

Its cost is quadratic in the number of concepts T, and it has far more parameters than linear heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu

from mmbench.contracts import Concept, Objective
from mmbench.modules import Strategy

NAME = "mti"
KIND = "strategy"
SUMMARY = "Multi-scale task interaction heads between the concepts (MTI-Net)"
PAPER_NAME = "БМВЗ"

WIDTHS = (16, 32, 64, 128)
REDUCTION = 16


class TaskLinear(nn.Module):
    """A linear layer a task, in one product: (T, B, i) -> (T, B, o), each with torch's default initialisation."""

    def __init__(self, tasks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(tasks, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(tasks, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Apply each task's layer."""
        return torch.baddbmm(self.bias, x, self.weight)


class TaskNorm(nn.Module):
    """LayerNorm with a gain and an offset a task: (T, B, c) -> (T, B, c)."""

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(tasks, 1, width))
        self.offset = nn.Parameter(torch.zeros(tasks, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the last axis."""
        return layer_norm(x, x.shape[-1:]) * self.gain + self.offset


class Residual(nn.Module):
    """Res(i -> o) = ReLU(D(x) + LN(W_2 ReLU(LN(W_1 x)))), D the identity or Linear and LN, one a task."""

    def __init__(self, tasks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            TaskLinear(tasks, inputs, outputs),
            TaskNorm(tasks, outputs),
            nn.ReLU(),
            TaskLinear(tasks, outputs, outputs),
            TaskNorm(tasks, outputs),
        )
        self.skip = (
            nn.Identity()
            if inputs == outputs
            else nn.Sequential(TaskLinear(tasks, inputs, outputs), TaskNorm(tasks, outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, i) -> (T, B, o)."""
        return relu(self.skip(x) + self.body(x))


class Propagation(nn.Module):
    """Features of all tasks at one scale to what each task hands to the next finer one: (T, B, C) -> (T, B, C)."""

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        joint = tasks * width
        narrow = max(joint // 4, 1)
        self.attention = nn.Sequential(
            Residual(1, joint, narrow), Residual(1, narrow, narrow), TaskLinear(1, narrow, joint)
        )
        self.reduce = Residual(1, joint, width)
        squeezed = max(width // REDUCTION, 1)
        self.squeeze, self.excite = TaskLinear(tasks, width, squeezed), TaskLinear(tasks, squeezed, width)

    def mask(self, features: Tensor) -> Tensor:
        """m: (T, B, C) -> (T, B, C), a softmax over the tasks."""
        scores = self.attention(_side_by_side(features).unsqueeze(0)).squeeze(0)
        return torch.softmax(scores.unflatten(1, (len(features), -1)).transpose(0, 1), dim=0)

    def forward(self, features: Tensor) -> Tensor:
        """P."""
        shared: Tensor = self.reduce(_side_by_side(self.mask(features) * features).unsqueeze(0)).expand_as(features)
        excited: Tensor = torch.sigmoid(self.excite(relu(self.squeeze(shared))))
        return shared * excited + features


class Distillation(nn.Module):
    """F° at one scale: gated messages from every other task, without bias: (T, B, C) -> (T, B, C)."""

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        shape = (tasks, tasks, width, width)
        self.gate = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.value = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.register_buffer("others", 1 - torch.eye(tasks))
        self.others: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Task k receives from each l != k."""
        if len(features) == 1:
            return features
        gates = torch.sigmoid(torch.einsum("lbj,klji->klbi", features, self.gate))
        messages = gates * torch.einsum("lbj,klji->klbi", features, self.value)
        return features + torch.einsum("kl,klbi->kbi", self.others.to(messages.dtype), messages)


class MultiScaleHeads(nn.Module):
    """Heads that let the concepts interact at every scale: (B, width) -> the prediction, then one a scale."""

    def __init__(self, width: int, concepts: tuple[Concept, ...], widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        tasks, total = len(concepts), sum(widths)
        self.concepts = concepts
        self.pyramid = nn.ModuleList(
            nn.Sequential(nn.Linear(below, here), nn.LayerNorm(here), nn.ReLU())
            for below, here in zip((width, *widths), widths, strict=False)
        )
        above = (*widths[1:], 0)
        self.features = nn.ModuleList(
            nn.Sequential(Residual(tasks, here + more, here), Residual(tasks, here, here))
            for here, more in zip(widths, above, strict=True)
        )
        self.scale_heads = nn.ModuleList(
            nn.ModuleList(nn.Linear(here, len(concept.labels)) for concept in concepts) for here in widths
        )
        self.propagate = nn.ModuleList(Propagation(tasks, here) for here in widths[1:])
        self.distil = nn.ModuleList(Distillation(tasks, here) for here in widths)
        self.aggregate = nn.Sequential(TaskLinear(tasks, total, total), TaskNorm(tasks, total), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(total, len(concept.labels)) for concept in concepts)

    def scales(self, z: Tensor) -> list[Tensor]:
        """F_{s,t} of every scale, finest first: (T, B, C_s) each."""
        levels = []
        for step in self.pyramid:
            z = step(z)
            levels.append(z)
        features: list[Tensor] = []
        handed_down: Tensor | None = None
        for s in reversed(range(len(levels))):
            x = levels[s].expand(len(self.concepts), -1, -1)
            if handed_down is not None:
                x = torch.cat([x, handed_down], dim=-1)
            features.insert(0, self.features[s](x))
            handed_down = self.propagate[s - 1](features[0]) if s > 0 else None
        return features

    def forward(self, z: Tensor) -> list[dict[str, Tensor]]:
        """Logits (B, K_c) by concept: the aggregated prediction first, then that of each scale."""
        features = self.scales(z)
        distilled = [distil(f) for distil, f in zip(self.distil, features, strict=True)]
        joined = self.aggregate(torch.cat(distilled, dim=-1))
        return [self._logits(self.heads, joined)] + [
            self._logits(heads, f) for heads, f in zip(self.scale_heads, features, strict=True)
        ]

    def _logits(self, heads: nn.Module, features: Tensor) -> dict[str, Tensor]:
        assert isinstance(heads, nn.ModuleList)
        return {c.name: head(f) for c, head, f in zip(self.concepts, heads, features, strict=True)}


def _side_by_side(features: Tensor) -> Tensor:
    """(T, B, C) -> (B, T C)."""
    return features.transpose(0, 1).flatten(1)


class MultiScaleInteraction(Strategy):
    """Objectives summed, as in the original; what it brings are the heads."""

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """The sum."""
        return losses.sum()

    def heads(self, width: int, concepts: tuple[Concept, ...]) -> nn.Module:
        """Multi-scale heads over the concepts."""
        return MultiScaleHeads(width, concepts)


def build(objectives: tuple[Objective, ...]) -> MultiScaleInteraction:
    """The strategy ``mti``."""
    return MultiScaleInteraction()
