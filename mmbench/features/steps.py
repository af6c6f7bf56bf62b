"""What the steps of a sample are, for whoever reads weights over them: a text's tokens, an image's patches.

Known of ``hf`` encoders that keep their steps (``pool=none``); of any other nothing is, and steps are numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmbench.features import Selector
from mmbench.features.checkpoint import find_checkpoint, load
from mmbench.features.image import open_image

MOST_SPECIAL = 8  # class tokens and registers before the patches


@dataclass(frozen=True)
class Patches:
    """An image as the encoder saw it, uint8 (H, W, 3), whose last rows * columns steps are its patches, row by row."""

    picture: NDArray[np.uint8]
    rows: int
    columns: int


def keeps_steps(selector: Selector) -> bool:
    """Whether the encoder gives a vector a step and says which step is which."""
    return selector.name == "hf" and selector.parameters.get("pool") == "none"


def tokens(checkpoint: str, text: str, count: int) -> list[str] | None:
    """The pieces of the text that its ``count`` steps stand for, each with the white space before it.

    A token that stands for no piece of it ([CLS]) is its own name, and a further token of the same letters a middle
    dot. None where the tokenizer makes another number of tokens.
    """
    tokenizer: Any = load(checkpoint, find_checkpoint(checkpoint), "AutoTokenizer")
    encoded = tokenizer(text, truncation=True, max_length=count, return_offsets_mapping=tokenizer.is_fast)
    ids = encoded["input_ids"]
    if len(ids) != count:
        return None
    names = [f" {name}" for name in tokenizer.convert_ids_to_tokens(ids)]
    if not tokenizer.is_fast:
        return names
    pieces, told = [], 0
    for name, (start, end) in zip(names, encoded["offset_mapping"], strict=True):
        pieces.append(name if start == end else text[told:end] if end > told else "·")
        told = max(told, end)
    return pieces


def patches(checkpoint: str, path: Path, count: int) -> Patches | None:
    """An image with its grid of ``count`` steps, or None where they form no square grid behind a few special tokens."""
    special = next((k for k in range(MOST_SPECIAL) if count > k and math.isqrt(count - k) ** 2 == count - k), None)
    if special is None:
        return None
    side = math.isqrt(count - special)
    processor: Any = load(checkpoint, find_checkpoint(checkpoint), "AutoImageProcessor")
    return Patches(as_seen(processor, open_image(path.read_bytes())), side, side)


def as_seen(processor: Any, image: Image.Image) -> NDArray[np.uint8]:
    """What a processor makes of an image, cut and scaled as the network sees it, back in colours: uint8 (H, W, 3)."""
    pixels = np.asarray(processor(image, return_tensors="np")["pixel_values"][0], dtype=np.float64).transpose(1, 2, 0)
    if getattr(processor, "do_normalize", False):
        pixels = pixels * np.asarray(processor.image_std) + np.asarray(processor.image_mean)
    scale = 1.0 if getattr(processor, "do_rescale", True) else 1 / 255
    return (pixels * scale * 255).clip(0, 255).round().astype(np.uint8)
