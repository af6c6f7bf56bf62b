"""Multiple-gradient descent (Sener & Koltun, NeurIPS 2018), upper-bound form: MGDA-UB.

alpha* = argmin over the simplex of ||sum_t alpha_t g_t||^2, with g_t = dL_t/dZ over the whole batch, from the Gramian
alone. Gradients are divided by n_t to find alpha: by their length (``l2``), by the loss, by both (``loss_l2``, loss+ in
the original code) or not at all. The step is the sum of (alpha_t / n_t) L_t, its weights rescaled to sum 1: stepping
along alpha_t g_t would lose the common descent (``step=isl`` does that all the same). An objective whose gradient
vanishes would stop all others; it gets no weight in that step.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench.contracts import Objective
from mmbench.modules import Strategy

NAME = "moo"
KIND = "strategy"
SUMMARY = "Multi-objective optimisation: the min-norm point of the objectives' gradients (MGDA-UB)"
PAPER_NAME = "БОО"

Normalise = Literal["l2", "none", "loss", "loss_l2"]
VANISHING = 1e-12


def min_norm(gramian: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights of the min-norm point of the convex hull: Gramian (T, T) -> alpha (T,), in the simplex.

    With R^T R the Gramian, non-negative least squares on [R; 1^T] a = [0; 1] has the min-norm weights as its
    direction. Exact up to rounding. A zero gradient gets no weight; where all are zero, weights are equal.
    """
    kept = np.flatnonzero(np.diagonal(gramian) > 0)
    alpha = np.zeros(len(gramian))
    if len(kept) == 0:
        alpha[:] = 1 / len(gramian)
        return alpha
    matrix = gramian[np.ix_(kept, kept)]
    values, vectors = np.linalg.eigh(matrix / np.trace(matrix) * len(kept))
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    solution, _ = scipy.optimize.nnls(np.vstack([root, np.ones(len(kept))]), np.append(np.zeros(len(kept)), 1.0))
    alpha[kept] = solution / solution.sum()
    return alpha


class MinNorm(Strategy):
    """Stateless but for the last weights, which the history shows."""

    gradients = "features"

    def __init__(self, objectives: int, normalise: Normalise, step: Literal["rescaled", "isl"]) -> None:
        super().__init__()
        self.normalise, self.step = normalise, step
        self.register_buffer("weights", torch.full((objectives,), 1 / objectives, dtype=torch.float64))
        self.weights: Tensor

    def combine(self, losses: Tensor, active: Tensor, gramian: Tensor | None) -> Tensor:
        """sum_t w_t L_t."""
        assert gramian is not None
        norms = gramian.diagonal().clamp(min=0).sqrt()
        scales = {"none": torch.ones_like(norms), "l2": norms, "loss": losses.detach().double()}
        scales["loss_l2"] = scales["loss"] * norms
        scale = scales[self.normalise]
        moving = (norms > VANISHING * norms.max()) & (scale > 0)
        scale = torch.where(moving, scale, 1.0)
        solved = min_norm((gramian / scale.outer(scale) * moving.outer(moving)).cpu().numpy())
        alpha = torch.from_numpy(solved).to(scale)
        if self.step == "rescaled":
            alpha = alpha / scale
            alpha = alpha / alpha.sum()
        self.weights[active] = alpha
        return (alpha.to(losses.dtype) * losses).sum()

    def loss_weights(self) -> Tensor:
        """The weights of the epoch's last step."""
        return self.weights.clone()


def build(
    objectives: tuple[Objective, ...], *, normalise: Normalise = "l2", step: Literal["rescaled", "isl"] = "rescaled"
) -> MinNorm:
    """The strategy ``moo``."""
    return MinNorm(len(objectives), normalise, step)
