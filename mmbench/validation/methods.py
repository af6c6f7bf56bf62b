"""What every method owes its callers, checked on a small generated problem."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmbench.config import Training
from mmbench.contracts import Examples, FitContext, Inputs, Model
from mmbench.methods import build_fusion, build_model, parse
from mmbench.plugins import METHOD_KINDS, Registry
from mmbench.running.execute import seed_everything
from mmbench.threads import one_thread
from mmbench.training.model import TrainedModel
from mmbench.validation.finding import BrokenError, Finding, NotApplicableError, find
from mmbench.validation.problem import CONCEPTS, RATING, as_sequence, examples

Scores = dict[str, NDArray[np.float64]]
Parts = tuple[Examples, Examples, Inputs]
ALL = (*CONCEPTS, RATING)
QUICK = Training(epochs=2, batch_size=16, width=8, learning_rate=0.01)
CLOSE = 1e-5


@dataclass(frozen=True)
class Fit:
    """A trained model, its history, and its scores of the test inputs."""

    model: Model
    history: dict[str, Any]
    scores: Scores


@dataclass(frozen=True)
class Trial:
    """A method to check: ``make`` builds it anew; ``modalities`` are a letter each."""

    make: Callable[[], Model]
    modalities: str = "xy"

    def parts(self) -> Parts:
        """Generated training and validation examples and test inputs: 41, 20 and 23 rows."""
        train, val, test = (examples(n, seed, ALL, self.modalities) for seed, n in enumerate((41, 20, 23)))
        return train, val, test.inputs

    @cached_property
    def first(self) -> Fit:
        """The fit of seed 0."""
        return self.fit()

    @cached_property
    def other(self) -> Fit:
        """The fit of seed 1."""
        return self.fit(seed=1)

    def fit(self, seed: int = 0, parts: Parts | None = None, **settings: float) -> Fit:
        """Train and predict as a run does."""
        train, val, test = parts or self.parts()
        seed_everything(seed)
        model = self.make()
        history = model.fit(train, val, FitContext(ALL, seed, QUICK.model_copy(update=settings)))
        return Fit(model, history, model.predict(test))


def trains_and_predicts(trial: Trial) -> None:
    """Scores of the right names, shapes and ranges, and a history that JSON can hold."""
    fit = trial.first
    try:
        json.dumps(fit.history, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BrokenError(f"the history that fit returns cannot be written as JSON: {error}") from None
    if not isinstance(fit.model.n_parameters, int) or fit.model.n_parameters < 0:
        raise BrokenError(f"n_parameters is {fit.model.n_parameters!r}, expected a whole number")
    if set(fit.scores) != {c.name for c in ALL}:
        raise BrokenError(f"predict returned {', '.join(fit.scores)}: expected {', '.join(c.name for c in ALL)}")
    for concept in ALL:
        given, expected = fit.scores[concept.name], (23, len(concept.labels))
        if given.shape != expected or given.dtype != np.float64:
            raise BrokenError(f"scores of {concept.name}: {given.dtype} {given.shape}, expected float64 {expected}")
        if not np.isfinite(given).all():
            raise BrokenError(f"scores of {concept.name} are not all finite")
        if concept.kind != "score" and not (given.min() >= 0 and given.max() <= 1):
            raise BrokenError(
                f"scores of {concept.name} reach from {given.min():g} to {given.max():g}, not within 0..1"
            )
        if concept.kind == "exclusive" and np.abs(given.sum(1) - 1).max() > CLOSE:
            raise BrokenError(f"a row's scores of {concept.name} sum to {given.sum(1)[0]:g}, expected 1")


def same_seed_same_bits(trial: Trial) -> None:
    """Trained again, and asked again, it says the same."""
    first = trial.first
    if not _same(first.scores, first.model.predict(trial.parts()[2])):
        raise BrokenError("predicting twice gives other scores: predict changes the model, or draws")
    if not _same(first.scores, trial.fit().scores):
        raise BrokenError("trained twice from one seed, it gives other scores")


def the_seed_matters(trial: Trial) -> None:
    """``deterministic`` is told as it is."""
    first, other = trial.first, trial.other
    if _same(first.scores, other.scores) != first.model.deterministic:
        how = "the same" if first.model.deterministic is False else "other"
        raise BrokenError(f"deterministic is {first.model.deterministic}, but another seed gives {how} scores")


def a_row_stands_alone(trial: Trial) -> None:
    """A row's scores do not depend on the rows beside it; a batch of one is a batch."""
    fit, (_, _, test) = trial.first, trial.parts()
    for row in (0, 7):
        alone = fit.model.predict(test.rows(torch.tensor([row])))
        for name, given in fit.scores.items():
            if _apart(alone[name][0], given[row]):
                raise BrokenError(f"scores of {name}: a row alone gets {alone[name][0]}, among others {given[row]}")


def missing_inputs(trial: Trial) -> None:
    """A row without any modality, or with one of them only, gets scores."""
    fit, (_, _, test) = trial.first, trial.parts()
    for kept in ("", *trial.modalities):
        present = {m: torch.full_like(there, m in kept) for m, there in test.present.items()}
        values = {m: value * present[m].unsqueeze(1) for m, value in test.values.items()}
        for name, given in fit.model.predict(Inputs(values, present)).items():
            if not np.isfinite(given).all():
                raise BrokenError(f"scores of {name} are not finite where only {kept or 'nothing'} is present")
            if not kept and _apart(given, given[:1]):
                raise BrokenError(f"scores of {name} differ between rows of which nothing is present")


def leaves_its_inputs_alone(trial: Trial) -> None:
    """Neither fit nor predict writes into what it is given."""
    parts = trial.parts()
    given = copy.deepcopy(parts)
    trial.fit(parts=parts)
    for part, before in zip(_tensors(parts), _tensors(given), strict=True):
        if not torch.equal(part.nan_to_num(), before.nan_to_num()):
            raise BrokenError("fit or predict changed the tensors that it was given: work on copies")


def every_parameter_learns(trial: Trial) -> None:
    """No parameter of a network stays as it was drawn, whatever the learning rate, on sequences of three steps."""
    parts = _sequences(trial.parts(), trial.modalities)
    slow, fast = (trial.fit(parts=parts, learning_rate=rate) for rate in (0.01, 0.02))
    state = dict(_parameters(slow.model))
    dead = [name for name, value in _parameters(fast.model) if torch.equal(value, state[name])]
    if dead:
        raise BrokenError(f"{', '.join(dead)} did not change in training: no objective depends on it")


def survives_its_state(trial: Trial) -> None:
    """The networks' states hold all that they predict from."""
    first, other = trial.first, trial.other
    for ours, theirs in zip(_networks(first.model), _networks(other.model), strict=True):
        theirs.load_state_dict(ours.state_dict())
    if not _same(first.scores, other.model.predict(trial.parts()[2])):
        raise BrokenError("with the trained state loaded, a network predicts otherwise: some state is in no parameter")


def takes_sequences(trial: Trial) -> None:
    """A modality of steps is taken, and steps that are not there do not count."""
    last = trial.modalities[-1]
    fit, (_, _, test) = trial.fit(parts=_sequences(trial.parts(), last)), trial.parts()
    for name, given in fit.model.predict(as_sequence(test, last, 3, padding=2)).items():
        if _apart(given, fit.scores[name]):
            raise BrokenError(f"scores of {name} depend on steps that are not there")


CHECKS = (
    trains_and_predicts,
    same_seed_same_bits,
    the_seed_matters,
    a_row_stands_alone,
    missing_inputs,
    leaves_its_inputs_alone,
    every_parameter_learns,
    survives_its_state,
    takes_sequences,
)


def validate_method(name: str, registry: Registry) -> Iterator[Finding]:
    """Each check of a method on two modalities, and its training on the fewest and on three.

    Args:
        name: a selector; a fusion alone is trained with ``equal``, a strategy alone on ``concat``.
        registry: where its plug-ins are.

    Raises:
        UsageError: no such method.
    """
    plugin = name.split("+")[0].split(":")[0]
    strategy = "+" not in name and registry.get(plugin, *METHOD_KINDS).kind == "strategy"
    method = parse(f"concat+{name}" if strategy else name, registry, tuple("xyz"))[0]
    trial = Trial(lambda: build_model(method, registry))
    with one_thread():
        for check in CHECKS:
            yield find(check.__name__.replace("_", " "), partial(check, trial), check is takes_sequences)
        least = 2 if method.is_model else build_fusion(method, registry, 2, QUICK.width).min_modalities
        for number in sorted({least, 3} - {2}):
            other = Trial(trial.make, "xyz"[:number])
            yield find(f"{number} modalit{'y' if number == 1 else 'ies'}", partial(trains_and_predicts, other), True)


def _sequences(parts: Parts, modalities: str) -> Parts:
    """The same with these modalities as sequences of three steps."""
    train, val, test = parts
    for name in modalities:
        train, val = (Examples(as_sequence(part.inputs, name, 3), part.targets) for part in (train, val))
        test = as_sequence(test, name, 3)
    return train, val, test


def _apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.abs(a - b).max() > CLOSE * max(1.0, np.abs(b).max()))


def _same(a: Scores, b: Scores) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def _tensors(parts: Parts) -> Iterator[torch.Tensor]:
    train, val, test = parts
    for inputs in (train.inputs, val.inputs, test):
        yield from (*inputs.values.values(), *inputs.present.values())
    for part in (train, val):
        yield from part.targets.values()


def _networks(model: Model) -> list[torch.nn.Module]:
    if not isinstance(model, TrainedModel):
        raise NotApplicableError("not a network that mmbench trains")
    return [module for _, network, strategy in model.fitted for module in (network, strategy)]


def _parameters(model: Model) -> Iterator[tuple[str, torch.Tensor]]:
    for number, module in enumerate(_networks(model)):
        for name, value in module.named_parameters():
            if value.requires_grad:
                yield f"{number}: {name}", value.detach()
