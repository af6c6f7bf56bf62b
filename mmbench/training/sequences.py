"""Sequences with steps that may be missing: one vector of each, and several brought to common steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def lengths(steps: Tensor) -> Tensor:
    """Places up to the last step that is there: steps (B, T) bool -> (B,) int64, 0 without any."""
    return (steps * torch.arange(1, steps.shape[1] + 1, device=steps.device)).amax(dim=1)


def moments(values: Tensor, steps: Tensor) -> Tensor:
    """Mean and standard deviation over the steps that are there: (B, T, d), (B, T) -> (B, 2 d), zero without any."""
    there = steps.unsqueeze(-1).to(values.dtype)
    count = there.sum(dim=1).clamp(min=1)
    mean = (values * there).sum(dim=1) / count
    spread = (((values - mean.unsqueeze(1)) ** 2 * there).sum(dim=1) / count).sqrt()
    return torch.cat([mean, spread], dim=1)


class Recurrent(nn.Module):
    """An LSTM over the steps that are there: (B, T, d) -> its last hidden state (B, d), zero without any step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, values: Tensor, steps: Tensor) -> Tensor:
        """Read the steps in order, as if the others were not in the sequence."""
        count = steps.sum(dim=1)
        order = (~steps).to(torch.uint8).argsort(dim=1, stable=True)[:, : max(int(count.max()), 1)]
        hidden, _ = self.lstm(values.gather(1, order.unsqueeze(-1).expand(-1, -1, values.shape[2])))
        last: Tensor = hidden[torch.arange(len(hidden), device=hidden.device), (count - 1).clamp(min=0)]
        return last * (count > 0).unsqueeze(1)


def aligned(views: Sequence[Tensor], steps: Sequence[Tensor | None], present: Tensor) -> tuple[Tensor, Tensor]:
    """Views of a batch on common steps.

    A sample has as many steps as its shortest sequence. A longer one is averaged: its step t of L falls into step
    floor(t S / L) of S, so that sequences of equal length stay as they are. A vector is there at every step.

    Args:
        views: each (B, d), or (B, T_m, d) for a sequence.
        steps: of each sequence bool (B, T_m), None for a vector.
        present: bool (B, N).

    Returns:
        (B, S, N, d), zero where nothing is, and the mask (B, S, N).
    """
    shortest = torch.full((len(present),), torch.iinfo(torch.int64).max, device=present.device)
    for there in steps:
        if there is not None:
            length = lengths(there)
            shortest = torch.where(length > 0, torch.minimum(shortest, length), shortest)
    shortest = torch.where(shortest == torch.iinfo(torch.int64).max, 1, shortest)
    size = int(shortest.max())
    reached = torch.arange(size, device=present.device) < shortest.unsqueeze(1)
    common, masks = [], []
    for m, (view, there) in enumerate(zip(views, steps, strict=True)):
        if there is None:
            masks.append(reached & present[:, m, None])
            common.append(view.unsqueeze(1) * masks[-1].unsqueeze(-1))
            continue
        place = torch.arange(view.shape[1], device=view.device) * shortest.unsqueeze(1)
        place = (place // lengths(there).clamp(min=1).unsqueeze(1)).clamp(max=size - 1)
        total = view.new_zeros(len(view), size, view.shape[2])
        total = total.scatter_add(1, place.unsqueeze(-1).expand_as(view), view * there.unsqueeze(-1))
        count = view.new_zeros(len(view), size).scatter_add(1, place, there.to(view.dtype))
        masks.append(count > 0)
        common.append(total / count.clamp(min=1).unsqueeze(-1))
    return torch.stack(common, dim=2), torch.stack(masks, dim=2)
