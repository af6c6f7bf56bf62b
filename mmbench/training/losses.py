"""The objectives of a problem and their unweighted losses, the same for every strategy.

A target that is a float is a score: NaN is no label, and its loss is the absolute error, of what :func:`standardised`
has brought to the scale on which the training rows have unit deviation, so that no unit of measurement decides how much
a score weighs beside the cross-entropies. MAE is what the field reports of scores, and trains on.
"""

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


def has_label(target: Tensor) -> Tensor:
    """Where a target, of any shape, has a label: not NaN in a score, else not -1."""
    return ~target.isnan() if target.is_floating_point() else target != UNLABELLED


def without_labels(target: Tensor, rows: Tensor) -> Tensor:
    """The target (n,) or (n, K) with the labels of ``rows``, bool (n,), taken away."""
    return target.masked_fill(
        rows if target.ndim == 1 else rows.unsqueeze(1), torch.nan if target.is_floating_point() else UNLABELLED
    )


def list_objectives(
    concepts: tuple[Concept, ...], targets: Mapping[str, Tensor], mode: Literal["concept", "label"]
) -> tuple[Objective, ...]:
    """One objective an exclusive concept or score and one a label of a multi-label concept.

    Args:
        concepts: what is predicted.
        targets: training targets by concept, (n,) or (n, K); they give the counts.
        mode: ``"concept"``, or ``"label"``, in which exclusive concepts too have an objective a label.
    """
    objectives = []
    for concept in concepts:
        target = targets[concept.name]
        multilabel = concept.kind == "multilabel"
        known = has_label(target[:, 0] if multilabel else target)
        labelled = int(known.sum())
        if multilabel or (mode == "label" and concept.kind != "score"):
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

    A score has no classes and gets none.

    Raises:
        MmbenchError: a class without a training row, for which no weight exists. The last classes of an exclusive
            concept, which the counts cannot know of, are found by :func:`objective_losses`.
    """
    weights = {}
    for objective in objectives:
        target = targets[objective.concept]
        if target.is_floating_point():
            continue
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
    the truth, so that they keep their digits at any logit. An objective of a score is the absolute error, without that
    factor: there is no probability of the truth.

    Args:
        outputs: logits (B, K) by concept, of a score (B, 1); of several predictions (P, B, K).
        targets: int64 (B,) or (B, K) by concept, -1 unlabelled; of a score float (B,), NaN unlabelled.
        objectives: what to compute.
        focus: beta.
        weights: by objective, each class's factor on a sample's loss, as :func:`balanced_weights` gives them; the mean
            stays over rows, it is not divided by the sum of the weights.

    Returns:
        losses (A,) with graph, of several predictions (P, A), and their places among the objectives, (A,) int64,
        rising.

    Raises:
        MmbenchError: weights of fewer classes than the concept has.
    """
    total: list[Tensor] = []
    count: list[int] = []
    places: list[int] = []
    for concept, group in _by_concept(objectives):
        logits, target = outputs[concept], targets[concept]
        of = [objectives[place] for place in group]
        if target.is_floating_point():
            target = target.to(logits.dtype).unsqueeze(1)
            row_losses = (logits - target.nan_to_num()).abs()
        else:
            target, row_losses = _class_losses(logits, target, of, focus, weights)
        known = has_label(target)
        held: list[int] = known.sum(0).cpu().tolist()
        if not any(held):
            continue
        if min(held) < len(known):
            row_losses = row_losses * known
        total.append(row_losses.sum(-2))
        count += held
        places += group
    if not places:
        some = next(iter(outputs.values()))
        return some.new_zeros(*some.shape[:-2], 0), some.new_zeros(0).long()
    losses = torch.cat(total, dim=-1)
    losses = losses / torch.tensor([max(held, 1) for held in count], device=losses.device)
    order = sorted((i for i, held in enumerate(count) if held), key=places.__getitem__)
    if order != list(range(len(count))):
        losses = losses[..., order]
    return losses, torch.tensor([places[i] for i in order], device=losses.device)


def _class_losses(
    logits: Tensor, target: Tensor, of: list[Objective], focus: float, weights: Mapping[str, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Targets (B, A) and losses (…, B, A) of each row and objective, of a whole exclusive concept or of labels."""
    if of[0].index is None:
        margin = _margin(logits, target.clamp(min=0)).unsqueeze(-1)
        target = target.unsqueeze(1)
    else:
        columns = [objective.index for objective in of]
        target = _columns(target, columns) if target.ndim == 2 else _one_against_rest(target, columns)
        logits = _columns(logits, columns)
        margin = torch.where(target == 1, logits, -logits)
    row_losses = focal(margin, focus)
    if weights is not None:
        table = torch.stack([weights[objective.name] for objective in of]).to(row_losses)
        if of[0].index is None and table.shape[1] != logits.shape[-1]:
            raise _no_row(of[0])
        row_losses = row_losses * table.gather(1, target.clamp(min=0).T).T
    return target, row_losses


@dataclass(frozen=True)
class Measure:
    """:func:`objective_losses` of these objectives; ``len`` is T, how many there are."""

    objectives: tuple[Objective, ...]
    focus: float = 0.0
    weights: Mapping[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.objectives)

    def __call__(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The losses of one prediction (A,), or of several (P, A), with graph, and their places (A,)."""
        return objective_losses(outputs, targets, self.objectives, self.focus, self.weights)


@cache
def _by_concept(objectives: tuple[Objective, ...]) -> list[tuple[str, list[int]]]:
    """The objectives' places by concept, those of whole concepts and those of labels apart."""
    groups: dict[tuple[str, bool], list[int]] = {}
    for place, objective in enumerate(objectives):
        groups.setdefault((objective.concept, objective.index is None), []).append(place)
    return [(concept, places) for (concept, _), places in groups.items()]


@dataclass(frozen=True)
class Scale:
    """Where the training rows of a score lie: ``raw = centre + spread * standardised``."""

    centre: float
    spread: float


def scale_of(target: Tensor) -> Scale:
    """The mean and the (population) standard deviation of the labelled rows of a score; a constant has spread 1."""
    values = target[has_label(target)].double()
    spread = float(values.std(correction=0))
    return Scale(float(values.mean()), spread if spread > 0 else 1.0)


def standardised(targets: Mapping[str, Tensor], scales: Mapping[str, Scale]) -> dict[str, Tensor]:
    """The targets with every score of ``scales`` on its own scale."""
    return {c: (t - scales[c].centre) / scales[c].spread if c in scales else t for c, t in targets.items()}


def _columns(values: Tensor, columns: list[int | None]) -> Tensor:
    """These columns of (…, K); all of them are the tensor itself."""
    return values if columns == list(range(values.shape[-1])) else values[..., columns]


def _one_against_rest(target: Tensor, columns: list[int | None]) -> Tensor:
    """(B,) class indices to (B, k) of 0/1, -1 where unlabelled."""
    hits = target[:, None] == torch.tensor(columns, device=target.device)
    return torch.where(target[:, None] == UNLABELLED, UNLABELLED, hits.long())


def _margin(logits: Tensor, target: Tensor) -> Tensor:
    """The log-odds of the true class, u_y - logsumexp of the others: logits (…, B, K), target (B,) -> (…, B)."""
    if logits.shape[-1] == 2:
        first, second = logits.unbind(-1)
        return torch.where(target == 1, second - first, first - second)
    true = target.unsqueeze(-1).expand(*logits.shape[:-1], 1)
    return logits.gather(-1, true).squeeze(-1) - logits.scatter(-1, true, -torch.inf).logsumexp(dim=-1)


def focal(margin: Tensor, beta: float) -> Tensor:
    """(1 - p_d)^beta (-log p_d) from the log-odds v of the truth: exp(beta log σ(-v)) (-log σ(v)), any shape."""
    loss = -logsigmoid(margin)
    return loss if beta == 0 else torch.exp(beta * logsigmoid(-margin)) * loss
