"""Graph fusion network (Mai, Hu & Xing, AAAI 2020), as its reference implementation computes it.

    w_i = σ(a·V_i + c), a and c shared                U = (1/N) sum_i w_i V_i
    S_ij = <softmax V_i, softmax V_j>                 q_ij = (w_i + w_j) / (S_ij + 0.5)
    V_ij = ELU(softmax(q)_ij M_1(V_i ⊕ V_j))          G_2 = sum V_ij
    level 3 likewise from the weighted V_ij and V_k, with M_2, the raw q_ij and w_k as weights of the parents, and
    similarities of the unweighted M_1 outputs        out = tanh Linear(tanh Linear(BatchNorm(U ⊕ G_2 ⊕ G_3)))

With softmaxed d-vectors S is close to 1/d, so that the weights hardly depend on it. Two modalities have no level 3.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmbench.contracts import Inside
from mmbench.modules import Fusion
from mmbench.proposed.graph_fusion import Graph, Settings

NAME = "graph"
KIND = "fusion"
SUMMARY = "Graph fusion network: modalities, pairs and triples as vertices of a graph"
PAPER_NAME = "ГМЗ"

HIDDEN = 50
SETTINGS = Settings(
    attention="linear",
    weight_activation="sigmoid",
    similarity="inner",
    normalise_similarity=False,
    parent_weight="raw",
    nodes="weighted",
    vertex="mlp",
)


class GraphFusion(Fusion):
    """(B, N, d) -> (B, 50)."""

    min_modalities = 2

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.graph = Graph(modalities, width, SETTINGS)
        size = width * (1 + len(self.graph.join))
        self.top = nn.Sequential(
            nn.BatchNorm1d(size), nn.Linear(size, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()
        )
        self.out_features = HIDDEN

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """The levels side by side, normalised over the batch, through two layers."""
        fused: Tensor = self.top(self.graph(views, present))
        return fused

    def look(self, views: Tensor, present: Tensor, modalities: tuple[str, ...]) -> dict[str, Inside]:
        """The graph's weights."""
        return self.graph.look(views, present, modalities)


def build(modalities: int, width: int) -> GraphFusion:
    """The fusion ``graph``."""
    return GraphFusion(modalities, width)
