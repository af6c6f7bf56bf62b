"""Low-rank fusion against the tensor that it stands for."""

from __future__ import annotations

import torch

from mmbench.plugins import shipped

lowrank = shipped("baselines", "lowrank")
tensor = shipped("baselines", "tensor")


def views(modalities: int, width: int, rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, modalities, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def here(v: torch.Tensor) -> torch.Tensor:
    return torch.ones(v.shape[:2], dtype=torch.bool)


def test_it_equals_the_full_tensor_contracted() -> None:
    v = views(3, 4)
    fusion = lowrank.build(3, 4, rank=2).double()
    torch.nn.init.normal_(fusion.bias)
    torch.nn.init.normal_(fusion.omega)
    weight = torch.zeros(5, 5, 5, 4, dtype=torch.float64)
    for r in range(2):
        a, b, c = fusion.factors[:, r]
        weight += fusion.omega[r] * torch.einsum("io,jo,ko->ijko", a, b, c)
    full = tensor.outer_product([v[:, 0], v[:, 1], v[:, 2]])
    expected = full @ weight.flatten(0, 2) + fusion.bias
    torch.testing.assert_close(fusion(v, here(v)), expected, rtol=1e-12, atol=1e-12)


def test_rank_one_of_one_modality_is_affine() -> None:
    v = views(1, 4)
    fusion = lowrank.build(1, 4, rank=1).double()
    weight, bias = fusion.factors[0, 0, 1:], fusion.factors[0, 0, 0]
    expected = fusion.omega * (v[:, 0] @ weight + bias) + fusion.bias
    torch.testing.assert_close(fusion(v, here(v)), expected, rtol=1e-13, atol=1e-14)


def test_scale_moves_between_factors_without_effect() -> None:
    v = views(3, 4)
    fusion = lowrank.build(3, 4).double()
    before = fusion(v, here(v))
    fusion.factors.data[0] *= 8
    fusion.factors.data[2] /= 8
    torch.testing.assert_close(fusion(v, here(v)), before, rtol=1e-13, atol=1e-14)


def test_the_product_neither_vanishes_nor_explodes_at_the_start() -> None:
    torch.manual_seed(0)
    for modalities in (2, 3, 5):
        v = torch.randn(500, modalities, 64)
        assert 0.5 < lowrank.build(modalities, 64)(v, here(v)).std().item() < 2


def test_parameters() -> None:
    assert sum(p.numel() for p in lowrank.build(2, 64).parameters()) == 2 * 4 * 65 * 64 + 4 + 64
