"""Graph fusion of N modalities on up to three levels: MT25's improved network ``igfn``, and with it ``graph``.

The method goes back to Wang & Chen (IEEE IRI 2021); the formulas are MT25's (1)-(7):

    (1) w_1 ⊕ … ⊕ w_N = B(V_1 ⊕ … ⊕ V_N)            (2) G_unm = (1/N) sum_i w_i V_i
    (3) V_(x,y) = NN(V_x ⊕ V_y)                       (4) S_xy = cos(softmax V_x, softmax V_y)
    (5) q_xy = (w_x + w_y) / (S_xy + delta),  w_xy = softmax over pairs of q
    (6) G_bim = sum w_xy V_(x,y)                      (7) G = G_unm ⊕ G_bim ⊕ G_trm

Level 3 repeats (3)-(6) on pairs of level-2 vertices and on a level-2 vertex with a modality outside it. Where the paper
leaves a reading open, the reading is a parameter. With two modalities level 2 has one vertex whose weight is 1
whatever S and delta are, so B learns from G_unm alone, and level 3 is empty.

The graph fusion network of Mai, Hu & Xing (AAAI 2020) is the same code with other settings; see ``graph``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, elu, layer_norm, leaky_relu, softmax

from mmbench.contracts import Inside
from mmbench.modules import Fusion, masked_softmax, shown

NAME = "igfn"
KIND = "fusion"
SUMMARY = "Improved graph fusion network (MT25): modalities, pairs and triples weighted by dissimilarity"
PAPER_NAME = "ВГМЗ"
ABLATIONS = {"dynamic attention": "attention=off", "similarity weighting": "similarity=off"}

Activation = Literal["leaky", "sigmoid", "softmax"]
Attention = Literal["conv", "linear", "off"]
Similarity = Literal["cosine", "inner", "off"]


@dataclass(frozen=True)
class Settings:
    """One reading of the graph.

    Attributes:
        delta: the constant of (5).
        levels: 3, or 2 without triples.
        attention: B: two convolutions (5x5, 1x1) over the stacked views, one shared linear layer, or weights of one.
        weight_activation: what B ends with, where it is not off.
        similarity: (4) by cosine, by inner product, or left out of (5): q_xy = w_x + w_y.
        normalise_similarity: LayerNorm of the vectors inside (4).
        pairs: unordered, or both orders of each pair.
        parent_weight: what level 3 takes as a pair's weight: w_xy, or q_xy before the softmax.
        nodes: whether a level hands on NN's output, or ELU(w_xy NN) and sums that.
        vertex: NN: one Conv1d and one linear layer (MT25), or a two-layer perceptron (Mai et al.).
        strict_trimodal: leave out level-3 vertices that join four modalities.
    """

    delta: float = 0.5
    levels: int = 3
    attention: Attention = "conv"
    weight_activation: Activation = "leaky"
    similarity: Similarity = "cosine"
    normalise_similarity: bool = True
    pairs: Literal["unordered", "ordered"] = "unordered"
    parent_weight: Literal["normalised", "raw"] = "normalised"
    nodes: Literal["unweighted", "weighted"] = "unweighted"
    vertex: Literal["conv", "mlp"] = "conv"
    strict_trimodal: bool = False


@dataclass(frozen=True)
class Level:
    """One level for a batch: V vertices.

    ``plain`` and ``nodes`` (B, V, d) are NN's outputs and what is handed on; ``weights`` (B, V) the weights within the
    level, ``parents`` (B, V) those that the next level takes; ``valid`` (B, V) says where all parents are present;
    ``fused`` (B, d) is the level's vector.
    """

    plain: Tensor
    nodes: Tensor
    weights: Tensor
    parents: Tensor
    valid: Tensor
    fused: Tensor


class ConvVertex(nn.Module):
    """NN of (3): Conv1d over the two stacked vectors, then a linear layer: (M, 2, d) -> (M, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, padding=1)
        self.linear = nn.Linear(4 * width, width)

    def forward(self, pair: Tensor) -> Tensor:
        """Join two vectors."""
        return leaky_relu(self.linear(leaky_relu(self.conv(pair)).flatten(1)))


class MlpVertex(nn.Module):
    """The vertex network of Mai et al.: Linear, LeakyReLU(0.2), Linear, tanh on the concatenation."""

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * width, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, width), nn.Tanh()
        )

    def forward(self, pair: Tensor) -> Tensor:
        """Join two vectors."""
        joined: Tensor = self.layers(pair.flatten(1))
        return joined


class ModalityWeights(nn.Module):
    """B of (1): (B, N, d) and (B, N) bool -> (B, N)."""

    def __init__(self, width: int, attention: Attention, activation: Activation) -> None:
        super().__init__()
        self.attention, self.activation = attention, activation
        if attention == "conv":
            self.wide = nn.Conv2d(1, 8, 5, padding=2)
            self.point = nn.Conv2d(8, 1, 1)
            nn.init.ones_(self.point.bias)  # type: ignore[arg-type]
        elif attention == "linear":
            self.score = nn.Linear(width, 1)

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """The weight of each modality; a softmax runs over those present."""
        if self.attention == "off":
            return torch.ones_like(views[..., 0])
        if self.attention == "linear":
            scores = self.score(views).squeeze(-1)
        else:
            grid = self.point(leaky_relu(self.wide(views.unsqueeze(1)))).squeeze(1)
            if self.activation == "leaky":
                return leaky_relu(grid).mean(-1)
            scores = grid.mean(-1)
        if self.activation == "leaky":
            return leaky_relu(scores)
        return torch.sigmoid(scores) if self.activation == "sigmoid" else masked_softmax(scores, present)


class Graph(nn.Module):
    """The levels of the graph: (B, N, d) -> one vector (B, d) a level."""

    def __init__(self, modalities: int, width: int, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.weights = ModalityWeights(width, settings.attention, settings.weight_activation)
        self.pairs, self.triples = combine_vertices(modalities, settings)
        vertex = ConvVertex if settings.vertex == "conv" else MlpVertex
        self.join = nn.ModuleList(vertex(width) for combos in (self.pairs, self.triples) if combos)

    def levels(self, views: Tensor, present: Tensor) -> list[Level]:
        """All levels; the first holds the modalities themselves."""
        w = self.weights(views, present)
        count = present.sum(1, keepdim=True).clamp(min=1)
        levels = [Level(views, views, w, w, present, (w.unsqueeze(-1) * views).sum(1) / count)]
        if self.pairs:
            levels.append(self._level(views, views, w, present, self.pairs, self.join[0]))
        if self.triples:
            pairs = levels[1]
            levels.append(
                self._level(
                    torch.cat([pairs.plain, views], 1),
                    torch.cat([pairs.nodes, views], 1),
                    torch.cat([pairs.parents, w], 1),
                    torch.cat([pairs.valid, present], 1),
                    self.triples,
                    self.join[1],
                )
            )
        return levels

    def _level(
        self, plain: Tensor, nodes: Tensor, w: Tensor, valid: Tensor, combos: list[tuple[int, int]], join: nn.Module
    ) -> Level:
        """Formulas (3)-(6) on the combinations of the vertices below."""
        first, second = torch.tensor(combos, device=nodes.device).T
        q = w[:, first] + w[:, second]
        if self.settings.similarity != "off":
            q = q / (self._similarity(plain[:, first], plain[:, second]) + self.settings.delta)
        both = valid[:, first] & valid[:, second]
        weights = masked_softmax(q, both)
        stacked = torch.stack([nodes[:, first], nodes[:, second]], dim=2)
        joined = join(stacked.flatten(0, 1)).unflatten(0, stacked.shape[:2])
        weighted = weights.unsqueeze(-1) * joined
        handed_on = joined
        if self.settings.nodes == "weighted":
            weighted = handed_on = elu(weighted)
        parents = q if self.settings.parent_weight == "raw" else weights
        return Level(joined, handed_on, weights, parents, both, weighted.sum(1))

    def _similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """(4): (B, P, d) twice -> (B, P)."""
        if self.settings.normalise_similarity:
            x, y = layer_norm(x, x.shape[-1:]), layer_norm(y, y.shape[-1:])
        x, y = softmax(x, dim=-1), softmax(y, dim=-1)
        if self.settings.similarity == "inner":
            return (x * y).sum(-1)
        return cosine_similarity(x, y, dim=-1)

    def look(self, views: Tensor, present: Tensor, modalities: tuple[str, ...]) -> dict[str, Inside]:
        """The weights of the vertices on each level."""
        levels = self.levels(views, present)
        pairs = [f"{modalities[i]} × {modalities[j]}" for i, j in self.pairs]
        below = [*(f"({modalities[i]}×{modalities[j]})" for i, j in self.pairs), *modalities]
        says = (
            "weight w of each modality, formula (1)",
            "weight of each pair, the softmax of (5)",
            "weight of each vertex of the third level, the softmax of (5) over its parents",
        )
        names = (modalities, tuple(pairs), tuple(f"{below[a]}×{below[b]}" for a, b in self.triples))
        return {
            title: Inside(told, shown(level.weights, level.valid), places, shares=depth > 0)
            for depth, (title, told, places, level) in enumerate(
                zip(("modality weights", "pair weights", "triple weights"), says, names, levels, strict=False)
            )
        }

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """(7): the levels' vectors side by side, (B, levels * d)."""
        return torch.cat([level.fused for level in self.levels(views, present)], dim=1)


def combine_vertices(modalities: int, settings: Settings) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The pairs of level 2, and those of level 3 among (level-2 vertices, then modalities); the latter may be none."""
    choose = permutations if settings.pairs == "ordered" else combinations
    pairs = list(choose(range(modalities), 2))
    if settings.levels < 3:
        return pairs, []
    triples = [
        (a, b)
        for a, b in combinations(range(len(pairs)), 2)
        if not (settings.strict_trimodal and len({*pairs[a], *pairs[b]}) > 3)
    ]
    triples += [(p, len(pairs) + m) for p, pair in enumerate(pairs) for m in range(modalities) if m not in pair]
    return pairs, triples


class ImprovedGraphFusion(Fusion):
    """``igfn``: the levels side by side, (B, N, d) -> (B, 3 d), or (B, 2 d) without level 3."""

    min_modalities = 2

    def __init__(self, modalities: int, width: int, settings: Settings) -> None:
        super().__init__()
        self.graph = Graph(modalities, width, settings)
        self.out_features = width * (1 + len(self.graph.join))

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """Formula (7)."""
        fused: Tensor = self.graph(views, present)
        return fused

    def look(self, views: Tensor, present: Tensor, modalities: tuple[str, ...]) -> dict[str, Inside]:
        """The graph's weights."""
        return self.graph.look(views, present, modalities)


def build(
    modalities: int,
    width: int,
    *,
    delta: Annotated[float, Field(gt=0, le=1)] = 0.5,
    levels: Annotated[int, Field(ge=2, le=3)] = 3,
    attention: Attention = "conv",
    weight_activation: Activation = "leaky",
    similarity: Similarity = "cosine",
    pairs: Literal["unordered", "ordered"] = "unordered",
    parent_weight: Literal["normalised", "raw"] = "normalised",
    nodes: Literal["unweighted", "weighted"] = "unweighted",
    strict_trimodal: bool = False,
) -> ImprovedGraphFusion:
    """The fusion ``igfn``."""
    settings = Settings(
        delta, levels, attention, weight_activation, similarity, True, pairs, parent_weight, nodes, "conv",
        strict_trimodal,
    )  # fmt: skip
    return ImprovedGraphFusion(modalities, width, settings)
