"""A small problem with two modalities, all kinds of objective, unlabelled rows and missing inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Inputs

CONCEPTS = (
    Concept("severity", ("none", "mild", "severe"), background="none"),
    Concept("kinds", ("flood", "fire"), "multilabel"),
    Concept("useful", ("no", "yes"), background="no"),
)
RATING = Concept("rating", ("stars",), "score", bounds=(90.0, 110.0))


@dataclass(frozen=True)
class Small:
    concepts: tuple[Concept, ...] = CONCEPTS

    def examples(
        self, rows: int, seed: int = 0, missing: float = 0.2, unlabelled: float = 0.2, modalities: str = "xy"
    ) -> Examples:
        """Features with signal; column 0 of the first modality is the row's number, so that a row can be followed."""
        draw = torch.Generator().manual_seed(seed)
        hidden = torch.randn(rows, 3, generator=draw)
        values, present = {}, {}
        for m, name in enumerate(modalities):
            noise = torch.randn(rows, 4 + m, generator=draw)
            values[name] = torch.cat([torch.zeros(rows, 1), hidden @ torch.randn(3, 4 + m, generator=draw) + noise], 1)
            values[name][:, 0] = torch.arange(rows) / rows
            present[name] = torch.rand(rows, generator=draw) >= missing
            values[name] *= present[name].unsqueeze(1)
        kinds = torch.stack([hidden[:, 0] > 0.3, hidden[:, 1] > 0.5], 1).long()
        targets = {
            "severity": (hidden[:, 0] > -0.4).long() + (hidden[:, 2] > 0.5).long(),
            "kinds": kinds,
            "useful": (hidden[:, 1] > 0).long(),
            "rating": 100 + 3 * hidden[:, 2].double(),
        }
        for target in targets.values():
            lost = torch.rand(rows, generator=draw) < unlabelled
            target[lost] = torch.nan if target.is_floating_point() else -1
        return Examples(Inputs(values, present), {c.name: targets[c.name] for c in self.concepts})

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
