"""GradNorm (Chen et al., ICML 2018): weights that bring w_t ||dL_t/dW|| to Ḡ r_t^a, W the last shared layer.

    L_grad = sum_t |w_t ||dL_t/dW|| - Ḡ r_t^a|,  r_t = (L_t / L_t(0)) / mean(L / L(0)),  L_t(0) on the first batch

With fixed gradients and rates the weights settle at w_t proportional to r_t^a / ||dL_t/dW||: exactly where r^a has mean
one (a = 0 or 1), within a few per cent elsewhere.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from mmbench.contracts import Objective
from mmbench.proposed.dynamic_multitask import GradientBalance

NAME = "gradnorm"
KIND = "strategy"
SUMMARY = "Gradient norms balanced by the objectives' training rates"


def build(
    objectives: tuple[Objective, ...],
    *,
    a: Annotated[float, Field(ge=0)] = 1.5,
    learning_rate: Annotated[float, Field(gt=0)] = 0.025,
) -> GradientBalance:
    """The strategy ``gradnorm``."""
    ones = torch.ones(len(objectives), dtype=torch.float64)
    return GradientBalance(ones, ones, alpha=a, learning_rate=learning_rate)
