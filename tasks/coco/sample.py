"""The generated sample of COCO: small pictures of coloured shapes with captions, in the official layout.

An object is told by the picture (drawn), by the caption (said), or by both, and half of what is said is said by name.
Everything is drawn from one seed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mmbench import sample_folder

VERSION = 1
SIDE = 64
SIZES = {"train2017": 700, "val2017": 300}
CAPTIONS = 2
SAID_BY_NAME = 0.5
# name, share of pictures, colour, where the object is told, another way to say it
OBJECTS: tuple[tuple[str, float, tuple[int, int, int], str, str], ...] = (
    ("person", 0.45, (220, 40, 40), "both", "somebody in red"),
    ("bus", 0.15, (250, 210, 40), "image", "a yellow ride"),
    ("dog", 0.2, (130, 80, 40), "both", "a barking friend"),
    ("kite", 0.15, (60, 90, 230), "text", "a toy in the wind"),
    ("wine glass", 0.12, (170, 40, 170), "text", "a drink in a thin vessel"),
    ("umbrella", 0.15, (40, 180, 90), "image", "shelter from rain"),
)
SCENES = ("in the street", "near the sea", "on a lawn", "at home", "on a cloudy day", "seen from above")
TOLD = {"both": (0.7, 0.7), "image": (0.95, 0.0), "text": (0.0, 0.95)}  # chance to be drawn, and to be said


def ensure(scratch: Path) -> Path:
    """The folder of the sample below ``scratch``, written where it is not there whole."""
    return sample_folder.ensure(scratch, "coco", VERSION, generate)


def generate(root: Path) -> list[str]:
    """Write the sample below an empty folder, the same labels, captions and pictures every time; names the pictures."""
    (root / "annotations").mkdir()
    images: list[str] = []
    for part, n in SIZES.items():
        (root / part).mkdir()
        rng = np.random.default_rng([VERSION, n])
        files: list[dict[str, Any]] = []
        marks: list[dict[str, Any]] = []
        said: list[dict[str, Any]] = []
        for number in range(n):
            held = rng.random(len(OBJECTS)) < [share for _, share, *_ in OBJECTS]
            name = f"{number + 1:012d}.jpg"
            picture, captions = _picture(rng, held), [_caption(rng, held) for _ in range(CAPTIONS)]
            picture.save(root / part / name, quality=90)
            images.append(f"{part}/{name}")
            files.append({"id": number + 1, "file_name": name, "width": SIDE, "height": SIDE})
            for place in np.flatnonzero(held).tolist():
                marks.append({"id": len(marks) + 1, "image_id": number + 1, "category_id": place + 1, "iscrowd": 0})
            for caption in captions:
                said.append({"id": len(said) + 1, "image_id": number + 1, "caption": caption})
        categories = [{"id": place + 1, "name": name} for place, (name, *_) in enumerate(OBJECTS)]
        contents = {
            "instances": {"images": files, "annotations": marks, "categories": categories},
            "captions": {"images": files, "annotations": said},
        }
        for kind, content in contents.items():
            (root / "annotations" / f"{kind}_{part}.json").write_text(json.dumps(content))
    return images


def _caption(rng: np.random.Generator, held: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    said = []
    for present, (name, _, _, told, hint) in zip(held, OBJECTS, strict=True):
        if present and rng.random() < TOLD[told][1]:
            said.append(f"a {name}" if rng.random() < SAID_BY_NAME else hint)
    what = " and ".join(said) or "something to look at"
    return f"{what} {SCENES[int(rng.integers(len(SCENES)))]}."


def _picture(rng: np.random.Generator, held: np.ndarray[Any, np.dtype[np.bool_]]) -> Image.Image:
    base = int(rng.integers(150, 220))
    image = Image.new("RGB", (SIDE, SIDE), (base, base, base))
    canvas = ImageDraw.Draw(image)
    for kind, (present, (_, _, colour, told, _)) in enumerate(zip(held, OBJECTS, strict=True)):
        if present and rng.random() < TOLD[told][0]:
            side = int(rng.integers(16, 28))
            x, y = (int(at) for at in rng.integers(0, SIDE - side, 2))
            draw = (canvas.ellipse, canvas.rectangle)[kind % 2]
            draw((x, y, x + side, y + side), fill=colour)
    pixels = np.asarray(image, dtype=np.float64) + rng.normal(0, 8, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
