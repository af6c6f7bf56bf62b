"""Recurrent views, delta memory and gated views, recomputed in NumPy, and what padding may not change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmbench.proposed.hybrid.memory import (
    DeltaMemory,
    GatedViews,
    MfnMemory,
    RecurrentViews,
    previous,
    update_memory,
)

Array = NDArray[np.float64]
UPDATES = ["convex", "printed", "printed_recursive"]


def sequences(rows: int = 3, steps: int = 4, views: int = 2, width: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(7)
    return torch.randn(rows, steps, views, width, dtype=torch.float64, generator=g)


def memory_of(update: str, features: int = 6, size: int = 4) -> DeltaMemory | MfnMemory:
    torch.manual_seed(3)
    made = MfnMemory(features, size, 5, 0.0) if update == "mfn" else DeltaMemory(features, size, update)
    return made.double().eval()


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def affine(layer: nn.Linear, x: Array) -> Array:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def test_recurrent_views_are_torchs_lstm_of_each_view() -> None:
    torch.manual_seed(0)
    views = RecurrentViews(2, 3, 5).double()
    x = sequences()
    h, c = views(x, torch.ones(3, 4, 2, dtype=torch.bool))
    for v, cell in enumerate(views.cells):
        lstm = nn.LSTM(3, 5, batch_first=True).double()
        lstm.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
        hidden, (_, last) = lstm(x[:, :, v])
        torch.testing.assert_close(h[:, :, v], hidden, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(c[:, -1, v], last[0], rtol=1e-12, atol=1e-14)


def test_one_step_by_hand() -> None:
    views = RecurrentViews(1, 1, 1).double()
    for parameter in views.parameters():
        nn.init.constant_(parameter, 0.0)
    views.cells[0].bias_ih.data = torch.tensor([0.0, 9.0, math.atanh(0.5), 0.0], dtype=torch.float64)  # i, f, g, o
    h, c = views(torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.bool))
    assert c.item() == pytest.approx(0.5 * 0.5)
    assert h.item() == pytest.approx(0.5 * math.tanh(0.25))


@pytest.mark.parametrize("update", UPDATES)
def test_delta_memory_equals_the_formulas_in_numpy(update: str) -> None:
    memory = memory_of(update)
    h, c = sequences(3, 5, 1, 6)[:, :, 0], sequences(4, 5, 1, 6)[1:, :, 0]
    after, before = memory(h, c, torch.ones(3, 5, dtype=torch.bool))
    m = last = np.zeros((3, 4))
    for t in range(5):
        alpha = sigmoid(affine(memory.attend, affine(memory.read, h[:, t].numpy()) - m))
        new = np.tanh(affine(memory.propose, c[:, t].numpy()))
        subtracted = {"convex": -m, "printed": last, "printed_recursive": m}[update]
        np.testing.assert_allclose(before[:, t].detach().numpy(), m, atol=1e-13)
        m, last = alpha * new - (1 - alpha) * subtracted, new
        np.testing.assert_allclose(after[:, t].detach().numpy(), m, atol=1e-13)


@pytest.mark.parametrize(
    ("update", "limit"),
    [
        ("convex", lambda a, c: c),
        ("printed", lambda a, c: (2 * a - 1) * c),
        ("printed_recursive", lambda a, c: a * c / (2 - a)),
    ],
)
@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_limits_for_a_constant_candidate(update: str, limit, alpha: float) -> None:
    memory = memory_of(update)
    with torch.no_grad():
        memory.attend.weight.zero_()
        memory.attend.bias.fill_(math.log(alpha / (1 - alpha)))
    x = sequences(1, 1, 1, 6)[:, :, 0].expand(2, 150, 6)
    after, _ = memory(x, x, torch.ones(2, 150, dtype=torch.bool))
    constant = torch.tanh(memory.propose(x[:, -1]))
    torch.testing.assert_close(after[:, -1], limit(alpha, constant), rtol=1e-9, atol=1e-11)
    assert after.abs().max() <= 1


def test_alpha_of_one_makes_the_readings_equal_and_of_zero_keeps_the_convex_memory() -> None:
    new, last, memory = (x.squeeze() for x in sequences(1, 3, 2, 4).unbind(dim=1))
    one, zero = torch.ones_like(new), torch.zeros_like(new)
    for update in UPDATES:
        assert torch.equal(update_memory(update, one, new, last, memory), new)  # type: ignore[arg-type]
    assert torch.equal(update_memory("convex", zero, new, last, memory), memory)
    assert torch.equal(update_memory("printed", zero, new, last, memory), -last)
    assert torch.equal(update_memory("printed_recursive", zero, new, last, memory), -memory)


def test_with_one_step_the_readings_are_one() -> None:
    x = sequences(3, 1, 1, 6)[:, :, 0]
    here = torch.ones(3, 1, dtype=torch.bool)
    first, *others = (memory_of(update)(x, x, here)[0] for update in UPDATES)
    assert all(torch.equal(first, other) for other in others)
    two = torch.cat([x, x], dim=1)
    first, *others = (memory_of(update)(two, two, here.expand(3, 2))[0] for update in UPDATES)
    assert not any(torch.equal(first, other) for other in others)


def test_the_memory_of_mfn_grows_by_at_most_one_a_step() -> None:
    memory = memory_of("mfn")
    with torch.no_grad():
        for gate in (memory.retain, memory.admit):
            gate[3].bias.fill_(50.0)
        memory.propose[3].bias.fill_(50.0)
    x = sequences(2, 6, 1, 6)[:, :, 0]
    after, _ = memory(x, x, torch.ones(2, 6, dtype=torch.bool))
    steps = torch.arange(1, 7, dtype=torch.float64)
    torch.testing.assert_close(after, steps[None, :, None].expand(2, 6, 4), rtol=1e-9, atol=1e-9)


def test_gated_views_by_hand() -> None:
    torch.manual_seed(1)
    gates = GatedViews(2, 3, 4).double()
    h, memory = sequences(2, 5, 2, 3), sequences(2, 5, 1, 4)[:, :, 0]
    gated = gates(h, memory)
    for v in range(2):
        joined = np.concatenate([h[:, :, v].numpy(), memory.numpy()], axis=-1)
        expected = sigmoid(affine(gates.gates[v], joined)) * h[:, :, v].numpy()
        np.testing.assert_allclose(gated[:, :, v].detach().numpy(), expected, atol=1e-13)


def test_previous_is_one_step_back() -> None:
    x = sequences()
    assert (previous(x)[:, 0] == 0).all() and torch.equal(previous(x)[:, 1:], x[:, :-1])


@pytest.mark.parametrize("update", [*UPDATES, "mfn"])
@pytest.mark.parametrize("where", [[0, 1, 2], [2, 3, 4], [0, 2, 4]])
def test_padding_changes_nothing(update: str, where: list[int]) -> None:
    """Three true steps among five, the others full of noise: behind, before, or between."""
    torch.manual_seed(0)
    views, memory, gates = RecurrentViews(2, 3, 3).double(), memory_of(update), GatedViews(2, 3, 4).double()

    def run(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = views(x, mask)
        after, before = memory(h.flatten(2), c.flatten(2), mask.any(dim=2))
        return after[:, -1], before[:, -1], gates(h, before)[:, -1]

    x = sequences(3, 5)
    mask = torch.zeros(3, 5, 2, dtype=torch.bool)
    mask[:, where] = True
    short = run(x[:, where], mask[:, where])
    for padded, unpadded in zip(run(x, mask), short, strict=True):
        torch.testing.assert_close(padded, unpadded, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(run(x, torch.ones_like(mask))[0], short[0])


@pytest.mark.parametrize("update", [*UPDATES, "mfn"])
def test_without_any_step_states_stay_zero(update: str) -> None:
    views, memory = RecurrentViews(2, 3, 3).double(), memory_of(update)
    mask = torch.zeros(3, 4, 2, dtype=torch.bool)
    h, c = views(sequences(), mask)
    after, before = memory(h.flatten(2), c.flatten(2), mask.any(dim=2))
    assert not any(state.any() for state in (h, c, after, before))


@pytest.mark.parametrize("update", [*UPDATES, "mfn"])
def test_time_and_rows_can_be_sliced(update: str) -> None:
    torch.manual_seed(0)
    views, memory = RecurrentViews(2, 3, 3).double(), memory_of(update)
    x, mask = sequences(5, 4), torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(2)) > 0.3

    def run(x: Tensor, mask: Tensor) -> Tensor:
        h, c = views(x, mask)
        return memory(h.flatten(2), c.flatten(2), mask.any(dim=2))[0]

    whole = run(x, mask)
    for rows, steps in (([2], 4), ([4, 0], 4), ([0, 1, 2, 3, 4], 1), ([3], 2)):
        part = run(x[rows][:, :steps], mask[rows][:, :steps])
        torch.testing.assert_close(part, whole[rows][:, :steps], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("update", [*UPDATES, "mfn"])
def test_gradients_are_right(update: str) -> None:
    views, gates = RecurrentViews(2, 2, 2).double(), GatedViews(2, 2, 3).double()
    memory = memory_of(update, 4, 3)
    x = sequences(2, 3, 2, 2).requires_grad_()
    mask = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(5)) > 0.3

    def run(x: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        h, c = views(x, mask)
        after, before = memory(h.flatten(2), c.flatten(2), mask.any(dim=2))
        return after[:, -1], gates(h, before)

    inputs = [x, *views.parameters(), *memory.parameters(), *gates.parameters()]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
