"""Late fusion against probabilities mixed by hand."""

from __future__ import annotations

import pytest
import torch

from mmbench.plugins import shipped

late = shipped("baselines", "late")
MODES = ["mean_prob", "mean_logit", "weighted"]
KINDS = ["exclusive", "multilabel"]


def branch_logits(modalities: int = 3, rows: int = 6, labels: int = 4) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    return 2 * torch.randn(rows, modalities, labels, dtype=torch.float64, generator=g)


def everything(rows: int = 6, modalities: int = 3) -> torch.Tensor:
    return torch.ones(rows, modalities, dtype=torch.bool)


def probabilities(logits: torch.Tensor, kind: str) -> torch.Tensor:
    return torch.softmax(logits, dim=-1) if kind == "exclusive" else torch.sigmoid(logits)


def test_a_branch_a_modality() -> None:
    fusion = late.build(3, 4)
    v = torch.randn(5, 3, 4)
    assert (fusion.out_features, fusion.branches) == (4, 3)
    assert torch.equal(fusion(v, everything(5)), v)
    assert torch.equal(late.build(1, 4)(v[:, :1], everything(5, 1)), v[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_mean_prob_is_the_mean_of_the_probabilities(kind: str) -> None:
    logits = branch_logits()
    mixed = probabilities(late.build(3, 4).mix(logits, everything(), kind), kind)
    torch.testing.assert_close(mixed, probabilities(logits, kind).mean(1), rtol=1e-13, atol=0)


def test_mean_logit_is_the_normalised_geometric_mean() -> None:
    logits = branch_logits()
    fusion = late.build(3, 4, mode="mean_logit")
    p = torch.softmax(logits, -1).prod(1) ** (1 / 3)
    mixed = torch.softmax(fusion.mix(logits, everything(), "exclusive"), -1)
    torch.testing.assert_close(mixed, p / p.sum(1, keepdim=True), rtol=1e-13, atol=0)
    torch.testing.assert_close(mixed, torch.softmax(torch.log_softmax(logits, -1).mean(1), -1), rtol=1e-13, atol=0)
    torch.testing.assert_close(fusion.mix(logits, everything(), "multilabel"), logits.mean(1), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_a_softmax_of_the_scores(kind: str) -> None:
    logits = branch_logits()
    fusion = late.build(3, 4, mode="weighted").double()
    p = probabilities(logits, kind)
    torch.testing.assert_close(
        probabilities(fusion.mix(logits, everything(), kind), kind), p.mean(1), rtol=1e-12, atol=0
    )
    fusion.scores.data = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
    expected = (torch.softmax(fusion.scores, 0)[:, None] * p).sum(1)
    torch.testing.assert_close(
        probabilities(fusion.mix(logits, everything(), kind), kind), expected, rtol=1e-12, atol=0
    )
    fusion.scores.data = torch.tensor([-800.0, 0, -800], dtype=torch.float64)
    torch.testing.assert_close(probabilities(fusion.mix(logits, everything(), kind), kind), p[:, 1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_branches_that_agree_are_believed(mode: str, kind: str) -> None:
    one = branch_logits(1)
    fusion = late.build(3, 4, mode=mode).double()
    mixed = fusion.mix(one.expand(-1, 3, -1), everything(), kind)
    torch.testing.assert_close(probabilities(mixed, kind), probabilities(one[:, 0], kind), rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_probabilities_sum_to_one(mode: str) -> None:
    mixed = late.build(3, 4, mode=mode).double().mix(branch_logits(), everything(), "exclusive")
    torch.testing.assert_close(mixed.exp().sum(1), torch.ones(6, dtype=torch.float64), rtol=1e-13, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["mean_prob", "mean_logit"])
def test_means_do_not_depend_on_the_order_of_the_modalities(mode: str, kind: str) -> None:
    logits, present = branch_logits(), torch.rand(6, 3, generator=torch.Generator().manual_seed(0)) > 0.4
    fusion, order = late.build(3, 4, mode=mode), [2, 0, 1]
    torch.testing.assert_close(
        fusion.mix(logits[:, order], present[:, order], kind), fusion.mix(logits, present, kind), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_a_missing_modality_leaves_the_mixture_of_the_others(mode: str, kind: str) -> None:
    logits, present = branch_logits(), everything()
    present[:, 1] = False
    three, two = late.build(3, 4, mode=mode).double(), late.build(2, 4, mode=mode).double()
    if mode == "weighted":
        three.scores.data = torch.tensor([0.3, 5.0, -0.4], dtype=torch.float64)
        two.scores.data = three.scores.data[[0, 2]]
    torch.testing.assert_close(
        three.mix(logits, present, kind), two.mix(logits[:, [0, 2]], everything(6, 2), kind), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_extreme_logits_and_empty_rows_stay_finite(mode: str, kind: str) -> None:
    logits, present = branch_logits() * 200, everything()
    present[0] = False
    present[1, 1:] = False
    logits.requires_grad_()
    fusion = late.build(3, 4, mode=mode).double()
    mixed = fusion.mix(logits, present, kind)
    assert torch.isfinite(mixed).all()
    trained = fusion.scores if fusion.learns_mix else logits
    (slope,) = torch.autograd.grad(mixed.sum(), trained)
    assert torch.isfinite(slope).all()


def test_only_learned_weights_learn_from_the_mixed_loss() -> None:
    logits = branch_logits().requires_grad_()
    fusion = late.build(3, 4, mode="weighted").double()
    assert fusion.learns_mix and not late.build(3, 4).learns_mix
    fusion.mix(logits, everything(), "exclusive")[:, 0].sum().backward()
    assert logits.grad is None
    assert fusion.scores.grad is not None and (fusion.scores.grad != 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_right(kind: str) -> None:
    present = everything()
    present[2, 0] = False
    for mode in ("mean_prob", "mean_logit"):
        fusion = late.build(3, 4, mode=mode)
        assert torch.autograd.gradcheck(lambda x, f=fusion: f.mix(x, present, kind), branch_logits().requires_grad_())
    fusion = late.build(3, 4, mode="weighted").double()
    assert torch.autograd.gradcheck(lambda _: fusion.mix(branch_logits(), present, kind), fusion.scores)
