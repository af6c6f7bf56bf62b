"""The settings of a run: defaults < protocol < mmbench.toml < --config < flags."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Training(BaseModel):
    """How every network is trained: one budget for all methods."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=64, ge=2)
    epochs: int = Field(default=30, ge=1)
    patience: int = Field(default=5, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    width: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    objectives: Literal["concept", "label"] = "concept"
