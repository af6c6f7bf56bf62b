"""Reference row: balanced logistic regression on the cached features of one modality, or of all; ridge for a score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import torch
from numpy.typing import NDArray

from mmbench.bulk import BLOCK, Rows, take
from mmbench.contracts import Examples, FitContext, Inputs, Model, known
from mmbench.locate import cache_folder
from mmbench.training.sequences import moments

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression, Ridge

NAME = "linear"
KIND = "model"
SUMMARY = "Balanced logistic regression (ridge of a score) on the cached features, C (alpha) chosen on validation"

# A number where training has one class, or one value, only.
Fit: TypeAlias = Union["LogisticRegression", "Ridge", float]
GRID = (0.03, 0.1, 0.3, 1.0, 3.0)
ALPHAS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Linear(Model):
    """One classifier an exclusive concept, one a label of a multi-label concept, one ridge regression a score.

    Each modality is scaled by one number, so that the training rows that have it have mean squared norm 10: its
    features keep their relative scale, and no modality drowns another. C is the value of ``GRID`` with the lowest log
    loss on validation, each class counting alike: on a few hundred rows F1 is too coarse to choose by. A score's alpha
    is the value of ``ALPHAS`` with the lowest mean absolute error there.
    """

    deterministic = True

    def __init__(self, modality: str) -> None:
        self.modality = modality

    def _features(self, inputs: Inputs) -> NDArray[np.float32]:
        """The scaled modalities side by side, (n, d), in a file where they are large."""
        names = list(inputs.values) if self.modality == "all" else [self.modality]
        taken: Rows | None = None
        for start, block in _blocks(inputs):
            x = np.concatenate([_vectors(block, name) * self.scale[name] for name in names], axis=1)
            taken = taken or Rows((len(inputs), x.shape[1]), cache_folder())
            taken.write(start, x)
        assert taken is not None
        return taken.array()

    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        """Fit on the labelled training rows; the history names the C (or alpha) chosen for each classifier."""
        self.scale = {
            name: (10 / max(_mean_squared_norm(train.inputs, name), 1e-12)) ** 0.5 for name in train.inputs.values
        }
        x_train, x_val = self._features(train.inputs), self._features(val.inputs)
        self.classifiers: dict[str, list[Fit]] = {}
        self.columns = {concept.name: len(concept.labels) for concept in context.concepts}
        chosen = {}
        for concept in context.concepts:
            y_train, y_val = train.targets[concept.name].numpy(), val.targets[concept.name].numpy()
            fits: list[Fit]
            if concept.kind == "score":
                fits = [_fit_score(x_train, y_train, x_val, y_val)]
            else:
                pairs = [(y_train, y_val)] if y_train.ndim == 1 else list(zip(y_train.T, y_val.T, strict=True))
                fits = [_fit(x_train, y, x_val, v) for y, v in pairs]
            self.classifiers[concept.name] = fits
            chosen[concept.name] = [_chosen(fit) for fit in fits]
        return {"C": chosen}

    def predict(self, inputs: Inputs) -> dict[str, NDArray[np.float64]]:
        """Probabilities by concept, float64 (n, K), 0 of a class never seen in training; a score's value (n, 1)."""
        x = self._features(inputs)
        scores = {}
        for concept, classifiers in self.classifiers.items():
            scores[concept] = np.zeros((len(x), self.columns[concept]))
            for column, classifier in enumerate(classifiers):
                if len(classifiers) == 1 and self.columns[concept] > 1:
                    _fill(scores[concept], classifier, x)
                else:
                    scores[concept][:, column] = _told(classifier, x)
        return scores

    @property
    def n_parameters(self) -> int:
        """Coefficients and intercepts."""
        return sum(
            1 if isinstance(c, float) else c.coef_.size + np.size(c.intercept_)
            for classifiers in self.classifiers.values()
            for c in classifiers
        )


def _chosen(fit: Fit) -> float:
    return fit if isinstance(fit, float) else float(fit.alpha if hasattr(fit, "alpha") else fit.C)


def _vectors(inputs: Inputs, name: str) -> NDArray[np.float32]:
    """(n, d); a sequence is told by its mean and standard deviation over steps."""
    values = inputs.values[name]
    vectors: NDArray[np.float32] = (moments(values, inputs.steps[name]) if name in inputs.steps else values).numpy()
    return vectors


def _blocks(inputs: Inputs) -> Iterator[tuple[int, Inputs]]:
    """The inputs a few megabytes at a time, with the place of the first."""
    step = max(1, 4 * BLOCK // sum(value[:1].nbytes for value in inputs.values.values()))
    for start in range(0, len(inputs), step):
        yield start, inputs.rows(torch.arange(start, min(start + step, len(inputs))))


def _mean_squared_norm(inputs: Inputs, name: str) -> float:
    """Of the rows that have a modality; 0 without one."""
    norms = [(_vectors(block, name)[block.present[name].numpy()] ** 2).sum(axis=1) for _, block in _blocks(inputs)]
    there = np.concatenate(norms)
    return float(there.mean()) if len(there) else 0.0


def _fit(
    x: NDArray[np.float32], y: NDArray[np.int64], x_val: NDArray[np.float32], y_val: NDArray[np.int64]
) -> LogisticRegression | float:
    """The classifier with the lowest balanced log loss on validation, or the only class that training has."""
    from sklearn.linear_model import LogisticRegression

    labelled = known(y)
    classes = np.unique(y[labelled])
    x_labelled = x if labelled.all() else take(x, np.flatnonzero(labelled), cache_folder())
    if len(classes) < 2:
        return float(classes[0]) if len(classes) else 0.0
    judged = np.isin(y_val, classes)
    x_judged = x_val if judged.all() else take(x_val, np.flatnonzero(judged), cache_folder())
    best, best_loss = None, np.inf
    for c in GRID if judged.any() else (1.0,):
        model = LogisticRegression(C=c, class_weight="balanced", max_iter=2000).fit(x_labelled, y[labelled])
        loss = _balanced_log_loss(model, x_judged, y_val[judged]) if judged.any() else 0.0
        if loss < best_loss:
            best, best_loss = model, loss
    assert best is not None
    return best


def _fit_score(
    x: NDArray[np.float32], y: NDArray[np.float64], x_val: NDArray[np.float32], y_val: NDArray[np.float64]
) -> Ridge | float:
    """The ridge regression with the lowest mean absolute error on validation, or the only value that training has."""
    from sklearn.linear_model import Ridge

    labelled, judged = known(y), known(y_val)
    if np.ptp(y[labelled]) == 0:
        return float(y[labelled][0])
    best, best_error = None, np.inf
    for alpha in ALPHAS if judged.any() else (1.0,):
        model = Ridge(alpha=alpha).fit(x[labelled], y[labelled])
        error = float(np.abs(model.predict(x_val[judged]) - y_val[judged]).mean()) if judged.any() else 0.0
        if error < best_error:
            best, best_error = model, error
    assert best is not None
    return best


def _balanced_log_loss(model: LogisticRegression, x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """The mean over the classes in ``y`` of their mean log loss."""
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_sample_weight

    weights = compute_sample_weight("balanced", y)
    return float(log_loss(y, model.predict_proba(x), sample_weight=weights, labels=model.classes_))


def _fill(scores: NDArray[np.float64], classifier: LogisticRegression | float, x: NDArray[np.float32]) -> None:
    if isinstance(classifier, float):
        scores[:, int(classifier)] = 1.0
    else:
        scores[:, classifier.classes_] = classifier.predict_proba(x)


def _told(fit: Fit, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probability of the label, or the score, in each row."""
    if isinstance(fit, float):
        return np.full(len(x), fit)
    told = fit.predict(x) if hasattr(fit, "alpha") else fit.predict_proba(x)[:, 1]
    return np.asarray(told, dtype=np.float64)


def build(*, modality: str = "all") -> Linear:
    """The reference row ``linear:<modality>`` or ``linear:all``."""
    return Linear(modality)
