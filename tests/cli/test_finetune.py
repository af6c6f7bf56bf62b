"""``mmbench run --finetune`` and ``--device`` as a user types them, on a card of twenty posts and tiny checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmbench.training import loop

CARD = """
name = "posts"
summary = "generated posts"
table = "posts.csv"
id = "id"
licence = "none"
citation = "none"

[modalities.text]
kind = "text"
columns = ["text"]

[modalities.image]
kind = "image"
column = "photo"

[concepts.topic]
kind = "exclusive"
column = "topic"
labels = ["flood", "fire"]

[split]
fractions = [0.6, 0.2, 0.2]
"""
ROWS = 30


@pytest.fixture
def card(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    lines = ["id,text,photo,topic"]
    for row in range(ROWS):
        topic = ("flood", "fire")[row % 2]
        words = " ".join(draw.choice(["water", "road", "help"] if row % 2 else ["rain", "boat", "town"], 1 + row % 5))
        picture = draw.integers(0, 128, (12, 12, 3), dtype=np.uint8) + np.uint8(120 * (row % 2))
        Image.fromarray(picture).save(tmp_path / f"{row}.png")
        photo = "" if row == 4 else f"{row}.png"
        lines.append(f"p{row},{'' if row == 7 else words},{photo},{topic}")
    (tmp_path / "posts.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "posts.toml").write_text(CARD)
    return tmp_path / "posts.toml"


@pytest.fixture
def command(card: Path, tiny_checkpoints: dict[str, str]) -> list[str]:
    encoders = ",".join(f"{name}=hf:{folder}" for name, folder in tiny_checkpoints.items())
    return [
        "run", "posts", "--plugin", str(card), "--encoders", encoders, "--set", "batch_size=8", "--no-energy",
        "--missing-images", "mask", "--seeds", "1",
    ]  # fmt: skip


def cell(out: Path, method: str) -> tuple[dict[str, Any], dict[str, Any], Path]:
    (folder,) = out.glob("*/cells/*/*/seed-0")
    result = json.loads((folder / "result.json").read_text())
    assert result["method"] == method
    with np.load(folder / "predictions.npz", allow_pickle=False) as file:
        return result, {name: file[name] for name in file.files}, folder


def test_finetuning_is_the_methods_name_and_an_override(mmbench, command, tmp_path) -> None:
    done = mmbench(*command, "--method", "xattn", "--finetune", "--epochs", "2", "--out", "one")
    assert done.code == 0, done.err
    assert "xattn:finetune=on trains the encoders of image, text" in done.err
    assert "encoding" not in done.err, "nobody looks at features"
    result, arrays, folder = cell(tmp_path / "one", "xattn:finetune=on")
    assert result["history"]["epochs"] == 2 and result["device"] == "cpu"
    assert np.isfinite(arrays["scores/topic"]).all() and len(arrays["id"]) == 12
    assert not list(folder.parent.glob(".*")), "the checkpoint is gone"
    (info,) = (tmp_path / "one").glob("*/run.json")
    assert "xattn:finetune=on trains the encoders of image, text" in json.loads(info.read_text())["overrides"]
    named = mmbench(*command, "--method", "xattn:finetune=on", "--epochs", "2", "--out", "one")
    assert "nothing to train" in named.err
    frozen = mmbench(*command, "--method", "xattn,xattn:finetune=on", "--epochs", "2", "--out", "one")
    assert frozen.code == 0 and "2 cells, 1 done, 1 to run" in frozen.err


def test_killed_in_the_middle_the_same_command_goes_on_to_the_same_bits(
    mmbench, command, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*command, "--method", "xattn", "--finetune", "--epochs", "4"]
    assert mmbench(*arguments, "--out", "whole").code == 0
    validate, calls = loop._validate, []

    def dies_in_the_third_epoch(*given: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return validate(*given)

    monkeypatch.setattr(loop, "_validate", dies_in_the_third_epoch)
    killed = mmbench(*arguments, "--out", "parts")
    assert killed.code == 130
    assert len(list((tmp_path / "parts").glob("*/cells/*/*/.seed-0.checkpoint"))) == 1
    again = mmbench(*arguments, "--out", "parts")
    assert again.code == 0 and len(calls) == 5, "two epochs were left"
    one, other = cell(tmp_path / "whole", "xattn:finetune=on"), cell(tmp_path / "parts", "xattn:finetune=on")
    assert one[0]["history"] == other[0]["history"]
    assert all(np.array_equal(values, other[1][name]) for name, values in one[1].items())
    assert not list(other[2].parent.glob(".*"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--encoders", "text=tfidf-svd,image=hog-color"], "xattn:finetune=on trains checkpoints of texts and images"),
        (["--encoders", "text=hf:no-such-checkpoint,image=hog-color"], "checkpoint 'no-such-checkpoint' not found"),
        (
            ["--method", "concat+equal"],
            "--finetune: no method of --method 'concat+equal' can be fine-tuned: name xattn",
        ),
        (["--device", "cuda"], "use --device cpu, or auto"),
        (["--device", "gpu"], "unknown device 'gpu'"),
    ],
)
def test_what_cannot_be_is_one_line(
    changed: list[str], said: str, mmbench, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments = [*command, "--method", "xattn", "--finetune", "--epochs", "1"]
    for flag, value in zip(changed[::2], changed[1::2], strict=True):
        if flag in arguments:
            arguments[arguments.index(flag) + 1] = value
        else:
            arguments += [flag, value]
    done = mmbench(*arguments)
    assert done.code == 2 and said in done.complaint


def test_an_unreadable_picture_is_found_without_encoding(mmbench, command, card: Path) -> None:
    (card.parent / "9.png").write_text("no picture")
    arguments = [*command, "--method", "xattn", "--finetune", "--epochs", "1"]
    refused = mmbench(*arguments)
    assert refused.code == 2 and "1 input cannot be read (p9: it is not an image)" in refused.complaint
    done = mmbench(*arguments, "--bad-images", "drop")
    assert done.code == 0 and ": left out" in done.err


def test_the_device_is_recorded_and_names_no_other_run(mmbench, tmp_path) -> None:
    for device in ("cpu", "auto"):
        done = mmbench("run", "digits", "--method", "majority,concat+equal", "--seeds", "1", "--epochs", "1",
                       "--no-energy", "--device", device)  # fmt: skip
        assert done.code == 0
    assert "nothing to train" in done.err
    (run,) = (tmp_path / "results" / "runs").iterdir()
    for result in run.glob("cells/*/*/*/result.json"):
        assert json.loads(result.read_text())["device"] == "cpu"
