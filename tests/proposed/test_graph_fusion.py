"""Graph fusion: both configurations against transcriptions that share no code with them, and invariances."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mmbench.plugins import shipped
from mmbench.proposed.graph_fusion import Graph, Level, Settings, build, combine_vertices

graph_baseline = shipped("baselines", "graph")
GFN = graph_baseline.SETTINGS


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def everywhere(views: torch.Tensor) -> torch.Tensor:
    return torch.ones(views.shape[:2], dtype=torch.bool)


# --- igfn against a scalar transcription of its reference algorithm ------


def leaky(x):
    return np.where(np.asarray(x) > 0, x, 0.01 * np.asarray(x))


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


def conv2d_same(grid, kernels, bias):
    """One channel (N, d) to len(kernels) channels, 5x5, zero padding of 2, written out."""
    rows, columns = grid.shape
    out = np.zeros((len(kernels), rows, columns))
    for c, i, j in np.ndindex(out.shape):
        total = bias[c]
        for a, b in itertools.product(range(5), range(5)):
            y, x = i + a - 2, j + b - 2
            if 0 <= y < rows and 0 <= x < columns:
                total += kernels[c, 0, a, b] * grid[y, x]
        out[c, i, j] = total
    return out


def conv_vertex(state, prefix, x, y):
    width, (kernels, bias) = len(x), (state[prefix + "conv.weight"], state[prefix + "conv.bias"])
    flat = []
    for c in range(4):
        for i in range(width):
            total = bias[c]
            for channel, vector in enumerate((x, y)):
                for k in range(3):
                    if 0 <= i + k - 1 < width:
                        total += kernels[c, channel, k] * vector[i + k - 1]
            flat.append(total)
    return leaky(state[prefix + "linear.weight"] @ leaky(np.array(flat)) + state[prefix + "linear.bias"])


def similarity(x, y):
    def normalised(v):
        return (v - v.mean()) / math.sqrt(v.var() + 1e-5)

    a, b = softmax(normalised(x)), softmax(normalised(y))
    return a @ b / math.sqrt((a @ a) * (b @ b))


def igfn_by_hand(state, views, *, delta=0.5, levels=3, ordered=False, strict=False):
    """One sample (N, d) through the reference algorithm; returns the fused vector and the weights by level."""
    n = len(views)
    first = leaky(conv2d_same(views, state["weights.wide.weight"], state["weights.wide.bias"]))
    point = state["weights.point.weight"][0, :, 0, 0]
    w = leaky(np.tensordot(point, first, 1) + state["weights.point.bias"][0]).mean(axis=1)
    outs, all_weights = [sum(w[i] * views[i] for i in range(n)) / n], [w]

    def level(nodes, weights, combos, prefix):
        q = np.array([(weights[i] + weights[j]) / (similarity(nodes[i], nodes[j]) + delta) for i, j in combos])
        a = softmax(q)
        joined = [conv_vertex(state, prefix, nodes[i], nodes[j]) for i, j in combos]
        return joined, a, sum(a[k] * joined[k] for k in range(len(combos)))

    pairs = [(i, j) for i in range(n) for j in range(n) if (i != j if ordered else i < j)]
    joined, a, fused = level(list(views), w, pairs, "join.0.")
    outs.append(fused)
    all_weights.append(a)
    if levels == 3:
        combos = [
            (p, q)
            for p in range(len(pairs))
            for q in range(p + 1, len(pairs))
            if not strict or len(set(pairs[p]) | set(pairs[q])) <= 3
        ]
        combos += [(p, len(pairs) + m) for p in range(len(pairs)) for m in range(n) if m not in pairs[p]]
        if combos:
            _, b, fused = level([*joined, *views], np.concatenate([a, w]), combos, "join.1.")
            outs.append(fused)
            all_weights.append(b)
    return np.concatenate(outs), all_weights


@pytest.mark.parametrize(
    ("modalities", "options"),
    [
        (2, {}),
        (3, {}),
        (3, {"delta": 0.1}),
        (3, {"levels": 2}),
        (4, {}),
        (4, {"strict": True}),
        (2, {"ordered": True}),
        (3, {"ordered": True}),
        (4, {"ordered": True, "levels": 2}),
    ],
)
def test_igfn_is_the_reference_algorithm(modalities: int, options: dict) -> None:
    fusion = build(
        modalities,
        5,
        delta=options.get("delta", 0.5),
        levels=options.get("levels", 3),
        pairs="ordered" if options.get("ordered") else "unordered",
        strict_trimodal=options.get("strict", False),
    )
    views = 1.5 * torch.randn(2, modalities, 5)
    fusion.graph.weights.point.bias.data.fill_(0.1)  # so that both sides of B's LeakyReLU are met
    assert (fusion.graph.weights.point(functional.leaky_relu(fusion.graph.weights.wide(views.unsqueeze(1)))) < 0).any()
    state = {name: value.numpy() for name, value in fusion.graph.state_dict().items()}
    fused = fusion(views, everywhere(views)).detach().numpy()
    levels = fusion.graph.levels(views, everywhere(views))
    assert fused.shape == (2, fusion.out_features)
    for row in range(2):
        expected, weights = igfn_by_hand(state, views[row].numpy(), **options)
        np.testing.assert_allclose(fused[row], expected, rtol=0, atol=1e-12)
        assert len(levels) == len(weights)
        for level, w in zip(levels, weights, strict=True):
            np.testing.assert_allclose(level.weights[row].detach().numpy(), w, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("modalities", "pairs", "strict", "at_level_3"),
    [
        (2, "unordered", False, 0),
        (2, "ordered", False, 1),
        (3, "unordered", False, 6),
        (3, "ordered", False, 21),
        (4, "unordered", False, 27),
        (4, "unordered", True, 24),
        (5, "unordered", False, 75),
    ],
)
def test_number_of_vertices(modalities: int, pairs: str, strict: bool, at_level_3: int) -> None:
    settings = Settings(pairs=pairs, strict_trimodal=strict)
    level_2, level_3 = combine_vertices(modalities, settings)
    assert len(level_2) == math.comb(modalities, 2) * (2 if pairs == "ordered" else 1)
    assert len(level_3) == at_level_3
    assert combine_vertices(modalities, replace(settings, levels=2))[1] == []


# --- graph against a functional transcription of the graph fusion network ------


def gfn_by_hand(graph: Graph, views: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Mai et al. for three modalities with every vertex written out; also the weights w, α and β."""

    def network(index: int, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        one, _, two, _ = graph.join[index].layers
        hidden = functional.leaky_relu(functional.linear(torch.cat([x, y], 1), one.weight, one.bias), 0.2)
        return torch.tanh(functional.linear(hidden, two.weight, two.bias))

    def closeness(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x.softmax(1) * y.softmax(1)).sum(1, keepdim=True) + 0.5

    v1, v2, v3 = views.unbind(1)
    score = graph.weights.score
    w1, w2, w3 = (torch.sigmoid(v @ score.weight.T + score.bias) for v in (v1, v2, v3))
    unimodal = (w1 * v1 + w2 * v2 + w3 * v3) / 3
    q12, q13, q23 = (w1 + w2) / closeness(v1, v2), (w1 + w3) / closeness(v1, v3), (w2 + w3) / closeness(v2, v3)
    alpha = torch.cat([q12, q13, q23], 1).softmax(1)
    r12, r13, r23 = network(0, v1, v2), network(0, v1, v3), network(0, v2, v3)
    n12, n13, n23 = (functional.elu(alpha[:, k : k + 1] * r) for k, r in enumerate((r12, r13, r23)))
    raw = [
        (q12 + q13) / closeness(r12, r13),
        (q12 + q23) / closeness(r12, r23),
        (q13 + q23) / closeness(r13, r23),
        (q12 + w3) / closeness(r12, v3),
        (q13 + w2) / closeness(r13, v2),
        (q23 + w1) / closeness(r23, v1),
    ]
    beta = torch.cat(raw, 1).softmax(1)
    ends = [(n12, n13), (n12, n23), (n13, n23), (n12, v3), (n13, v2), (n23, v1)]
    trimodal = sum(functional.elu(beta[:, k : k + 1] * network(1, x, y)) for k, (x, y) in enumerate(ends))
    fused = torch.cat([unimodal, n12 + n13 + n23, trimodal], 1)
    return fused, torch.cat([w1, w2, w3], 1), alpha, beta


def test_gfn_settings_are_the_graph_fusion_network() -> None:
    graph, views = Graph(3, 6, GFN), torch.randn(4, 3, 6)
    fused, *weights = gfn_by_hand(graph, views)
    torch.testing.assert_close(graph(views, everywhere(views)), fused, rtol=0, atol=1e-13)
    for level, expected in zip(graph.levels(views, everywhere(views)), weights, strict=True):
        torch.testing.assert_close(level.weights, expected, rtol=0, atol=1e-13)


def test_graph_plug_in_is_batch_norm_and_two_tanh_layers_on_top() -> None:
    fusion, views = graph_baseline.build(3, 6), torch.randn(5, 3, 6)
    for parameter in fusion.parameters():
        nn.init.normal_(parameter, std=0.5)
    fused = gfn_by_hand(fusion.graph, views)[0]
    norm, one, _, two, _ = fusion.top
    standard = (fused - fused.mean(0)) / (fused.var(0, correction=0) + norm.eps).sqrt() * norm.weight + norm.bias
    hidden = torch.tanh(standard @ one.weight.T + one.bias)
    expected = torch.tanh(hidden @ two.weight.T + two.bias)
    torch.testing.assert_close(fusion(views, everywhere(views)), expected)
    assert expected.shape == (5, 50) == (5, fusion.out_features)


def test_gfn_weights_follow_their_modalities_when_these_are_reordered() -> None:
    graph, views = Graph(3, 6, GFN), torch.randn(4, 3, 6)
    here = graph.levels(views, everywhere(views))
    there = graph.levels(views[:, [2, 0, 1]], everywhere(views))
    torch.testing.assert_close(there[0].weights, here[0].weights[:, [2, 0, 1]])
    torch.testing.assert_close(there[0].fused, here[0].fused)
    # pairs (0,1) (0,2) (1,2) of the reordered modalities are (2,0) (2,1) (0,1) of the old ones
    torch.testing.assert_close(there[1].weights, here[1].weights[:, [1, 2, 0]])


def test_gfn_with_symmetric_vertices_does_not_see_the_order_of_modalities() -> None:
    graph, views = Graph(3, 6, GFN), torch.randn(4, 3, 6)
    for join in graph.join:
        weight = join.layers[0].weight.data
        weight[:, 6:] = weight[:, :6]
    torch.testing.assert_close(graph(views[:, [1, 2, 0]], everywhere(views)), graph(views, everywhere(views)))


def test_gfn_identical_inputs_share_their_weight() -> None:
    graph = Graph(3, 6, GFN)
    views = torch.randn(4, 1, 6).expand(4, 3, 6)
    alpha, beta = (level.weights for level in graph.levels(views, everywhere(views))[1:])
    torch.testing.assert_close(alpha, torch.full_like(alpha, 1 / 3))
    for kind in (beta[:, :3], beta[:, 3:]):
        torch.testing.assert_close(kind, kind[:, :1].expand(4, 3))
    assert (beta[:, 0] - beta[:, 3]).abs().max() > 1e-6


# --- what (1)-(7) imply ------

READINGS = [
    Settings(),
    GFN,
    Settings(attention="linear", weight_activation="sigmoid"),
    Settings(weight_activation="softmax"),
    Settings(weight_activation="sigmoid", similarity="inner", pairs="ordered"),
    Settings(attention="off", parent_weight="raw", nodes="weighted"),
    Settings(strict_trimodal=True),
]


@pytest.mark.parametrize("settings", READINGS, ids=lambda s: s.weight_activation + s.pairs + s.nodes + s.attention)
@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_weights_of_a_level_sum_to_one(settings: Settings, modalities: int) -> None:
    views = torch.randn(3, modalities, 5)
    levels = Graph(modalities, 5, settings).levels(views, everywhere(views))
    for level in levels[1:]:
        torch.testing.assert_close(level.weights.sum(1), torch.ones(3))
        assert (level.weights > 0).all()


def levels_of(settings: Settings, views: torch.Tensor) -> list[Level]:
    return Graph(views.shape[1], views.shape[2], settings).levels(views, everywhere(views))


def test_identical_modalities_with_a_constant_weight() -> None:
    views = torch.randn(4, 1, 6).expand(4, 3, 6)
    one, two, _ = levels_of(Settings(attention="off"), views)
    torch.testing.assert_close(one.fused, views[:, 0])
    torch.testing.assert_close(two.weights, torch.full((4, 3), 1 / 3))


def test_a_large_delta_makes_weights_uniform() -> None:
    views = torch.randn(4, 3, 6)
    for level in levels_of(Settings(delta=1e9), views)[1:]:
        torch.testing.assert_close(level.weights, torch.full_like(level.weights, 1 / level.weights.shape[1]))


def test_with_equal_similarity_pairs_are_ordered_by_their_weights() -> None:
    graph = Graph(4, 6, Settings(attention="linear", weight_activation="sigmoid"))
    graph._similarity = lambda x, y: torch.full(x.shape[:2], 0.7)
    views = torch.randn(5, 4, 6)
    one, two, _ = graph.levels(views, everywhere(views))
    first, second = torch.tensor(graph.pairs).T
    sums = one.weights[:, first] + one.weights[:, second]
    assert (sums.argsort(1) == two.weights.argsort(1)).all()


def test_more_similarity_means_less_weight() -> None:
    graph, views = Graph(3, 6, Settings(attention="off")), torch.randn(1, 3, 6)
    seen = []
    for similarity_of_the_first_pair in (0.1, 0.5, 0.9):
        graph._similarity = lambda x, y, s=similarity_of_the_first_pair: torch.tensor([[s, 0.5, 0.5]])
        seen.append(graph._level(views, views, torch.ones(1, 3), everywhere(views), graph.pairs, graph.join[0]))
    weights = [level.weights[0, 0].item() for level in seen]
    assert weights[0] > weights[1] > weights[2]
    assert weights[1] == pytest.approx(1 / 3)
    expected = math.exp(2 / 1.4) / (math.exp(2 / 1.4) + 2 * math.exp(2))
    assert weights[2] == pytest.approx(expected)


@pytest.mark.parametrize("settings", [Settings(), Settings(normalise_similarity=False), GFN])
def test_similarity_ignores_a_constant_added_to_a_vector(settings: Settings) -> None:
    graph, x, y = Graph(3, 6, settings), torch.randn(2, 3, 6), torch.randn(2, 3, 6)
    torch.testing.assert_close(graph._similarity(x + 3.7, y), graph._similarity(x, y))
    torch.testing.assert_close(graph._similarity(x, y), graph._similarity(y, x))


def test_cosine_similarity_of_a_vector_with_itself_is_one() -> None:
    graph, x = Graph(3, 6, Settings()), torch.randn(2, 3, 6)
    torch.testing.assert_close(graph._similarity(x, x), torch.ones(2, 3))
    assert (graph._similarity(x, torch.randn(2, 3, 6)) < 1).all()


def test_layer_norm_keeps_similarity_apart_for_small_activations() -> None:
    x, y = 0.01 * torch.randn(1, 1, 64), 0.01 * torch.randn(1, 1, 64)
    assert Graph(2, 64, Settings(normalise_similarity=False))._similarity(x, y) > 0.999
    assert Graph(2, 64, Settings())._similarity(x, y) < 0.8


def test_weights_start_near_one() -> None:
    w = levels_of(Settings(), torch.randn(64, 3, 32))[0].weights
    assert (w - 1).abs().mean() < 0.5


def test_two_modalities_make_similarity_inert_and_starve_b_at_level_2() -> None:
    views = torch.randn(4, 2, 6)
    fusion = build(2, 6, delta=0.5)
    other = build(2, 6, delta=0.1, similarity="inner")
    other.load_state_dict(fusion.state_dict())
    assert fusion.out_features == 12
    torch.testing.assert_close(fusion(views, everywhere(views)), other(views, everywhere(views)), rtol=0, atol=0)
    bimodal = fusion(views, everywhere(views))[:, 6:].sum()
    grads = torch.autograd.grad(bimodal, list(fusion.graph.weights.parameters()), retain_graph=True)
    assert all((grad == 0).all() for grad in grads)


def test_ordered_and_unordered_pairs_agree_with_symmetric_vertices() -> None:
    views = torch.randn(4, 3, 6)
    graph, ordered = Graph(3, 6, Settings(levels=2)), Graph(3, 6, Settings(levels=2, pairs="ordered"))
    kernel = graph.join[0].conv.weight.data
    kernel[:, 1] = kernel[:, 0]
    ordered.load_state_dict(graph.state_dict())
    torch.testing.assert_close(ordered(views, everywhere(views)), graph(views, everywhere(views)))


# --- missing modalities ------


@pytest.mark.parametrize("settings", READINGS, ids=lambda s: s.weight_activation + s.pairs + s.nodes + s.attention)
@pytest.mark.parametrize(("modalities", "fewer"), [(3, 2), (4, 3), (4, 2)])
def test_without_the_last_modalities_it_is_the_smaller_graph(settings: Settings, modalities: int, fewer: int) -> None:
    full, small = Graph(modalities, 5, settings), Graph(fewer, 5, settings)
    state = full.state_dict()
    small.load_state_dict({name: state[name] for name in small.state_dict()})
    views = torch.randn(3, modalities, 5)
    views[:, fewer:] = 0
    present = everywhere(views)
    present[:, fewer:] = False
    expected = small(views[:, :fewer], present[:, :fewer])
    fused = full(views, present)
    torch.testing.assert_close(fused[:, : expected.shape[1]], expected)
    assert (fused[:, expected.shape[1] :] == 0).all()


@pytest.mark.parametrize("build_fusion", [build, graph_baseline.build])
@pytest.mark.parametrize("modalities", [2, 3])
def test_every_pattern_of_missing_modalities_is_finite(build_fusion, modalities: int) -> None:
    fusion = build_fusion(modalities, 5)
    present = torch.tensor(list(itertools.product([False, True], repeat=modalities)))
    views = torch.randn(len(present), modalities, 5).mul(present.unsqueeze(-1)).requires_grad_()
    fused = fusion(views, present)
    fused.square().sum().backward()
    assert torch.isfinite(fused).all()
    assert torch.isfinite(views.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters() if p.grad is not None)


@pytest.mark.parametrize("settings", READINGS, ids=lambda s: s.weight_activation + s.pairs + s.nodes + s.attention)
def test_present_weights_are_renormalised(settings: Settings) -> None:
    views = torch.randn(2, 4, 5)
    present = torch.tensor([[True, False, True, True], [True, False, False, False]])
    views = views * present.unsqueeze(-1)
    for level in Graph(4, 5, settings).levels(views, present)[1:]:
        torch.testing.assert_close(level.weights.sum(1), torch.tensor([1.0, 0.0]))
        assert (level.weights[~level.valid] == 0).all()


@pytest.mark.parametrize("settings", READINGS, ids=lambda s: s.weight_activation + s.pairs + s.nodes + s.attention)
def test_gradients(settings: Settings) -> None:
    graph = Graph(3, 4, settings)
    present = torch.tensor([[True, True, True], [True, True, False]])
    views = torch.randn(2, 3, 4) * present.unsqueeze(-1)
    assert torch.autograd.gradcheck(lambda v: graph(v, present), views.requires_grad_())
    names = [name for name, _ in graph.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in graph.parameters())

    def of_parameters(*parameters):
        return torch.func.functional_call(graph, dict(zip(names, parameters, strict=True)), (views.detach(), present))

    assert torch.autograd.gradcheck(of_parameters, values, fast_mode=True)
