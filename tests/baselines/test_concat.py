"""Early concatenation."""

from __future__ import annotations

import torch
from torch import nn

from mmbench.plugins import shipped

concat = shipped("baselines", "concat")


def views(modalities: int, width: int = 4, rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, modalities, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_it_is_the_views_side_by_side() -> None:
    v = views(3)
    fusion = concat.build(3, 4)
    assert fusion.out_features == 12
    assert torch.equal(fusion(v, torch.ones(5, 3, dtype=torch.bool)), torch.cat([v[:, 0], v[:, 1], v[:, 2]], dim=1))
    assert sum(p.numel() for p in fusion.parameters()) == 0


def test_one_modality_passes_through() -> None:
    v = views(1)
    assert torch.equal(concat.build(1, 4)(v, torch.ones(5, 1, dtype=torch.bool)), v[:, 0])


def test_identity_blocks_recover_the_modalities() -> None:
    v = views(2)
    fused = concat.build(2, 4)(v, torch.ones(5, 2, dtype=torch.bool))
    weight = torch.block_diag(torch.eye(4), torch.eye(4)).double()
    recovered = nn.functional.linear(fused, weight).split(4, dim=1)
    assert torch.equal(recovered[0], v[:, 0]) and torch.equal(recovered[1], v[:, 1])


def test_a_zero_block_of_weights_cuts_that_modality_off() -> None:
    v = views(2).requires_grad_()
    weight = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weight[:, 4:] = 0
    nn.functional.linear(concat.build(2, 4)(v, torch.ones(5, 2, dtype=torch.bool)), weight).square().sum().backward()
    assert v.grad is not None
    assert (v.grad[:, 1] == 0).all() and (v.grad[:, 0] != 0).all()
