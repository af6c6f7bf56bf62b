"""Memories over the time steps of several views: recurrent views, delta memory, gated views, the memory of MFN.

Everywhere (B, T, N, d) are T steps of N views of B samples and a mask, bool (B, T, N), tells the steps that a view has.
At a step that is not there every state stays as it was, so that padding changes nothing and the last position holds
the last state. States start at zero. A vector is a sequence of one step.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mmbench.contracts import Inside
from mmbench.modules import shown

Update = Literal["convex", "printed", "printed_recursive", "mfn"]
Gates = dict[str, list[Tensor]]  # by name a step's (B, size)


class RecurrentViews(nn.Module):
    """An LSTM a view: (B, T, N, d) -> hidden states h and cells c, each (B, T, N, hidden)."""

    def __init__(self, views: int, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.cells = nn.ModuleList(nn.LSTMCell(features, hidden) for _ in range(views))

    def forward(self, views: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run every view through its own LSTM."""
        h = [views.new_zeros(len(views), self.hidden) for _ in self.cells]
        c = list(h)
        hidden, cells = [], []
        for t in range(views.shape[1]):
            for v, cell in enumerate(self.cells):
                here = mask[:, t, v, None]
                h_new, c_new = cell(views[:, t, v], (h[v], c[v]))
                h[v], c[v] = torch.where(here, h_new, h[v]), torch.where(here, c_new, c[v])
            hidden.append(torch.stack(h, dim=1))
            cells.append(torch.stack(c, dim=1))
        return torch.stack(hidden, dim=1), torch.stack(cells, dim=1)


def previous(states: Tensor) -> Tensor:
    """States one step before, zero before the first: (B, T, …) -> (B, T, …)."""
    return torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)


def update_memory(update: Update, alpha: Tensor, candidate: Tensor, last_candidate: Tensor, memory: Tensor) -> Tensor:
    """M_t of (12) from alpha, the candidates M̃_t and M̃_(t-1), and M_(t-1), all of one shape.

    convex             alpha M̃_t + (1 - alpha) M_(t-1): what the text says
    printed            alpha M̃_t - (1 - alpha) M̃_(t-1): the formula to the letter
    printed_recursive  alpha M̃_t - (1 - alpha) M_(t-1)
    """
    if update == "convex":
        return alpha * candidate + (1 - alpha) * memory
    return alpha * candidate - (1 - alpha) * (last_candidate if update == "printed" else memory)


class DeltaMemory(nn.Module):
    """Delta-memory attention, MR26 (10)-(12).

        x_t = W_x [h_t^1 ⊕ … ⊕ h_t^N] + b_x          Δ_t = x_t - M_(t-1)
        M̃_t = tanh(W_m [c_t^1 ⊕ … ⊕ c_t^N] + b_m)    α_t = σ(W_α Δ_t + b_α)

    The paper subtracts M from the input, whose width it leaves open: W_x brings it to the memory's. ``update`` reads
    (12), whose printed sign contradicts its text. With a single step M_0 = M̃_0 = 0, and all three readings agree.
    """

    def __init__(self, features: int, size: int, update: Literal["convex", "printed", "printed_recursive"]) -> None:
        super().__init__()
        self.update: Update = update
        self.read = nn.Linear(features, size)
        self.attend = nn.Linear(size, size)
        self.propose = nn.Linear(features, size)

    def forward(self, h: Tensor, c: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """h and c (B, T, features), mask (B, T) bool -> M after each step and M before it, each (B, T, size)."""
        return self.trace(h, c, mask)[:2]

    def trace(self, h: Tensor, c: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Gates]:
        """What ``forward`` gives, and α of every step."""
        x, candidates = self.read(h), torch.tanh(self.propose(c))
        memory = before = candidate = torch.zeros_like(x[:, 0])
        after, earlier, alphas = [], [], []
        for t in range(h.shape[1]):
            here = mask[:, t, None]
            alpha = torch.sigmoid(self.attend(x[:, t] - memory))
            alphas.append(alpha)
            new = update_memory(self.update, alpha, candidates[:, t], candidate, memory)
            before = torch.where(here, memory, before)
            memory = torch.where(here, new, memory)
            candidate = torch.where(here, candidates[:, t], candidate)
            after.append(memory)
            earlier.append(before)
        return torch.stack(after, dim=1), torch.stack(earlier, dim=1), {"α": alphas}


class TwoLayers(nn.Sequential):
    """Linear, ReLU, Dropout, Linear."""

    def __init__(self, features: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out))


class MfnMemory(nn.Module):
    """Delta-memory attention and multi-view gated memory of the Memory Fusion Network (Zadeh et al., AAAI 2018).

        c* = [c_(t-1); c_t]    ĉ = softmax(FC(c*)) ⊙ c*    û = tanh(FC(ĉ))
        γ_k = σ(FC_k([ĉ; u_(t-1)])), k = 1, 2              u_t = γ_1 ⊙ u_(t-1) + γ_2 ⊙ û

    c are the cells of all views side by side; each FC is Linear, ReLU, Dropout, Linear. tanh is taken once, as the
    original code does.
    """

    def __init__(self, features: int, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.size = size
        self.attend = TwoLayers(2 * features, hidden, 2 * features, dropout)
        self.propose = TwoLayers(2 * features, hidden, size, dropout)
        self.retain = TwoLayers(2 * features + size, hidden, size, dropout)
        self.admit = TwoLayers(2 * features + size, hidden, size, dropout)

    def forward(self, h: Tensor, c: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """c (B, T, features), mask (B, T) bool -> u after each step and u before it, each (B, T, size); h is unused."""
        return self.trace(h, c, mask)[:2]

    def trace(self, h: Tensor, c: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Gates]:
        """What ``forward`` gives, and γ_1 and γ_2 of every step."""
        both = torch.cat([previous(c), c], dim=-1)
        attended = torch.softmax(self.attend(both), dim=-1) * both
        proposed = torch.tanh(self.propose(attended))
        memory = before = torch.zeros_like(proposed[:, 0])
        after, earlier = [], []
        retained, admitted = [], []
        for t in range(c.shape[1]):
            here = mask[:, t, None]
            gates = torch.cat([attended[:, t], memory], dim=-1)
            retained.append(torch.sigmoid(self.retain(gates)))
            admitted.append(torch.sigmoid(self.admit(gates)))
            new = retained[t] * memory + admitted[t] * proposed[:, t]
            before = torch.where(here, memory, before)
            memory = torch.where(here, new, memory)
            after.append(memory)
            earlier.append(before)
        return torch.stack(after, dim=1), torch.stack(earlier, dim=1), {"γ1": retained, "γ2": admitted}


def look_at_gates(gates: Gates, mask: Tensor, modalities: tuple[str, ...], says: str) -> Inside:
    """Coefficients of a memory over time: mean over its units, by name and step; ``mask`` is bool (B, T)."""
    values = torch.stack([torch.stack(steps, dim=1).mean(dim=-1) for steps in gates.values()], dim=1)
    return Inside(says, shown(values, mask.unsqueeze(1)), tuple(gates), modalities)


class GatedViews(nn.Module):
    """Multi-view gated memory: D_v = σ(W_v [h_v; M_(t-1)] + b_v) ⊙ h_v, a gate a view.

    MR26 names D_v and the gates and gives no formula; its u_t and τ have none either and are left out.
    """

    def __init__(self, views: int, hidden: int, size: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(hidden + size, hidden) for _ in range(views))

    def forward(self, h: Tensor, memory: Tensor) -> Tensor:
        """h (B, T, N, hidden) and M_(t-1) (B, T, size) -> D (B, T, N, hidden)."""
        return self.openness(h, memory) * h

    def openness(self, h: Tensor, memory: Tensor) -> Tensor:
        """How far each gate is open, (B, T, N, hidden)."""
        gated = [torch.sigmoid(gate(torch.cat([h[:, :, v], memory], dim=-1))) for v, gate in enumerate(self.gates)]
        return torch.stack(gated, dim=2)
