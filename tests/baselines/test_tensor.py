"""Tensor fusion against Kronecker products and its closed forms."""

from __future__ import annotations

from functools import reduce

import pytest
import torch

from mmbench.errors import UsageError
from mmbench.plugins import shipped

tensor = shipped("baselines", "tensor")


def parts(sizes: tuple[int, ...], rows: int = 4) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(7)
    return [torch.randn(rows, size, dtype=torch.float64, generator=g) for size in sizes]


@pytest.mark.parametrize("sizes", [(3,), (3, 4), (2, 3, 4), (2, 1, 3, 2)])
def test_the_product_is_a_chain_of_kronecker_products(sizes: tuple[int, ...]) -> None:
    h = parts(sizes)
    z = tensor.outer_product(h)
    one = torch.ones(1, dtype=torch.float64)
    for row in range(4):
        expected = reduce(torch.kron, [torch.cat([one, view[row]]) for view in h])
        torch.testing.assert_close(z[row], expected, rtol=1e-15, atol=0)


def test_the_product_holds_a_one_and_every_view() -> None:
    a, b, c = parts((2, 3, 4))
    z = tensor.outer_product([a, b, c]).view(-1, 3, 4, 5)
    assert (z[:, 0, 0, 0] == 1).all()
    assert torch.equal(z[:, 1:, 0, 0], a)
    assert torch.equal(z[:, 0, 1:, 0], b)
    assert torch.equal(z[:, 0, 0, 1:], c)


def test_its_squared_norm_is_the_product_of_one_plus_theirs() -> None:
    h = parts((2, 3, 4))
    expected = torch.stack([1 + view.square().sum(1) for view in h]).prod(0)
    torch.testing.assert_close(tensor.outer_product(h).square().sum(1), expected, rtol=1e-14, atol=0)


def test_it_is_affine_in_each_view() -> None:
    a, b, c = parts((2, 3, 4))
    other = parts((3,))[0] + 1
    mixed = tensor.outer_product([a, 0.3 * b + 0.7 * other, c])
    expected = 0.3 * tensor.outer_product([a, b, c]) + 0.7 * tensor.outer_product([a, other, c])
    torch.testing.assert_close(mixed, expected, rtol=1e-12, atol=1e-14)


def test_with_nothing_present_only_the_constant_is_left() -> None:
    fusion = tensor.build(3, 6)
    for layer in fusion.project:
        torch.nn.init.ones_(layer[1].bias)
    fused = fusion(torch.zeros(2, 3, 6), torch.zeros(2, 3, dtype=torch.bool))
    expected = torch.zeros(2, fusion.out_features)
    expected[:, 0] = 1
    assert torch.equal(fused, expected)


def test_a_missing_modality_leaves_the_product_of_the_others() -> None:
    fusion = tensor.build(3, 6).double()
    v = torch.randn(4, 3, 6, dtype=torch.float64)
    present = torch.ones(4, 3, dtype=torch.bool)
    present[:, 1] = False
    v[:, 1] = 0
    fused = fusion(v, present).view(4, 33, 33, 33)
    assert (fused[:, :, 1:] == 0).all()
    others = tensor.outer_product([fusion.project[0](v[:, 0]), fusion.project[2](v[:, 2])]).view(4, 33, 33)
    torch.testing.assert_close(fused[:, :, 0], others, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("modalities", "size"), [(2, 32), (3, 32), (4, 31), (5, 15), (6, 9), (10, 3), (12, 2)])
def test_the_product_never_exceeds_two_to_the_twenty(modalities: int, size: int) -> None:
    fusion = tensor.build(modalities, 64)
    assert fusion.out_features == (size + 1) ** modalities <= 2**20
    assert sum(p.numel() for p in fusion.parameters()) == modalities * (65 * size + 2 * size)


def test_too_many_modalities_are_refused() -> None:
    with pytest.raises(UsageError, match="at most 12 modalities and was given 13"):
        tensor.build(13, 64)
