"""Late fusion's mixtures against probabilities mixed in the open, and concatenation."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from mmbench.plugins import shipped

late = shipped("baselines", "late")
concat = shipped("baselines", "concat")
MODES = ("mean_prob", "mean_logit", "weighted")
KINDS = ("exclusive", "multilabel")


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def probabilities(logits: torch.Tensor, kind: str) -> torch.Tensor:
    return logits.softmax(-1) if kind == "exclusive" else logits.sigmoid()


def everywhere(logits: torch.Tensor) -> torch.Tensor:
    return torch.ones(logits.shape[:2], dtype=torch.bool)


def with_scores(mode: str, *scores: float):
    fusion = late.build(len(scores), 5, mode=mode)
    if mode == "weighted":
        fusion.scores.data = torch.tensor(scores)
    return fusion


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_identical_branches_give_what_each_gives(mode: str, kind: str) -> None:
    logits = torch.randn(6, 1, 4).expand(6, 3, 4)
    mixed = with_scores(mode, 0.3, -1.0, 2.0).mix(logits, everywhere(logits), kind)
    torch.testing.assert_close(probabilities(mixed, kind), probabilities(logits[:, 0], kind))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_on_one_modality_give_that_modality(kind: str) -> None:
    logits = torch.randn(6, 3, 4)
    mixed = with_scores("weighted", -1e4, 0.0, -1e4).mix(logits, everywhere(logits), kind)
    torch.testing.assert_close(probabilities(mixed, kind), probabilities(logits[:, 1], kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["mean_prob", "mean_logit"])
def test_means_do_not_see_the_order(mode: str, kind: str) -> None:
    logits, present = torch.randn(6, 3, 4), torch.rand(6, 3) < 0.6
    fusion, order = late.build(3, 5, mode=mode), [2, 0, 1]
    torch.testing.assert_close(fusion.mix(logits[:, order], present[:, order], kind), fusion.mix(logits, present, kind))


@pytest.mark.parametrize("mode", MODES)
def test_exclusive_mixtures_are_log_probabilities(mode: str) -> None:
    logits, present = 5 * torch.randn(8, 3, 4), torch.rand(8, 3) < 0.6
    mixed = with_scores(mode, 0.3, -1.0, 2.0).mix(logits, present, "exclusive")
    torch.testing.assert_close(mixed.exp().sum(-1), torch.ones(8))


@pytest.mark.parametrize("kind", KINDS)
def test_mixtures_of_the_present_by_definition(kind: str) -> None:
    logits = torch.randn(7, 3, 4)
    patterns = [p for p in itertools.product([True, False], repeat=3) if any(p)]
    present = torch.tensor(patterns)
    scores = torch.tensor([0.3, -1.0, 2.0])
    arithmetic = with_scores("mean_prob", 0, 0, 0).mix(logits, present, kind)
    geometric = with_scores("mean_logit", 0, 0, 0).mix(logits, present, kind)
    weighted = with_scores("weighted", *scores.tolist()).mix(logits, present, kind)
    for row, pattern in enumerate(patterns):
        here = [m for m in range(3) if pattern[m]]
        p = probabilities(logits[row, here], kind)
        torch.testing.assert_close(probabilities(arithmetic[row], kind), p.mean(0))
        torch.testing.assert_close(probabilities(weighted[row], kind), (scores[here].softmax(0)[:, None] * p).sum(0))
        if kind == "exclusive":
            expected = p.log().mean(0).softmax(0)
        else:
            yes, no = p.log().mean(0).exp(), (1 - p).log().mean(0).exp()
            expected = yes / (yes + no)
        torch.testing.assert_close(probabilities(geometric[row], kind), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_a_missing_branch_is_not_read(mode: str, kind: str) -> None:
    fusion, logits = with_scores(mode, 0.3, -1.0, 2.0), torch.randn(6, 3, 4)
    present = torch.tensor([[True, False, True]]).expand(6, 3)
    other = logits.clone()
    other[:, 1] = 1e3
    torch.testing.assert_close(fusion.mix(other, present, kind), fusion.mix(logits, present, kind), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_large_logits_and_rows_with_nothing_are_finite(mode: str, kind: str, dtype: torch.dtype) -> None:
    fusion = with_scores(mode, 0.3, -1.0)
    logits = torch.tensor([[[100.0, -100.0], [-100.0, 90.0]], [[0.0, 0.0], [1e4, -1e4]], [[1.0, 2.0], [3.0, 4.0]]])
    logits = logits.to(dtype).requires_grad_()
    present = torch.tensor([[True, True], [True, False], [False, False]])
    mixed = fusion.mix(logits, present, kind)
    assert torch.isfinite(mixed).all()
    mixed.square().sum().backward()
    gradients = [logits.grad] if mode != "weighted" else [fusion.scores.grad]
    assert all(torch.isfinite(g).all() for g in gradients if g is not None) and gradients[0] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_the_learned_mixture_moves_its_weights_and_not_the_branches(kind: str) -> None:
    fusion, logits = with_scores("weighted", 0.0, 0.0), torch.randn(3, 2, 4).requires_grad_()
    fusion.mix(logits, everywhere(logits), kind).sum().backward()
    assert fusion.learns_mix and fusion.scores.grad is not None and fusion.scores.grad.abs().max() > 0
    assert logits.grad is None
    assert not late.build(2, 5).learns_mix
    assert list(late.build(2, 5).parameters()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_mixtures(kind: str) -> None:
    logits, present = torch.randn(3, 3, 2).requires_grad_(), torch.tensor([[True, True, False]]).expand(3, 3)
    for mode in ("mean_prob", "mean_logit"):
        fusion = late.build(3, 5, mode=mode)
        assert torch.autograd.gradcheck(lambda x, f=fusion: f.mix(x, present, kind), logits)
    fusion, fixed = with_scores("weighted", 0.1, 0.2, 0.3), logits.detach()

    def of_scores(scores):
        return torch.func.functional_call(_Mix(fusion, kind), {"fusion.scores": scores}, (fixed, present))

    assert torch.autograd.gradcheck(of_scores, torch.tensor([0.1, -0.4, 0.3], requires_grad=True))


class _Mix(nn.Module):
    def __init__(self, fusion: nn.Module, kind: str) -> None:
        super().__init__()
        self.fusion, self.kind = fusion, kind

    def forward(self, logits: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        return self.fusion.mix(logits, present, self.kind)


def test_late_hands_each_branch_its_view() -> None:
    views = torch.randn(4, 3, 5)
    assert (late.build(3, 5)(views, everywhere(views)) == views).all()
    assert (late.build(1, 5)(views[:, :1], everywhere(views[:, :1])) == views[:, 0]).all()
    assert (late.build(3, 5).branches, late.build(3, 5).out_features) == (3, 5)


def test_concat_is_torch_cat() -> None:
    views = torch.randn(4, 3, 5)
    fusion = concat.build(3, 5)
    fused = fusion(views, everywhere(views))
    assert (fused == torch.cat([views[:, 0], views[:, 1], views[:, 2]], 1)).all()
    assert fused.shape[1] == fusion.out_features
    assert (concat.build(1, 5)(views[:, :1], everywhere(views[:, :1])) == views[:, 0]).all()


def test_concat_and_a_linear_layer_keep_modalities_apart() -> None:
    views = torch.randn(4, 2, 3).requires_grad_()
    layer = nn.Linear(6, 6, bias=False)
    layer.weight.data = torch.block_diag(2 * torch.eye(3), -torch.eye(3))
    out = layer(concat.build(2, 3)(views, everywhere(views)))
    torch.testing.assert_close(out, torch.cat([2 * views[:, 0], -views[:, 1]], 1))
    layer.weight.data = torch.randn(6, 6)
    layer.weight.data[:, 3:] = 0
    (gradient,) = torch.autograd.grad(layer(concat.build(2, 3)(views, everywhere(views))).sum(), views)
    assert (gradient[:, 1] == 0).all() and (gradient[:, 0] != 0).all()
