"""The generated sample of COCO: small pictures of coloured shapes with captions, in the official layout.

An object is told by the picture (drawn), by the caption (said), or by both, and half of what is said is said by name.
Everything is drawn from one seed; ``sample.json`` is written last, and by it a folder is known as generated.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mmbench.errors import UsageError

VERSION = 1
MARKER = "sample.json"
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
    """The folder of the sample below ``scratch``: written where it is not there whole, else used as it is.

    Raises:
        UsageError: ``scratch`` cannot be written.
    """
    home = scratch / f"coco-sample-v{VERSION}"
    if is_whole(home):
        return home
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=scratch))
        try:
            generate(made)
            if home.exists():
                with suppress(FileNotFoundError):  # another process took it away first
                    home.rename(made / "damaged")
                    shutil.rmtree(made / "damaged")
            try:
                made.rename(home)
            except OSError:  # another process was first
                if not is_whole(home):
                    raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"the sample cannot be written to {scratch}: {error.strerror}; free space or choose another folder"
        ) from None
    return home


def is_whole(home: Path) -> bool:
    """Whether a folder holds this version of the sample, with every text as written and every picture of its size."""
    try:
        record = json.loads((home / MARKER).read_bytes())
        return bool(
            record["version"] == VERSION
            and all((home / name).stat().st_size == size for name, size in record["images"].items())
            and all(_sha256(home / name) == expected for name, expected in record["texts"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def version_of(home: Path) -> int | None:
    """The generator's version where a folder holds a generated sample, else None.

    Raises:
        UsageError: a marker that cannot be read.
    """
    path = home / MARKER
    if not path.exists():
        return None
    try:
        return int(json.loads(path.read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path} is damaged: it marks a generated sample; delete {home} and generate it again"
        ) from None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def generate(root: Path) -> None:
    """Write the sample below an empty folder: the same labels, captions and pictures every time."""
    (root / "annotations").mkdir()
    images: dict[str, int] = {}
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
            images[f"{part}/{name}"] = (root / part / name).stat().st_size
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
    texts = {f"annotations/{path.name}": _sha256(path) for path in sorted((root / "annotations").iterdir())}
    (root / MARKER).write_text(json.dumps({"generated": True, "version": VERSION, "images": images, "texts": texts}))


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
