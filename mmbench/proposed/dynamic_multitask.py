"""Dynamic multi-task learning, MT25's formulas (8)-(11) with rebalancing after each epoch.

The method goes back to Wang & Chen (IEEE IRI 2020). A sample's loss is -(1 - p_d)^beta log p_d. The weights of the
objectives are learned as in GradNorm (Chen et al., ICML 2018), with each objective's term scaled by M / m_f:

    (11) L_D = sum_f (M / m_f) |G_f - Ḡ r_f^alpha|,  G_f = w_f ||dL_f/dW||,  r_f = (L_f / L_f(0)) / mean(L / L(0))

W is the last shared layer (``layer=heads`` takes the heads' weights instead), M counts the labelled training rows, m_f
the positive ones. L_D is minimised by plain gradient descent on w, with Ḡ and r as constants. After an epoch w is set
anew to T lambda_f / sum lambda, lambda_f = max_k l_k / l_f over the epoch's mean unweighted losses l. M / m_f, divided
by its mean, rescales only the step of w, not where it leads; ``class_ratio=prior`` starts w at M / m_f instead, which
is what the text claims of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from mmbench.contracts import Objective
from mmbench.modules import Strategy

NAME = "dmtl"
KIND = "strategy"
SUMMARY = "Dynamic multi-task learning (MT25): focal samples, balanced gradients, rebalanced epochs"
PAPER_NAME = "ДБН"
ABLATIONS = {"focal loss": "beta=0", "gradient balancing": "balance=off", "rebalancing": "rebalance=off"}

SMALLEST_WEIGHT = 1e-3
SMALLEST_LOSS = 1e-8
LARGEST_RATIO = 10.0


class GradientBalance(Strategy):
    """Weights that bring each objective's weighted gradient norm to Ḡ r_f^alpha; gradnorm and dmtl are settings of it.

    ``weights`` (T,) float64 sum to T. Only the active objectives of a batch take part, and their weights keep their
    total.
    """

    def __init__(
        self,
        start: Tensor,
        step_scale: Tensor,
        *,
        alpha: float,
        learning_rate: float,
        balance: bool = True,
        rebalance: bool = False,
        focus: float = 0.0,
        layer: Literal["trunk", "heads"] = "trunk",
    ) -> None:
        super().__init__()
        self.register_buffer("weights", start * len(start) / start.sum())
        self.register_buffer("step_scale", step_scale / step_scale.mean())
        self.register_buffer("first", torch.full_like(start, torch.nan))
        self.weights: Tensor
        self.step_scale: Tensor
        self.first: Tensor
        self.alpha, self.learning_rate, self.rebalance = alpha, learning_rate, rebalance
        self.focus = focus
        self.gradients = layer if balance else "none"

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """sum_f w_f L_f with the current weights; then w takes its own step."""
        used = self.weights[active]
        if gramian is not None:
            self._step(
                losses.detach().double().clamp(min=SMALLEST_LOSS), active, gramian.diagonal().clamp(min=0).sqrt()
            )
        return (used.to(losses.dtype) * losses).sum()

    def _step(self, losses: Tensor, active: Tensor, norms: Tensor) -> None:
        """One step of gradient descent on L_D: dL_D/dw_f = scale_f ||g_f|| sign(G_f - Ḡ r_f^alpha)."""
        first = self.first[active]
        self.first[active] = torch.where(first.isnan(), losses, first)
        ratio = losses / self.first[active]
        rate = (ratio / ratio.mean()) ** self.alpha
        w = self.weights[active]
        weighted = w * norms
        slope = self.step_scale[active] * norms * torch.sign(weighted - weighted.mean() * rate)
        total = w.sum()
        w = (w - self.learning_rate * slope).clamp(min=SMALLEST_WEIGHT)
        self.weights[active] = w * total / w.sum()

    def end_epoch(self, mean_losses: Tensor) -> None:
        """Set the weights anew so that all w_f l_f are equal, up to the clamp of their ratio."""
        seen = ~mean_losses.isnan()
        if self.rebalance and seen.any():
            losses = mean_losses[seen].clamp(min=SMALLEST_LOSS)
            ratio = (losses.max() / losses).clamp(max=LARGEST_RATIO)
            self.weights[seen] = self.weights[seen].sum() * ratio / ratio.sum()

    def loss_weights(self) -> Tensor:
        """w."""
        return self.weights.clone()


def class_ratios(objectives: tuple[Objective, ...]) -> Tensor:
    """M / m_f by objective, (T,) float64: labelled training rows over positive ones."""
    return torch.tensor([o.n_labelled / max(o.n_positive, 1) for o in objectives], dtype=torch.float64)


def build(
    objectives: tuple[Objective, ...],
    *,
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0,
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0,
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.025,
    class_ratio: Literal["printed", "prior", "off"] = "printed",
    balance: bool = True,
    rebalance: bool = True,
    layer: Literal["trunk", "heads"] = "trunk",
) -> GradientBalance:
    """The strategy ``dmtl``."""
    ratios, ones = class_ratios(objectives), torch.ones(len(objectives), dtype=torch.float64)
    return GradientBalance(
        ratios if class_ratio == "prior" else ones,
        ratios if class_ratio == "printed" else ones,
        alpha=alpha,
        learning_rate=learning_rate,
        balance=balance,
        rebalance=rebalance,
        focus=beta,
        layer=layer,
    )
