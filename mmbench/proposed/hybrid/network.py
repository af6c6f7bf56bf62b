"""The network of MR26: recurrent views, delta memory, gated views, cross-modal attention, early and late heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from mmbench.contracts import Concept, ConceptKind, Examples, Inputs, Inside
from mmbench.modules import shown
from mmbench.proposed.hybrid.attention import CrossModal
from mmbench.proposed.hybrid.encoders import Kind, make_encoder
from mmbench.proposed.hybrid.losses import Balance, alignment, balance_weights
from mmbench.proposed.hybrid.memory import DeltaMemory, GatedViews, MfnMemory, RecurrentViews, Update, look_at_gates
from mmbench.training.losses import Measure
from mmbench.training.network import Output, Trainable, labelled_where, supervised, trunk
from mmbench.training.sequences import aligned


@dataclass(frozen=True)
class Settings:
    """One reading of the model; ``mmbench info hybrid`` tells what each means."""

    delta: bool = True
    gated: bool = True
    cross: bool = True
    contrastive: bool = True
    balance: Balance | Literal["off"] = "fixed"
    memory_update: Update = "convex"
    heads: int = 4
    layers: int = 2
    align_weight: float = 0.3
    temperature: float = 0.07
    symmetric: bool = False
    encoders: bool = True
    depth: int = 1


@dataclass(frozen=True)
class Fused:
    """What the core gives for B samples.

    ``early`` (B, D) is formula (1): the memory and the views after attention, side by side; ``alone`` (B, N, width) are
    the views' last hidden states, each from its own modality only.
    """

    early: Tensor
    alone: Tensor


class Core(nn.Module):
    """Sequences of N aligned views, (B, T, N, d) with a mask (B, T, N), to :class:`Fused`."""

    def __init__(self, views: int, width: int, dropout: float, settings: Settings) -> None:
        super().__init__()
        self.views = RecurrentViews(views, width, width)
        self.memory: DeltaMemory | MfnMemory | None = None
        if settings.delta:
            self.memory = (
                MfnMemory(views * width, width, width, dropout)
                if settings.memory_update == "mfn"
                else DeltaMemory(views * width, width, settings.memory_update)
            )
        self.gates = GatedViews(views, width, width if settings.delta else 0) if settings.gated else None
        self.cross = CrossModal(views, width, settings.heads, settings.layers) if settings.cross else None
        self.out_features = width * (views + settings.delta)

    def forward(self, views: Tensor, mask: Tensor) -> Fused:
        """Run the memories over the steps; what is returned belongs to the last one."""
        hidden, cells = self.views(views, mask)
        after = before = hidden.new_zeros(*hidden.shape[:2], 0)
        if self.memory is not None:
            after, before = self.memory(hidden.flatten(2), cells.flatten(2), mask.any(dim=2))
        gated = hidden if self.gates is None else self.gates(hidden, before)
        last = gated[:, -1:] if self.cross is None else self.cross(gated[:, -1:], gated, mask)
        return Fused(torch.cat([after[:, -1], last.flatten(1)], dim=1), hidden[:, -1])

    def look(self, views: Tensor, mask: Tensor, modalities: tuple[str, ...]) -> dict[str, Inside]:
        """The memory's coefficients, the views' gates and the cross-modal attention over the steps."""
        found: dict[str, Inside] = {}
        hidden, cells = self.views(views, mask)
        before = hidden.new_zeros(*hidden.shape[:2], 0)
        if self.memory is not None:
            here = mask.any(dim=2)
            _, before, gates = self.memory.trace(hidden.flatten(2), cells.flatten(2), here)
            says = (
                "how much of the candidate each step writes into the memory, formulas (11), (12); mean over its units"
            )
            found["memory coefficient"] = look_at_gates(gates, here, modalities, says)
        gated = hidden
        if self.gates is not None:
            gated = self.gates(hidden, before)
            openness = self.gates.openness(hidden, before).mean(dim=-1)
            says = "how far each view's gate is open at each step, mean over its units"
            found["view gates"] = Inside(says, shown(openness, mask).swapaxes(1, 2), modalities, modalities)
        if self.cross is not None and self.cross.pairs:
            found |= self.cross.look(gated[:, -1:], gated, mask, modalities)
        return found


class HybridNetwork(Trainable):
    """Encoders by modality -> :class:`Core` -> an early branch and, where modalities are balanced, a late one for each.

    ``kinds`` say what each modality is; a modality that is not named is a vector, or has the projection at each step.
    Scores are the mean of the early branch's and of the mean over the modalities present of the late ones'.
    """

    def __init__(
        self,
        sizes: dict[str, int],
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        width: int,
        dropout: float,
        settings: Settings,
        kinds: Mapping[str, Kind] | None = None,
    ) -> None:
        super().__init__()
        self.modalities, self.concepts, self.settings = tuple(sizes), concepts, settings
        chosen = [(kinds or {}).get(name, "vector") if settings.encoders else "vector" for name in sizes]
        self.look_around = [kind in ("sequence", "frames") for kind in chosen]
        self.encoders = nn.ModuleList(
            make_encoder(kind, size, width, dropout, settings.heads, settings.depth)
            for kind, size in zip(chosen, sizes.values(), strict=True)
        )
        self.core = Core(len(sizes), width, dropout, settings)
        self.embed = nn.ModuleList(nn.Linear(width, width) for _ in sizes) if settings.contrastive else None
        features = [self.core.out_features] + [width] * (len(sizes) if settings.balance != "off" else 0)
        self.trunks = nn.ModuleList(trunk(size, width, dropout) for size in features)
        self.heads = nn.ModuleList(heads(width, concepts) for _ in features)

    def encode(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Encoded views on common steps, (B, T, N, width), and their mask (B, T, N); a vector is one step."""
        present = torch.stack([inputs.present[m] for m in self.modalities], dim=1)
        views = [
            encode(inputs.values[m], inputs.steps[m]) if around else encode(inputs.values[m])
            for m, encode, around in zip(self.modalities, self.encoders, self.look_around, strict=True)
        ]
        return aligned(views, [inputs.steps.get(m) for m in self.modalities], present)

    def look(self, inputs: Inputs) -> dict[str, Inside]:
        """What the core shows."""
        return self.core.look(*self.encode(inputs), self.modalities)

    def forward(self, inputs: Inputs) -> Output:
        """Predict a batch. In training the penalty is the weighted alignment (9)."""
        present = torch.stack([inputs.present[m] for m in self.modalities], dim=1)
        fused = self.core(*self.encode(inputs))
        branches = [fused.early, *fused.alone.unbind(dim=1)][: len(self.trunks)]
        z = torch.stack([last(x) for last, x in zip(self.trunks, branches, strict=True)], dim=1)
        predictions = [head(z[:, b]) for b, head in enumerate(self.heads)]
        logits = {
            c.name: mix(torch.stack([branch[0][c.name] for branch in predictions], dim=1), present, c.kind)
            for c in self.concepts
        }
        return Output(z, predictions, logits, self._penalty(fused.alone, present) if self.training else None)

    def _penalty(self, alone: Tensor, present: Tensor) -> Tensor | None:
        """λ times (5) over the embeddings of the views, or None where it is off or there is one modality."""
        if self.embed is None or len(self.embed) == 1:
            return None
        embeddings = torch.stack([embed(alone[:, m]) for m, embed in enumerate(self.embed)], dim=1)
        return self.settings.align_weight * alignment(
            embeddings, present, self.settings.temperature, self.settings.symmetric
        )

    def losses(self, output: Output, batch: Examples, measure: Measure) -> tuple[Tensor, Tensor]:
        """By objective the early branch's loss plus (8): sum_m λ_m L_m over the late branches with a row for it."""
        early, active = supervised(output.branches[0], batch.targets, measure)
        if self.settings.balance == "off":
            return early, active
        late = output.z.new_zeros(len(self.modalities), len(measure))
        counted = torch.zeros_like(late)
        for m, (name, branch) in enumerate(zip(self.modalities, output.branches[1:], strict=True)):
            losses, places = supervised(branch, labelled_where(batch.inputs.present[name], batch.targets), measure)
            late[m] = late[m].index_add(0, places, losses)
            counted[m, places] = 1
        there = counted.any(dim=1)
        if there.any():
            mean = (late.sum(dim=1) / counted.sum(dim=1).clamp(min=1))[there]
            weights = counted[there] * balance_weights(mean, self.settings.balance).unsqueeze(1)
            shares = weights / weights.sum(dim=0).clamp(min=torch.finfo(weights.dtype).tiny)
            early = early + (shares * late[there]).sum(dim=0)[active]
        return early, active


def mix(logits: Tensor, present: Tensor, kind: ConceptKind) -> Tensor:
    """Early and late decisions averaged in probability: logits (B, 1 + N, K), present (B, N) -> (B, K).

    Half the weight is the early branch's, half is shared by the modalities present (by all where none is). Returned are
    log-probabilities where exclusive, the mixture's log-odds where multi-label, of a score the weighted mean. A single
    branch passes through.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    here = (present | ~present.any(dim=1, keepdim=True)).to(logits.dtype)
    late = here / here.sum(dim=1, keepdim=True)
    weights = (torch.cat([torch.ones_like(late[:, :1]), late], dim=1) / 2).unsqueeze(-1)
    if kind == "score":
        return (weights * logits).sum(dim=1)
    log_weights = weights.log()
    if kind == "exclusive":
        return torch.logsumexp(log_softmax(logits, dim=-1) + log_weights, dim=1)
    positive = torch.logsumexp(logsigmoid(logits) + log_weights, dim=1)
    return positive - torch.logsumexp(logsigmoid(-logits) + log_weights, dim=1)
