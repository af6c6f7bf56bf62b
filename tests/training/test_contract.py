"""What every shipped method owes its caller, whatever its fusion and strategy."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from mmbench.methods import build_model, parse
from mmbench.plugins import Registry
from mmbench.validation.finding import find
from mmbench.validation.methods import CHECKS, Trial

REGISTRY = Registry()
FUSIONS = [p.name for p in REGISTRY.list("fusion")]
STRATEGIES = [p.name for p in REGISTRY.list("strategy")]
METHODS = [
    *(f"{fusion}+equal" for fusion in FUSIONS),
    *(f"concat+{strategy}" for strategy in STRATEGIES if strategy != "equal"),
    *(f"late:mode=weighted+{strategy}" for strategy in ("moo", "gradnorm", "mti", "dmtl")),
    *(f"graph+{strategy}" for strategy in ("moo", "gradnorm", "dmtl:layer=heads")),
    "igfn+dmtl",
    "late:mode=mean_logit+single",
    "tensor+mti",
    "concat+unimodal+dmtl",
    "mfn+unimodal+moo",
    "only:x",
    "linear",
    "linear:y",
    "majority",
    "hybrid",
    "hybrid:balance=softmax:memory_update=mfn:plateau=on",
    "hybrid:balance=off:contrastive=off:cross=off:delta=off:gated=off",
    "xattn",
    "xattn:contrastive_weight=0.1:cross=off:gates=off",
    "xattn:unimodal=off:heads=2:width=12",
]


def model_of(selector: str):
    (method,) = parse(selector, REGISTRY, ("x", "y"))
    return build_model(method, REGISTRY)


def fitted(selector: str, small, seed: int = 0, **settings):
    model = model_of(selector)
    return model, model.fit(small.examples(41), small.examples(20, seed=1), small.context(seed, **settings))


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("selector", METHODS)
def test_contract(selector: str) -> None:
    trial = Trial(lambda: model_of(selector))
    found = [find(check.__name__, partial(check, trial)) for check in CHECKS]
    assert [finding for finding in found if finding.kept is False] == []
    inapplicable = {finding.check for finding in found if finding.kept is None}
    of_networks = {"every_parameter_learns", "survives_its_state"}
    assert inapplicable == (of_networks if selector.startswith(("linear", "majority")) else set())
    low, high = (trial.first.scores["rating"].min(), trial.first.scores["rating"].max())
    assert 80 <= low <= high <= 120, "a score that is not on its own scale"


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("modalities", ["xyz", "xyzu"])
def test_more_modalities(fusion: str, modalities: str, small) -> None:
    (method,) = parse(fusion, REGISTRY, tuple(modalities))
    model = build_model(method, REGISTRY)
    context = small.context(width=3, epochs=1)
    if fusion == "tensor" and len(modalities) > 3:
        pytest.skip("a million fused entries: see the fusion's own tests")
    model.fit(small.examples(20, modalities=modalities), small.examples(10, modalities=modalities), context)
    scores = model.predict(small.examples(5, modalities=modalities).inputs)
    assert all(np.isfinite(given).all() for given in scores.values())


@pytest.mark.parametrize("fusion", ["concat", "late", "late:mode=weighted"])
def test_one_modality_is_enough_for_these(fusion: str, small) -> None:
    (method,) = parse(fusion, REGISTRY, ("x",))
    model = build_model(method, REGISTRY)
    model.fit(small.examples(20, modalities="x"), small.examples(10, modalities="x"), small.context())
    assert all(np.isfinite(s).all() for s in model.predict(small.examples(5, modalities="x").inputs).values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_objectives_by_label(strategy: str, small) -> None:
    model, history = fitted(f"concat+{strategy}", small, objectives="label")
    names = [
        "severity/none",
        "severity/mild",
        "severity/severe",
        "kinds/flood",
        "kinds/fire",
        "useful/no",
        "useful/yes",
    ]
    assert list(history.get("networks", history.get("objectives"))) == names
    scores = model.predict(small.examples(5, seed=2).inputs)
    assert {name: given.shape for name, given in scores.items()} == {
        "severity": (5, 3),
        "kinds": (5, 2),
        "useful": (5, 2),
    }


@pytest.mark.parametrize("mode", ["mean_prob", "weighted"])
def test_late_fusion_by_label_mixes_each_label_on_its_own(mode: str, small) -> None:
    """Scores are sigmoids of the labels, mixed over branches: not bound to sum to one, nor to stay below a half."""
    model, _ = fitted(f"late:mode={mode}", small, objectives="label", epochs=20, learning_rate=0.05)
    inputs = small.examples(30, seed=2, missing=0).inputs
    scores = model.predict(inputs)["severity"]
    network = model.fitted[0][1].eval()
    weights = network.fusion.scores.softmax(0) if mode == "weighted" else torch.tensor([0.5, 0.5])
    with torch.no_grad():
        branches = [branch[0]["severity"].double().sigmoid() for branch in network(inputs).branches]
    expected = sum(w.item() * p for w, p in zip(weights, branches, strict=True))
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)
    assert scores.max() > 0.6


@pytest.mark.parametrize("selector", ["concat+equal", "concat+dmtl", "late+gradnorm"])
def test_balanced_class_weights(selector: str, small) -> None:
    plain, _ = fitted(selector, small)
    balanced, _ = fitted(selector, small, class_weights="balanced")
    inputs = small.examples(5, seed=2).inputs
    assert not same(plain.predict(inputs), balanced.predict(inputs))


def test_single_is_a_network_of_its_own_for_each_concept(small, only_one) -> None:
    single, history = fitted("concat+single", small)
    assert list(history["networks"]) == ["severity", "kinds/flood", "kinds/fire", "useful"]
    inputs = small.examples(9, seed=2).inputs
    scores = single.predict(inputs)
    for name in ("severity", "useful"):
        part = only_one(name)
        alone = model_of("concat+equal")
        train, val = small.examples(41), small.examples(20, seed=1)
        train.targets.pop("kinds"), val.targets.pop("kinds")
        alone.fit(train.rows(train.targets[name] >= 0), val.rows(val.targets[name] >= 0), part.context())
        assert (alone.predict(inputs)[name] == scores[name]).all()


def test_only_is_the_network_without_the_other_modality(small) -> None:
    only, _ = fitted("only:y", small)
    inputs = small.examples(9, seed=2).inputs
    (method,) = parse("concat+equal", REGISTRY, ("y",))
    alone = build_model(method, REGISTRY)
    train, val = small.examples(41), small.examples(20, seed=1)
    for part in (train, val):
        part.inputs.values.pop("x"), part.inputs.present.pop("x")
    alone.fit(train, val, small.context())
    assert same(only.predict(inputs), alone.predict(inputs.only(["y"])))


def test_rows_are_predicted_alike_in_large_numbers(small) -> None:
    model, _ = fitted("graph+equal", small)
    inputs = small.examples(1100, seed=2).inputs
    whole = model.predict(inputs)
    for rows in (torch.arange(500, 530), torch.arange(1010, 1100)):
        for name, given in model.predict(inputs.rows(rows)).items():
            np.testing.assert_allclose(given, whole[name][rows.numpy()], atol=1e-6)
