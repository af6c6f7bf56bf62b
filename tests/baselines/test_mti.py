"""Multi-scale task interaction against one module a task, and the properties that interaction implies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from mmbench.contracts import Concept, Objective
from mmbench.plugins import shipped

mti = shipped("baselines", "mti")
CONCEPTS = (
    Concept("informative", ("yes", "no")),
    Concept("humanitarian", tuple("abcdefgh"), "multilabel"),
    Concept("damage", ("none", "mild", "severe")),
)
SMALL = (3, 4, 6)


def make(concepts: tuple[Concept, ...] = CONCEPTS, widths: tuple[int, ...] = SMALL, width: int = 5) -> nn.Module:
    torch.manual_seed(8)
    heads: nn.Module = mti.MultiScaleHeads(width, concepts, widths)
    for parameter in heads.parameters():  # gains and offsets too, so that none is trivial
        nn.init.uniform_(parameter, -0.6, 0.6)
    return heads.double()


def batch(rows: int = 4, width: int = 5) -> torch.Tensor:
    return torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def linear(layer: Any, task: int, part: slice = slice(None)) -> nn.Linear:
    """One task's layer of a TaskLinear as a module of its own."""
    weight = layer.weight.detach()[task][:, part].T
    single = nn.Linear(weight.shape[1], weight.shape[0]).double()
    single.weight.data, single.bias.data = weight, layer.bias.detach()[task, 0, part]
    return single


def norm(layer: Any, task: int, product: int | None = None) -> nn.LayerNorm:
    gain, offset = layer.gain.detach()[task, 0], layer.offset.detach()[task, 0]
    if product is not None:
        gain, offset = gain[product], offset[product]
    single = nn.LayerNorm(len(gain)).double()
    single.weight.data, single.bias.data = gain, offset
    return single


class NaiveResidual:
    """Res(i -> o) of one task, from nn.Linear and nn.LayerNorm."""

    def __init__(self, residual: Any, task: int) -> None:
        out = residual.second.weight.shape[-1]
        self.w1, self.n1 = linear(residual.first, task, slice(0, out)), norm(residual.first_norm, task, 0)
        self.w2, self.n2 = linear(residual.second, task), norm(residual.second_norm, task)
        self.skip: Any = nn.Identity()
        if residual.products == 2:
            self.skip = nn.Sequential(
                linear(residual.first, task, slice(out, 2 * out)), norm(residual.first_norm, task, 1)
            )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return relu(self.skip(x) + self.n2(self.w2(relu(self.n1(self.w1(x))))))


def naive(heads: Any, z: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """The equations task by task and scale by scale."""
    tasks, scales = range(len(heads.concepts)), range(len(heads.pyramid))
    x = []
    for step in heads.pyramid:
        z = step(z)
        x.append(z)
    features: dict[tuple[int, int], torch.Tensor] = {}
    handed_down: list[torch.Tensor] | None = None
    for s in reversed(scales):
        for t in tasks:
            entry = x[s] if handed_down is None else torch.cat([x[s], handed_down[t]], 1)
            for residual in heads.features[s]:
                entry = NaiveResidual(residual, t)(entry)
            features[s, t] = entry
        if s > 0:
            block = heads.propagate[s - 1]
            joint = torch.cat([features[s, t] for t in tasks], 1)
            first, second, last = block.attention
            scores = linear(last, 0)(NaiveResidual(second, 0)(NaiveResidual(first, 0)(joint)))
            mask = torch.softmax(torch.stack(scores.chunk(len(tasks), dim=1)), dim=0)
            r = NaiveResidual(block.reduce, 0)(torch.cat([mask[t] * features[s, t] for t in tasks], 1))
            handed_down = []
            for t in tasks:
                excited = torch.sigmoid(linear(block.excite, t)(relu(linear(block.squeeze, t)(r))))
                handed_down.append(r * excited + features[s, t])
    distilled: dict[tuple[int, int], torch.Tensor] = {}
    for s in scales:
        pairs = iter(heads.distil[s].weight.detach())
        for k in tasks:
            distilled[s, k] = features[s, k]
            for other in tasks:
                if other != k:
                    value, gate = next(pairs).chunk(2, dim=1)
                    message = torch.sigmoid(features[s, other] @ gate) * (features[s, other] @ value)
                    distilled[s, k] = distilled[s, k] + message
    out = {}
    for t, concept in enumerate(heads.concepts):
        joined = torch.cat([distilled[s, t] for s in scales], 1)
        hidden = relu(norm(heads.aggregate[1], t)(linear(heads.aggregate[0], t)(joined)))
        out[concept.name] = heads.heads[t](hidden)
    deep = [{c.name: heads.scale_heads[s][t](features[s, t]) for t, c in enumerate(heads.concepts)} for s in scales]
    return [out, *deep]


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_batched_tasks_equal_one_module_a_task(tasks: int) -> None:
    heads, z = make(CONCEPTS[:tasks]), batch()
    for mine, theirs in zip(heads(z), naive(heads, z), strict=True):
        assert list(mine) == list(theirs)
        for name, logits in mine.items():
            torch.testing.assert_close(logits, theirs[name], rtol=1e-11, atol=1e-12)


def test_every_concept_is_supervised_at_every_scale() -> None:
    predictions = mti.build(()).heads(64, CONCEPTS)(torch.randn(3, 64))
    assert len(predictions) == 1 + len(mti.WIDTHS)
    assert sum(len(prediction) for prediction in predictions) == 3 * (4 + 1)
    for prediction in predictions:
        assert [logits.shape for logits in prediction.values()] == [(3, 2), (3, 8), (3, 3)]


def test_the_mask_sums_to_one_over_the_tasks() -> None:
    heads, z = make(), batch()
    for s, features in enumerate(heads.scales(z)):  # type: ignore[operator]
        if s > 0:
            mask = heads.propagate[s - 1].mask(features)  # type: ignore
            assert mask.shape == features.shape
            torch.testing.assert_close(mask.sum(0), torch.ones_like(mask[0]), rtol=1e-13, atol=0)


def test_one_task_interacts_with_nobody() -> None:
    heads, z = make(CONCEPTS[:1]), batch()
    features = heads.scales(z)  # type: ignore[operator]
    assert torch.equal(heads.propagate[0].mask(features[1]), torch.ones_like(features[1]))  # type: ignore
    assert torch.equal(heads.distil[0](features[0]), features[0])  # type: ignore


def test_without_values_distillation_is_the_identity() -> None:
    distil = mti.Distillation(3, 4).double()
    features = torch.randn(3, 5, 4, dtype=torch.float64)
    assert not torch.equal(distil(features), features)
    distil.weight.data[:, :, :4] = 0
    assert torch.equal(distil(features), features)


def test_a_prediction_depends_on_the_other_concepts_features() -> None:
    distil = mti.Distillation(3, 4).double()
    features = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    for k in range(3):
        (gradient,) = torch.autograd.grad(distil(features)[k].sum(), features)
        assert (gradient.abs().sum((1, 2)) > 0).all()


def test_relabelled_concepts_permute_the_predictions() -> None:
    heads, z = make(), batch()
    order = [2, 0, 1]
    permuted = make(tuple(CONCEPTS[t] for t in order))
    with torch.no_grad():
        for ours, theirs in zip(permuted.parameters(), heads.parameters(), strict=True):
            if ours.shape == theirs.shape:
                ours.copy_(theirs)
        for module, source in zip(permuted.modules(), heads.modules(), strict=True):
            for name, parameter in source.named_parameters(recurse=False):
                if isinstance(source, mti.TaskLinear | mti.TaskNorm) and len(parameter) == 3:
                    module.get_parameter(name).copy_(parameter[order])
            if isinstance(source, mti.Distillation):
                pairs = [(k, other) for k in range(3) for other in range(3) if other != k]
                places = [pairs.index((order[k], order[other])) for k, other in pairs]
                module.get_parameter("weight").copy_(source.weight[places])
            if isinstance(source, mti.Propagation):
                _permute_joint(module, source, order)
        for ours, theirs in zip(
            [permuted.heads, *permuted.scale_heads],
            [heads.heads, *heads.scale_heads],
            strict=True,  # type: ignore
        ):
            for t, source_task in enumerate(order):
                ours[t].load_state_dict(theirs[source_task].state_dict())
    for ours, theirs in zip(permuted(z), heads(z), strict=True):
        for name, logits in theirs.items():
            torch.testing.assert_close(ours[name], logits, rtol=1e-10, atol=1e-11)


def _permute_joint(module: Any, source: Any, order: list[int]) -> None:
    """Reorder the tasks' blocks on both sides of a propagation's joint layers."""
    width = source.reduce.second.weight.shape[-1]
    index = torch.cat([torch.arange(t * width, (t + 1) * width) for t in order])
    for ours, theirs in (
        (module.attention[0].first, source.attention[0].first),
        (module.reduce.first, source.reduce.first),
    ):
        ours.weight.copy_(theirs.weight[:, index])
    module.attention[2].weight.copy_(source.attention[2].weight[:, :, index])
    module.attention[2].bias.copy_(source.attention[2].bias[:, :, index])


def test_rows_do_not_meet() -> None:
    heads, z = make(), batch()
    for whole, one in zip(heads(z), heads(z[2:3]), strict=True):
        for name, logits in whole.items():
            torch.testing.assert_close(one[name], logits[2:3], rtol=1e-11, atol=1e-12)


def test_gradients_are_right() -> None:
    heads, z = make(CONCEPTS[:2], (2, 3)), batch(3).requires_grad_()

    def logits(*_: torch.Tensor) -> torch.Tensor:
        return torch.cat([value for prediction in heads(z) for value in prediction.values()], 1)

    assert torch.autograd.gradcheck(logits, [z, *heads.parameters()], fast_mode=True)


def test_every_parameter_learns() -> None:
    heads = mti.MultiScaleHeads(64, CONCEPTS)
    sum(logits.square().sum() for p in heads(torch.randn(16, 64)) for logits in p.values()).backward()
    assert all(parameter.grad is not None and (parameter.grad != 0).any() for parameter in heads.parameters())


def test_layers_start_as_torch_starts_them() -> None:
    torch.manual_seed(0)
    layer, plain = mti.TaskLinear(20, 50, 40), nn.Linear(50, 40)
    for mine, theirs in ((layer.weight, plain.weight), (layer.bias, plain.bias)):
        assert mine.abs().max() <= 50**-0.5
        assert mine.std().item() == pytest.approx((50 * 3) ** -0.5, rel=0.05)
        assert theirs.abs().max() <= 50**-0.5
    distil = mti.Distillation(3, 64).weight
    assert distil.abs().max() <= 1 / 8 and distil.std().item() == pytest.approx((64 * 3) ** -0.5, rel=0.02)


def expected_parameters(width: int, tasks: int, labels: int, widths: tuple[int, ...]) -> int:
    def linear_size(i: int, o: int) -> int:
        return i * o + o

    def residual(i: int, o: int) -> int:
        body = linear_size(i, o) + linear_size(o, o) + 4 * o
        return body if i == o else body + linear_size(i, o) + 2 * o

    total = sum(widths)
    count = tasks * (linear_size(total, total) + 2 * total) + labels * (total + 1)
    for s, c in enumerate(widths):
        below = widths[s - 1] if s else width
        above = widths[s + 1] if s + 1 < len(widths) else 0
        count += linear_size(below, c) + 2 * c
        count += tasks * (residual(c + above, c) + residual(c, c)) + labels * (c + 1)
        count += tasks * (tasks - 1) * 2 * c * c
        if s:
            joint, narrow, squeezed = tasks * c, tasks * c // 4, max(c // 16, 1)
            count += residual(joint, narrow) + residual(narrow, narrow) + linear_size(narrow, joint)
            count += residual(joint, c) + tasks * (linear_size(c, squeezed) + linear_size(squeezed, c))
    return count


def test_parameters() -> None:
    for tasks, labels in ((1, 2), (2, 10), (3, 13)):
        heads = mti.MultiScaleHeads(64, CONCEPTS[:tasks])
        assert sum(p.numel() for p in heads.parameters()) == expected_parameters(64, tasks, labels, mti.WIDTHS)
    assert expected_parameters(100, 3, 9, mti.WIDTHS) == pytest.approx(1.15e6, rel=0.005)


def test_the_strategy_sums_the_losses() -> None:
    strategy = mti.build((Objective("a", None, None, 1, 1),))
    assert strategy.combine(torch.tensor([0.5, 0.25]), torch.arange(2), None).item() == 0.75
    assert strategy.gradients == "none" and strategy.loss_weights() is None
