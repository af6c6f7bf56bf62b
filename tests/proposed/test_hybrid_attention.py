"""Cross-modal attention: equal to torch's, its masks, its layer weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mmbench.proposed.hybrid.attention import CrossModal, MultiHeadAttention, PairAttention


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


def test_keys_that_are_not_there_change_nothing_and_their_order_neither() -> None:
    attention = PairAttention(8, 2, 2).double()
    view, other = draw(3, 2, 8), draw(3, 6, 8, seed=1)
    mask = torch.tensor([True, True, False, True, False, False]).expand(3, 6)
    kept = attention(view, other[:, [0, 1, 3]], mask[:, [0, 1, 3]])
    torch.testing.assert_close(attention(view, other, mask), kept, rtol=1e-12, atol=1e-14)
    turned = attention(view, other[:, [3, 0, 1]], mask[:, [3, 0, 1]])
    torch.testing.assert_close(turned, kept, rtol=1e-12, atol=1e-14)


def test_layers_are_weighted_by_a_softmax_and_one_hot_selects() -> None:
    attention = PairAttention(8, 2, 3).double()
    view, other, mask = draw(3, 1, 8), draw(3, 6, 8, seed=1), some(3, 6)
    each, state = [], view
    for layer, norm in zip(attention.layers, attention.norms, strict=True):
        each.append(layer(norm(state), attention.norm_other(other), mask)[0])
        state = state + each[-1]
    assert attention.scores.tolist() == [0, 0, 0]
    torch.testing.assert_close(attention(view, other, mask), sum(each) / 3)
    for chosen, expected in enumerate(each):
        attention.scores.data = torch.full((3,), -900.0, dtype=torch.float64)
        attention.scores.data[chosen] = 0
        torch.testing.assert_close(attention(view, other, mask), expected)


def test_every_ordered_pair_counts_once_and_means_run_over_the_others_present() -> None:
    cross = CrossModal(3, 4, 2, 1).double()
    assert sorted(cross.pairs) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    views = draw(4, 5, 3, 4)
    mask = torch.ones(4, 5, 3, dtype=torch.bool)
    mask[1, :, 2], mask[2, :, 1:], mask[3] = False, False, False
    last = views[:, -1:]
    found = cross(last, views, mask)
    at = {pair: attend(last[:, :, pair[0]], views[:, :, pair[1]], mask[:, :, pair[1]])
          for pair, attend in zip(cross.pairs, cross.attend, strict=True)}  # fmt: skip
    torch.testing.assert_close(found[0, :, 1], last[0, :, 1] + (at[1, 0][0] + at[1, 2][0]) / 2)
    torch.testing.assert_close(found[1, :, 0], last[1, :, 0] + at[0, 1][1])
    assert torch.equal(found[1, :, 2], last[1, :, 2]), "a view that is not there does not look"
    assert torch.equal(found[2:], last[2:]), "nobody to look at"


def test_one_modality_stays_as_it_is() -> None:
    views = draw(2, 3, 1, 4)
    cross = CrossModal(1, 4, 2, 2).double()
    assert torch.equal(cross(views, views, torch.ones(2, 3, 1, dtype=torch.bool)), views)
    assert not list(cross.parameters())


def test_with_one_step_queries_and_keys_learn_nothing() -> None:
    cross = CrossModal(2, 4, 2, 2).double()
    views = draw(3, 1, 2, 4)
    cross(views, views, torch.ones(3, 1, 2, dtype=torch.bool)).square().sum().backward()
    for name, parameter in cross.named_parameters():
        idle = any(part in name for part in ("query", "key", ".norms."))
        assert (parameter.grad.abs().max() < 1e-15) == idle, name


def test_rows_do_not_meet() -> None:
    cross = CrossModal(3, 4, 2, 2).double()
    views, mask = draw(5, 4, 3, 4), torch.rand(5, 4, 3, generator=torch.Generator().manual_seed(2)) > 0.4
    whole = cross(views[:, -1:], views, mask)
    for rows in ([2], [4, 1, 0]):
        part = cross(views[rows][:, -1:], views[rows], mask[rows])
        torch.testing.assert_close(part, whole[rows], rtol=1e-12, atol=1e-14)


def test_gradients_are_right() -> None:
    cross = CrossModal(2, 4, 2, 2).double()
    views, mask = draw(3, 3, 2, 4).requires_grad_(), torch.ones(3, 3, 2, dtype=torch.bool)
    mask[0, 1:], mask[1, :, 0], mask[2, 0] = False, False, False
    inputs = [views, *cross.parameters()]
    assert torch.autograd.gradcheck(lambda v, *_: cross(v, v, mask), inputs, fast_mode=True)
