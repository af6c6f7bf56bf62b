"""``elmo``: AllenNLP's expected embeddings, its equations in NumPy on generated weights, and hostile checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mmbench.errors import UsageError
from mmbench.features import encode, fingerprint
from mmbench.features.elmo import load, tokenize

OPTIONS: dict[str, Any] = {
    "lstm": {
        "cell_clip": 0.4,
        "use_skip_connections": True,
        "n_layers": 2,
        "proj_clip": 0.3,
        "projection_dim": 4,
        "dim": 6,
    },
    "char_cnn": {
        "embedding": {"dim": 3},
        "filters": [[1, 4], [2, 5]],
        "n_highway": 1,
        "n_characters": 262,
        "max_characters_per_token": 12,
        "activation": "tanh",
    },
}
NOTHING = np.empty(0, dtype=np.int64)


def arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "char_embed": (261, 3),
        "CNN/W_cnn_0": (1, 1, 3, 4),
        "CNN/b_cnn_0": (4,),
        "CNN/W_cnn_1": (1, 2, 3, 5),
        "CNN/b_cnn_1": (5,),
        "CNN_high_0/W_carry": (9, 9),
        "CNN_high_0/b_carry": (9,),
        "CNN_high_0/W_transform": (9, 9),
        "CNN_high_0/b_transform": (9,),
        "CNN_proj/W_proj": (9, 4),
        "CNN_proj/b_proj": (4,),
    }
    for direction in range(2):
        for layer in range(2):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell/"
            shapes |= {cell + "W_0": (8, 24), cell + "B": (24,), cell + "W_P_0": (6, 4)}
    return {name: draw.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    write(folder)
    return folder


def write(folder: Path, options: Any = OPTIONS, change: Callable[[h5py.File], None] = lambda file: None) -> None:
    (folder / "tiny_options.json").write_text(json.dumps(options), encoding="utf-8")
    with h5py.File(folder / "tiny_weights.hdf5", "w") as file:
        for name, array in arrays().items():
            file[name] = array
        change(file)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def token_by_hand(w: dict[str, np.ndarray], codes: list[int]) -> np.ndarray:
    codes = [258, *codes[:10], 259]
    x = w["char_embed"][codes + [260] * (12 - len(codes))].astype(np.float64)
    pooled = []
    for k, width in enumerate((1, 2)):
        windows = [np.einsum("wi,wio->o", x[t : t + width], w[f"CNN/W_cnn_{k}"][0]) for t in range(12 - width + 1)]
        pooled.append(np.tanh((np.stack(windows) + w[f"CNN/b_cnn_{k}"]).max(axis=0)))
    y = np.concatenate(pooled)
    carry = sigmoid(y @ w["CNN_high_0/W_carry"] + w["CNN_high_0/b_carry"])
    transform = np.maximum(0, y @ w["CNN_high_0/W_transform"] + w["CNN_high_0/b_transform"])
    return (carry * transform + (1 - carry) * y) @ w["CNN_proj/W_proj"] + w["CNN_proj/b_proj"]


def layers_by_hand(tokens: list[str]) -> np.ndarray:
    """(3, T, 8) float64: Peters et al. 2018 as TensorFlow's LSTMCell computes it: gates i, j, f, o, forget bias 1."""
    w = arrays()
    x = np.stack([token_by_hand(w, c) for c in ([256], *(list(t.encode()) for t in tokens), [257])])
    layers = [[np.concatenate([x, x], axis=1)], [], []]
    for direction in range(2):
        below = x if direction == 0 else x[::-1]
        for layer in range(2):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell/"
            c, h, out = np.zeros(6), np.zeros(4), []
            for row in below:
                i, j, f, o = np.split(np.concatenate([row, h]) @ w[cell + "W_0"] + w[cell + "B"], 4)
                c = np.clip(sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j), -0.4, 0.4)
                h = np.clip((sigmoid(o) * np.tanh(c)) @ w[cell + "W_P_0"], -0.3, 0.3)
                out.append(h)
            below = np.stack(out) + (below if layer == 1 else 0)
            layers[layer + 1].append(below if direction == 0 else below[::-1])
    return np.stack([np.concatenate(parts, axis=1)[1:-1] for parts in layers])


def test_every_layer_equals_the_equations_by_hand(checkpoint: Path) -> None:
    tokens = ["Flood", "at", "Köln-Deutz-Station", "!"]  # one token is cut at 10 bytes
    with torch.inference_mode():
        found = load(str(checkpoint)).double()([tokens])[0]
    np.testing.assert_allclose(found[0].numpy(), layers_by_hand(tokens), atol=1e-12)


def test_sentences_of_several_lengths_in_a_batch_equal_one_by_one(checkpoint: Path) -> None:
    model = load(str(checkpoint)).double()
    batch = [["one"], ["two", "more", "words"], ["a", "b"]]
    with torch.inference_mode():
        together, _ = model(batch)
        for row, tokens in enumerate(batch):
            np.testing.assert_allclose(together[row, :, : len(tokens)], layers_by_hand(tokens), atol=1e-12)


def test_the_embeddings_that_allennlp_expects(test_data: Path) -> None:
    folder = test_data / "elmo"
    lists = json.loads((folder / "sentences.json").read_text())
    model, state = load(str(folder)), None
    files = [h5py.File(folder / f"lm_embeddings_{k}.hdf5") for k in range(3)]
    for i in range(10):
        batch = [sentences[i].split() for sentences in lists]
        with torch.inference_mode():
            layers, state = model(batch, state)
        for k, tokens in enumerate(batch):
            expected = np.concatenate(files[k][str(i)][...], axis=-1)
            np.testing.assert_allclose(layers[k, -1, : len(tokens)], expected, atol=1e-6)


@pytest.mark.parametrize(("mix", "pool"), [("average", "mean"), ("average", "max"), ("top", "mean")])
def test_texts_are_pooled_over_layers_and_tokens(mix: str, pool: str, checkpoint: Path, tmp_path: Path) -> None:
    texts = ["Water everywhere, help!", None, "", "ok", "Water everywhere, help!"]
    found = encode(f"elmo:{checkpoint}:mix={mix}:pool={pool}", "text", texts, NOTHING, tmp_path / "cache").values
    assert found.shape == (5, 8) and found.dtype == np.float32
    for row in (0, 3):
        layers = layers_by_hand(tokenize(texts[row] or ""))
        mixed = layers.mean(axis=0) if mix == "average" else layers[-1]
        np.testing.assert_allclose(found[row], mixed.mean(axis=0) if pool == "mean" else mixed.max(axis=0), atol=1e-5)
    assert not found[1:3].any()
    np.testing.assert_array_equal(found[4], found[0])


def test_a_vector_does_not_depend_on_what_is_encoded_with_it(checkpoint: Path, tmp_path: Path) -> None:
    texts = ["help us", "no water", "all", "go now", "fire in town"]
    selector = f"elmo:{checkpoint}:batch_size=2"
    together = encode(selector, "text", texts, NOTHING, tmp_path / "a").values
    alone = [encode(selector, "text", [text], NOTHING, tmp_path / "b").values[0] for text in texts]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_long_texts_are_cut_at_max_length(checkpoint: Path, tmp_path: Path) -> None:
    values = encode(f"elmo:{checkpoint}:max_length=2", "text", ["a b c d", "a b"], NOTHING, tmp_path).values
    np.testing.assert_array_equal(values[0], values[1])


def test_words_and_marks_are_tokens() -> None:
    assert tokenize("RT @who: it's 1,300 dead (#quake), https://t.co/x1") == [
        "RT", "@who", ":", "it's", "1,300", "dead", "(", "#quake", ")", ",", "https://t.co/x1",
    ]  # fmt: skip


def test_the_cache_key_holds_the_bytes_of_weights_and_options(checkpoint: Path) -> None:
    before = fingerprint(f"elmo:{checkpoint}", "text")
    (checkpoint / "notes.txt").write_text("not part of it")
    assert fingerprint(f"elmo:{checkpoint}", "text") == before

    def change(file: h5py.File) -> None:
        file["char_embed"][0, 0] += 1

    write(checkpoint, change=change)
    other = fingerprint(f"elmo:{checkpoint}", "text")
    write(checkpoint, OPTIONS | {"lstm": OPTIONS["lstm"] | {"cell_clip": 3}}, change)
    assert len({before, other, fingerprint(f"elmo:{checkpoint}", "text")}) == 3


def refused(folder: Path | str) -> str:
    with pytest.raises(UsageError) as raised:
        load(str(folder))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_folder_without_its_two_files_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nowhere")
    assert "*options.json" in refused(tmp_path)
    (checkpoint / "second_weights.hdf5").write_bytes(b"")
    assert "2 files named *weights.hdf5" in refused(checkpoint)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("lstm", "dim"), 0, "lstm.dim"),
        (("lstm", "dim"), 10**9, "lstm.dim"),
        (("lstm", "projection_dim"), "16", "lstm.projection_dim"),
        (("char_cnn", "activation"), "gelu", "char_cnn.activation"),
        (("char_cnn", "filters"), [[13, 4]], "wider than max_characters_per_token"),
        (("char_cnn", "filters"), [], "char_cnn.filters"),
        (("char_cnn", "n_characters"), 261, "char_cnn.n_characters"),
        (("lstm", "cell_clip"), -1, "lstm.cell_clip"),
    ],
)
def test_wrong_options_are_told(path: tuple[str, str], value: object, said: str, checkpoint: Path) -> None:
    write(checkpoint, OPTIONS | {path[0]: OPTIONS[path[0]] | {path[1]: value}})
    assert said in refused(checkpoint)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_options_that_are_no_options_are_told(content: bytes, checkpoint: Path) -> None:
    (checkpoint / "tiny_options.json").write_bytes(content)
    assert "tiny_options.json" in refused(checkpoint)


def replace(name: str, make: Callable[[h5py.File], None]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        make(file)

    return change


HOSTILE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "missing": (lambda file: file.__delitem__("CNN_proj/W_proj"), "lacks CNN_proj/W_proj"),
    "a missing group": (lambda file: file.__delitem__("RNN_1"), "lacks RNN_1/"),
    "another shape": (
        replace("char_embed", lambda file: file.__setitem__("char_embed", np.zeros((262, 3), "f4"))),
        "char_embed has shape (262, 3), expected (261, 3)",
    ),
    "texts": (replace("CNN/b_cnn_0", lambda file: file.__setitem__("CNN/b_cnn_0", np.array([b"a"] * 4))), "floats"),
    "a group": (replace("char_embed", lambda file: file.create_group("char_embed")), "char_embed is no array"),
    "nan": (lambda file: file["char_embed"].__setitem__((0, 0), np.nan), "not finite"),
    "a link out": (
        replace("char_embed", lambda file: file.__setitem__("char_embed", h5py.ExternalLink("other.hdf5", "x"))),
        "links",
    ),
    "a soft link": (
        replace("char_embed", lambda file: file.__setitem__("char_embed", h5py.SoftLink("/char_embed"))),
        "links",
    ),
    "bytes of another file": (
        replace(
            "CNN/b_cnn_0", lambda file: file["CNN"].create_dataset("b_cnn_0", (4,), "f4", external="/etc/hostname")
        ),
        "links",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_weights_are_told(case: str, checkpoint: Path) -> None:
    change, said = HOSTILE[case]
    write(checkpoint, change=change)
    assert said in refused(checkpoint)


@pytest.mark.parametrize("kept", [0, 7, 600, 5000])
def test_truncated_weights_are_told(kept: int, checkpoint: Path) -> None:
    path = checkpoint / "tiny_weights.hdf5"
    path.write_bytes(path.read_bytes()[:kept])
    assert "tiny_weights.hdf5" in refused(checkpoint)
