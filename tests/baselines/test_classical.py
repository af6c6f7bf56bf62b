"""MR26's classical method."""

from __future__ import annotations

import torch
from torch import nn

from mmbench.plugins import shipped

classical = shipped("baselines", "classical")


def test_it_is_an_lstm_step_of_each_view_side_by_side() -> None:
    torch.manual_seed(0)
    fusion = classical.build(2, 4).double()
    views = torch.randn(3, 2, 4, dtype=torch.float64)
    fused = fusion(views.unsqueeze(1), torch.ones(3, 1, 2, dtype=torch.bool))
    zero = torch.zeros(3, 4, dtype=torch.float64)
    steps = [cell(views[:, v], (zero, zero))[0] for v, cell in enumerate(fusion.views.cells)]
    torch.testing.assert_close(fused, torch.cat(steps, dim=1), rtol=0, atol=0)
    assert sum(p.numel() for p in fusion.parameters()) == 2 * sum(p.numel() for p in nn.LSTMCell(4, 4).parameters())


def test_a_missing_modality_is_a_block_of_zeros() -> None:
    fusion = classical.build(2, 4)
    fused = fusion(torch.ones(1, 1, 2, 4), torch.tensor([[[True, False]]]))
    assert fused[0, :4].all() and not fused[0, 4:].any()
