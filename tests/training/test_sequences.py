"""Sequences: moments, the recurrent encoder, common steps; padding and order of the batch change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mmbench.contracts import Concept, Inputs
from mmbench.features import encode
from mmbench.modules import LinearHeads
from mmbench.plugins import shipped
from mmbench.proposed.cross_attention.network import CrossAttentionNetwork
from mmbench.proposed.cross_attention.network import Settings as CrossSettings
from mmbench.proposed.hybrid.network import HybridNetwork, Settings
from mmbench.training.network import Network
from mmbench.training.sequences import Recurrent, aligned, lengths, moments

concat, classical, mfn = (shipped("baselines", name) for name in ("concat", "classical", "mfn"))
CONCEPTS = (Concept("kind", ("a", "b", "c")),)
SIZES = {"text": 5, "sound": 3, "vector": 2}
SEQUENCES = frozenset({"text", "sound"})
NAMES = ["concat", "classical", "mfn", "hybrid", "hybrid by kind", "xattn"]


def batch(steps: tuple[int, int] = (6, 9), rows: int = 4, seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    there = {
        "text": torch.zeros(rows, steps[0], dtype=torch.bool),
        "sound": torch.zeros(rows, steps[1], dtype=torch.bool),
    }
    for mask in there.values():
        for row in range(rows):
            mask[row, : 1 + int(torch.randint(mask.shape[1], (1,), generator=generator))] = True
    values = {
        name: torch.randn(rows, mask.shape[1], SIZES[name], generator=generator, dtype=torch.float64)
        * mask.unsqueeze(-1)
        for name, mask in there.items()
    }
    values["vector"] = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    return Inputs(values, {name: torch.ones(rows, dtype=torch.bool) for name in SIZES}, there)


def padded(inputs: Inputs, by: int) -> Inputs:
    """The same with steps that are not there at the end, of values that nothing may read."""
    values, steps = dict(inputs.values), dict(inputs.steps)
    for name in steps:
        junk = torch.full((len(inputs), by, values[name].shape[2]), 1e6, dtype=values[name].dtype)
        values[name] = torch.cat([values[name], junk], dim=1)
        steps[name] = torch.cat([steps[name], torch.zeros(len(inputs), by, dtype=torch.bool)], dim=1)
    return Inputs(values, inputs.present, steps)


def networks() -> dict[str, torch.nn.Module]:
    def network(fusion: torch.nn.Module) -> torch.nn.Module:
        return Network(SIZES, fusion, LinearHeads, CONCEPTS, 4, 0.0, SEQUENCES).double().eval()

    torch.manual_seed(0)
    hybrid = HybridNetwork(SIZES, LinearHeads, CONCEPTS, 4, 0.0, Settings(heads=2)).double().eval()
    kinds = dict.fromkeys(SEQUENCES, "sequence")
    by_kind = HybridNetwork(SIZES, LinearHeads, CONCEPTS, 4, 0.0, Settings(heads=2), kinds).double().eval()
    return {
        "concat": network(concat.build(3, 4)),
        "classical": network(classical.build(3, 4)),
        "mfn": network(mfn.build(3, 4, memory=3, dropout=0.0)),
        "hybrid": hybrid,
        "hybrid by kind": by_kind,
        "xattn": CrossAttentionNetwork(SIZES, LinearHeads, CONCEPTS, 4, 0.0, CrossSettings(heads=2)).double().eval(),
    }


def test_lengths_reach_to_the_last_step_that_is_there() -> None:
    steps = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    assert lengths(steps).tolist() == [3, 0, 4]


def test_moments_are_those_of_the_steps_alone() -> None:
    inputs = batch()
    found = moments(padded(inputs, 2).values["text"], padded(inputs, 2).steps["text"])
    for row in range(4):
        kept = inputs.values["text"][row][inputs.steps["text"][row]].numpy()
        np.testing.assert_allclose(found[row].numpy(), [*kept.mean(axis=0), *kept.std(axis=0)], atol=1e-12)
    assert moments(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)).abs().sum() == 0


def test_recurrent_equals_the_lstm_on_each_sequence_with_its_holes_taken_out() -> None:
    torch.manual_seed(0)
    encoder = Recurrent(4).double()
    values = torch.randn(5, 7, 4, dtype=torch.float64)
    steps = torch.rand(5, 7) < 0.6
    steps[3] = False
    found = encoder(values, steps)
    for row in range(5):
        kept = values[row][steps[row]]
        expected = encoder.lstm(kept)[0][-1] if len(kept) else torch.zeros(4, dtype=torch.float64)
        assert_close(found[row], expected)


def test_sequences_of_equal_length_stay_as_they_are_and_a_vector_is_at_every_step() -> None:
    steps = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]], dtype=torch.bool)
    first, second = torch.randn(2, 2, 4, 3)
    views, mask = aligned([first, second, torch.ones(2, 3)], [steps, steps, None], torch.ones(2, 3, dtype=torch.bool))
    assert views.shape == (2, 3, 3, 3)
    for m, view in enumerate((first, second)):
        assert_close(views[:, :, m], view[:, :3] * steps[:, :3, None])
    assert torch.equal(mask, steps[:, :3, None].expand(2, 3, 3))
    assert_close(views[:, :, 2], steps[:, :3, None].expand(2, 3, 3).float())


def test_a_longer_sequence_is_averaged_into_the_steps_of_the_shorter() -> None:
    short, long = torch.zeros(1, 2, 1), torch.tensor([1.0, 3.0, 10.0, 20.0]).reshape(1, 4, 1)
    holes = torch.tensor([[True, True, False, True]])
    views, mask = aligned(
        [short, long], [torch.ones(1, 2, dtype=torch.bool), holes], torch.ones(1, 2, dtype=torch.bool)
    )
    assert views[0, :, 1, 0].tolist() == [2.0, 20.0]
    assert mask.all()


def test_without_any_sequence_there_is_one_step() -> None:
    present = torch.tensor([[True, False]])
    views, mask = aligned([torch.ones(1, 3), torch.ones(1, 3)], [None, None], present)
    assert views.shape == (1, 1, 2, 3)
    assert torch.equal(mask, present.unsqueeze(1))
    assert views[0, 0, 1].abs().sum() == 0


def test_a_sample_without_a_sequence_keeps_its_vector() -> None:
    steps = torch.tensor([[False, False], [True, True]])
    present = torch.tensor([[False, True], [True, True]])
    views, mask = aligned([torch.ones(2, 2, 3), torch.ones(2, 3)], [steps, None], present)
    assert mask[0].tolist() == [[False, True], [False, False]]
    assert torch.isfinite(views).all()


@pytest.mark.parametrize("name", NAMES)
def test_padding_batches_and_order_change_nothing(name: str) -> None:
    network, inputs = networks()[name], batch()
    logits = network(inputs).logits["kind"]
    assert_close(network(padded(inputs, 3)).logits["kind"], logits)
    order = torch.tensor([2, 0, 3, 1])
    assert_close(network(inputs.rows(order)).logits["kind"], logits[order])
    assert_close(network(inputs.rows(slice(1, 2))).logits["kind"], logits[1:2])


@pytest.mark.parametrize("name", NAMES)
def test_steps_that_are_there_matter_and_a_missing_sequence_is_finite(name: str) -> None:
    network, inputs = networks()[name], batch()
    before = network(inputs).logits["kind"]
    changed = {**inputs.values, "text": inputs.values["text"] + inputs.steps["text"].unsqueeze(-1)}
    other = changed["text"].roll(1, dims=2)
    assert not torch.allclose(
        network(Inputs({**changed, "text": other}, inputs.present, inputs.steps)).logits["kind"], before
    )
    gone = {**inputs.steps, "text": torch.zeros_like(inputs.steps["text"])}
    present = {**inputs.present, "text": torch.zeros(4, dtype=torch.bool)}
    assert torch.isfinite(network(Inputs(inputs.values, present, gone)).logits["kind"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_one_step_is_enough_and_rows_without_any_are_alike(name: str) -> None:
    network = networks()[name]
    one = batch(steps=(1, 1))
    assert torch.isfinite(network(one).logits["kind"]).all()
    nothing = Inputs(
        one.values,
        {m: torch.zeros(4, dtype=torch.bool) for m in one.present},
        {m: torch.zeros_like(there) for m, there in one.steps.items()},
    )
    logits = network(nothing).logits["kind"]
    assert torch.isfinite(logits).all()
    assert_close(logits, logits[:1].expand_as(logits))
    logits.square().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_whole_network_are_right(name: str) -> None:
    network, inputs = networks()[name], batch(steps=(2, 3), rows=3)
    names = list(inputs.values)

    def run(*given: torch.Tensor) -> torch.Tensor:
        values = dict(zip(names, given, strict=False))
        return network(Inputs(values, inputs.present, inputs.steps)).logits["kind"]

    given = [inputs.values[m].requires_grad_() for m in names]
    assert torch.autograd.gradcheck(run, [*given, *network.parameters()], fast_mode=True)


def test_standardize_reads_the_train_rows_steps_alone(tmp_path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (6, 5, 2))
    values[1, 3:] = np.nan
    values[4] = np.nan
    encoded = encode("standardize", "sequence", values, np.array([0, 1]), tmp_path)
    kept = np.concatenate([values[0], values[1, :3]])
    np.testing.assert_allclose(
        encoded.values[2], (values[2] - kept.mean(axis=0)) / kept.std(axis=0), rtol=1e-5, atol=1e-6
    )
    assert encoded.steps is not None
    assert encoded.steps.tolist() == (~np.isnan(values[:, :, 0])).tolist()
    assert not encoded.values[~encoded.steps].any()
    other = values.copy()
    other[5] *= 100
    np.testing.assert_array_equal(
        encode("standardize", "sequence", other, np.array([0, 1]), tmp_path).values[:5], encoded.values[:5]
    )
