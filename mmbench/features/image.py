"""``hog-color``: histograms of oriented gradients beside colour statistics, 428 numbers an image.

The picture is scaled to 96 x 96. Gradients (Dalal & Triggs, CVPR 2005): 9 orientations, cells of 24 pixels, blocks of
2 x 2 cells, 324 numbers. Colour: in each quadrant hue (weighted by saturation and brightness), saturation and
brightness histograms of 8, 4 and 4 bins, and the mean and standard deviation of red, green and blue, 88 numbers; then
the mean brightness over a 4 x 4 grid.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mmbench.features import Encoded
from mmbench.features.files import UnreadableError, encode_files
from mmbench.hashing import digest

VERSION = 2
SIDE = 96
LARGEST_PIXELS = 100_000_000


def encode(
    values: Sequence[Path | None], *, cache: Path, identity: list[str], kind: str, frames: str = "mean"
) -> Encoded:
    """Paths to (n, 428), of videos (n, 30, 428) with ``frames=steps``; None becomes zeros, bad files are told."""
    return encode_files(values, cache, digest(identity), reader(kind, describe, frames))


def reader(
    kind: str, encode_image: Callable[[Image.Image], NDArray[np.float32]], frames: str = "mean"
) -> Callable[[bytes], NDArray[np.float32]]:
    """From an encoder of pictures to one of what a file holds: an image, or a video as its mean or its steps."""
    if kind == "video":
        from mmbench.features.video import over_frames

        return over_frames(encode_image, mean=frames == "mean")
    return lambda data: encode_image(open_image(data))


def open_image(data: bytes) -> Image.Image:
    """The decoded picture, upright, in RGB, on white where it is transparent; the first frame of an animation.

    Raises:
        UnreadableError: not an image, truncated, or of more than 100 million pixels (told from the header).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    raise UnreadableError(f"{image.width} x {image.height} pixels are too many")
                image.load()
                return _rgb(ImageOps.exif_transpose(image))
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError("it is not an image") from None
    except Image.DecompressionBombError:
        raise UnreadableError("it has too many pixels") from None
    except Exception as error:  # decoders raise what they like: struct.error, zlib.error, KeyError, …
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UnreadableError(f"it cannot be decoded: {reason}") from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits at 255 rather than scale them.
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def describe(image: Image.Image) -> NDArray[np.float32]:
    """One RGB picture to its features, float32 (428,)."""
    from skimage.feature import hog

    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(small.convert("L"), dtype=np.float64) / 255
    gradients = hog(grey, orientations=9, pixels_per_cell=(24, 24), cells_per_block=(2, 2), feature_vector=True)
    rgb = np.asarray(small, dtype=np.float64) / 255
    hsv = np.asarray(small.convert("HSV"), dtype=np.float64) / 255
    parts = [gradients]
    half = SIDE // 2
    for rows in (slice(0, half), slice(half, SIDE)):
        for columns in (slice(0, half), slice(half, SIDE)):
            hue, saturation, value = (hsv[rows, columns, channel].ravel() for channel in range(3))
            block = rgb[rows, columns].reshape(-1, 3)
            parts += [
                _shares(hue, 8, saturation * value),
                _shares(saturation, 4),
                _shares(value, 4),
                block.mean(axis=0),
                block.std(axis=0),
            ]
    parts.append(grey.reshape(4, SIDE // 4, 4, SIDE // 4).mean(axis=(1, 3)).ravel())
    return np.concatenate(parts).astype(np.float32)


def _shares(values: NDArray[np.float64], bins: int, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """The histogram of values in 0..1, none of which lies on an inner edge, over their number: (bins,)."""
    counts = np.bincount(np.minimum((values * bins).astype(np.int64), bins - 1), weights, bins)
    shares: NDArray[np.float64] = counts / len(values)
    return shares
