"""Weightings of torchjd as strategies: Gramian of the objectives' gradients -> weights of their losses.

    upgrad   UPGrad (Quinton & Rey 2024)            pcgrad    gradient surgery (Yu et al., NeurIPS 2020)
    mgda     min-norm point (Désidéri 2012)         dualproj  dual cone projection (Lopez-Paz & Ranzato, NeurIPS 2017)
    imtl_g   impartial gradients (Liu et al. 2021)  aligned   aligned MTL (Senushkin et al., CVPR 2023)
    cagrad   conflict-averse (Liu et al., NeurIPS 2021), c = .5; it needs cvxpy and clarabel

Gradients are those of the trunk's output over the batch, as for ``moo``, not of every shared parameter: what is taken
over is the rule, not a paper's whole algorithm. The step is the weighted sum of the losses, for trunk and heads alike;
how large the weights are is the rule's own affair, and Adam hardly sees it. ``mgda`` is ``moo:normalise=none``, solved
by Frank and Wolfe. A rule that gives no number, as some do where gradients cancel, gives way to equal weights in that
step.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy
import torch
from torch import Tensor

from mmbench.contracts import Objective
from mmbench.errors import UsageError
from mmbench.modules import Strategy

try:
    from torchjd import aggregation
    from torchjd.linalg import DualConeProjector
except ImportError:
    raise UsageError("the strategy jd needs torchjd: pip install 'mmbench[jd]'") from None

NAME = "jd"
KIND = "strategy"
SUMMARY = "torchjd's weightings: upgrad, pcgrad, cagrad, … (optional extra jd)"

Rule = Literal["upgrad", "pcgrad", "mgda", "dualproj", "imtl_g", "aligned", "cagrad"]


class NnlsProjector(DualConeProjector):  # type: ignore[misc]
    """Projection onto the dual cone, min v^T G v over v >= u, by non-negative least squares; needs no further library.

    With R^T R = G and v = u + w it is min ||R w + R u|| over w >= 0.
    """

    def __call__(self, U: Tensor, G: Tensor) -> Tensor:
        """U (..., m), each row a u; G (m, m) -> the v, of U's shape."""
        values, vectors = np.linalg.eigh(G.detach().cpu().double().numpy())
        root = np.sqrt(np.maximum(values / max(values[-1], np.finfo(float).tiny), 0))[:, None] * vectors.T
        rows = U.detach().cpu().double().numpy().reshape(-1, len(root))
        projected = np.stack([u + scipy.optimize.nnls(root, -root @ u)[0] for u in rows])
        return torch.from_numpy(projected).reshape(U.shape).to(U)


WEIGHTINGS: dict[Rule, tuple[str, dict[str, Any]]] = {
    "upgrad": ("UPGradWeighting", {"projector": NnlsProjector()}),
    "pcgrad": ("PCGradWeighting", {}),
    "mgda": ("MGDAWeighting", {}),
    "dualproj": ("DualProjWeighting", {"projector": NnlsProjector()}),
    "imtl_g": ("IMTLGWeighting", {}),
    "aligned": ("AlignedMTLWeighting", {}),
    "cagrad": ("CAGradWeighting", {"c": 0.5}),
}


class JacobianDescent(Strategy):
    """A stateless weighting; the last weights are kept for the history."""

    gradients = "features"

    def __init__(self, objectives: int, rule: Rule) -> None:
        super().__init__()
        name, settings = WEIGHTINGS[rule]
        try:
            self.weighting = getattr(aggregation, name)(**settings)
        except ImportError as error:
            raise UsageError(f"jd:{rule} cannot be used: {' '.join(str(error).split())}") from None
        self.register_buffer("weights", torch.full((objectives,), 1 / objectives, dtype=torch.float64))
        self.weights: Tensor

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """sum_t w_t L_t."""
        assert gramian is not None
        weights = self.weighting(gramian)
        if not torch.isfinite(weights).all():
            weights = torch.full_like(weights, 1 / len(weights))
        self.weights[active] = weights
        total: Tensor = (weights.to(losses.dtype) * losses).sum()
        return total

    def loss_weights(self) -> Tensor:
        """The weights of the epoch's last step."""
        return self.weights.clone()


def build(objectives: tuple[Objective, ...], *, rule: Rule = "upgrad") -> JacobianDescent:
    """The strategy ``jd``."""
    return JacobianDescent(len(objectives), rule)
