"""The history that a model's ``fit`` returned, read where it is as the contract says; any other is none."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ValidationError, model_validator

Known = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]  # a record's null


class History(BaseModel):
    """One network's training; see :meth:`mmbench.contracts.Model.fit`.

    ``train`` and ``weights`` are (epochs, objectives), NaN where an objective had no label, ``val`` is (epochs,);
    ``best_epoch`` counts from 1, and is 0 where there is none.
    """

    objectives: list[str] = []
    joint: int | None = None
    train: list[list[Known]] = []
    val: list[float] = []
    weights: list[list[Known]] = []
    best_epoch: int = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not 0 <= self.best_epoch <= len(self.val) or len(self.train) not in (0, len(self.val)):
            raise ValueError("its epochs do not agree")
        if any(len(row) != len(self.objectives) for row in self.weights):
            raise ValueError("its objectives do not agree")
        return self


def read_histories(result: dict[str, Any]) -> list[History]:
    """The histories of a cell's networks: one, or one an objective; none of a model that keeps something else."""
    history = result.get("history") or {}
    networks = history.get("networks", {"": history})
    try:
        return [History.model_validate(network) for network in networks.values()]
    except (AttributeError, ValidationError):
        return []
