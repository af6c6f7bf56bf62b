"""``hog-color``: histograms of oriented gradients beside colour statistics, 428 numbers an image.

The picture is scaled to 128 x 128. Gradients: 9 orientations, cells of 32 pixels, blocks of 2 x 2 cells. Colour: in
each quadrant hue (weighted by saturation), saturation and brightness histograms of 8, 4 and 4 bins, and the mean and
standard deviation of red, green and blue; then the same means over the whole picture's 4 x 4 grid of brightness.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mmbench.features import Encoded
from mmbench.features.cache import cached
from mmbench.hashing import digest

VERSION = 2
SIDE = 128
LARGEST_PIXELS = 100_000_000


class UnreadableImageError(Exception):
    """Why an image cannot be used, in a few words."""


def open_image(path: Path) -> Image.Image:
    """The decoded picture, upright, in RGB; the first frame of an animation.

    Raises:
        UnreadableImageError: not an image, truncated, or of more than 100 million pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    raise UnreadableImageError(f"{image.width} x {image.height} pixels are too many")
                image.load()
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
                    grey = np.asarray(upright, dtype=np.float64) / 257
                    upright = Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))
                elif upright.mode == "F":  # of no fixed range
                    grey = np.nan_to_num(np.asarray(upright, dtype=np.float64))
                    span = max(float(grey.max() - grey.min()), 1e-12)
                    upright = Image.fromarray(((grey - grey.min()) / span * 255).astype(np.uint8))
                if upright.mode in ("P", "LA", "PA") or "transparency" in upright.info:
                    upright = upright.convert("RGBA")
                if upright.mode == "RGBA":
                    canvas = Image.new("RGBA", upright.size, (255, 255, 255, 255))
                    upright = Image.alpha_composite(canvas, upright)
                return upright.convert("RGB")
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImageError("it has too many pixels") from None
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except UnidentifiedImageError:
        raise UnreadableImageError("it is not an image") from None
    except Exception as error:  # decoders raise what they like: struct.error, zlib.error, KeyError, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f"it cannot be decoded ({reason})") from None


def encode(values: Sequence[Path | None], *, cache: Path, identity: list[str]) -> Encoded:
    """Paths to (n, 428); None becomes zeros, and what cannot be read is told by row."""
    return encode_files(values, cache, identity, lambda images: np.stack([describe(image) for image in images]))


def encode_files(
    values: Sequence[Path | None],
    cache: Path,
    identity: list[str],
    describe_batch: Callable[[list[Image.Image]], NDArray[np.float32]],
    batch_size: int = 32,
) -> Encoded:
    """Encode each distinct file once, by the bytes it holds now; a stored row of NaN is a file that cannot be read."""
    bad: dict[int, str] = {}
    contents: dict[str, Path] = {}
    content_of: dict[int, str] = {}
    for row, path in enumerate(values):
        if path is None:
            continue
        try:
            content = digest([path.read_bytes()])
        except OSError as error:
            bad[row] = error.strerror or "it cannot be opened"
            continue
        content_of[row] = content
        contents.setdefault(content, path)
    order = sorted(contents)
    place = {content: number for number, content in enumerate(order)}
    paths = [contents[content] for content in order]
    if not paths:
        return Encoded(np.zeros((len(values), 1), dtype=np.float32), bad)
    distinct = cached(cache, digest([*identity, "files", *order]), lambda: _distinct(paths, describe_batch, batch_size))
    encoded = np.zeros((len(values), distinct.shape[1]), dtype=np.float32)
    for row, content in content_of.items():
        features = distinct[place[content]]
        if np.isnan(features).any():
            bad[row] = _reason(contents[content])
        else:
            encoded[row] = features
    return Encoded(encoded, bad)


def _distinct(
    paths: list[Path], describe_batch: Callable[[list[Image.Image]], NDArray[np.float32]], batch_size: int
) -> NDArray[np.float32]:
    """(number of files, d), a row of NaN for each file that cannot be read."""
    rows: dict[int, NDArray[np.float32]] = {}
    for start in range(0, len(paths), batch_size):
        images: dict[int, Image.Image] = {}
        for number in range(start, min(start + batch_size, len(paths))):
            with contextlib.suppress(UnreadableImageError):
                images[number] = open_image(paths[number])
        if images:
            rows.update(zip(images, describe_batch(list(images.values())), strict=True))
    size = len(next(iter(rows.values()))) if rows else 1
    unreadable = np.full(size, np.nan, dtype=np.float32)
    return np.stack([rows.get(number, unreadable) for number in range(len(paths))])


def _reason(path: Path) -> str:
    try:
        open_image(path)
    except UnreadableImageError as error:
        return str(error)
    return "it cannot be read"


def describe(image: Image.Image) -> NDArray[np.float32]:
    """One RGB picture to its features, float32 (428,)."""
    from skimage.feature import hog

    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(small.convert("L"), dtype=np.float32) / 255
    gradients = hog(grey, orientations=9, pixels_per_cell=(32, 32), cells_per_block=(2, 2), feature_vector=True)
    rgb = np.asarray(small, dtype=np.float32) / 255
    hsv = np.asarray(small.convert("HSV"), dtype=np.float32) / 255
    parts = [gradients]
    half = SIDE // 2
    for rows in (slice(0, half), slice(half, SIDE)):
        for columns in (slice(0, half), slice(half, SIDE)):
            hue, saturation, value = (hsv[rows, columns, channel].ravel() for channel in range(3))
            weight = saturation * value
            parts += [
                np.histogram(hue, bins=8, range=(0, 1), weights=weight)[0] / len(hue),
                np.histogram(saturation, bins=4, range=(0, 1))[0] / len(hue),
                np.histogram(value, bins=4, range=(0, 1))[0] / len(hue),
            ]
            block = rgb[rows, columns].reshape(-1, 3)
            parts += [block.mean(axis=0), block.std(axis=0)]
    parts.append(grey.reshape(4, SIDE // 4, 4, SIDE // 4).mean(axis=(1, 3)).ravel())
    return np.concatenate(parts).astype(np.float32)
