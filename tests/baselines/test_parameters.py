"""What a selector may ask of the shipped fusions and strategies."""

from __future__ import annotations

import pytest

from mmbench.contracts import Objective
from mmbench.errors import UsageError
from mmbench.methods import build_fusion, build_strategy, parse
from mmbench.plugins import Registry

REFUSED = [
    "concat:width=3",
    "late:mode=stack",
    "lowrank:rank=0",
    "lowrank:rank=2.5",
    "lowrank:rank=1000000000",
    "igfn:delta=0",
    "igfn:delta=1.1",
    "igfn:delta=nan",
    "igfn:levels=1",
    "igfn:levels=4",
    "igfn:weight_activation=relu",
    "concat+moo:step=half",
    "concat+gradnorm:a=-1",
    "concat+gradnorm:a=inf",
    "concat+dmtl:beta=-0.5",
    "concat+dmtl:alpha=inf",
    "concat+dmtl:learning_rate=0",
    "concat+dmtl:class_ratio=none",
    "concat+dmtl:layer=encoders",
]
TAKEN = [
    "late:mode=weighted",
    "lowrank:rank=1",
    "igfn:delta=1",
    "igfn:levels=2",
    "igfn:attention=linear:weight_activation=sigmoid:similarity=inner:parent_weight=raw:nodes=weighted",
    "igfn:pairs=ordered:strict_trimodal=on",
    "concat+moo:normalise=loss_l2:step=isl",
    "concat+gradnorm:a=0",
    "concat+dmtl:alpha=0:balance=off:beta=0:class_ratio=prior:layer=heads:rebalance=off",
]


@pytest.mark.parametrize("selector", REFUSED)
def test_values_out_of_range_are_refused_in_one_line(selector: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(selector, Registry(), ("text", "image"))
    assert "\n" not in str(caught.value)
    assert selector.split(":")[0].split("+")[-1] in str(caught.value)


@pytest.mark.parametrize("selector", TAKEN)
def test_values_in_range_are_taken(selector: str) -> None:
    registry = Registry()
    (method,) = parse(selector, registry, ("text", "image"))
    asked = {setting.split("=")[0] for setting in selector.split(":")[1:]}
    assert {name for part in method.parts for name, _ in part.parameters} == asked
    assert build_fusion(method, registry, 2, 8).out_features > 0
    build_strategy(method, registry, (Objective("a", None, None, 10, 5), Objective("b", None, None, 10, 5)))
