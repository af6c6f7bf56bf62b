"""How a network's parameters move: the common budget's Adam, and what fine-tuning asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mmbench.config import Training


class Optimiser:
    """A step for each batch, and what happens after an epoch.

    Args:
        adam: with the rates at their highest.
        plateau: divides them by ten after two epochs without a better validation objective.
        rate: the factor on them by step, from 0; None is 1.
        scaler: keeps small gradients of half precision from vanishing; None where none is needed.
    """

    def __init__(
        self,
        adam: torch.optim.Optimizer,
        plateau: bool = False,
        rate: Callable[[int], float] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.adam, self.rate = adam, rate
        self.plateau = ReduceLROnPlateau(adam, patience=1) if plateau else None
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.steps = 0
        self.highest = [group["lr"] for group in adam.param_groups]

    def step(self, total: Tensor) -> None:
        """Differentiate the scalar and move."""
        if self.rate is not None:
            for group, highest in zip(self.adam.param_groups, self.highest, strict=True):
                group["lr"] = highest * self.rate(self.steps)
        self.steps += 1
        self.adam.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.adam)
        self.scaler.update()

    def end_epoch(self, objective: float) -> None:
        """Told the epoch's validation objective."""
        if self.plateau is not None:
            self.plateau.step(objective)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on besides the parameters."""
        return {
            "adam": self.adam.state_dict(),
            "plateau": None if self.plateau is None else self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state of :meth:`state`."""
        self.adam.load_state_dict(state["adam"])
        if self.plateau is not None:
            self.plateau.load_state_dict(state["plateau"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.steps = state["steps"]


def common_optimiser(parameters: Iterable[Tensor], settings: Training, plateau: bool = False) -> Optimiser:
    """The common budget: Adam with one rate."""
    adam = torch.optim.Adam(list(parameters), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    return Optimiser(adam, plateau)


def warm_up(share: float, steps: int) -> Callable[[int], float]:
    """The factor by step: up in a straight line over a share of all steps, then down to zero at their end."""
    rising = max(round(share * steps), 1)
    falling = max(steps - rising + 1, 1)
    return lambda step: max(min((step + 1) / rising, (steps - step) / falling), 0.0)
