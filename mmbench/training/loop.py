"""The one training loop: every network, whatever its fusion and strategy, is trained here."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmbench.contracts import Examples, FitContext, Objective
from mmbench.errors import MmbenchError
from mmbench.hashing import derive_seed
from mmbench.modules import Strategy
from mmbench.training.checkpoint import Progress
from mmbench.training.losses import Measure, balanced_weights
from mmbench.training.network import Output, Trainable, predict_logits
from mmbench.training.optimiser import Optimiser, common_optimiser

SHUFFLED = 2**23  # bytes of features that are brought into the drawn order at once


class DivergedError(MmbenchError):
    """The loss or the validation objective stopped being a number."""


def train_network(
    network: Trainable,
    strategy: Strategy,
    objectives: tuple[Objective, ...],
    train: Examples,
    val: Examples,
    context: FitContext,
    optimiser: Optimiser | None = None,
) -> dict[str, Any]:
    """Train, stop early on the unweighted validation objective, and restore the best epoch.

    Network and strategy are on the context's device; batches are taken there. Without an optimiser it is the common
    budget's. Randomness has an axis of its own for the order of the batches and for dropout, both derived from the
    cell's seed and the same for every method. Where the context has a checkpoint, each epoch's state is kept in it, and
    a training that was interrupted goes on from there. Objectives of one modality alone (:attr:`Objective.modality`),
    behind all others, are the network's to measure and take no part in the validation objective.

    Returns:
        JSON-ready history: ``epochs``, ``best_epoch`` (1-based), ``objectives``, ``train`` (epochs x objectives, mean
        unweighted losses; None where an objective had no label), ``val`` (epochs) and ``weights`` (epochs x
        objectives, or [] where they are all one); ``joint`` tells how many objectives are not of one modality, where
        some are.

    Raises:
        DivergedError: a loss that is not finite.
    """
    settings, device = context.settings, torch.device(context.device)
    joint = tuple(objective for objective in objectives if not objective.modality)
    weights = balanced_weights(joint, train.targets) if settings.class_weights == "balanced" else None
    if optimiser is None:
        optimiser = common_optimiser([*network.parameters(), *strategy.parameters()], settings)
    measure = Measure(joint, strategy.focus, weights)
    order = torch.Generator().manual_seed(derive_seed(context.seed, "batches"))
    torch.manual_seed(derive_seed(context.seed, "dropout"))
    history: dict[str, Any] = {"objectives": [o.name for o in objectives], "train": [], "val": [], "weights": []}
    if len(joint) < len(objectives):
        history["joint"] = len(joint)
    so_far = Progress(network, strategy, optimiser, order, history)
    kept = None if context.checkpoint is None else context.checkpoint.load(context.device)
    if kept is not None:
        so_far.restore(kept, context.device)
        history = so_far.history
    for epoch in range(so_far.epoch + 1, settings.epochs + 1):
        if so_far.epoch - so_far.best_epoch >= settings.patience:
            break
        sums = torch.zeros(len(objectives), dtype=torch.float64, device=device)
        batches = torch.zeros_like(sums)
        network.train()
        for rows in _batches(train, settings.batch_size, order):
            batch = rows.to(device)
            if len(batch) == 1:
                continue
            output = network(batch.inputs)
            losses, active = network.losses(output, batch, measure)
            if len(active) == 0:
                continue
            if not math.isfinite(losses.sum().item()):
                raise DivergedError(f"the training loss is not finite in epoch {epoch}: lower training.learning_rate")
            total = strategy.combine(losses, active, _gramian(network, output, losses, strategy.gradients))
            optimiser.step(total if output.penalty is None else total + output.penalty)
            if len(active) == len(objectives):
                sums += losses.detach()
                batches += 1
            else:
                sums.index_add_(0, active, losses.detach().double())
                batches.index_add_(0, active, torch.ones_like(losses, dtype=torch.float64))
        means = sums / batches
        used = strategy.loss_weights()
        history["weights"] += [] if used is None else [used.cpu().tolist()]
        strategy.end_epoch(means)
        history["train"].append([None if math.isnan(mean) else mean for mean in means.cpu().tolist()])
        objective = _validate(network, val, measure)
        if not math.isfinite(objective):
            raise DivergedError(
                f"the validation objective is not finite in epoch {epoch}: lower training.learning_rate"
            )
        optimiser.end_epoch(objective)
        history["val"].append(objective)
        context.report(epoch, settings.epochs, objective)
        so_far.epoch = epoch
        if objective < so_far.best - settings.min_delta:
            so_far.best, so_far.best_epoch = objective, epoch
            so_far.best_state = copy.deepcopy(network.state_dict())
        if context.checkpoint is not None:
            context.checkpoint.save(so_far.state(context.device))
    if so_far.best_state is not None:
        network.load_state_dict(so_far.best_state)
    return {"epochs": len(history["val"]), "best_epoch": so_far.best_epoch, **history}


def _batches(train: Examples, size: int, order: torch.Generator) -> Iterator[Examples]:
    """The rows in a drawn order, ``size`` at a time; several batches' rows are taken at once, as many as are cheap."""
    width = sum(value[:1].nbytes for value in train.inputs.values.values())
    several = size * max(1, SHUFFLED // max(size * width, 1))
    for rows in torch.split(torch.randperm(len(train), generator=order), several):
        shuffled = train.rows(rows)
        for start in range(0, len(rows), size):
            yield shuffled.rows(slice(start, start + size))


def _gramian(network: Trainable, output: Output, losses: Tensor, of: str) -> Tensor | None:
    """Inner products of the losses' gradients, (A, A) float64, detached; the graph is kept for the step itself."""
    if of == "none":
        return None
    wanted: list[Tensor] = {
        "features": [output.z],
        "trunk": list[Tensor](network.trunk_weights()),
        "heads": list[Tensor](network.heads.parameters()),
    }[of]
    grads = torch.autograd.grad(
        losses,
        wanted,
        torch.eye(len(losses), device=losses.device),
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,
        materialize_grads=True,
    )
    jacobian = torch.cat([grad.flatten(1) for grad in grads], dim=1).double()
    return jacobian @ jacobian.T


def _validate(network: Trainable, val: Examples, measure: Measure) -> float:
    """The unweighted validation objective: the sum of the objectives' mean losses over the labelled rows of val."""
    logits = {c: v.double() for c, v in predict_logits(network, val.inputs).items()}
    return float(measure(logits, val.targets)[0].sum())
