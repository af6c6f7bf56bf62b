"""Cross-modal attention between pairs of views: its masks, its layer weights."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbench.proposed.hybrid.attention import CrossModal, PairAttention


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some(rows: int, steps: int) -> Tensor:
    mask = torch.rand(rows, steps, generator=torch.Generator().manual_seed(1)) > 0.4
    mask[:, 1] = True
    return mask


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
