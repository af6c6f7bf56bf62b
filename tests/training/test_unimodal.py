"""``+unimodal``: whose losses they are, what they share, and that the fused branch is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from mmbench.contracts import Concept, Examples, Inputs, Objective
from mmbench.errors import UsageError
from mmbench.methods import ablate, build_model, parse, select
from mmbench.modules import LinearHeads
from mmbench.plugins import Registry, shipped
from mmbench.training.loop import _gramian
from mmbench.training.losses import Measure, list_objectives
from mmbench.training.network import Network
from mmbench.training.unimodal import UnimodalNetwork, unimodal_objectives

REGISTRY = Registry()
CONCEPTS = (Concept("mood", ("low", "flat", "high")), Concept("kinds", ("a", "b"), "multilabel"))
SIZES = {"x": 3, "y": 5}


def batch(rows: int = 12, sequence: bool = False) -> Examples:
    g = torch.Generator().manual_seed(4)
    present = {name: torch.rand(rows, generator=g) > 0.3 for name in SIZES}
    present["x"][0], present["y"][1] = False, False
    shape = {"x": (rows, 4, 3) if sequence else (rows, 3), "y": (rows, 5)}
    values = {m: torch.randn(*shape[m], dtype=torch.float64, generator=g) for m in SIZES}
    values = {m: v * present[m].view(-1, *[1] * (v.ndim - 1)) for m, v in values.items()}
    steps = {"x": torch.arange(4) < torch.randint(1, 5, (rows, 1), generator=g)} if sequence else {}
    steps = {m: s & present[m].unsqueeze(1) for m, s in steps.items()}
    values = {m: v * steps[m].unsqueeze(-1) if m in steps else v for m, v in values.items()}
    mood, kinds = torch.randint(0, 3, (rows,), generator=g), torch.randint(0, 2, (rows, 2), generator=g)
    mood[::5] = -1
    return Examples(Inputs(values, present, steps), {"mood": mood, "kinds": kinds})


def network_of(fusion: str = "concat", sequence: bool = False) -> UnimodalNetwork:
    torch.manual_seed(2)
    made = shipped("baselines", fusion).build(2, 6)
    sequences = frozenset({"x"}) if sequence else frozenset()
    return UnimodalNetwork(SIZES, made, LinearHeads, CONCEPTS, 6, 0.0, sequences).double()


def test_objectives_are_those_of_each_modality_counted_where_it_is() -> None:
    examples = batch()
    found = unimodal_objectives(CONCEPTS, examples, ("x", "y"), "concept")
    assert [o.name for o in found] == [
        "mood@x", "kinds/a@x", "kinds/b@x", "mood@y", "kinds/a@y", "kinds/b@y",
    ]  # fmt: skip
    here = examples.inputs.present["y"]
    assert found[3].n_labelled == int((here & (examples.targets["mood"] >= 0)).sum())
    assert found[4].n_positive == int((here & (examples.targets["kinds"][:, 0] == 1)).sum())
    assert Objective("a", "b", 0, 1, 1).name == "a/b"


@pytest.mark.parametrize(("fusion", "sequence"), [("concat", False), ("igfn", True), ("mfn", True), ("tensor", False)])
def test_the_losses_are_the_fused_ones_and_each_modality_s_on_its_rows(fusion: str, sequence: bool) -> None:
    if fusion == "igfn":
        from mmbench.proposed.graph_fusion import build

        torch.manual_seed(2)
        network = UnimodalNetwork(SIZES, build(2, 6), LinearHeads, CONCEPTS, 6, 0.0, frozenset({"x"})).double()
    else:
        network = network_of(fusion, sequence)
    examples = batch(sequence=sequence)
    measure = Measure(list_objectives(CONCEPTS, examples.targets, "concept"))
    output = network(examples.inputs)
    losses, places = network.losses(output, examples, measure)
    assert places.tolist() == list(range(9)) and output.logits is output.branches[0][0]
    assert_close(losses[:3], measure(output.logits, examples.targets)[0])
    for m, name in enumerate(SIZES):
        rows = examples.inputs.present[name] & (examples.targets["mood"] >= 0)
        logits = output.branches[1 + m][0]["mood"][rows]
        assert_close(losses[3 + 3 * m], cross_entropy(logits, examples.targets["mood"][rows]))


@pytest.mark.parametrize("sequence", [False, True])
def test_a_modality_s_own_prediction_sees_nothing_else(sequence: bool) -> None:
    network, examples = network_of("mfn", sequence), batch(sequence=sequence)
    other = dict(examples.inputs.values)
    other["y"] = torch.randn_like(other["y"])
    mine = network(examples.inputs).branches
    changed = network(Inputs(other, examples.inputs.present, examples.inputs.steps)).branches
    assert_close(mine[1][0]["mood"], changed[1][0]["mood"])
    assert not torch.allclose(mine[2][0]["mood"], changed[2][0]["mood"])
    assert not torch.allclose(mine[0][0]["mood"], changed[0][0]["mood"])


def test_the_fused_branch_is_the_network_without_the_others() -> None:
    network, examples = network_of(), batch()
    torch.manual_seed(2)
    plain = Network(SIZES, shipped("baselines", "concat").build(2, 6), LinearHeads, CONCEPTS, 6, 0.0).double()
    assert_close(network(examples.inputs).logits, plain(examples.inputs).logits)


@pytest.mark.parametrize("of", ["features", "trunk"])
def test_gradients_meet_where_all_objectives_share_weights(of: str) -> None:
    network, examples = network_of(), batch()
    measure = Measure(list_objectives(CONCEPTS, examples.targets, "concept"))
    output = network(examples.inputs)
    losses, _ = network.losses(output, examples, measure)
    gramian = _gramian(network, output, losses, of)
    assert gramian is not None and (gramian.diagonal() > 0).all()
    assert gramian[0, 3] != 0 and gramian[0, 6] != 0, "the fused loss and a modality's pull at the same encoder"
    assert gramian[3, 6] == 0, "two modalities alone share none"
    if of == "trunk":
        rows = [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(
                        loss, network.trunk_weights(), retain_graph=True, allow_unused=True, materialize_grads=True
                    )
                ]
            )
            for loss in losses
        ]
        assert_close(gramian, torch.stack(rows) @ torch.stack(rows).T)


@pytest.mark.parametrize(
    "strategy",
    ["equal", "moo", "dmtl", "dmtl:layer=heads", "gradnorm", "uncertainty", "mti", "single", "tuned:trials=2"],
)
def test_every_strategy_balances_them(strategy: str, small) -> None:
    (method,) = parse(f"concat+unimodal+{strategy}", REGISTRY, ("x", "y"))
    model = build_model(method, REGISTRY)
    history = model.fit(small.examples(41), small.examples(20, seed=1), small.context(epochs=2))
    networks = history.get("networks", {"": history}).values()
    for network in networks:
        assert len(network["objectives"]) == 3 * network["joint"] == len(network["train"][0])
        assert network["objectives"][network["joint"]].endswith("@x")
        assert all(len(weights) == len(network["objectives"]) for weights in network["weights"])
    scores = model.predict(small.examples(5, seed=2).inputs)
    assert {c.name: len(c.labels) for c in small.concepts} == {name: s.shape[1] for name, s in scores.items()}


def test_selectors() -> None:
    names = ("x", "y")
    assert [m.name for m in parse("concat+unimodal", REGISTRY, names)] == ["concat+unimodal+equal"]
    swept = parse("igfn:delta=0.1/0.5+unimodal+dmtl:beta=1", REGISTRY, names)
    assert [m.name for m in swept] == ["igfn:delta=0.1+unimodal+dmtl:beta=1", "igfn+unimodal+dmtl:beta=1"]
    (full,) = parse("concat+unimodal+dmtl", REGISTRY, names)
    variants = {words: m.name for words, m in ablate(full, REGISTRY, names).items()}
    assert variants["unimodal objectives"] == "concat+dmtl"
    assert variants["rebalancing"] == "concat+unimodal+dmtl:rebalance=off"


@pytest.mark.parametrize(
    ("selector", "modalities", "told"),
    [
        ("late+unimodal+equal", ("x", "y"), "a branch a modality already"),
        ("concat+unimodal", ("x",), "at least 2 modalities"),
        ("hybrid+unimodal", ("x", "y"), "behind a fusion"),
        ("concat+dmtl+unimodal", ("x", "y"), "unknown method 'unimodal'"),
        ("unimodal+concat", ("x", "y"), "unknown method 'unimodal'"),
        ("concat+unimodal+igfn", ("x", "y"), "expected fusion+strategy"),
    ],
)
def test_selectors_that_mean_nothing(selector: str, modalities: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        select(selector, REGISTRY, modalities, ())
    assert told in str(refused.value)
