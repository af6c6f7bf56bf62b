"""Reference row: the prevalence of each label in the training split, the mean of a score, the same for every sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Examples, FitContext, Inputs, Model, known

NAME = "majority"
KIND = "model"
SUMMARY = "Training prevalence of every label, mean of a score: what knowing nothing of a sample gives"


class Majority(Model):
    """Frequencies of classes (exclusive) or labels (multi-label), or the mean (score) of the labelled training rows."""

    deterministic = True

    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        """Count the training labels."""
        self.prevalence: dict[str, NDArray[np.float64]] = {}
        for concept in context.concepts:
            target = train.targets[concept.name].numpy()
            if concept.kind == "score":
                self.prevalence[concept.name] = target[known(target)].mean(keepdims=True, dtype=np.float64)
            elif concept.kind == "exclusive":
                counts = np.bincount(target[target >= 0], minlength=len(concept.labels))
                self.prevalence[concept.name] = counts / max(counts.sum(), 1)
            else:
                self.prevalence[concept.name] = np.maximum(target[known(target)], 0).mean(axis=0)
        return {}

    def predict(self, inputs: Inputs) -> dict[str, NDArray[np.float64]]:
        """The same scores in each row, float64 (n, K)."""
        return {name: np.tile(scores, (len(inputs), 1)) for name, scores in self.prevalence.items()}

    @property
    def n_parameters(self) -> int:
        """One frequency a label, one mean a score."""
        return sum(scores.size for scores in self.prevalence.values())


def build() -> Majority:
    """The reference row ``majority``."""
    return Majority()
