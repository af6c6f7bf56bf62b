"""The graph fusion network against a transcription of its equations for one sample, in NumPy and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mmbench.plugins import shipped

graph = shipped("baselines", "graph")
Vector = NDArray[np.float64]
WIDTH = 5


def softmax(x: Vector) -> Vector:
    e = np.exp(x - x.max())
    return e / e.sum()


def elu(x: Vector) -> Vector:
    return np.where(x > 0, x, np.expm1(x))


def array(parameter: torch.Tensor) -> Vector:
    return parameter.detach().numpy().astype(np.float64)


def linear(layer: nn.Module, x: Vector) -> Vector:
    assert isinstance(layer, nn.Linear)
    return array(layer.weight) @ x + array(layer.bias)


def vertex_network(module: nn.Module, x: Vector, y: Vector) -> Vector:
    first, _, second, _ = module.layers  # type: ignore[misc, union-attr]
    hidden = linear(first, np.concatenate([x, y]))
    return np.tanh(linear(second, np.where(hidden > 0, hidden, 0.2 * hidden)))


def fuse_three(fusion: nn.Module, v: Vector) -> tuple[Vector, Vector, Vector]:
    """Steps 1-3 for v (3, d): U + G_2 + G_3 side by side, alpha (3,) and beta (6,)."""
    core = fusion.graph
    w = np.array([1 / (1 + np.exp(-linear(core.weights.score, v[i])[0])) for i in range(3)])  # type: ignore
    unimodal = (w[0] * v[0] + w[1] * v[1] + w[2] * v[2]) / 3

    pairs = [(0, 1), (0, 2), (1, 2)]
    q = np.array([(w[i] + w[j]) / (softmax(v[i]) @ softmax(v[j]) + 0.5) for i, j in pairs])
    alpha = softmax(q)
    plain = [vertex_network(core.join[0], v[i], v[j]) for i, j in pairs]  # type: ignore
    node = [elu(alpha[p] * plain[p]) for p in range(3)]
    bimodal = node[0] + node[1] + node[2]

    def scaled(weight: float, x: Vector, y: Vector) -> float:
        return float(weight / (softmax(x) @ softmax(y) + 0.5))

    raw, joined = [], []
    for p, r in [(0, 1), (0, 2), (1, 2)]:
        raw.append(scaled(q[p] + q[r], plain[p], plain[r]))
        joined.append(vertex_network(core.join[1], node[p], node[r]))  # type: ignore
    for p, k in [(0, 2), (1, 1), (2, 0)]:
        raw.append(scaled(q[p] + w[k], plain[p], v[k]))
        joined.append(vertex_network(core.join[1], node[p], v[k]))  # type: ignore
    beta = softmax(np.array(raw))
    trimodal = sum((elu(b * x) for b, x in zip(beta, joined, strict=True)), np.zeros(WIDTH))
    return np.concatenate([unimodal, bimodal, trimodal]), alpha, beta


def make(modalities: int = 3) -> nn.Module:
    torch.manual_seed(2)
    fusion: nn.Module = graph.build(modalities, WIDTH).double()
    return fusion


def batch(modalities: int = 3, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(9)
    views = torch.randn(rows, modalities, WIDTH, dtype=torch.float64, generator=g)
    return views, torch.ones(rows, modalities, dtype=torch.bool)


def test_it_is_the_reference_sample_by_sample() -> None:
    fusion, (views, present) = make(), batch()
    levels = fusion.graph.levels(views, present)  # type: ignore
    fused = array(fusion.graph(views, present))  # type: ignore
    expected = [fuse_three(fusion, array(v)) for v in views]
    np.testing.assert_allclose(fused, [e[0] for e in expected], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(array(levels[1].weights), [e[1] for e in expected], rtol=1e-12)
    np.testing.assert_allclose(array(levels[2].weights), [e[2] for e in expected], rtol=1e-12)

    normalised = (fused - fused.mean(0)) / np.sqrt(fused.var(0) + 1e-5)
    _, first, _, second, _ = fusion.top  # type: ignore
    output = [np.tanh(linear(second, np.tanh(linear(first, row)))) for row in normalised]
    np.testing.assert_allclose(array(fusion(views, present)), output, rtol=1e-10, atol=1e-12)


def test_vertex_weights_sum_to_one() -> None:
    fusion, (views, present) = make(), batch()
    for level in fusion.graph.levels(views, present)[1:]:  # type: ignore
        torch.testing.assert_close(level.weights.sum(1), torch.ones(6, dtype=torch.float64), rtol=1e-14, atol=0)


def test_alike_modalities_have_alike_vertices() -> None:
    fusion, (views, present) = make(), batch()
    levels = fusion.graph.levels(views[:, :1].expand(-1, 3, -1), present)  # type: ignore
    torch.testing.assert_close(levels[1].weights, torch.full((6, 3), 1 / 3, dtype=torch.float64), rtol=1e-13, atol=0)
    of_pairs, of_pair_and_rest = levels[2].weights[:, :3], levels[2].weights[:, 3:]
    for kind in (of_pairs, of_pair_and_rest):
        torch.testing.assert_close(kind, kind[:, :1].expand(-1, 3), rtol=1e-13, atol=0)
    assert not torch.allclose(of_pairs[:, 0], of_pair_and_rest[:, 0])


def test_weights_follow_a_permutation_of_the_modalities() -> None:
    fusion, (views, present) = make(), batch()
    levels = fusion.graph.levels(views, present)  # type: ignore
    permuted = fusion.graph.levels(views[:, [2, 0, 1]], present)  # type: ignore
    torch.testing.assert_close(permuted[0].weights, levels[0].weights[:, [2, 0, 1]], rtol=1e-13, atol=0)
    # pairs (01, 02, 12) of the permuted are (20, 21, 01) of the original
    torch.testing.assert_close(permuted[1].weights, levels[1].weights[:, [1, 2, 0]], rtol=1e-13, atol=0)
    assert not torch.allclose(permuted[2].fused, levels[2].fused)


class Symmetric(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        both: torch.Tensor = self.network(pair) + self.network(pair.flip(1))
        return both


def test_with_symmetric_vertex_networks_the_order_of_the_modalities_does_not_matter() -> None:
    fusion, (views, present) = make(), batch()
    fusion.graph.join = nn.ModuleList(Symmetric(join) for join in fusion.graph.join)  # type: ignore
    torch.testing.assert_close(fusion(views[:, [2, 0, 1]], present), fusion(views, present), rtol=1e-10, atol=1e-12)


def test_two_modalities_have_two_levels_and_means_by_one_half() -> None:
    fusion, (views, present) = make(2), batch(2)
    unimodal, bimodal = fusion.graph.levels(views, present)  # type: ignore
    w = torch.sigmoid(fusion.graph.weights.score(views))  # type: ignore
    torch.testing.assert_close(unimodal.fused, (w * views).sum(1) / 2, rtol=1e-13, atol=1e-14)
    expected = nn.functional.elu(fusion.graph.join[0](views))  # type: ignore
    torch.testing.assert_close(bimodal.fused, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("modalities", "levels"), [(2, 2), (3, 3), (4, 3)])
def test_parameters(modalities: int, levels: int) -> None:
    d = 64
    fusion = graph.build(modalities, d)
    vertex = 2 * d * 64 + 64 + 64 * d + d
    top = 2 * levels * d + levels * d * 50 + 50 + 50 * 50 + 50
    assert sum(p.numel() for p in fusion.parameters()) == d + 1 + (levels - 1) * vertex + top
    assert fusion.out_features == 50


def test_similarity_hardly_moves_the_weights_of_wide_vectors() -> None:
    views = torch.randn(8, 2, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    soft = torch.softmax(views, -1)
    assert (soft[:, 0] * soft[:, 1]).sum(-1).max() < 0.02
