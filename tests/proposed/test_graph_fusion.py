"""MT25's graph fusion against its formulas written out, and the properties that they imply."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, layer_norm, leaky_relu

from mmbench.plugins import shipped
from mmbench.proposed import graph_fusion
from mmbench.proposed.graph_fusion import Graph, Settings, combine_vertices

WIDTH = 6


def make(modalities: int, settings: Settings | None = None) -> Graph:
    torch.manual_seed(3)
    return Graph(modalities, WIDTH, settings or Settings()).double()


def batch(modalities: int, rows: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(6)
    views = torch.randn(rows, modalities, WIDTH, dtype=torch.float64, generator=g)
    return views, torch.ones(rows, modalities, dtype=torch.bool)


def direct(core: Graph, views: torch.Tensor, delta: float = 0.5) -> torch.Tensor:
    """Formulas (1)-(7) with the default readings, vertex by vertex."""
    n = views.shape[1]
    wide, point = core.weights.wide, core.weights.point
    w = leaky_relu(point(leaky_relu(wide(views[:, None])))).squeeze(1).mean(-1)
    outputs = [sum(w[:, [i]] * views[:, i] for i in range(n)) / n]

    def level(
        nodes: list[torch.Tensor], weights: list[torch.Tensor], combos: list[tuple[int, int]], join: Any
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
        soft = [torch.softmax(layer_norm(node, (WIDTH,)), -1) for node in nodes]
        q = [(weights[i] + weights[j]) / (cosine_similarity(soft[i], soft[j]) + delta) for i, j in combos]
        alpha = torch.softmax(torch.stack(q, 1), 1)
        joined = []
        for i, j in combos:
            hidden = leaky_relu(join.conv(torch.stack([nodes[i], nodes[j]], 1))).flatten(1)
            joined.append(leaky_relu(join.linear(hidden)))
        return joined, list(alpha.unbind(1)), sum(alpha[:, [k]] * x for k, x in enumerate(joined))  # type: ignore

    modalities, mine = list(views.unbind(1)), list(w.unbind(1))
    pairs = list(combinations(range(n), 2))
    bimodal, alpha, fused = level(modalities, mine, pairs, core.join[0])
    outputs.append(fused)
    combos = list(combinations(range(len(pairs)), 2))
    combos += [(p, len(pairs) + m) for p, pair in enumerate(pairs) for m in range(n) if m not in pair]
    if combos:
        outputs.append(level(bimodal + modalities, alpha + mine, combos, core.join[1])[2])
    return torch.cat(outputs, 1)  # type: ignore


@pytest.mark.parametrize("modalities", [2, 3, 4])
@pytest.mark.parametrize("delta", [0.1, 0.5])
def test_it_is_the_formulas_written_out(modalities: int, delta: float) -> None:
    core, (views, present) = make(modalities, Settings(delta=delta)), batch(modalities)
    nn.init.constant_(core.weights.point.bias, 0.1)  # so that LeakyReLU sees both signs
    torch.testing.assert_close(core(views, present), direct(core, views, delta), rtol=1e-11, atol=1e-12)


def test_the_other_readings_are_the_graph_fusion_network() -> None:
    reading = Settings(
        attention="linear",
        weight_activation="sigmoid",
        similarity="inner",
        normalise_similarity=False,
        parent_weight="raw",
        nodes="weighted",
        vertex="mlp",
    )
    torch.manual_seed(0)
    fusion = shipped("baselines", "graph").build(3, WIDTH).double()
    core, (views, present) = make(3, reading), batch(3)
    core.load_state_dict(fusion.graph.state_dict())
    assert torch.equal(fusion.top(core(views, present)), fusion(views, present))


@pytest.mark.parametrize(
    ("modalities", "pairs", "strict", "expected"),
    [
        (2, "unordered", False, (1, 0)),
        (3, "unordered", False, (3, 6)),
        (4, "unordered", False, (6, 27)),
        (4, "unordered", True, (6, 24)),
        (5, "unordered", False, (10, 75)),
        (2, "ordered", False, (2, 1)),
        (3, "ordered", False, (6, 21)),
    ],
)
def test_the_number_of_vertices(modalities: int, pairs: Any, strict: bool, expected: tuple[int, int]) -> None:
    two, three = combine_vertices(modalities, Settings(pairs=pairs, strict_trimodal=strict))
    assert (len(two), len(three)) == expected


def test_two_levels_leave_the_triples_out() -> None:
    whole, short = make(3), make(3, Settings(levels=2))
    views, present = batch(3)
    short.load_state_dict(whole.state_dict(), strict=False)
    torch.testing.assert_close(short(views, present), whole(views, present)[:, : 2 * WIDTH], rtol=0, atol=0)
    fusion = graph_fusion.build(3, WIDTH, levels=2)
    assert fusion.out_features == 2 * WIDTH and graph_fusion.build(3, WIDTH).out_features == 3 * WIDTH


def test_vertex_weights_sum_to_one() -> None:
    for settings in (Settings(), Settings(pairs="ordered"), Settings(parent_weight="raw", weight_activation="softmax")):
        core, (views, present) = make(3, settings), batch(3)
        for level in core.levels(views, present)[1:]:
            torch.testing.assert_close(level.weights.sum(1), torch.ones(5, dtype=torch.float64), rtol=1e-14, atol=0)


def test_identical_modalities_have_equal_vertices() -> None:
    core, (views, present) = make(3, Settings(attention="off")), batch(3)
    same = views[:, :1].expand(-1, 3, -1)
    unimodal, bimodal, _ = core.levels(same, present)
    torch.testing.assert_close(bimodal.weights, torch.full((5, 3), 1 / 3, dtype=torch.float64), rtol=1e-13, atol=0)
    torch.testing.assert_close(unimodal.fused, views[:, 0], rtol=1e-13, atol=1e-15)


def test_a_large_delta_makes_the_weights_equal() -> None:
    core, (views, present) = make(3, Settings(delta=1e9)), batch(3)
    torch.testing.assert_close(
        core.levels(views, present)[1].weights, torch.full((5, 3), 1 / 3, dtype=torch.float64), rtol=1e-8, atol=0
    )


def _pair_weights(w: list[float], similarity: list[float], monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """w_xy of three modalities with given weights and similarities."""
    core, (views, present) = make(3, Settings(levels=2)), batch(3, 1)
    monkeypatch.setattr(core.weights, "forward", lambda *_: torch.tensor([w], dtype=torch.float64))
    monkeypatch.setattr(core, "_similarity", lambda *_: torch.tensor([similarity], dtype=torch.float64))
    return core.levels(views, present)[1].weights[0]


def test_with_equal_similarities_weights_follow_their_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = _pair_weights([0.2, 0.9, 0.5], [0.6] * 3, monkeypatch)
    assert weights[2] > weights[0] > weights[1]  # (1,2): 1.4, (0,1): 1.1, (0,2): 0.7


def test_a_pair_that_grows_alike_loses_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    w = [0.2, 0.9, 0.5]
    falling = [_pair_weights(w, [s, 0.6, 0.6], monkeypatch)[0].item() for s in (0.1, 0.4, 0.7, 1.0)]
    assert falling == sorted(falling, reverse=True) and len(set(falling)) == 4
    rising = [_pair_weights([-x for x in w], [s, 0.6, 0.6], monkeypatch)[0].item() for s in (0.1, 0.4, 0.7, 1.0)]
    assert rising == sorted(rising)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("similarity", ["cosine", "inner"])
def test_a_constant_added_to_a_vector_leaves_its_similarity(similarity: Any, normalise: bool) -> None:
    core, (views, _) = make(3, Settings(similarity=similarity, normalise_similarity=normalise)), batch(3)
    x, y = views[:, :1], views[:, 1:2]
    s = core._similarity(x, y)
    torch.testing.assert_close(core._similarity(x + 7.5, y), s, rtol=1e-10, atol=0)
    assert ((s > 0) & (s <= 1)).all()
    assert not torch.allclose(core._similarity(2 * x, y), s) or normalise


def test_small_activations_are_told_apart_only_with_layer_norm() -> None:
    views = 0.01 * torch.randn(50, 2, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, y = views[:, :1], views[:, 1:]
    plain = Graph(2, 64, Settings(normalise_similarity=False))._similarity(x, y)
    normalised = Graph(2, 64, Settings())._similarity(x, y)
    assert plain.min() > 0.999
    assert normalised.max() < 0.8


def test_with_two_modalities_attention_learns_from_the_first_level_alone() -> None:
    core, (views, present) = make(2), batch(2)
    unimodal, bimodal = core.levels(views, present)
    assert torch.equal(bimodal.weights, torch.ones_like(bimodal.weights))
    parameters = list(core.weights.parameters())
    through_pairs = torch.autograd.grad(bimodal.fused.sum(), parameters, retain_graph=True)
    assert all((g == 0).all() for g in through_pairs)
    through_unimodal = torch.autograd.grad(unimodal.fused.sum(), parameters)
    assert all((g != 0).any() for g in through_unimodal)
    wide = make(2, Settings(delta=0.01))
    torch.testing.assert_close(wide(views, present), core(views, present), rtol=0, atol=0)


def test_ordered_pairs_with_a_symmetric_network_change_nothing_on_level_two() -> None:
    class Symmetric(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, pair: torch.Tensor) -> torch.Tensor:
            both: torch.Tensor = self.network(pair) + self.network(pair.flip(1))
            return both

    views, present = batch(3)
    fused = []
    for pairs in ("unordered", "ordered"):
        core = make(3, Settings(levels=2, pairs=pairs))  # type: ignore[arg-type]
        core.join = nn.ModuleList(Symmetric(join) for join in core.join)
        fused.append(core.levels(views, present)[1].fused)
    torch.testing.assert_close(fused[1], fused[0], rtol=1e-12, atol=1e-13)


MISSING = [
    Settings(),
    Settings(attention="linear", weight_activation="softmax"),
    Settings(attention="linear", weight_activation="sigmoid", parent_weight="raw", nodes="weighted", vertex="mlp"),
    Settings(pairs="ordered", similarity="inner"),
    Settings(attention="off", strict_trimodal=True),
]


@pytest.mark.parametrize("settings", MISSING)
@pytest.mark.parametrize("modalities", [2, 3])
def test_a_missing_modality_leaves_the_graph_of_the_others(modalities: int, settings: Settings) -> None:
    full, fewer = make(modalities + 1, settings), make(modalities, settings)
    fewer.load_state_dict({k: v for k, v in full.state_dict().items() if k in fewer.state_dict()})
    views, present = batch(modalities + 1)
    views[:, -1], present[:, -1] = 0, False
    expected = fewer(views[:, :-1], present[:, :-1])
    fused = full(views, present)
    torch.testing.assert_close(fused[:, : expected.shape[1]], expected, rtol=1e-11, atol=1e-12)
    assert (fused[:, expected.shape[1] :] == 0).all()


def test_one_modality_left_has_the_first_level_alone() -> None:
    core, (views, present) = make(3, Settings(attention="off")), batch(3)
    present[:, 1:] = False
    views[:, 1:] = 0
    fused = core(views, present)
    torch.testing.assert_close(fused[:, :WIDTH], views[:, 0], rtol=0, atol=0)
    assert (fused[:, WIDTH:] == 0).all()


def test_weights_start_near_one() -> None:
    torch.manual_seed(0)
    weights = Graph(3, 64, Settings()).weights(torch.randn(200, 3, 64).relu(), torch.ones(200, 3, dtype=torch.bool))
    assert 0.7 < weights.mean().item() < 1.3


@pytest.mark.parametrize("activation", ["leaky", "sigmoid", "softmax"])
@pytest.mark.parametrize("attention", ["conv", "linear", "off"])
def test_what_attention_ends_with(attention: Any, activation: Any) -> None:
    core, (views, present) = make(3, Settings(attention=attention, weight_activation=activation)), batch(3, 50)
    w = core.levels(views, present)[0].weights
    if attention == "off":
        assert (w == 1).all()
    elif activation == "softmax":
        torch.testing.assert_close(w.sum(1), torch.ones(50, dtype=torch.float64), rtol=1e-14, atol=0)
    elif activation == "sigmoid":
        assert ((w > 0) & (w < 1)).all()
    if attention == "linear" and activation == "leaky":
        scores = views @ core.weights.score.weight[0] + core.weights.score.bias
        torch.testing.assert_close(w, torch.where(scores > 0, scores, 0.01 * scores), rtol=1e-12, atol=1e-14)


def test_every_parameter_of_the_selector_reaches_the_graph() -> None:
    views, present = batch(3)
    torch.manual_seed(3)
    default = graph_fusion.build(3, WIDTH).double()
    base = default(views, present)
    changes: dict[str, Any] = {
        "delta": 0.1,
        "attention": "linear",
        "weight_activation": "sigmoid",
        "similarity": "inner",
        "pairs": "ordered",
        "parent_weight": "raw",
        "nodes": "weighted",
    }
    for name, value in changes.items():
        torch.manual_seed(3)
        changed = graph_fusion.build(3, WIDTH, **{name: value}).double()
        assert changed.graph.settings == replace(default.graph.settings, **{name: value})
        assert not torch.allclose(changed(views, present), base)
    assert graph_fusion.build(3, WIDTH, strict_trimodal=True).graph.settings.strict_trimodal


@pytest.mark.parametrize(("modalities", "networks"), [(2, 1), (3, 2), (4, 2)])
def test_parameters(modalities: int, networks: int) -> None:
    d = 64
    attention = (25 * 8 + 8) + (8 + 1)
    vertex = (2 * 4 * 3 + 4) + (4 * d * d + d)
    fusion = graph_fusion.build(modalities, d)
    assert sum(p.numel() for p in fusion.parameters()) == attention + networks * vertex


def test_without_similarity_the_vertices_are_weighted_by_their_modalities_alone() -> None:
    core, (views, present) = make(3, Settings(similarity="off")), batch(3)
    nn.init.constant_(core.weights.point.bias, 0.3)
    first, pairs, _ = core.levels(views, present)
    q = torch.stack([first.weights[:, i] + first.weights[:, j] for i, j in core.pairs], dim=1)
    torch.testing.assert_close(pairs.weights, torch.softmax(q, dim=1))
    core.settings = replace(core.settings, similarity="cosine")
    assert not torch.allclose(core.levels(views, present)[1].weights, pairs.weights)


def test_with_two_modalities_neither_similarity_nor_its_absence_changes_a_bit() -> None:
    core, (views, present) = make(2), batch(2)
    with_it = core(views, present)
    core.settings = replace(core.settings, similarity="off")
    assert torch.equal(core(views, present), with_it)
