"""The tuned plain sum: which weights it tries, that the best on validation is kept, that the first trial is equal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmbench.errors import UsageError
from mmbench.methods import build_model, parse
from mmbench.plugins import Registry, shipped

REGISTRY = Registry()
tuned = shipped("baselines", "tuned")


def fitted(selector: str, small, seed: int = 0):
    (method,) = parse(selector, REGISTRY, ("x", "y"))
    model = build_model(method, REGISTRY)
    history = model.fit(small.examples(60), small.examples(30, seed=1), small.context(seed, epochs=3))
    return model.predict(small.examples(20, seed=2).inputs), history


def test_the_trials_begin_with_equal_weights_and_keep_their_sum() -> None:
    strategy = tuned.Tuned(4, 50)
    weights = torch.stack([candidate.loss_weights() for candidate in strategy.candidates(3)])
    assert weights.shape == (50, 4) and torch.equal(weights[0], torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(weights.sum(1), torch.full((50,), 4.0, dtype=torch.float64))
    ratios = torch.log(weights[1:, :1] / weights[1:])
    assert ratios.abs().max() <= 2 * math.log(4) and ratios.std() > 0.5
    again = [c.loss_weights() for c in strategy.candidates(3)]
    assert all(torch.equal(a, b) for a, b in zip(again, weights, strict=True))
    assert not torch.equal(strategy.candidates(4)[1].loss_weights(), weights[1])


def test_one_objective_is_trained_once(only_one) -> None:
    _, history = fitted("concat+tuned", only_one("severity"))
    assert "tried" not in history


def test_the_kept_trial_has_the_lowest_validation_objective(small) -> None:
    scores, history = fitted("concat+tuned:trials=4", small)
    objectives = [trial["val"] for trial in history["tried"]]
    assert len(objectives) == 4 and min(history["val"]) == min(objectives)
    kept = history["tried"][int(np.argmin(objectives))]
    assert history["weights"] == [kept["weights"]] * history["epochs"]
    _, equal = fitted("concat", small)
    assert objectives[0] == min(equal["val"]), "the first trial is the plain sum"
    assert len(set(objectives)) == 4
    again, _ = fitted("concat+tuned:trials=4", small)
    assert all((scores[name] == again[name]).all() for name in scores)


def test_where_equal_weights_win_it_is_equal(small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned.Tuned, "candidates", lambda self, seed: (self, tuned.Fixed(self.weights * 1e-6)))
    found, history = fitted("concat+tuned", small)
    equal, _ = fitted("concat", small)
    assert history["tried"][1]["val"] > history["tried"][0]["val"]
    assert all((found[name] == equal[name]).all() for name in found)


def test_the_loss_is_the_weighted_sum_of_those_that_are_active() -> None:
    strategy = tuned.Fixed(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    losses = torch.tensor([3.0, 5.0])
    assert float(strategy.combine(losses, torch.tensor([0, 2]), None)) == 23


@pytest.mark.parametrize("trials", ["1", "0", "x"])
def test_fewer_than_two_trials_are_refused(trials: str) -> None:
    with pytest.raises(UsageError, match="trials"):
        parse(f"concat+tuned:trials={trials}", REGISTRY, ("x", "y"))
