"""Contrastive alignment and the balance of modalities against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from mmbench.proposed.hybrid.losses import alignment, balance_weights, info_nce


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("symmetric", [False, True])
def test_info_nce_closed_forms(symmetric: bool) -> None:
    a = draw(6, 6)
    assert info_nce(a[:1], draw(1, 6, seed=1), 0.07, symmetric).item() == 0
    alike = a[:1].expand(6, 6)
    assert info_nce(alike, alike, 0.07, symmetric).item() == pytest.approx(math.log(6))
    basis, _ = torch.linalg.qr(a)
    for temperature in (0.07, 0.5, 2.0):
        expected = math.log(1 + 5 * math.exp(-1 / temperature))
        assert info_nce(basis, basis, temperature, symmetric).item() == pytest.approx(expected, abs=1e-13)


def test_info_nce_by_hand_goes_from_the_first_to_the_second() -> None:
    """Cosines [[1, 0], [1, 0]] at τ = 1: rows ln(1 + 1/e) and ln(1 + e); columns ln 2 and ln 2."""
    a = torch.tensor([[3.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[2.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
    forth = (math.log(1 + math.exp(-1)) + math.log(1 + math.e)) / 2
    assert info_nce(a, b, 1.0).item() == pytest.approx(forth)
    assert info_nce(b, a, 1.0).item() == pytest.approx(math.log(2))
    assert info_nce(a, b, 1.0, symmetric=True).item() == pytest.approx((forth + math.log(2)) / 2)


def test_info_nce_does_not_see_the_length_of_a_row_nor_the_order_of_rows() -> None:
    a, b = draw(5, 3), draw(5, 3, seed=1)
    loss = info_nce(a, b, 0.07)
    scale = torch.rand(5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.1
    torch.testing.assert_close(info_nce(a * scale, b * scale.flip(0), 0.07), loss)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(info_nce(a[order], b[order], 0.07), loss)
    assert torch.autograd.gradcheck(lambda x, y: info_nce(x, y, 0.5, True), (a.requires_grad_(), b.requires_grad_()))


def test_alignment_is_the_mean_over_pairs_each_over_its_complete_rows() -> None:
    x = draw(6, 3, 4)
    everywhere = torch.ones(6, 3, dtype=torch.bool)
    pairs = [info_nce(x[:, i], x[:, j], 0.2) for i, j in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(alignment(x, everywhere, 0.2), sum(pairs) / 3)
    missing = everywhere.clone()
    missing[:2, 0] = False
    missing[:5, 2] = False
    torch.testing.assert_close(alignment(x, missing, 0.2), info_nce(x[2:, 0], x[2:, 1], 0.2))
    for nothing in (alignment(x, ~everywhere, 0.2), alignment(x[:1], everywhere[:1], 0.2)):
        assert nothing.item() == 0
    assert alignment(x[:, :1], everywhere[:, :1], 0.2).item() == 0


def test_a_row_of_zeros_leaves_gradients_finite() -> None:
    x = draw(4, 2, 3)
    x[0] = 0
    x.requires_grad_()
    alignment(x, torch.ones(4, 2, dtype=torch.bool), 0.07).backward()
    assert torch.isfinite(x.grad).all()


def test_balance_weights_closed_forms() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    assert balance_weights(losses, "fixed").tolist() == pytest.approx([1 / 3] * 3)
    assert balance_weights(losses, "inverse").tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    total = math.e + math.e**2 + math.e**4
    assert balance_weights(losses, "softmax").tolist() == pytest.approx([math.e**x / total for x in (1, 2, 4)])
    for mode in ("fixed", "inverse", "softmax"):
        weights = balance_weights(losses, mode)
        assert not weights.requires_grad and weights.sum().item() == pytest.approx(1)
        assert balance_weights(losses[:1], mode).tolist() == [1]
    assert torch.isfinite(balance_weights(torch.zeros(2, dtype=torch.float64), "inverse")).all()
