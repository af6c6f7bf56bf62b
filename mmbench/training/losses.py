"""The objectives of a problem and their unweighted losses, the same for every strategy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

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


def balanced_weights(
    objectives: tuple[Objective, ...], targets: Mapping[str, Tensor], concepts: tuple[Concept, ...]
) -> dict[str, Tensor]:
    """Class weights N / (C N_c) by objective, as scikit-learn's ``balanced``: (K,), or (2,) of a label's 0 and 1.

    Raises:
        MmbenchError: a class without a training row, for which no weight exists.
    """
    weights = {}
    classes = {concept.name: len(concept.labels) for concept in concepts}
    for objective in objectives:
        target = targets[objective.concept]
        if objective.index is not None:
            known = target[:, objective.index] if target.ndim == 2 else target
            hit = known == (1 if target.ndim == 2 else objective.index)
            target = torch.where(known == UNLABELLED, UNLABELLED, hit.long())
        counts = torch.bincount(
            target[target != UNLABELLED], minlength=2 if objective.index is not None else classes[objective.concept]
        )
        if (counts == 0).any():
            raise MmbenchError(f"class_weights=balanced: {objective.name} has a class without a training row")
        weights[objective.name] = counts.sum() / (len(counts) * counts.double())
    return weights


def objective_losses(
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    objectives: tuple[Objective, ...],
    focus: float = 0.0,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean loss of each objective over the rows that have its label; one without such a row is skipped.

    An objective of a whole concept is cross-entropy, one of a label binary cross-entropy on that logit. With
    ``focus`` beta each sample's loss is multiplied by (1 - p_d)^beta, p_d being the probability given to the truth
    (MT25 equations 8-10). ``weights`` multiply a sample's loss by its class's weight; the mean stays over rows.

    Args:
        outputs: logits (B, K) by concept.
        targets: int64 (B,) or (B, K) by concept, -1 unlabelled.
        objectives: what to compute.
        focus: beta of the focal factor.
        weights: by objective's name, (K,) or (2,), see :func:`balanced_weights`.

    Returns:
        losses (A,) with graph, and their places among the objectives, (A,) int64.
    """
    losses: list[Tensor] = []
    counts: list[Tensor] = []
    places: list[int] = []
    for concept, group in _by_concept(objectives):
        logits, target = outputs[concept], targets[concept]
        of = [objectives[place] for place in group]
        if of[0].index is None:
            known = target != UNLABELLED
            row_losses = _cross_entropy(logits, target.clamp(min=0), focus).unsqueeze(1)
            target, known = target.unsqueeze(1), known.unsqueeze(1)
        else:
            columns = torch.tensor([objective.index for objective in of])
            target = target[:, columns] if target.ndim == 2 else _one_against_rest(target, columns)
            known = target != UNLABELLED
            row_losses = binary_focal(logits[:, columns], target, focus)
        if weights is not None:
            table = torch.stack([weights[objective.name] for objective in of]).to(row_losses.dtype)
            row_losses = row_losses * table.gather(1, target.clamp(min=0).T).T
        counts.append(known.sum(0))
        losses.append((row_losses * known).sum(0))
        places += group
    total, count = torch.cat(losses), torch.cat(counts)
    order = torch.tensor(places)
    active = count > 0
    mean, order = (total / count.clamp(min=1))[active], order[active]
    rank = order.argsort()
    return mean[rank], order[rank]


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


def _cross_entropy(logits: Tensor, target: Tensor, focus: float) -> Tensor:
    """(1 - p)^beta (-log p) of the true class: logits (n, K), target (n,) -> (n,)."""
    log_p = log_softmax(logits, dim=-1).gather(1, target.unsqueeze(1)).squeeze(1)
    if focus == 0:
        return -log_p
    others = log_softmax(logits, dim=-1).scatter(1, target.unsqueeze(1), -torch.inf).logsumexp(dim=-1)
    return -torch.exp(focus * others) * log_p


def binary_focal(logits: Tensor, target: Tensor, focus: float) -> Tensor:
    """(1 - p_d)^beta (-log p_d) from logits u: with v = u where y = 1, else -u, exp(beta log s(-v)) (-log s(v))."""
    v = torch.where(target == 1, logits, -logits)
    loss = -logsigmoid(v)
    return loss if focus == 0 else torch.exp(focus * logsigmoid(-v)) * loss
