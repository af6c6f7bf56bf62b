"""Multi-head attention: equal to torch's, its masks, its heads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mmbench.training.attention import MultiHeadAttention


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some(rows: int, steps: int) -> Tensor:
    mask = torch.rand(rows, steps, generator=torch.Generator().manual_seed(1)) > 0.4
    mask[:, 1] = True
    return mask


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_equal_to_torchs_multi_head_attention(heads: int) -> None:
    torch.manual_seed(0)
    ours = MultiHeadAttention(8, heads).double()
    theirs = nn.MultiheadAttention(8, heads, batch_first=True).double()
    layers = (ours.query, ours.key, ours.value)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([layer.weight for layer in layers]),
            "in_proj_bias": torch.cat([layer.bias for layer in layers]),
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    q, k, mask = draw(3, 5, 8), draw(3, 6, 8, seed=1), some(3, 6)
    found, weights = ours(q, k, mask)
    expected, expected_weights = theirs(q, k, k, key_padding_mask=~mask, average_attn_weights=False)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-12, atol=1e-14)


def test_weights_sum_to_one_over_the_keys_that_are_there_and_a_row_without_keys_is_zero() -> None:
    attention = MultiHeadAttention(8, 2).double()
    nn.init.ones_(attention.out.bias)
    mask = some(3, 6)
    mask[1] = False
    found, weights = attention(draw(3, 5, 8), draw(3, 6, 8, seed=1), mask)
    torch.testing.assert_close(weights.sum(-1)[[0, 2]], torch.ones(2, 2, 5, dtype=torch.float64))
    assert (weights.transpose(-1, -2).transpose(1, 2)[~mask[:, :, None].expand(3, 6, 2)] == 0).all()
    assert (found[1] == 0).all() and (found[0] != 0).all()
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(found.sum(), list(attention.parameters())))


def test_two_keys_by_hand() -> None:
    """Identity maps, query 1, keys 0 and ln 3: weights 1/4 and 3/4."""
    attention = MultiHeadAttention(1, 1).double()
    for layer in (attention.query, attention.key, attention.value, attention.out):
        nn.init.ones_(layer.weight), nn.init.zeros_(layer.bias)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    keys = torch.tensor([[[0.0], [math.log(3)]]], dtype=torch.float64)
    found, weights = attention(one, keys, torch.ones(1, 2, dtype=torch.bool))
    assert weights.flatten().tolist() == pytest.approx([0.25, 0.75])
    assert found.item() == pytest.approx(0.75 * math.log(3))


def test_heads_need_not_divide_the_width() -> None:
    attention = MultiHeadAttention(6, 4).double()
    assert attention(draw(2, 3, 6), draw(2, 4, 6), some(2, 4))[0].shape == (2, 3, 6)
    assert MultiHeadAttention(2, 4).head_width == 1
