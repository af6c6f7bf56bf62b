"""``hf:``: tiny random checkpoints, each encoded one input at a time by hand and then by the encoder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmbench.errors import UsageError
from mmbench.features import Encoded, encode

WORDS = ["storm", "flood", "bridge", "water", "road", "house", "people", "help", "safe", "rescue"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
TEXTS: list[str | None] = [
    "storm flood",
    "water",
    None,
    "people help people rescue people water road house",
    "",
    "storm flood",
    "never seen words",
    " ".join(WORDS * 2),
    "house road",
]


def run(cache: Path, folder: Path | str, kind: Any, values: Sequence[Any], **parameters: object) -> Encoded:
    selector = ":".join([f"hf:{folder}", *(f"{key}={value}" for key, value in parameters.items())])
    return encode(selector, kind, values, np.empty(0, dtype=np.int64), cache)


def save_tokenizer(folder: Path, length: int = 64) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        model_max_length=length,
    ).save_pretrained(folder)


def save_images(folder: Path, side: int = 16) -> None:
    from transformers import ViTImageProcessor

    ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)


TEXT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 14}
VISION = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
}


def make_bert(seed: int = 0, **changes: Any) -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    return BertModel(BertConfig(**TEXT, max_position_embeddings=64, initializer_range=0.5, **changes)).eval()


def make_vit() -> Any:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    return ViTModel(ViTConfig(**VISION, patch_size=8, initializer_range=0.5)).eval()


def make_resnet() -> Any:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    return ResNetModel(config).eval()


def make_dual(name: str) -> Any:
    import transformers

    torch.manual_seed(0)
    text = {**TEXT, "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    if name == "CLIP":
        text |= {"projection_dim": 10}
    more = {"projection_dim": 10} if name == "CLIP" else {}
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config={**VISION, "patch_size": 8}, **more)
    model = getattr(transformers, f"{name}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # away from the tiny weights of its own initialisation
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Folders written by ``save_pretrained``, each built once, and the model that was saved."""
    root = tmp_path_factory.mktemp("checkpoints")
    made: dict[str, tuple[Path, Any]] = {}
    makers: dict[str, Callable[[], Any]] = {
        "bert": make_bert,
        "vit": make_vit,
        "resnet": make_resnet,
        "clip": lambda: make_dual("CLIP"),
        "siglip": lambda: make_dual("Siglip"),
    }

    def get(name: str) -> tuple[Path, Any]:
        if name not in made:
            model = makers[name]()
            model.save_pretrained(root / name)
            if name in ("bert", "clip", "siglip"):
                save_tokenizer(root / name, 16 if name != "bert" else 64)
            if name != "bert":
                save_images(root / name)
            made[name] = root / name, model
        return made[name]

    return get


@pytest.fixture
def copy_of(shelf: Callable[[str], tuple[Path, Any]], tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(shelf(name)[0], tmp_path / f"my-{name}"))

    return copy


def tokens(text: str, limit: int = 64) -> torch.Tensor:
    """Token ids by hand: the specials around the words, cut to the limit."""
    words = [4 + WORDS.index(word) if word in WORDS else 1 for word in text.split()]
    return torch.tensor([[2, *words[: limit - 2], 3]])


def by_hand(vector: Callable[[str], torch.Tensor], texts: Sequence[str | None] = TEXTS) -> np.ndarray:
    with torch.no_grad():
        vectors = [None if text is None else vector(text).squeeze(0).numpy() for text in texts]
    width = next(len(v) for v in vectors if v is not None)
    return np.stack([np.zeros(width, dtype=np.float32) if v is None else v for v in vectors])


POOLS: dict[str, Callable[[Any], torch.Tensor]] = {
    "auto": lambda output: output.last_hidden_state.mean(dim=1),
    "mean": lambda output: output.last_hidden_state.mean(dim=1),
    "cls": lambda output: output.last_hidden_state[:, 0],
    "max": lambda output: output.last_hidden_state.max(dim=1).values,
    "pooler": lambda output: output.pooler_output,
}


@pytest.mark.parametrize("pool", POOLS)
def test_bert_equals_one_text_at_a_time(tmp_path: Path, shelf: Any, pool: str) -> None:
    folder, model = shelf("bert")
    encoded = run(tmp_path, folder, "text", TEXTS, pool=pool, batch_size=3)
    expected = by_hand(lambda text: POOLS[pool](model(tokens(text))))
    assert encoded.bad == {} and encoded.values.dtype == np.float32
    np.testing.assert_allclose(encoded.values, expected, atol=1e-5)
    assert (encoded.values[2] == 0).all() and encoded.values[4].any()
    assert np.ptp(expected[[0, 1, 3, 6, 7, 8]], axis=0).max() > 0.1


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_neither_batches_nor_the_order_of_rows_change_a_text(tmp_path: Path, shelf: Any, batch_size: int) -> None:
    folder, _ = shelf("bert")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, 20))) for _ in range(40)]
    order = rng.permutation(40)
    one = run(tmp_path / "one", folder, "text", texts, batch_size=batch_size).values
    other = run(tmp_path / "two", folder, "text", [texts[row] for row in order], batch_size=7).values
    np.testing.assert_allclose(other, one[order], atol=1e-5)


def test_long_texts_are_cut_to_what_was_asked_and_to_what_the_model_can_read(tmp_path: Path, shelf: Any) -> None:
    folder, model = shelf("bert")
    long = " ".join(WORDS * 30)
    for asked, read in ((5, 5), (64, 64), (1000, 64)):
        encoded = run(tmp_path, folder, "text", [long], max_length=asked).values
        np.testing.assert_allclose(
            encoded, by_hand(lambda text, read=read: POOLS["mean"](model(tokens(text, read))), [long]), atol=1e-5
        )


def test_a_tokenizer_that_claims_no_limit_does_not_overrun_the_model(tmp_path: Path, copy_of: Any) -> None:
    folder = copy_of("bert")
    save_tokenizer(folder, 10**30)
    assert run(tmp_path, folder, "text", [" ".join(WORDS * 30)], max_length=1000).values.any()


@pytest.mark.parametrize("pool", ["auto", "mean", "cls", "max", "pooler"])
def test_the_text_tower_of_clip(tmp_path: Path, shelf: Any, pool: str) -> None:
    folder, model = shelf("clip")

    def vector(text: str) -> torch.Tensor:
        output = model.text_model(tokens(text, 16))
        return model.text_projection(output.pooler_output) if pool == "auto" else POOLS[pool](output)

    encoded = run(tmp_path, folder, "text", TEXTS, pool=pool, batch_size=3).values
    assert encoded.shape[1] == (10 if pool == "auto" else 16)
    np.testing.assert_allclose(encoded, by_hand(vector), atol=1e-5)


def test_the_text_tower_of_siglip_reads_padded_texts_as_it_was_trained_to(tmp_path: Path, shelf: Any) -> None:
    folder, model = shelf("siglip")

    def vector(text: str) -> torch.Tensor:
        ids = tokens(text, 16)
        padded = torch.nn.functional.pad(ids, (0, 16 - ids.shape[1]), value=0)
        output = model.text_model(padded)
        return output.pooler_output

    encoded = run(tmp_path, folder, "text", TEXTS, batch_size=3).values
    np.testing.assert_allclose(encoded, by_hand(vector), atol=1e-5)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path | None]:
    rng = np.random.default_rng(0)
    paths: list[Path | None] = []
    for number, size in enumerate([(16, 16), (40, 20), (9, 31), (16, 16)]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(paths[-1])
    paths[2:2] = [None]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    return [*paths, tmp_path / "bad.png", paths[0]]


def pixels(path: Path) -> torch.Tensor:
    """What the processor is known to do: bilinear to 16 x 16, from 0..255 to -1..1."""
    image = Image.open(path).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
    scaled = np.asarray(image, dtype=np.float32) / 255 * 2 - 1
    return torch.from_numpy(scaled.transpose(2, 0, 1).copy())[None]


IMAGE_CASES: dict[tuple[str, str], Callable[[Any, torch.Tensor], torch.Tensor]] = {
    ("vit", "auto"): lambda model, x: model(x).last_hidden_state[:, 0],
    ("vit", "cls"): lambda model, x: model(x).last_hidden_state[:, 0],
    ("vit", "mean"): lambda model, x: model(x).last_hidden_state.mean(dim=1),
    ("vit", "max"): lambda model, x: model(x).last_hidden_state.amax(dim=1),
    ("vit", "pooler"): lambda model, x: model(x).pooler_output,
    ("resnet", "auto"): lambda model, x: model(x).last_hidden_state.mean(dim=(2, 3)),
    ("resnet", "pooler"): lambda model, x: model(x).last_hidden_state.mean(dim=(2, 3)),
    ("resnet", "mean"): lambda model, x: model(x).last_hidden_state.mean(dim=(2, 3)),
    ("resnet", "max"): lambda model, x: model(x).last_hidden_state.amax(dim=(2, 3)),
    ("clip", "auto"): lambda model, x: model.visual_projection(model.vision_model(x).pooler_output),
    ("clip", "cls"): lambda model, x: model.vision_model(x).last_hidden_state[:, 0],
    ("clip", "mean"): lambda model, x: model.vision_model(x).last_hidden_state.mean(dim=1),
    ("clip", "pooler"): lambda model, x: model.vision_model(x).pooler_output,
    ("siglip", "auto"): lambda model, x: model.vision_model(x).pooler_output,
    ("siglip", "mean"): lambda model, x: model.vision_model(x).last_hidden_state.mean(dim=1),
}


@pytest.mark.parametrize(("name", "pool"), IMAGE_CASES)
def test_pictures_equal_one_at_a_time(
    tmp_path: Path, shelf: Any, pictures: list[Path | None], name: str, pool: str
) -> None:
    folder, model = shelf(name)
    encoded = run(tmp_path / "cache", folder, "image", pictures, pool=pool, batch_size=2)
    assert encoded.bad == {5: "it is not an image"}
    with torch.no_grad():
        for row, path in enumerate(pictures):
            if row in (2, 5):
                assert (encoded.values[row] == 0).all()
            else:
                assert path is not None
                expected = IMAGE_CASES[name, pool](model, pixels(path))[0].numpy()
                np.testing.assert_allclose(encoded.values[row], expected, atol=2e-5)
    assert (encoded.values[6] == encoded.values[0]).all()
    assert np.ptp(encoded.values[[0, 1, 3, 4]], axis=0).max() > 1e-3


def test_a_modality_that_is_missing_throughout_is_zero(tmp_path: Path, shelf: Any) -> None:
    assert not run(tmp_path, shelf("bert")[0], "text", [None, None]).values.any()
    assert not run(tmp_path, shelf("vit")[0], "image", [None, None]).values.any()


def sentence_encoder(folder: Path, **modes: bool) -> Path:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, **{f"pooling_mode_{key}": value for key, value in modes.items()}}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def test_a_sentence_encoder_gives_the_mean_over_tokens(tmp_path: Path, shelf: Any, copy_of: Any) -> None:
    folder = sentence_encoder(copy_of("bert"), cls_token=False, mean_tokens=True)
    model = shelf("bert")[1]
    np.testing.assert_allclose(
        run(tmp_path, folder, "text", TEXTS).values,
        by_hand(lambda text: POOLS["mean"](model(tokens(text)))),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        run(tmp_path, folder, "text", TEXTS, pool="cls").values,
        by_hand(lambda text: POOLS["cls"](model(tokens(text)))),
        atol=1e-5,
    )


def test_nothing_stale(tmp_path: Path, copy_of: Any) -> None:
    cache, folder = tmp_path / "cache", copy_of("bert")
    first = run(cache, folder, "text", TEXTS).values
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert run(cache, folder, "text", TEXTS).values.tobytes() == first.tobytes()
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()} == files
    assert (run(cache, folder, "text", TEXTS, pool="max").values != first).any()
    assert (run(cache, folder, "text", TEXTS, max_length=4).values != first).any()
    assert (run(cache, folder, "text", ["water", *TEXTS[1:]]).values[0] == first[1]).all()
    make_bert(seed=1).save_pretrained(folder)  # other weights under the same name
    second = run(cache, folder, "text", TEXTS).values
    assert (second[0] != first[0]).any()
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    vocabulary["storm"], vocabulary["water"] = vocabulary["water"], vocabulary["storm"]
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    assert (run(cache, folder, "text", TEXTS).values[0] != second[0]).any()
    make_bert(seed=0).save_pretrained(folder)
    save_tokenizer(folder)
    np.testing.assert_allclose(run(cache, folder, "text", TEXTS).values, first, atol=1e-6)


def test_the_weights_of_a_picture_encoder_count_too(tmp_path: Path, copy_of: Any, pictures: list[Path | None]) -> None:
    folder = copy_of("vit")
    first = run(tmp_path / "cache", folder, "image", pictures).values
    save_images(folder, 16)
    config = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    config["image_mean"] = [0.1, 0.2, 0.3]
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert (run(tmp_path / "cache", folder, "image", pictures).values != first).any()


def refused(cache: Path, folder: Path | str, kind: str = "text", **parameters: object) -> str:
    values = TEXTS if kind == "text" else [write_picture(cache)]
    with pytest.raises(UsageError) as raised:
        run(cache, folder, kind, values, **parameters)
    message = str(raised.value)
    assert "\n" not in message
    return message


def write_picture(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), "red").save(folder / "red.png")
    return folder / "red.png"


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("harmless", [True, False])
def test_a_pickle_is_refused_and_not_opened(tmp_path: Path, shelf: Any, copy_of: Any, harmless: bool) -> None:
    folder = copy_of("bert")
    (folder / "model.safetensors").unlink()
    weights = shelf("bert")[1].state_dict() if harmless else {"embeddings": Trap(tmp_path / "sprung")}
    torch.save(weights, folder / "pytorch_model.bin")
    message = refused(tmp_path, folder)
    assert str(folder) in message and "safetensors" in message
    assert not (tmp_path / "sprung").exists()


def test_code_in_a_checkpoint_is_not_executed(tmp_path: Path, copy_of: Any) -> None:
    folder = copy_of("bert")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}, "model_type": "mine"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'sprung')!r})\n", encoding="utf-8")
    assert str(folder) in refused(tmp_path, folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["no-such/checkpoint", "bert-base-nowhere", "./no/such/folder", "/no/such/folder"])
def test_an_absent_checkpoint_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refused(tmp_path, name)
    assert f"'{name}'" in message and "save_pretrained" in message


def test_without_the_network_the_line_says_so(tmp_path: Path) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" in refused(tmp_path, "no-such/checkpoint")


def test_a_folder_that_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path, tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "kind"), [("bert", "image"), ("vit", "text"), ("resnet", "text")], ids=lambda value: value
)
def test_a_checkpoint_of_the_other_kind_is_one_line(tmp_path: Path, shelf: Any, name: str, kind: str) -> None:
    folder = shelf(name)[0]
    assert str(folder) in refused(tmp_path, folder, kind)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"{}"),
        ("config.json", b'{"model_type": "unheard-of"}'),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"not json"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, copy_of: Any, file: str, content: bytes) -> None:
    folder = copy_of("bert")
    (folder / file).write_bytes(content)
    assert "checkpoint" in refused(tmp_path, folder)


def test_pool_pooler_where_there_is_none_is_one_line(tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=14, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=64)
    DistilBertModel(config).save_pretrained(tmp_path / "distil")
    save_tokenizer(tmp_path / "distil")
    assert run(tmp_path, tmp_path / "distil", "text", TEXTS).values.shape == (len(TEXTS), 16)
    assert "pool" in refused(tmp_path, tmp_path / "distil", pool="pooler")


def test_pool_cls_of_a_convolutional_network_is_one_line(tmp_path: Path, shelf: Any) -> None:
    assert "convolutional" in refused(tmp_path, shelf("resnet")[0], "image", pool="cls")
