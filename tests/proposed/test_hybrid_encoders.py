"""Encoders of the hybrid model by kind of modality, against torch's own layers, under padding, and differentiated."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Inputs, Modality
from mmbench.methods import build_model, parse
from mmbench.plugins import Registry
from mmbench.proposed.hybrid.encoders import FrameStem, Layer, StepTransformer, make_encoder, positions

REGISTRY = Registry()
CONCEPTS = (Concept("mood", ("low", "high")),)
SIDE = 8
PIXELS = 3 * SIDE * SIDE


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some(rows: int, steps: int) -> Tensor:
    """Steps that are there: up to an end of its own in each row, with holes; the first is."""
    mask = torch.rand(rows, steps, generator=torch.Generator().manual_seed(1)) > 0.3
    mask &= torch.arange(steps) < torch.arange(steps, steps - rows, -1).unsqueeze(1)
    mask[:, 0] = True
    return mask


def encoders() -> dict[str, tuple[nn.Module, int]]:
    torch.manual_seed(0)
    return {
        "sequence": (StepTransformer(5, 4, 0.0, 2, 2).double().eval(), 5),
        "frames": (FrameStem(PIXELS, 4, 0.0).double().eval(), PIXELS),
    }


def test_positions_are_sines_and_cosines() -> None:
    found = positions(7, 6)
    assert found[0].tolist() == [0, 1, 0, 1, 0, 1]
    assert found[3, 0].item() == pytest.approx(math.sin(3))
    assert found[3, 3].item() == pytest.approx(math.cos(3 * 10_000 ** (-2 / 6)))
    assert_close(found.square().sum(dim=1), torch.full((7,), 3.0, dtype=torch.float64))
    assert_close(positions(9, 6)[:7], found)
    assert positions(3, 5).shape == (3, 5)


def test_what_enters_the_layers_is_the_projection_times_the_root_of_the_width_plus_positions() -> None:
    torch.manual_seed(0)
    encode = StepTransformer(5, 9, 0.0, 1, 2).double().eval()
    encode.layers = torch.nn.ModuleList()
    values, mask = torch.randn(2, 4, 5, dtype=torch.float64), torch.ones(2, 4, dtype=torch.bool)
    assert_close(encode(values, mask), 3 * encode.project(values) + positions(4, 9))


@pytest.mark.parametrize("heads", [1, 2])
def test_a_layer_is_torchs_transformer_layer(heads: int) -> None:
    torch.manual_seed(0)
    ours = Layer(4, heads, 0.0).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.5)
    theirs = nn.TransformerEncoderLayer(4, heads, 16, 0.0, "gelu", batch_first=True, norm_first=True).double()
    layers = (ours.attend.query, ours.attend.key, ours.attend.value)
    feed_norm, first, _, second, _ = ours.feed
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([layer.weight for layer in layers]),
            "self_attn.in_proj_bias": torch.cat([layer.bias for layer in layers]),
            **{f"self_attn.out_proj.{name}": value for name, value in ours.attend.out.state_dict().items()},
            **{f"norm1.{name}": value for name, value in ours.norm.state_dict().items()},
            **{f"norm2.{name}": value for name, value in feed_norm.state_dict().items()},
            **{f"linear1.{name}": value for name, value in first.state_dict().items()},
            **{f"linear2.{name}": value for name, value in second.state_dict().items()},
        }
    )
    x, mask = draw(3, 6, 4), some(3, 6)
    expected = theirs.train()(x, src_key_padding_mask=~mask)
    assert_close(ours(x, mask)[mask], expected[mask], rtol=1e-12, atol=1e-13)


def test_the_stem_is_two_convolutions_halved_and_averaged_over_space() -> None:
    stem, _ = encoders()["frames"]
    video = draw(2, 4, PIXELS).abs()
    x = video.reshape(2, 4, 3, SIDE, SIDE).permute(0, 2, 1, 3, 4)
    for convolve in stem.convolutions:
        x = nn.functional.max_pool3d(torch.relu(convolve(x)), (1, 2, 2))
    assert x.shape == (2, 64, 4, SIDE // 4, SIDE // 4)
    norm, linear = stem.project[0], stem.project[1]
    expected = torch.relu(linear(norm(x.mean(dim=(3, 4)).transpose(1, 2))))
    assert_close(stem(video, torch.ones(2, 4, dtype=torch.bool)), expected, rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match="no square frame"):
        FrameStem(20, 4, 0.0)


@pytest.mark.parametrize("kind", ["sequence", "frames"])
def test_padding_order_and_company_change_nothing(kind: str) -> None:
    encode, features = encoders()[kind]
    x, mask = draw(4, 5, features), some(4, 5)
    whole = encode(x, mask)
    noisy = torch.where(mask.unsqueeze(-1), x, 1e3)
    assert_close(encode(noisy, mask), whole, rtol=1e-11, atol=1e-12)
    longer = torch.cat([noisy, torch.full((4, 3, features), 1e3, dtype=torch.float64)], dim=1)
    there = torch.cat([mask, torch.zeros(4, 3, dtype=torch.bool)], dim=1)
    assert_close(encode(longer, there)[:, :5], whole, rtol=1e-11, atol=1e-12)
    assert not encode(longer, there)[:, 5:].any()
    order = torch.tensor([2, 0, 3, 1])
    assert_close(encode(x[order], mask[order]), whole[order], rtol=1e-11, atol=1e-12)
    for row in range(4):
        assert_close(encode(x[[row]], mask[[row]]), whole[[row]], rtol=1e-11, atol=1e-12)
    ordered = torch.ones(4, 5, dtype=torch.bool)
    turned = encode(x.flip(1), ordered).flip(1)
    assert not torch.allclose(turned, encode(x, ordered)), "time has a direction"


@pytest.mark.parametrize("kind", ["sequence", "frames"])
def test_one_step_and_none(kind: str) -> None:
    encode, features = encoders()[kind]
    one = encode(draw(2, 1, features), torch.ones(2, 1, dtype=torch.bool))
    assert one.shape == (2, 1, 4) and one.any()
    mask = some(3, 4)
    mask[1] = False
    found = encode(draw(3, 4, features), mask)
    assert not found[1].any() and not found[~mask].any()
    found.square().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encode.parameters())


@pytest.mark.parametrize("kind", ["sequence", "frames"])
def test_gradients_are_right(kind: str) -> None:
    encode, features = encoders()[kind]
    mask = torch.tensor([[True, False, True], [True, True, False], [False, False, False]])
    inputs = [draw(3, 3, features).requires_grad_(), *encode.parameters()]
    assert torch.autograd.gradcheck(lambda x, *_: encode(x, mask), inputs, fast_mode=True)


def test_what_each_kind_gets() -> None:
    assert isinstance(make_encoder("sequence", 5, 4, 0.0, 2, 3), StepTransformer)
    assert len(make_encoder("sequence", 5, 4, 0.0, 2, 3).layers) == 3
    assert isinstance(make_encoder("frames", PIXELS, 4, 0.0, 2, 1), FrameStem)
    for kind in ("vector", "video"):
        assert [type(part) for part in make_encoder(kind, 5, 4, 0.0, 2, 1)] == [
            nn.LayerNorm, nn.Linear, nn.ReLU, nn.Dropout
        ]  # fmt: skip


STREAMS = (
    Modality("words", "text", "hf:some:pool=none"),
    Modality("clip", "video", "pixels:side=8"),
    Modality("film", "video", "hf:other:frames=steps"),
    Modality("age", "vector", "standardize"),
)


def examples(rows: int = 12) -> Examples:
    sizes = {"words": 5, "clip": PIXELS, "film": 4}
    steps = {name: some(rows, 6).roll(place, dims=0) for place, name in enumerate(sizes)}
    values = {name: draw(rows, 6, size).float() * steps[name].unsqueeze(-1) for name, size in sizes.items()}
    values["age"] = draw(rows, 2).float()
    present = {name: torch.ones(rows, dtype=torch.bool) for name in values}
    return Examples(Inputs(values, present, steps), {"mood": torch.arange(rows) % 2})


@pytest.mark.parametrize("selector", ["hybrid", "hybrid:encoders=off", "hybrid:depth=2"])
def test_the_model_gives_each_modality_the_encoder_of_its_kind(selector: str) -> None:
    (method,) = parse(selector, REGISTRY, [stream.name for stream in STREAMS])
    model, data = build_model(method, REGISTRY), examples()
    context = FitContext(CONCEPTS, 0, Training(epochs=1, width=4, batch_size=6), modalities=STREAMS)
    model.fit(data, data, context)
    network = model.fitted[0][1]
    kinds = [type(encode).__name__ for encode in network.encoders]
    assert kinds == (
        ["Sequential"] * 4 if "off" in selector else ["StepTransformer", "FrameStem", "Sequential", "Sequential"]
    )
    if "depth" in selector:
        assert len(network.encoders[0].layers) == 2
    scores = model.predict(data.inputs)["mood"]
    gone = {**data.inputs.present, "clip": torch.zeros(12, dtype=torch.bool)}
    steps = {**data.inputs.steps, "clip": torch.zeros(12, 6, dtype=torch.bool)}
    without = model.predict(replace(data.inputs, present=gone, steps=steps))["mood"]
    assert torch.isfinite(torch.from_numpy(without)).all() and not (without == scores).all()
