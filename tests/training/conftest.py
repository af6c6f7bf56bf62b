"""A small problem with two modalities, all kinds of objective, unlabelled rows and missing inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext
from mmbench.validation.problem import CONCEPTS, RATING, examples


@dataclass(frozen=True)
class Small:
    concepts: tuple[Concept, ...] = CONCEPTS

    def examples(
        self, rows: int, seed: int = 0, missing: float = 0.2, unlabelled: float = 0.2, modalities: str = "xy"
    ) -> Examples:
        """Features with signal; column 0 of the first modality is the row's number, so that a row can be followed."""
        return examples(rows, seed, self.concepts, modalities, missing, unlabelled)

    def context(
        self, seed: int = 0, report: Callable[[int, int, float], None] = lambda *_: None, **settings: object
    ) -> FitContext:
        quick = {"epochs": 2, "batch_size": 16, "width": 6, "learning_rate": 0.01, **settings}
        return FitContext(self.concepts, seed, Training(**quick), report)


@pytest.fixture
def small() -> Small:
    return Small()


@pytest.fixture
def mixed() -> Small:
    """The same problem with a score beside the labels."""
    return Small((*CONCEPTS, RATING))


@pytest.fixture
def only_one() -> Callable[[str], Small]:
    """The same problem with a single concept."""
    return lambda name: Small(tuple(c for c in CONCEPTS if c.name == name))
