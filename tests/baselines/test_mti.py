"""Multi-scale task interaction against plain modules, one a task, and the properties that its name promises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmbench.contracts import Concept
from mmbench.plugins import shipped

mti = shipped("baselines", "mti")
CONCEPTS = (Concept("a", ("x", "y", "z")), Concept("b", ("x", "y"), "multilabel"), Concept("c", ("x", "y", "z", "u")))
WIDTHS = (2, 3, 4, 5)


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def perturbed(module: nn.Module) -> nn.Module:
    """Gains and offsets away from one and zero, so that each is seen."""
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module


# --- the same network from nn.Linear and nn.LayerNorm, one a task ------


def plain_linear(layer, t: int) -> nn.Linear:
    plain = nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
    plain.weight.data, plain.bias.data = layer.weight.data[t].T.clone(), layer.bias.data[t, 0].clone()
    return plain


def plain_norm(layer, t: int) -> nn.LayerNorm:
    plain = nn.LayerNorm(layer.gain.shape[-1])
    plain.weight.data, plain.bias.data = layer.gain.data[t, 0].clone(), layer.offset.data[t, 0].clone()
    return plain


class PlainResidual(nn.Module):
    def __init__(self, layer, t: int) -> None:
        super().__init__()
        one, norm_one, _, two, norm_two = layer.body
        self.one, self.two = plain_linear(one, t), plain_linear(two, t)
        self.norm_one, self.norm_two = plain_norm(norm_one, t), plain_norm(norm_two, t)
        self.skip = (
            nn.Identity()
            if isinstance(layer.skip, nn.Identity)
            else nn.Sequential(plain_linear(layer.skip[0], t), plain_norm(layer.skip[1], t))
        )

    def forward(self, x):
        inner = torch.relu(self.norm_one(self.one(x)))
        return torch.relu(self.skip(x) + self.norm_two(self.two(inner)))


def plain_propagation(layer, features: list[torch.Tensor]) -> list[torch.Tensor]:
    tasks, width = len(features), features[0].shape[1]
    first, second, last = layer.attention
    side_by_side = torch.cat(features, 1)
    scores = plain_linear(last, 0)(PlainResidual(second, 0)(PlainResidual(first, 0)(side_by_side)))
    by_task = torch.stack([scores[:, t * width : (t + 1) * width] for t in range(tasks)])
    masks = by_task.exp() / by_task.exp().sum(0)
    shared = PlainResidual(layer.reduce, 0)(torch.cat([masks[t] * features[t] for t in range(tasks)], 1))
    out = []
    for t in range(tasks):
        squeezed = torch.relu(plain_linear(layer.squeeze, t)(shared))
        out.append(shared * torch.sigmoid(plain_linear(layer.excite, t)(squeezed)) + features[t])
    return out


def plain_distillation(layer, features: list[torch.Tensor]) -> list[torch.Tensor]:
    out = []
    for k, mine in enumerate(features):
        total = mine
        for other, theirs in enumerate(features):
            if other != k:
                gate, value = layer.gate[k, other], layer.value[k, other]
                total = total + torch.sigmoid(theirs @ gate) * (theirs @ value)
        out.append(total)
    return out


def plain_heads(heads, z: torch.Tensor) -> list[list[torch.Tensor]]:
    """The outputs (first the prediction, then each scale), each a list by task."""
    tasks = range(len(heads.concepts))
    x, levels = z, []
    for step in heads.pyramid:
        x = step(x)
        levels.append(x)
    by_scale: list[list[torch.Tensor]] = [[] for _ in levels]
    for s in reversed(range(len(levels))):
        given = [levels[s]] * len(tasks)
        if s + 1 < len(levels):
            below = plain_propagation(heads.propagate[s], by_scale[s + 1])
            given = [torch.cat([levels[s], below[t]], 1) for t in tasks]
        first, second = heads.features[s]
        by_scale[s] = [PlainResidual(second, t)(PlainResidual(first, t)(given[t])) for t in tasks]
    refined = [plain_distillation(layer, f) for layer, f in zip(heads.distil, by_scale, strict=True)]
    linear, norm, _ = heads.aggregate
    final = []
    for t in tasks:
        joined = torch.cat([scale[t] for scale in refined], 1)
        final.append(heads.heads[t](torch.relu(plain_norm(norm, t)(plain_linear(linear, t)(joined)))))
    return [final] + [[heads.scale_heads[s][t](by_scale[s][t]) for t in tasks] for s in range(len(levels))]


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_is_the_network_of_separate_modules(tasks: int) -> None:
    heads = perturbed(mti.MultiScaleHeads(6, CONCEPTS[:tasks], WIDTHS))
    z = torch.randn(4, 6)
    outputs = heads(z)
    expected = plain_heads(heads, z)
    assert len(outputs) == len(expected) == len(WIDTHS) + 1
    for given, by_hand in zip(outputs, expected, strict=True):
        for concept, logits in zip(CONCEPTS[:tasks], by_hand, strict=True):
            torch.testing.assert_close(given[concept.name], logits)


# --- properties ------


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_every_scale_predicts_every_concept(tasks: int) -> None:
    concepts = CONCEPTS[:tasks]
    outputs = mti.build(()).heads(8, concepts)(torch.randn(5, 8))
    assert sum(len(prediction) for prediction in outputs) == tasks * 5
    for prediction in outputs:
        assert {name: tuple(v.shape) for name, v in prediction.items()} == {
            c.name: (5, len(c.labels)) for c in concepts
        }


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_masks_sum_to_one_over_tasks(tasks: int) -> None:
    layer = perturbed(mti.Propagation(tasks, 4))
    mask = layer.mask(torch.randn(tasks, 5, 4))
    assert mask.shape == (tasks, 5, 4)
    torch.testing.assert_close(mask.sum(0), torch.ones(5, 4))
    if tasks > 1:
        assert mask.std() > 1e-3


def test_distillation_without_values_is_the_identity() -> None:
    layer, features = mti.Distillation(3, 4), torch.randn(3, 5, 4)
    assert (layer(features) != features).all()
    layer.value.data.zero_()
    assert (layer(features) == features).all()


def test_distillation_takes_nothing_from_itself_and_something_from_each_other() -> None:
    layer = mti.Distillation(3, 4)
    features = torch.randn(3, 5, 4).requires_grad_()
    for k in range(3):
        (gradient,) = torch.autograd.grad((layer(features) - features)[k].sum(), features)
        for other in range(3):
            assert (gradient[other] == 0).all() == (other == k)


def test_one_concept_needs_no_other() -> None:
    layer, features = mti.Distillation(1, 4), torch.randn(1, 5, 4)
    assert (layer(features) == features).all()
    assert (perturbed(mti.Propagation(1, 4)).mask(features) == 1).all()


def test_prediction_of_a_concept_depends_on_the_features_of_the_others() -> None:
    heads = mti.MultiScaleHeads(6, CONCEPTS, WIDTHS)
    shifts = [torch.zeros(len(CONCEPTS), 4, width, requires_grad=True) for width in WIDTHS]
    for stage, shift in zip(heads.features, shifts, strict=True):
        stage.register_forward_hook(lambda module, given, out, shift=shift: out + shift)
    out = heads(torch.randn(4, 6))[0]
    for k, concept in enumerate(CONCEPTS):
        gradients = torch.autograd.grad(out[concept.name].sum(), shifts, retain_graph=True)
        for gradient in gradients:
            for other in range(len(CONCEPTS)):
                assert gradient[other].abs().max() > 0, (k, other)


def test_relabelled_concepts_with_permuted_weights_give_permuted_outputs() -> None:
    order = [2, 0, 1]
    heads = perturbed(mti.MultiScaleHeads(6, CONCEPTS, WIDTHS))
    other = mti.MultiScaleHeads(6, tuple(CONCEPTS[t] for t in order), WIDTHS)
    other.load_state_dict({name: permuted(name, value, order) for name, value in renamed(heads, order).items()})
    z = torch.randn(4, 6)
    for mine, theirs in zip(heads(z), other(z), strict=True):
        for concept in CONCEPTS:
            torch.testing.assert_close(theirs[concept.name], mine[concept.name])


def renamed(heads: nn.Module, order: list[int]) -> dict[str, torch.Tensor]:
    """The state with the linear heads, which are numbered by task, in the new order."""
    state = {}
    for name, value in heads.state_dict().items():
        parts = name.split(".")
        place = {"heads": 1, "scale_heads": 2}.get(parts[0])
        if place is not None:
            parts[place] = str(order.index(int(parts[place])))
        state[".".join(parts)] = value
    return state


def permuted(name: str, value: torch.Tensor, order: list[int]) -> torch.Tensor:
    """A tensor of the state for the concepts in the new order."""
    tasks = len(order)

    def joint(x: torch.Tensor, axis: int) -> torch.Tensor:
        return x.unflatten(axis, (tasks, -1)).index_select(axis, torch.tensor(order)).flatten(axis, axis + 1)

    if name.startswith("distil") and "others" not in name:
        return value[order][:, order]
    if name.startswith(("features", "aggregate")) or ".squeeze." in name or ".excite." in name:
        return value[order]
    if ".attention.2." in name:
        return joint(value, 2)
    if (".attention.0." in name or ".reduce." in name) and name.endswith(("body.0.weight", "skip.0.weight")):
        return joint(value, 1)
    return value


def test_gradients() -> None:
    heads = mti.MultiScaleHeads(3, CONCEPTS[:2], (2, 3))
    names = [name for name, _ in heads.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in heads.parameters())
    z = torch.randn(3, 3)

    def all_outputs(z, *parameters):
        outputs = torch.func.functional_call(heads, dict(zip(names, parameters, strict=True)), (z,))
        return torch.cat([value.flatten() for prediction in outputs for value in prediction.values()])

    assert torch.autograd.gradcheck(all_outputs, (z.requires_grad_(), *values), fast_mode=True)


def test_size_is_the_documented_order() -> None:
    """About 1.15 million parameters for three concepts on 100 features."""
    heads = mti.build(()).heads(100, CONCEPTS)
    assert 1.0e6 < sum(p.numel() for p in heads.parameters()) < 1.3e6
