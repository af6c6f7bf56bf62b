"""Multi-head attention with keys that may be missing."""

from __future__ import annotations

from torch import Tensor, nn

from mmbench.modules import masked_softmax


def feed_forward(width: int, dropout: float) -> nn.Module:
    """LayerNorm, Linear to 4 d, GELU, Linear, Dropout: (…, d) -> (…, d)."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
    )


class MultiHeadAttention(nn.Module):
    """softmax(Q K^T / sqrt(d_k)) V of several heads: MR26 (3), whose print lacks the transpose.

    A query without any key gets zeros. Heads that do not divide the width get floor(width / heads) features each.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, max(width // heads, 1)
        inner = heads * self.head_width
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            queries: (B, S, width).
            keys: (B, T, width), the values as well.
            mask: bool (B, T), the keys that are there.

        Returns:
            (B, S, width), and the weights (B, heads, S, T), which sum to one over the keys that are there.
        """
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)
            for layer, x in ((self.query, queries), (self.key, keys), (self.value, keys))
        )
        scores = q @ k.transpose(-1, -2) / self.head_width**0.5
        weights = masked_softmax(scores, mask[:, None, None].expand_as(scores))
        attended: Tensor = self.out((weights @ v).transpose(1, 2).flatten(-2))
        return attended * mask.any(dim=1)[:, None, None], weights
