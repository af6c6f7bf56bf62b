"""Tensor and low-rank fusion: Kronecker products, the norm identity, and one contracted from the other."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch

from mmbench.errors import UsageError
from mmbench.methods import build_fusion, parse
from mmbench.plugins import Registry, shipped

tensor = shipped("baselines", "tensor")
lowrank = shipped("baselines", "lowrank")


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def extended(view: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.ones(len(view), 1), view], 1)


@pytest.mark.parametrize("sizes", [(3,), (3, 2), (2, 4, 3), (2, 1, 3, 2)])
def test_outer_product_is_a_chain_of_kronecker_products(sizes: tuple[int, ...]) -> None:
    views = [torch.randn(4, size) for size in sizes]
    fused = tensor.outer_product(views)
    for row in range(4):
        expected = functools.reduce(torch.kron, [extended(v)[row] for v in views])
        torch.testing.assert_close(fused[row], expected)
    assert (fused[:, 0] == 1).all()
    norms = math.prod(1 + v.square().sum(1) for v in views)
    torch.testing.assert_close(fused.square().sum(1), norms)


def test_outer_product_is_the_two_step_batched_product() -> None:
    """The form in which the network is usually written: two batched matrix products of the extended views."""
    a, b, c = (torch.randn(4, size) for size in (2, 4, 3))
    two = torch.bmm(extended(a).unsqueeze(2), extended(b).unsqueeze(1)).view(4, -1, 1)
    expected = torch.bmm(two, extended(c).unsqueeze(1)).view(4, -1)
    torch.testing.assert_close(tensor.outer_product([a, b, c]), expected)


def test_outer_product_holds_every_view_as_it_is() -> None:
    sizes = (2, 4, 3)
    views = [torch.randn(5, size) for size in sizes]
    grid = tensor.outer_product(views).view(5, 3, 5, 4)
    torch.testing.assert_close(grid[:, 1:, 0, 0], views[0], rtol=0, atol=0)
    torch.testing.assert_close(grid[:, 0, 1:, 0], views[1], rtol=0, atol=0)
    torch.testing.assert_close(grid[:, 0, 0, 1:], views[2], rtol=0, atol=0)
    zero = tensor.outer_product([torch.zeros(1, size) for size in sizes])
    assert zero[0].tolist() == [1.0] + [0.0] * (3 * 5 * 4 - 1)


def test_outer_product_is_affine_in_each_view() -> None:
    a, b, c, other = torch.randn(4, 2), torch.randn(4, 3), torch.randn(4, 2), torch.randn(4, 3)
    mixed = tensor.outer_product([a, 0.3 * b + 0.7 * other, c])
    apart = 0.3 * tensor.outer_product([a, b, c]) + 0.7 * tensor.outer_product([a, other, c])
    torch.testing.assert_close(mixed, apart)


@pytest.mark.parametrize(
    ("modalities", "size"), [(2, 32), (3, 32), (4, 31), (5, 15), (6, 9), (10, 3), (15, 1), (20, 1)]
)
def test_projected_width_keeps_the_product_below_a_million(modalities: int, size: int) -> None:
    fusion = tensor.build(modalities, 2)
    assert fusion.project[0][0].out_features == size
    assert fusion.out_features == (size + 1) ** modalities <= 2**20
    if size < 32:
        assert (size + 2) ** modalities > 2**20


def test_too_many_modalities_are_a_usage_error() -> None:
    registry = Registry()
    (method,) = parse("tensor", registry, ("a",))
    with pytest.raises(UsageError, match="2\\^20"):
        build_fusion(method, registry, 21, 8)


def test_tensor_fusion_is_the_product_of_normalised_projections() -> None:
    fusion, views = tensor.build(2, 6), torch.randn(3, 2, 6)
    fused = fusion(views, torch.ones(3, 2, dtype=torch.bool))
    projected = []
    for m in range(2):
        linear = fusion.project[m][0]
        h = views[:, m] @ linear.weight.T + linear.bias
        projected.append((h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt())
    for row in range(3):
        expected = torch.kron(*(extended(h)[row] for h in projected))
        torch.testing.assert_close(fused[row], expected)


def test_a_missing_modality_leaves_the_product_of_the_others() -> None:
    fusion, views = tensor.build(3, 6), torch.randn(3, 3, 6)
    present = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
    views = views * present.unsqueeze(-1)
    grid = fusion(views, present).view(3, 33, 33, 33)
    projected = [extended(p(views[:, m])) for m, p in enumerate(fusion.project)]
    torch.testing.assert_close(grid[0, :, 0, :], torch.outer(projected[0][0], projected[2][0]))
    assert (grid[0, :, 1:] == 0).all()
    assert grid[1].count_nonzero() == 33**3
    assert grid[2].sum() == grid[2, 0, 0, 0] == 1


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_low_rank_is_the_tensor_contracted_with_its_weight(modalities: int) -> None:
    fusion, views = lowrank.LowRank(modalities, 3, 4), torch.randn(5, modalities, 3)
    with torch.no_grad():
        fusion.omega.normal_()
        fusion.bias.normal_()
    weight = torch.zeros(4**modalities, 3)
    for r, o in itertools.product(range(4), range(3)):
        weight[:, o] += fusion.omega[r] * functools.reduce(torch.kron, [f[r, :, o] for f in fusion.factors])
    expected = tensor.outer_product(list(views.unbind(1))) @ weight + fusion.bias
    fused = fusion(views, torch.ones(5, modalities, dtype=torch.bool))
    torch.testing.assert_close(fused, expected, rtol=0, atol=1e-10)


def test_low_rank_of_one_modality_and_rank_one_is_affine() -> None:
    fusion, views = lowrank.LowRank(1, 3, 1), torch.randn(5, 1, 3)
    expected = views[:, 0] @ fusion.factors[0, 0, 1:] + fusion.factors[0, 0, 0] + fusion.bias
    torch.testing.assert_close(fusion(views, torch.ones(5, 1, dtype=torch.bool)), expected)


def test_low_rank_ignores_a_scale_moved_between_factors() -> None:
    fusion, views = lowrank.build(3, 4), torch.randn(5, 3, 4)
    present = torch.ones(5, 3, dtype=torch.bool)
    before = fusion(views, present)
    with torch.no_grad():
        fusion.factors[0] *= 8.0
        fusion.factors[2] /= 8.0
    torch.testing.assert_close(fusion(views, present), before)


def test_low_rank_trains_its_factors_and_starts_at_unit_scale() -> None:
    fusion = lowrank.build(3, 64, rank=4)
    assert {name for name, _ in fusion.named_parameters()} == {"factors", "omega", "bias"}
    views = torch.nn.functional.layer_norm(torch.randn(256, 3, 64), (64,))
    scale = fusion(views, torch.ones(256, 3, dtype=torch.bool)).std().item()
    assert 0.5 < scale < 2


def test_low_rank_without_a_modality_uses_its_constant() -> None:
    fusion, views = lowrank.build(2, 3, rank=2), torch.randn(4, 2, 3)
    views[:, 1] = 0
    present = torch.tensor([[True, False]]).expand(4, 2)
    first = torch.einsum("bi,rio->bro", extended(views[:, 0]), fusion.factors[0])
    expected = torch.einsum("bro,ro,r->bo", first, fusion.factors[1, :, 0], fusion.omega) + fusion.bias
    torch.testing.assert_close(fusion(views, present), expected)


@pytest.mark.parametrize("make", [tensor.build, lowrank.build])
def test_gradients(make) -> None:
    fusion = make(2, 3)
    present = torch.tensor([[True, True], [True, False], [False, False]])
    views = (torch.randn(3, 2, 3) * present.unsqueeze(-1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: fusion(v, present), views, fast_mode=True)
    names = [name for name, _ in fusion.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in fusion.parameters())

    def of_parameters(*parameters):
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(fusion, given, (views.detach(), present))

    assert torch.autograd.gradcheck(of_parameters, values, fast_mode=True)
    assert np.isfinite(fusion(views, present).detach().numpy()).all()
