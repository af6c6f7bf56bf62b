"""The one training loop: every network, whatever its fusion and strategy, is trained here."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from mmbench.contracts import Examples, FitContext, Objective
from mmbench.errors import MmbenchError
from mmbench.hashing import derive_seed
from mmbench.modules import Strategy
from mmbench.training.losses import balanced_weights, objective_losses
from mmbench.training.network import Network, Output, predict_logits


class DivergedError(MmbenchError):
    """The loss or the validation objective stopped being a number."""


def train_network(
    network: Network,
    strategy: Strategy,
    objectives: tuple[Objective, ...],
    train: Examples,
    val: Examples,
    context: FitContext,
) -> dict[str, Any]:
    """Train with Adam, stop early on the unweighted validation objective, and restore the best epoch.

    Randomness has an axis of its own for the order of the batches and for dropout, both derived from the cell's seed
    and the same for every method.

    Returns:
        JSON-ready history: ``epochs``, ``best_epoch`` (1-based), ``objectives``, ``train`` (epochs x objectives, mean
        unweighted losses; None where an objective had no label), ``val`` (epochs) and ``weights`` (epochs x
        objectives, or [] where they are all one).

    Raises:
        DivergedError: a loss that is not finite.
    """
    settings = context.settings
    balanced = settings.class_weights == "balanced"
    weights = balanced_weights(objectives, train.targets, context.concepts) if balanced else None
    optimiser = torch.optim.Adam(
        [*network.parameters(), *strategy.parameters()],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    order = torch.Generator().manual_seed(derive_seed(context.seed, "batches"))
    torch.manual_seed(derive_seed(context.seed, "dropout"))
    history: dict[str, Any] = {"objectives": [o.name for o in objectives], "train": [], "val": [], "weights": []}
    best, best_state, best_epoch = math.inf, None, 0
    for epoch in range(1, settings.epochs + 1):
        sums = torch.zeros(len(objectives), dtype=torch.float64)
        batches = torch.zeros(len(objectives), dtype=torch.float64)
        network.train()
        for rows in torch.split(torch.randperm(len(train), generator=order), settings.batch_size):
            if len(rows) == 1:
                continue
            batch = Examples(train.inputs.rows(rows), {c: target[rows] for c, target in train.targets.items()})
            output = network(batch.inputs)
            losses, active = _losses(network, output, batch, objectives, strategy.focus, weights)
            if len(active) == 0:
                continue
            if not torch.isfinite(losses).all():
                raise DivergedError(f"the training loss is not finite in epoch {epoch}: lower training.learning_rate")
            total = strategy.combine(losses, active, _gramian(network, output, losses, strategy.gradients))
            optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            sums[active] += losses.detach().double()
            batches[active] += 1
        means = sums / batches
        used = strategy.loss_weights()
        history["weights"] += [] if used is None else [used.tolist()]
        strategy.end_epoch(means)
        history["train"].append([None if math.isnan(mean) else mean for mean in means.tolist()])
        objective = _validate(network, val, objectives, strategy.focus, weights)
        if not math.isfinite(objective):
            raise DivergedError(
                f"the validation objective is not finite in epoch {epoch}: lower training.learning_rate"
            )
        history["val"].append(objective)
        context.report(epoch, settings.epochs, objective)
        if objective < best - settings.min_delta:
            best, best_epoch, best_state = objective, epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= settings.patience:
            break
    if best_state is not None:
        network.load_state_dict(best_state)
    return {"epochs": len(history["val"]), "best_epoch": best_epoch, **history}


def _losses(
    network: Network,
    output: Output,
    batch: Examples,
    objectives: tuple[Objective, ...],
    focus: float,
    weights: dict[str, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """The objectives' losses: each branch on its own loss (mean over branches), deep supervision added.

    A row counts in a branch only where the branch's modality is present.
    """
    if len(output.branches) == 1:
        final, active = objective_losses(output.branches[0][0], batch.targets, objectives, focus, weights)
        for deep in output.branches[0][1:]:
            final = final + objective_losses(deep, batch.targets, objectives, focus, weights)[0]
        return final, active
    total = output.z.new_zeros(len(objectives))
    count = output.z.new_zeros(len(objectives))
    for branch, modality in zip(output.branches, network.modalities, strict=True):
        here = batch.inputs.present[modality]
        targets = {
            c: t.masked_fill(~(here if t.ndim == 1 else here.unsqueeze(1)), -1) for c, t in batch.targets.items()
        }
        for prediction in branch:
            losses, active = objective_losses(prediction, targets, objectives, focus, weights)
            total = total.index_add(0, active, losses)
        count = count.index_add(0, active, torch.ones_like(losses))
    if getattr(network.fusion, "learns_mix", False):
        losses, active = objective_losses(output.logits, batch.targets, objectives, focus, weights)
        total = total.index_add(0, active, losses * count[active].clamp(min=1))
    active = count.nonzero().squeeze(1)
    return (total / count.clamp(min=1))[active], active


def _gramian(network: Network, output: Output, losses: Tensor, of: str) -> Tensor | None:
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
        torch.eye(len(losses)),
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,
        materialize_grads=True,
    )
    jacobian = torch.cat([grad.flatten(1) for grad in grads], dim=1).double()
    return jacobian @ jacobian.T


def _validate(
    network: Network,
    val: Examples,
    objectives: tuple[Objective, ...],
    focus: float,
    weights: dict[str, Tensor] | None,
) -> float:
    """The unweighted validation objective: the sum of the objectives' mean losses over the labelled rows of val."""
    logits = {c: v.double() for c, v in predict_logits(network, val.inputs).items()}
    return float(objective_losses(logits, val.targets, objectives, focus, weights)[0].sum())
