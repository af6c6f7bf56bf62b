"""What networks show of themselves: shares sum to one, each number is what its equation says, nothing is disturbed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from mmbench.contracts import Concept, Inputs, Inside
from mmbench.methods import build_model, parse
from mmbench.modules import Fusion, LinearHeads
from mmbench.plugins import Registry, shipped
from mmbench.proposed.cross_attention.network import CrossAttentionNetwork
from mmbench.proposed.cross_attention.network import Settings as CrossSettings
from mmbench.proposed.graph_fusion import Graph
from mmbench.proposed.graph_fusion import Settings as GraphSettings
from mmbench.proposed.hybrid.memory import DeltaMemory, MfnMemory
from mmbench.proposed.hybrid.network import HybridNetwork, Settings
from mmbench.training.network import Network, Trainable, look_into

REGISTRY = Registry()
CONCEPTS = (Concept("kind", ("a", "b", "c")),)
SIZES = {"text": 5, "sound": 3, "vector": 2}
ROWS = 9


def batch(rows: int = ROWS, missing: bool = True, longest: tuple[int, int] = (6, 4)) -> Inputs:
    g = torch.Generator().manual_seed(3)
    there = {name: torch.rand(rows, t, generator=g) > 0.3 for name, t in zip(("text", "sound"), longest, strict=True)}
    for mask in there.values():
        mask[:, 0] = True
    values = {
        name: torch.randn(rows, mask.shape[1], SIZES[name], generator=g, dtype=torch.float64) * mask.unsqueeze(-1)
        for name, mask in there.items()
    }
    values["vector"] = torch.randn(rows, SIZES["vector"], generator=g, dtype=torch.float64)
    present = {name: torch.ones(rows, dtype=torch.bool) for name in SIZES}
    if missing:
        for row, name in enumerate(SIZES):
            present[name][row] = False
            values[name][row] = 0
            if name in there:
                there[name][row] = False
    return Inputs(values, present, there)


def network_of(selector: str) -> Trainable:
    """A network with random weights, and nothing at its special starting points."""
    torch.manual_seed(1)
    (method,) = parse(selector, REGISTRY, tuple(SIZES))
    if method.is_model:
        model = build_model(method, REGISTRY)
        kinds = {"hybrid": HybridNetwork, "xattn": CrossAttentionNetwork}
        network: Trainable = kinds[method.parts[0].plugin](SIZES, LinearHeads, CONCEPTS, 8, 0.1, model.settings)
    else:
        fusion: Fusion = REGISTRY.load(method.parts[0].plugin, "fusion").build(3, 8, **dict(method.parts[0].parameters))
        network = Network(SIZES, fusion, LinearHeads, CONCEPTS, 8, 0.1, frozenset({"text", "sound"}))
    for name, parameter in network.named_parameters():
        if name.endswith("scores"):
            torch.nn.init.normal_(parameter)
    return network.double()


SHOWN = {
    "igfn": {"modality weights", "pair weights", "triple weights"},
    "graph": {"modality weights", "pair weights", "triple weights"},
    "igfn:levels=2:weight_activation=softmax": {"modality weights", "pair weights"},
    "late": {"mixing weights"},
    "late:mode=weighted": {"mixing weights"},
    "mfn": {"memory gates"},
    "concat": set(),
    "classical": set(),
    "hybrid": {"memory coefficient", "view gates", "cross-modal attention", "layer weights"},
    "hybrid:memory_update=mfn:gated=off": {"memory coefficient", "cross-modal attention", "layer weights"},
    "hybrid:layers=1:gated=off": {"memory coefficient", "cross-modal attention"},
    "hybrid:delta=off:cross=off": {"view gates"},
    "xattn": {"modality weights", *(f"attention {i} → {j}" for i in SIZES for j in SIZES if i != j)},
    "xattn:cross=off:gates=off": {"modality weights"},
}


@pytest.mark.parametrize("selector", SHOWN)
def test_what_is_shown_keeps_to_the_contract(selector: str) -> None:
    network, inputs = network_of(selector), batch()
    before = network.eval()(inputs).logits["kind"]
    found = look_into(network, inputs)
    assert found.keys() == SHOWN[selector]
    for inside in found.values():
        values = inside.values
        assert values.dtype == np.float32 and len(values) == ROWS and inside.says
        assert values.ndim == 1 + bool(inside.places) + bool(inside.steps)
        assert not inside.places or values.shape[1] == len(inside.places)
        assert np.isfinite(values[~np.isnan(values)]).all() and not np.isnan(values).all()
        if inside.shares:
            sums = np.nansum(values, axis=-1)
            assert ((values >= 0) | np.isnan(values)).all()
            np.testing.assert_allclose(sums[~np.isnan(values).all(axis=-1)], 1, atol=1e-6)
    assert torch.equal(network.eval()(inputs).logits["kind"], before), "looking changes the network"


@pytest.mark.parametrize("selector", [s for s, names in SHOWN.items() if names])
def test_a_sample_shows_the_same_alone_as_among_others(selector: str) -> None:
    network, inputs = network_of(selector), batch()
    whole = look_into(network, inputs)
    for row in (0, 4):
        for name, inside in look_into(network, inputs.rows(torch.tensor([row]))).items():
            theirs = whole[name].values[row]
            if inside.steps:  # common steps are as many as the batch's longest sample has
                assert np.isnan(theirs[..., inside.values.shape[-1] :]).all()
                theirs = theirs[..., : inside.values.shape[-1]]
            np.testing.assert_allclose(inside.values[0], theirs, atol=1e-6)


@pytest.mark.parametrize("selector", ["igfn", "graph", "late:mode=weighted", "xattn"])
def test_a_missing_modality_shows_nothing_and_the_others_share_the_whole(selector: str) -> None:
    found = look_into(network_of(selector), batch())
    weights = next(found[name] for name in ("modality weights", "mixing weights") if name in found)
    assert weights.places == tuple(SIZES)
    for row in range(ROWS):
        np.testing.assert_array_equal(np.isnan(weights.values[row]), [row == place for place in range(3)])
    if "pair weights" in found:
        pairs = found["pair weights"]
        assert pairs.places == ("text × sound", "text × vector", "sound × vector")
        np.testing.assert_array_equal(np.isnan(pairs.values[0]), [True, True, False])
        np.testing.assert_allclose(pairs.values[0, 2], 1)


def test_more_rows_than_a_batch_of_predictions_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs = network_of("hybrid"), batch()
    whole = look_into(network, inputs)
    monkeypatch.setattr("mmbench.training.network.PREDICT_ROWS", 4)
    for name, inside in look_into(network, inputs).items():
        np.testing.assert_allclose(inside.values, whole[name].values, atol=1e-6)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_the_pairs_of_igfn_weigh_as_formulas_four_and_five_say() -> None:
    torch.manual_seed(2)
    views = torch.randn(5, 3, 7, dtype=torch.float64)
    present = torch.ones(5, 3, dtype=torch.bool)
    graph = Graph(3, 7, GraphSettings(delta=0.3)).double()
    found = graph.look(views, present, ("a", "b", "c"))
    w, x = found["modality weights"].values.astype(float), views.numpy()
    s = softmax((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5))
    q = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        cosine = (s[:, i] * s[:, j]).sum(-1) / np.linalg.norm(s[:, i], axis=-1) / np.linalg.norm(s[:, j], axis=-1)
        q.append((w[:, i] + w[:, j]) / (cosine + 0.3))
    np.testing.assert_allclose(found["pair weights"].values, softmax(np.stack(q, axis=1)), atol=1e-6)
    fused = graph(views, present).detach().numpy()
    np.testing.assert_allclose(fused[:, :7], (w[..., None] * x).sum(1) / 3, atol=1e-6)
    assert found["triple weights"].places[:2] == ("(a×b)×(a×c)", "(a×b)×(b×c)")
    assert found["triple weights"].places[3] == "(a×b)×c"


def test_the_weights_of_a_late_mixture_mix_the_branches() -> None:
    network, inputs = network_of("late:mode=weighted"), batch()
    output = network.eval()(inputs)
    weights = np.nan_to_num(look_into(network, inputs)["mixing weights"].values)
    branches = np.stack([softmax(branch[0]["kind"].detach().numpy()) for branch in output.branches], axis=1)
    mixed = (weights[..., None] * branches).sum(1)
    np.testing.assert_allclose(mixed, log_softmax(output.logits["kind"], -1).exp().detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("make", [lambda: DeltaMemory(6, 1, "convex"), lambda: MfnMemory(6, 1, 4, 0.0)])
def test_the_coefficients_of_a_memory_of_one_unit_are_those_of_its_update(make: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(4)
    memory = make().double()
    h, c = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    after, before, gates = memory.trace(h, c, torch.ones(3, 5, dtype=torch.bool))
    stacked = {name: torch.stack(values, dim=1) for name, values in gates.items()}
    if isinstance(memory, DeltaMemory):
        expected = stacked["α"] * torch.tanh(memory.propose(c)) + (1 - stacked["α"]) * before
    else:
        both = torch.cat([torch.cat([torch.zeros_like(c[:, :1]), c[:, :-1]], 1), c], -1)
        proposed = torch.tanh(memory.propose(torch.softmax(memory.attend(both), -1) * both))
        expected = stacked["γ1"] * before + stacked["γ2"] * proposed
    torch.testing.assert_close(after, expected)


def test_the_gates_of_the_hybrid_are_what_its_views_are_multiplied_by() -> None:
    network, inputs = network_of("hybrid"), batch(missing=False)
    core, (views, mask) = network.eval().core, network.encode(inputs)
    hidden, cells = core.views(views, mask)
    _, before = core.memory(hidden.flatten(2), cells.flatten(2), mask.any(dim=2))
    ratio = (core.gates(hidden, before) / hidden).mean(-1).transpose(1, 2).detach().numpy()
    shown = look_into(network, inputs)["view gates"].values
    there = mask.transpose(1, 2).numpy()
    np.testing.assert_allclose(shown[there], ratio[there], atol=1e-5)
    assert np.isnan(shown[~there]).all()


def test_the_layer_weights_of_the_hybrid_make_what_a_pair_finds() -> None:
    network, inputs = network_of("hybrid:layers=3"), batch()
    core, (views, mask) = network.eval().core, network.encode(inputs)
    weights = look_into(network, inputs)["layer weights"]
    assert weights.places[2:4] == ("text → sound, layer 3", "text → vector, layer 1") and not weights.shares
    pair = core.cross.pairs.index((0, 1))
    view, other = views[:, :, 0], views[:, :, 1]
    expected = np.zeros(view.shape)
    keys, query = core.cross.attend[pair].norm_other(other), view
    for layer, norm, weight in zip(
        core.cross.attend[pair].layers, core.cross.attend[pair].norms, weights.values[-1, 3 * pair :], strict=False
    ):
        attended = layer(norm(query), keys, mask[:, :, 1])[0]
        expected += float(weight) * attended.detach().numpy()
        query = query + attended
    found = core.cross.attend[pair](view, other, mask[:, :, 1]).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    there = inputs.present["text"] & inputs.present["sound"]
    np.testing.assert_array_equal(np.isnan(weights.values[:, 3 * pair]), ~there.numpy())


def attention_of(network: Trainable, inputs: Inputs) -> dict[str, Inside]:
    return {name: inside for name, inside in look_into(network, inputs).items() if "attention" in name}


def test_attention_over_steps_that_are_alike_is_uniform() -> None:
    inputs = batch(missing=False)
    alike = inputs.values | {"text": inputs.values["text"][:, :1].expand(-1, 6, -1) * inputs.steps["text"][..., None]}
    network = network_of("xattn:layers=1")
    found = attention_of(network, Inputs(alike, inputs.present, inputs.steps))["attention vector → text"]
    there = inputs.steps["text"].numpy()
    assert found.places == ("block 1",) and found.steps == ("text",)
    expected = np.where(there, 1 / there.sum(1, keepdims=True), np.nan)
    np.testing.assert_allclose(found.values[:, 0], expected, atol=1e-6)
    varied = attention_of(network, inputs)["attention vector → text"]
    assert np.nanmax(np.abs(varied.values[:, 0] - expected)) > 1e-3


def test_attention_of_several_steps_is_the_mean_over_those_that_are_there() -> None:
    network, inputs = network_of("xattn:layers=1:heads=2"), batch()
    seen: list[list[torch.Tensor]] = []
    network.eval().core(*network.tokens(inputs), seen)
    (block,) = network.core.blocks
    weights = seen[0][block.pairs.index((0, 1))].detach().numpy()
    row = 4
    ours, theirs = inputs.steps["text"][row].numpy(), inputs.steps["sound"][row].numpy()
    expected = np.where(theirs, weights[row].mean(0)[ours].mean(0), np.nan)
    np.testing.assert_allclose(
        attention_of(network, inputs)["attention text → sound"].values[row, 0], expected, atol=1e-6
    )


def test_the_gates_of_xattn_make_the_joint_vector() -> None:
    network, inputs = network_of("xattn"), batch()
    fused = network.eval().fuse(inputs)
    gates = np.nan_to_num(look_into(network, inputs)["modality weights"].values)
    joint = (gates[..., None] * fused.pooled.detach().numpy()).sum(1)
    np.testing.assert_allclose(joint, fused.joint.detach().numpy(), atol=1e-6)


def test_attention_of_the_hybrid_on_vectors_has_one_step() -> None:
    torch.manual_seed(0)
    network = HybridNetwork({"a": 3, "b": 2}, LinearHeads, CONCEPTS, 4, 0.0, Settings(heads=2))
    values = {"a": torch.randn(5, 3), "b": torch.randn(5, 2)}
    present = {"a": torch.ones(5, dtype=torch.bool), "b": torch.tensor([True, True, True, True, False])}
    values["b"][4] = 0
    found = look_into(network, Inputs(values, present))["cross-modal attention"]
    assert found.places == ("a → b", "b → a") and found.values.shape == (5, 2) and not (found.steps or found.shares)
    np.testing.assert_allclose(found.values[:4], 1)
    assert np.isnan(found.values[4]).all()


def test_a_network_an_objective_shows_each_by_its_objective(small) -> None:
    (method,) = parse("late+single", REGISTRY, ("x", "y"))
    model = build_model(method, REGISTRY)
    model.fit(small.examples(30), small.examples(15, seed=1), small.context(epochs=1))
    found = model.look(small.examples(4, seed=2).inputs)
    assert list(found) == [f"{o}: mixing weights" for o in ("severity", "kinds/flood", "kinds/fire", "useful")]
    late = shipped("baselines", "late").build(2, 6)
    assert (
        "equal"
        in late.look(torch.zeros(1, 2, 6), torch.ones(1, 2, dtype=torch.bool), ("x", "y"))["mixing weights"].says
    )


def test_cross_attention_of_settings_without_gates_says_so() -> None:
    torch.manual_seed(0)
    network = CrossAttentionNetwork(SIZES, LinearHeads, CONCEPTS, 8, 0.0, CrossSettings(gates=False)).double()
    weights = look_into(network, batch())["modality weights"]
    assert "gates=off" in weights.says
    np.testing.assert_allclose(weights.values[0, 1:], 0.5)


@pytest.mark.parametrize("selector", ["majority", "linear", "only:x", "concat"])
def test_what_has_nothing_to_show_shows_nothing(selector: str, small) -> None:
    (method,) = parse(selector, REGISTRY, ("x", "y"))
    model = build_model(method, REGISTRY)
    model.fit(small.examples(30), small.examples(15, seed=1), small.context(epochs=1))
    assert model.look(small.examples(4, seed=2).inputs) == {}
