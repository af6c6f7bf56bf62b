"""The objectives of a problem and their unweighted losses, the same for every strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmbench.contracts import Concept, Objective
from mmbench.errors import MmbenchError

UNLABELLED = -1


def list_objectives(
    concepts: tuple[Concept, ...], targets: Mapping[str, Tensor], mode: Literal["concept", "label"]
) -> tuple[Objective, ...]:
    """One objective an exclusive concept and one a label of a multi-label concept; ``label`` mode: one a label always.

    Args:
        concepts: what is predicted.
        targets: int64 training targets by concept, (n,) or (n, K), -1 unlabelled; they give the counts.
        mode: ``"concept"`` or ``"label"``.
    """
    objectives = []
    for concept in concepts:
        target = targets[concept.name]
        multilabel = concept.kind == "multilabel"
        known = (target[:, 0] if multilabel else target) != UNLABELLED
        labelled = int(known.sum())
        if multilabel or mode == "label":
            for index, label in enumerate(concept.labels):
                hits = target[:, index] == 1 if multilabel else target == index
                objectives.append(Objective(concept.name, label, index, labelled, int(hits.sum())))
        else:
            positive = known
            if concept.background is not None:
                positive = known & (target != concept.labels.index(concept.background))
            objectives.append(Objective(concept.name, None, None, labelled, int(positive.sum())))
    return tuple(objectives)


def balanced_weights(objectives: tuple[Objective, ...], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Class weights N / (C N_c) by objective, as scikit-learn's ``balanced``: (K,), or (2,) of a label's 0 and 1.

    Raises:
        MmbenchError: a class without a training row, for which no weight exists. The last classes of an exclusive
            concept, which the counts cannot know of, are found by :func:`objective_losses`.
    """
    weights = {}
    for objective in objectives:
        target = targets[objective.concept]
        if objective.index is not None:
            known = target[:, objective.index] if target.ndim == 2 else target
            hit = known == (1 if target.ndim == 2 else objective.index)
            target = torch.where(known == UNLABELLED, UNLABELLED, hit.long())
        counts = torch.bincount(target[target != UNLABELLED], minlength=2)
        if (counts == 0).any():
            raise _no_row(objective)
        weights[objective.name] = counts.sum() / (len(counts) * counts.double())
    return weights


def _no_row(objective: Objective) -> MmbenchError:
    return MmbenchError(f"class_weights=balanced: {objective.name} has a class without a training row")


def objective_losses(
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    objectives: tuple[Objective, ...],
    focus: float = 0.0,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean loss of each objective over the rows that have its label.

    An objective without such a row is skipped; a concept without one stays out of the graph, so that its head gets no
    gradient, not a gradient of zero.

    An objective of a whole concept is cross-entropy, one of a label binary cross-entropy on that logit, each times
    (1 - p_d)^beta, p_d being the probability given to the truth (MT25 equations 8-10). Both come from the log-odds of
    the truth, so that they keep their digits at any logit.

    Args:
        outputs: logits (B, K) by concept.
        targets: int64 (B,) or (B, K) by concept, -1 unlabelled.
        objectives: what to compute.
        focus: beta.
        weights: by objective, each class's factor on a sample's loss, as :func:`balanced_weights` gives them; the mean
            stays over rows, it is not divided by the sum of the weights.

    Returns:
        losses (A,) with graph, and their places among the objectives, (A,) int64, rising.

    Raises:
        MmbenchError: weights of fewer classes than the concept has.
    """
    total: list[Tensor] = []
    count: list[Tensor] = []
    places: list[int] = []
    for concept, group in _by_concept(objectives):
        logits, target = outputs[concept], targets[concept]
        of = [objectives[place] for place in group]
        if of[0].index is None:
            margin = _margin(logits, target.clamp(min=0)).unsqueeze(1)
            target = target.unsqueeze(1)
        else:
            columns = torch.tensor([objective.index for objective in of], device=target.device)
            target = target[:, columns] if target.ndim == 2 else _one_against_rest(target, columns)
            margin = torch.where(target == 1, logits[:, columns], -logits[:, columns])
        row_losses = focal(margin, focus)
        if weights is not None:
            table = torch.stack([weights[objective.name] for objective in of]).to(row_losses)
            if of[0].index is None and table.shape[1] != logits.shape[1]:
                raise _no_row(of[0])
            row_losses = row_losses * table.gather(1, target.clamp(min=0).T).T
        known = target != UNLABELLED
        if not known.any():
            continue
        count.append(known.sum(0))
        total.append((row_losses * known).sum(0))
        places += group
    if not places:
        return next(iter(outputs.values())).new_zeros(0), torch.zeros(0, dtype=torch.int64)
    counts, order = torch.cat(count), torch.tensor(places, device=total[0].device)
    active = counts > 0
    losses, order = torch.cat(total)[active] / counts[active], order[active]
    rank = order.argsort()
    return losses[rank], order[rank]


@dataclass(frozen=True)
class Measure:
    """:func:`objective_losses` of these objectives; ``len`` is T, how many there are."""

    objectives: tuple[Objective, ...]
    focus: float = 0.0
    weights: Mapping[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.objectives)

    def __call__(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The losses (A,) of one prediction, with graph, and their places (A,)."""
        return objective_losses(outputs, targets, self.objectives, self.focus, self.weights)


@cache
def _by_concept(objectives: tuple[Objective, ...]) -> list[tuple[str, list[int]]]:
    """The objectives' places by concept, those of whole concepts and those of labels apart."""
    groups: dict[tuple[str, bool], list[int]] = {}
    for place, objective in enumerate(objectives):
        groups.setdefault((objective.concept, objective.index is None), []).append(place)
    return [(concept, places) for (concept, _), places in groups.items()]


def _one_against_rest(target: Tensor, columns: Tensor) -> Tensor:
    """(B,) class indices to (B, k) of 0/1, -1 where unlabelled."""
    return torch.where(target[:, None] == UNLABELLED, UNLABELLED, (target[:, None] == columns).long())


def _margin(logits: Tensor, target: Tensor) -> Tensor:
    """The log-odds of the true class, u_y - logsumexp of the others: logits (B, K), target (B,) -> (B,)."""
    true = target.unsqueeze(1)
    return logits.gather(1, true).squeeze(1) - logits.scatter(1, true, -torch.inf).logsumexp(dim=1)


def focal(margin: Tensor, beta: float) -> Tensor:
    """(1 - p_d)^beta (-log p_d) from the log-odds v of the truth: exp(beta log σ(-v)) (-log σ(v)), any shape."""
    loss = -logsigmoid(margin)
    return loss if beta == 0 else torch.exp(beta * logsigmoid(-margin)) * loss
