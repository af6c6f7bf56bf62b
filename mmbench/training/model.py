"""Models that the loop trains: one network, or one an objective where the strategy asks for that."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmbench.contracts import Concept, Examples, FitContext, Inputs, Inside, Model, Objective
from mmbench.hashing import derive_seed
from mmbench.modules import Fusion, Strategy
from mmbench.training.loop import train_network
from mmbench.training.losses import Scale, has_label, list_objectives, scale_of, standardised
from mmbench.training.network import Network, Trainable, look_into, predict_logits
from mmbench.training.optimiser import Optimiser, common_optimiser
from mmbench.training.unimodal import UnimodalNetwork, unimodal_objectives

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmbench.config import Training


class TrainedModel(Model):
    """A network, whatever it is made of, trained with a strategy by the one loop.

    ``plateau`` has the learning rate divided by ten where the validation objective has stopped falling. ``resumes`` has
    the state of each epoch kept, so that a training that was interrupted goes on: for those that take hours.
    """

    plateau = False
    resumes = False

    def __init__(
        self,
        make_strategy: Callable[[tuple[Objective, ...]], Strategy],
        modalities: tuple[str, ...] | None = None,
    ) -> None:
        self.make_strategy = make_strategy
        self.modalities = modalities
        self.fitted: list[tuple[tuple[Objective, ...], Trainable, Strategy]] = []
        self.concepts: tuple[Concept, ...] = ()
        self.by_label = False
        self.scales: dict[str, Scale] = {}

    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        """Train one network, or one an objective where the strategy asks for that."""
        self.device = context.device
        if not self.resumes:
            context = replace(context, checkpoint=None)
        self.concepts, self.by_label = context.concepts, context.settings.objectives == "label"
        self.scales = {c.name: scale_of(train.targets[c.name]) for c in self.concepts if c.kind == "score"}
        train, val = (replace(part, targets=standardised(part.targets, self.scales)) for part in (train, val))
        objectives = list_objectives(context.concepts, train.targets, context.settings.objectives)
        separate = self.make_strategy(objectives).separate
        groups = [(objective,) for objective in objectives] if separate else [objectives]
        shared = tuple(map(_by_label, context.concepts)) if self.by_label else context.concepts
        histories = []
        for group in groups:
            concepts, local = _narrow(group[0], context.concepts) if separate else (shared, group)
            parts = (_columns(train, group, separate), _columns(val, group, separate))
            local += self.further_objectives(concepts if separate else context.concepts, parts[0], context.settings)
            names = self.modalities or tuple(train.inputs.values)
            sizes = {name: train.inputs.values[name].shape[-1] for name in names}
            sequences = frozenset(train.inputs.steps)
            tried = []
            torch.manual_seed(derive_seed(context.seed, "init"))
            for strategy in self.make_strategy(local).candidates(context.seed):
                torch.manual_seed(derive_seed(context.seed, "init"))
                network = self.make_network(sizes, sequences, strategy.heads, concepts, context.settings)
                network.to(context.device), strategy.to(context.device)
                optimiser = self.make_optimiser(network, strategy, context.settings, len(parts[0]))
                history = train_network(network, strategy, local, *parts, context, optimiser)
                tried.append((history, network, strategy))
            history, network, strategy = min(tried, key=lambda one: min(one[0]["val"]))
            if len(tried) > 1:
                history["tried"] = [{"weights": h["weights"][0], "val": min(h["val"])} for h, _, _ in tried]
            histories.append(history)
            self.fitted.append((group, network, strategy))
        if not separate:
            return histories[0]
        return {"networks": {group[0].name: history for group, history in zip(groups, histories, strict=True)}}

    def further_objectives(
        self, concepts: tuple[Concept, ...], train: Examples, settings: Training
    ) -> tuple[Objective, ...]:
        """Objectives behind those of the concepts, which the network's ``losses`` measures."""
        return ()

    @abstractmethod
    def make_network(
        self,
        sizes: dict[str, int],
        sequences: frozenset[str],
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        settings: Training,
    ) -> Trainable:
        """A fresh network for modalities of these sizes, some of them sequences.

        Its weights are drawn from torch's global generator.
        """

    def make_optimiser(self, network: Trainable, strategy: Strategy, settings: Training, rows: int) -> Optimiser:
        """What moves the parameters, for so many training rows."""
        return common_optimiser([*network.parameters(), *strategy.parameters()], settings, self.plateau)

    def predict(self, inputs: Inputs) -> dict[str, NDArray[np.float64]]:
        """Scores by concept, float64 (n, K)."""
        logits: dict[str, Tensor] = {
            concept.name: torch.zeros(len(inputs), len(concept.labels)) for concept in self.concepts
        }
        for group, network, _ in self.fitted:
            predicted = predict_logits(network, inputs)
            if len(self.fitted) > 1 and group[0].index is not None:
                logits[group[0].concept][:, group[0].index] = predicted[group[0].concept][:, 0]
            else:
                logits.update(predicted)
        return {c.name: self._scores(logits[c.name].double(), c).numpy() for c in self.concepts}

    def _scores(self, logits: Tensor, concept: Concept) -> Tensor:
        if concept.kind == "score":
            scale = self.scales[concept.name]
            return scale.centre + scale.spread * logits
        return torch.softmax(logits, -1) if concept.kind == "exclusive" and not self.by_label else torch.sigmoid(logits)

    def look(self, inputs: Inputs) -> dict[str, Inside]:
        """What the networks show, by name; where each objective has a network of its own, by objective and name."""
        found: dict[str, Inside] = {}
        for group, network, _ in self.fitted:
            prefix = f"{group[0].name}: " if len(self.fitted) > 1 else ""
            found |= {f"{prefix}{name}": inside for name, inside in look_into(network, inputs).items()}
        return found

    @property
    def n_parameters(self) -> int:
        """Parameters of the networks, and of the strategy where it has any."""
        return sum(
            p.numel()
            for _, network, s in self.fitted
            for p in (*network.parameters(), *s.parameters())
            if p.requires_grad
        )


class NetworkModel(TrainedModel):
    """A fusion trained with a strategy, with ``unimodal`` on the losses of each modality alone as well."""

    def __init__(
        self,
        make_fusion: Callable[[int, int], Fusion],
        make_strategy: Callable[[tuple[Objective, ...]], Strategy],
        modalities: tuple[str, ...] | None = None,
        unimodal: bool = False,
    ) -> None:
        super().__init__(make_strategy, modalities)
        self.make_fusion, self.unimodal = make_fusion, unimodal

    def further_objectives(
        self, concepts: tuple[Concept, ...], train: Examples, settings: Training
    ) -> tuple[Objective, ...]:
        """Those of each modality alone, where they are asked for."""
        names = self.modalities or tuple(train.inputs.values)
        return unimodal_objectives(concepts, train, names, settings.objectives) if self.unimodal else ()

    def make_network(
        self,
        sizes: dict[str, int],
        sequences: frozenset[str],
        heads: Callable[[int, tuple[Concept, ...]], nn.Module],
        concepts: tuple[Concept, ...],
        settings: Training,
    ) -> Network:
        """The network of the fusion."""
        fusion = self.make_fusion(len(sizes), settings.width)
        network = UnimodalNetwork if self.unimodal else Network
        return network(sizes, fusion, heads, concepts, settings.width, settings.dropout, sequences)


def _by_label(concept: Concept) -> Concept:
    """The concept as labels that stand each for itself; a score stays one."""
    return concept if concept.kind == "score" else replace(concept, kind="multilabel")


def _narrow(objective: Objective, concepts: tuple[Concept, ...]) -> tuple[tuple[Concept, ...], tuple[Objective, ...]]:
    """The one concept and the one objective that a network of its own is trained on."""
    concept = next(c for c in concepts if c.name == objective.concept)
    if objective.index is None or objective.label is None:
        return (concept,), (objective,)
    return (Concept(concept.name, (objective.label,), "multilabel"),), (replace(objective, index=0),)


def _columns(examples: Examples, group: tuple[Objective, ...], separate: bool) -> Examples:
    """What a network of its own sees: the rows that have its label; one label of a concept becomes a column of 0/1."""
    if not separate:
        return examples
    objective = group[0]
    target = examples.targets[objective.concept]
    known = has_label(target if target.ndim == 1 else target[:, 0])
    if objective.index is not None:
        target = target[:, [objective.index]] if target.ndim == 2 else (target == objective.index).long().unsqueeze(1)
    return Examples(examples.inputs, {objective.concept: target}).rows(known)
