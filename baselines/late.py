"""Late fusion: one branch a modality, mixed in log-probability (MR26 equation 2).

    mean_prob   p = mean_m p_m                 mean_logit   p ∝ exp(mean_m log p_m)
    weighted    p = sum_m softmax(a)_m p_m, a learned from the mixed loss alone, 0 at the start

Means and weights run over the modalities that are present. Each branch is trained on its own loss. Of a score the
branches' numbers are averaged, with the weights of ``weighted`` if there are any.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from mmbench.contracts import ConceptKind, Inside
from mmbench.modules import Fusion, shown

NAME = "late"
KIND = "fusion"
SUMMARY = "A branch a modality, decisions mixed"

Mode = Literal["mean_prob", "mean_logit", "weighted"]


class Late(Fusion):
    """N branches, a modality each."""

    def __init__(self, modalities: int, width: int, mode: Mode) -> None:
        super().__init__()
        self.out_features, self.branches, self.mode = width, modalities, mode
        self.learns_mix = mode == "weighted"
        if self.learns_mix:
            self.scores = nn.Parameter(torch.zeros(modalities))

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """The views as they are, (B, N, d): a branch each; with one modality (B, d)."""
        return views if self.branches > 1 else views[:, 0]

    def mix(self, logits: Tensor, present: Tensor, kind: ConceptKind) -> Tensor:
        """Logits (B, N, K) -> (B, K): log-probabilities where exclusive, the mixture's log-odds where multi-label."""
        if kind == "score":
            told = logits.detach() if self.learns_mix else logits
            return (told * self._log_weights(told, present).exp().unsqueeze(-1)).sum(dim=1)
        if kind == "exclusive":
            return self._log_mixture(log_softmax(logits, dim=-1), present, normalise=True)
        positive = self._log_mixture(logsigmoid(logits), present, normalise=False)
        return positive - self._log_mixture(logsigmoid(-logits), present, normalise=False)

    def _log_mixture(self, log_p: Tensor, present: Tensor, normalise: bool) -> Tensor:
        """log of the mixture over branches, (B, N, K) -> (B, K)."""
        if self.mode == "mean_logit":
            here = present | ~present.any(dim=1, keepdim=True)
            mean = (log_p * here.unsqueeze(-1)).sum(1) / here.sum(1, keepdim=True)
            return log_softmax(mean, dim=-1) if normalise else mean
        if self.learns_mix:
            log_p = log_p.detach()
        return torch.logsumexp(log_p + self._log_weights(log_p, present).unsqueeze(-1), dim=1)

    def _log_weights(self, like: Tensor, present: Tensor) -> Tensor:
        """The branches' log-weights (B, N) over the modalities present, over all where none is."""
        here = present | ~present.any(dim=1, keepdim=True)
        scores = self.scores if self.learns_mix else like.new_zeros(self.branches)
        return log_softmax(scores.expand(here.shape).masked_fill(~here, -torch.inf), dim=1)

    def look(self, views: Tensor, present: Tensor, modalities: tuple[str, ...]) -> dict[str, Inside]:
        """The weights of the mixture."""
        kind = "softmax(a), learned" if self.learns_mix else "equal"
        weights = self._log_weights(views, present).exp()
        says = f"weight of each modality's decision in the mixture ({kind}, over the modalities present)"
        return {"mixing weights": Inside(says, shown(weights, present), modalities, shares=True)}


def build(modalities: int, width: int, *, mode: Mode = "mean_prob") -> Late:
    """The fusion ``late``."""
    return Late(modalities, width, mode)
