"""Checkpoints trained with the cross-attention network: tiny random ones, on a CPU, from files and texts to scores."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Inputs, Modality
from mmbench.errors import MmbenchError, UsageError
from mmbench.methods import build_model, parse
from mmbench.modules import LinearHeads
from mmbench.plugins import Registry
from mmbench.proposed.cross_attention.backbones import Backbones, ImageBackbone, TextBackbone
from mmbench.proposed.cross_attention.end_to_end import EndToEnd, Recipe, make_optimiser
from mmbench.proposed.cross_attention.network import Settings
from mmbench.proposed.hybrid import Sum
from mmbench.training.checkpoint import Checkpoint
from mmbench.training.losses import Measure, list_objectives
from mmbench.training.optimiser import Optimiser, warm_up

REGISTRY = Registry()
CONCEPTS = (Concept("mood", ("low", "flat", "high")), Concept("kinds", ("a", "b"), "multilabel"))
WORDS = ("flood", "water", "town", "safe", "boat", "news", "rain", "road", "help", "food")
ROWS = 10


@pytest.fixture(scope="module")
def streams(tiny_checkpoints: dict[str, str]) -> tuple[Modality, ...]:
    return (
        Modality("text", "text", f"hf:{tiny_checkpoints['text']}"),
        Modality("image", "image", f"hf:{tiny_checkpoints['image']}"),
        Modality("age", "vector", "standardize"),
    )


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Row 1 has no text, row 2 no image, row 3 an empty text; texts of one to seven words."""
    draw = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    texts = np.empty(ROWS, dtype=object)
    texts[:] = [" ".join(draw.choice(WORDS, 1 + row % 7)) for row in range(ROWS)]
    paths = np.empty(ROWS, dtype=object)
    for row in range(ROWS):
        paths[row] = folder / f"{row}.png"
        Image.fromarray(draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(paths[row])
    texts[1], paths[2], texts[3] = None, None, ""
    present = {name: torch.ones(ROWS, dtype=torch.bool) for name in ("text", "image", "age")}
    present["text"][1], present["image"][2] = False, False
    values = {
        "text": torch.zeros(ROWS, 1),
        "image": torch.zeros(ROWS, 1),
        "age": torch.from_numpy(draw.normal(size=(ROWS, 2))).float(),
    }
    mood, kinds = torch.arange(ROWS) % 3, torch.from_numpy(draw.integers(0, 2, (ROWS, 2)))
    mood[::4] = -1
    return Examples(Inputs(values, present, {}, {"text": texts, "image": paths}), {"mood": mood, "kinds": kinds})


Build = Callable[..., EndToEnd]


@pytest.fixture
def build(streams: tuple[Modality, ...]) -> Build:
    def make(dropout: float = 0.0, recipe: Recipe = Recipe(), **settings: Any) -> EndToEnd:  # noqa: B008
        torch.manual_seed(3)
        chosen = Settings(**{"heads": 2, "dropout": dropout, **settings})
        network = EndToEnd(
            streams[:2], {"text": 1, "image": 1, "age": 2}, LinearHeads, CONCEPTS, 8, dropout, chosen, recipe
        )
        for module in network.backbones.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        return network.double()

    return make


def gradients(network: EndToEnd, examples: Examples) -> dict[str, Tensor]:
    network.train().zero_grad()
    objectives = list_objectives(CONCEPTS, examples.targets, "concept")
    output = network(examples.inputs)
    losses, _ = network.losses(output, examples, Measure(objectives))
    (losses.sum() + (0 if output.penalty is None else output.penalty)).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def double(examples: Examples) -> Examples:
    values = {m: v.double() for m, v in examples.inputs.values.items()}
    return replace(examples, inputs=replace(examples.inputs, values=values))


# --- what goes through a checkpoint ------


def test_a_text_gets_the_models_own_hidden_states_and_an_image_the_places_of_its_map(
    tiny_checkpoints: dict[str, str], examples: Examples
) -> None:
    text, image = TextBackbone(tiny_checkpoints["text"], 128), ImageBackbone(tiny_checkpoints["image"])
    raw = examples.inputs.raw
    both = Backbones({"text": text, "image": image}, 3).eval()
    with torch.no_grad():
        found = both(examples.inputs)
        for row in range(ROWS):
            if raw["text"][row] is not None:
                ids = text.tokenizer(raw["text"][row], return_tensors="pt")["input_ids"]
                expected = text.tower(input_ids=ids).last_hidden_state[0]
                assert_close(found.values["text"][row, : len(expected)], expected)
                assert found.steps["text"][row].tolist() == [t < len(expected) for t in range(9)]
            if raw["image"][row] is not None:
                with Image.open(raw["image"][row]) as picture:
                    pixels = image.processor(picture.convert("RGB"), return_tensors="pt")["pixel_values"]
                expected = image.tower(pixel_values=pixels).last_hidden_state[0].flatten(1).T
                assert_close(found.values["image"][row], expected)
    assert found.values["image"].shape[1] == 4 and found.steps["image"].sum(1).tolist() == [4, 4, 0] + [4] * 7
    assert not found.steps["text"][1].any() and not found.values["text"][1].any()
    assert found.steps["text"][3].sum() == 2, "an empty text is its two marks"
    assert torch.equal(found.values["age"], examples.inputs.values["age"])


def test_texts_of_similar_length_go_together(tiny_checkpoints: dict[str, str]) -> None:
    text = TextBackbone(tiny_checkpoints["text"], 128)
    raw = ["flood " * n for n in (7, 1, 5, 1, 3, 7, 2, 6)]
    seen = [(places, ids.shape) for places, (ids, _) in text.chunks(raw, 3)]
    assert sorted(place for places, _ in seen for place in places) == list(range(8))
    assert [shape[1] for _, shape in seen] == [4, 8, 9]
    for places, (ids, there) in text.chunks(raw, 3):
        assert there.sum(1).tolist() == [len(raw[place].split()) + 2 for place in places]
        assert not ids[~there].any()


def test_long_texts_are_cut_at_what_the_model_takes(tiny_checkpoints: dict[str, str]) -> None:
    for limit, expected in ((128, 12), (5, 5)):
        text = TextBackbone(tiny_checkpoints["text"], limit)
        assert next(text.chunks(["flood " * 40], 1))[1][0].shape == (1, expected)


def test_without_any_input_there_is_no_step(build: Build, examples: Examples) -> None:
    network = build().eval()
    nobody = {name: torch.zeros(ROWS, dtype=torch.bool) for name in examples.inputs.present}
    inputs = replace(double(examples).inputs, present=nobody)
    for logits in network(inputs).logits.values():
        assert torch.isfinite(logits).all()
        assert_close(logits, logits[:1].expand_as(logits))


def test_a_picture_that_is_gone_is_one_line(tiny_checkpoints: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(MmbenchError, match=r"gone\.png cannot be read any more") as caught:
        next(ImageBackbone(tiny_checkpoints["image"]).chunks([tmp_path / "gone.png"], 1))
    assert "\n" not in str(caught.value)


# --- gradients ------


@pytest.mark.parametrize("settings", [{}, {"contrastive_weight": 0.5}], ids=["plain", "contrastive"])
def test_a_few_rows_at_a_time_give_the_gradient_of_the_whole_batch(build: Build, examples: Examples, settings) -> None:
    """Exact even for the contrastive term, which no sum over micro-batches could give."""
    examples = double(examples)
    whole = gradients(build(recipe=Recipe(micro_batch=0), **settings), examples)
    for rows in (1, 3):
        parts = gradients(build(recipe=Recipe(micro_batch=rows), **settings), examples)
        assert parts.keys() == whole.keys()
        for name, gradient in whole.items():
            assert_close(parts[name], gradient, rtol=1e-9, atol=1e-12, msg=name)
    assert any("backbones.each.0" in name and bool(g.any()) for name, g in whole.items())
    assert any("backbones.each.1" in name and bool(g.any()) for name, g in whole.items())


def test_what_is_computed_again_has_the_same_dropout(build: Build, examples: Examples) -> None:
    """With dropout on, the gradient of rows computed again agrees with differences of the loss under the same seed."""
    examples = double(examples)
    network = build(dropout=0.3, recipe=Recipe(micro_batch=2))
    objectives = list_objectives(CONCEPTS, examples.targets, "concept")

    def loss() -> Tensor:
        torch.manual_seed(5)
        return network.losses(network.train()(examples.inputs), examples, Measure(objectives))[0].sum()

    weight = network.backbones.each[0].tower.encoder.layer[0].output.dense.weight
    (gradient,) = torch.autograd.grad(loss(), weight)
    with torch.no_grad():
        weight[0, 0] += 1e-5
        up = loss()
        weight[0, 0] -= 2e-5
        down = loss()
    assert gradient[0, 0].item() == pytest.approx(float(up - down) / 2e-5, rel=1e-5)


def test_memory_in_training_is_of_a_few_rows(build: Build, examples: Examples) -> None:
    """The backward pass keeps nothing of what the checkpoints do inside: it is computed again, a few rows at a time."""

    def kept(rows: int) -> int:
        network, sizes = build(recipe=Recipe(micro_batch=rows)).train(), []

        def pack(tensor: Tensor) -> Tensor:
            if tensor.ndim == 4 and tensor.shape[1] != 3:  # maps and attention weights, not the pictures themselves
                sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            network.tokens(double(examples).inputs)
        return sum(sizes)

    assert kept(2) == 0 < kept(0)


def test_pooling_layers_are_not_trained_and_statistics_are_kept(build: Build, examples: Examples) -> None:
    network = build()
    before = copy.deepcopy(network.state_dict())
    assert not any("pooler" in name for name in gradients(network, double(examples)))
    for name, value in network.state_dict().items():
        if "running" in name or "num_batches" in name:
            assert torch.equal(value, before[name])
    network.train()
    rows = double(examples).inputs
    alone = network.backbones(rows.rows(slice(0, 1))).values["image"]
    assert_close(network.backbones(rows).values["image"][:1], alone), "a row depends on the others"


# --- the optimiser ------


def test_rates_rise_over_a_tenth_of_the_steps_and_fall_to_zero() -> None:
    rate = warm_up(0.1, 40)
    factors = [rate(step) for step in range(40)]
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert factors[4:] == pytest.approx([(40 - step) / 37 for step in range(4, 40)])
    assert factors[-1] > 0 and rate(40) == rate(41) == 0
    assert [warm_up(0, 4)(step) for step in range(4)] == pytest.approx([1, 0.75, 0.5, 0.25])


def test_backbones_have_the_small_rate_and_only_matrices_decay(build: Build) -> None:
    network = build().float()
    recipe = Recipe(backbone_rate=1e-3, rate=2e-3, decay=0.1)
    optimiser = make_optimiser(network, Sum(), recipe, Training(epochs=3, batch_size=4), 10)
    named = {id(p): name for name, p in network.named_parameters()}
    seen = set()
    for group in optimiser.adam.param_groups:
        for p in group["params"]:
            name = named[id(p)]
            seen.add(name)
            assert group["lr"] == (1e-3 if name.startswith("backbones.") else 2e-3), name
            assert group["weight_decay"] == (0.1 if p.ndim > 1 else 0), name
    assert seen == {name for name, p in network.named_parameters() if p.requires_grad}
    assert [round(optimiser.rate(step), 3) for step in range(9)] == [
        1,
        0.889,
        0.778,
        0.667,
        0.556,
        0.444,
        0.333,
        0.222,
        0.111,
    ]


def test_a_step_uses_the_rate_of_its_place() -> None:
    p = nn.Parameter(torch.zeros(1))
    optimiser = Optimiser(torch.optim.SGD([p], lr=2.0), rate=lambda step: [0.5, 0.25][step])
    seen = []
    for _ in range(2):
        optimiser.step(p.sum())
        seen.append(p.item())
    assert seen == [-1.0, -1.5]


# --- as a method ------


def fitted(selector: str, streams, examples: Examples, checkpoint: Checkpoint | None = None, report=None, **settings):
    (method,) = parse(selector, REGISTRY, ("text", "image", "age"))
    model = build_model(method, REGISTRY)
    training = Training(**{"epochs": 3, "batch_size": 4, "width": 8, "patience": 9, **settings})
    context = FitContext(CONCEPTS, 0, training, report or (lambda *_: None), streams, "cpu", checkpoint)
    return model, model.fit(examples, examples, context)


def test_it_learns_and_says_what_was_trained(streams, examples: Examples) -> None:
    model, history = fitted("xattn:finetune=on:backbone_rate=0.01:rate=0.01", streams, examples, epochs=8)
    assert history["precision"] == "float32" and set(history["trained"]) == {"text", "image"}
    assert history["val"][-1] < history["val"][0]
    network = model.fitted[0][1]
    fresh = TextBackbone(streams[0].encoder[3:], 128)
    assert not torch.equal(
        network.backbones.each[0].tower.embeddings.word_embeddings.weight,
        fresh.tower.embeddings.word_embeddings.weight,
    )
    assert model.n_parameters == sum(p.numel() for p in network.parameters() if p.requires_grad)
    scores = model.predict(examples.inputs)
    assert scores["mood"].shape == (ROWS, 3) and np.isfinite(scores["mood"]).all()
    alone = model.predict(examples.inputs.rows(torch.tensor([4])))
    np.testing.assert_allclose(alone["mood"][0], scores["mood"][4], atol=1e-6)


def test_epochs_are_the_fewer_of_its_own_and_the_runs(streams, examples: Examples) -> None:
    for own, runs, expected in ((2, 3, 2), (10, 1, 1)):
        _, history = fitted(f"xattn:finetune=on:max_epochs={own}", streams, examples, epochs=runs)
        assert history["epochs"] == expected


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_for_matrix_products_and_scores_stay_close(precision, streams, examples: Examples) -> None:
    full, _ = fitted("xattn:finetune=on:dropout=0", streams, examples, dropout=0)
    half, history = fitted(f"xattn:finetune=on:dropout=0:precision={precision}", streams, examples, dropout=0)
    assert history["precision"] == precision
    network = half.fitted[0][1]
    assert all(p.dtype == torch.float32 for p in network.parameters())
    dtypes = []
    network.core.gates.layers[0].register_forward_hook(lambda *given: dtypes.append(given[2].dtype))
    one, other = full.predict(examples.inputs), half.predict(examples.inputs)
    assert set(dtypes) == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert network(examples.inputs).logits["mood"].dtype == torch.float32
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=0.05)
        assert not np.array_equal(one[name], other[name])


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_training_goes_on_to_the_same_bits(after: int, streams, examples: Examples, tmp_path) -> None:
    selector = "xattn:finetune=on:micro_batch=3:backbone_rate=0.01"

    def stop(epoch: int, of: int, loss: float) -> None:
        if epoch == after + 1:
            raise Killed

    whole, history = fitted(selector, streams, examples, epochs=4)
    with pytest.raises(Killed):
        fitted(selector, streams, examples, Checkpoint(tmp_path / "state", "me"), stop, epochs=4)
    seen: list[int] = []
    again = Checkpoint(tmp_path / "state", "me")
    model, resumed = fitted(selector, streams, examples, again, lambda epoch, *_: seen.append(epoch), epochs=4)
    assert seen == list(range(after + 1, 5)) and again.epochs == after and again.seconds > 0
    assert resumed == history
    for name, scores in whole.predict(examples.inputs).items():
        assert np.array_equal(model.predict(examples.inputs)[name], scores)


def test_a_training_that_had_stopped_early_is_not_taken_further(streams, examples: Examples, tmp_path) -> None:
    settings = {"epochs": 9, "patience": 1, "min_delta": 100.0}
    _, history = fitted("xattn:finetune=on", streams, examples, Checkpoint(tmp_path / "state", "me"), **settings)
    assert history["epochs"] == 2
    _, again = fitted("xattn:finetune=on", streams, examples, Checkpoint(tmp_path / "state", "me"), **settings)
    assert again == history


def test_another_ones_state_is_not_taken_up_and_a_damaged_one_is_one_line(
    streams, examples: Examples, tmp_path
) -> None:
    path = tmp_path / "state"
    fitted("xattn:finetune=on", streams, examples, Checkpoint(path, "me"))
    other = Checkpoint(path, "somebody else")
    assert other.load("cpu") is None and other.epochs == 0
    whole = path.read_bytes()
    for damaged in (b"", b"no state", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(MmbenchError, match=r"is damaged .*: delete it") as caught:
            Checkpoint(path, "me").load("cpu")
        assert "\n" not in str(caught.value)
    path.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(MmbenchError, match="is damaged"):
        Checkpoint(path, "me").load("cpu")
    assert not Path("hacked").exists()


def test_only_what_takes_long_keeps_its_state(streams, examples: Examples, tmp_path) -> None:
    fitted("xattn:finetune=on", streams, examples, Checkpoint(tmp_path / "state", "me"))
    assert (tmp_path / "state").is_file() and len(list(tmp_path.iterdir())) == 1
    fitted("xattn", streams, examples, Checkpoint(tmp_path / "other", "me"))
    assert not (tmp_path / "other").exists()


def test_which_modalities_it_wants_raw(streams) -> None:
    model = build_model(parse("xattn:finetune=on", REGISTRY, ("text", "image", "age"))[0], REGISTRY)
    assert model.wants_raw(streams) == {"text", "image"}
    assert model.wants_raw((replace(streams[0], encoder="tfidf-svd"), *streams[1:])) == {"image"}
    with pytest.raises(UsageError, match=r"was given text=tfidf-svd, age=standardize: .*hf:bert-base") as caught:
        model.wants_raw((replace(streams[0], encoder="tfidf-svd"), streams[2]))
    assert "\n" not in str(caught.value)
    assert build_model(parse("xattn", REGISTRY, ("text",))[0], REGISTRY).wants_raw(streams) == frozenset()


@pytest.mark.parametrize("setting", ["rate=0.1", "precision=bf16", "micro_batch=4", "max_epochs=2"])
def test_its_settings_without_it_are_refused(setting: str) -> None:
    (method,) = parse(f"xattn:{setting}", REGISTRY, ("text",))
    with pytest.raises(UsageError, match="are for finetune=on"):
        build_model(method, REGISTRY)
