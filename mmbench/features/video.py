"""Videos as the image encoders see them: frames at even distances, as a sequence of what they become or as its mean.

As MR26 samples: 30 frames, 224 x 224. Decoded by PyAV, the extra ``video``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmbench.errors import UsageError
from mmbench.features.files import UnreadableError
from mmbench.features.image import LARGEST_PIXELS
from mmbench.features.optional import usable

FRAMES, SIDE = 30, 224
MOST_FRAMES = 200_000  # almost two hours at 30 a second
# Containers whose demuxer reads the file it is given and no other: a playlist could name any.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg"


def over_frames(
    encode_image: Callable[[Image.Image], NDArray[np.float32]], mean: bool
) -> Callable[[bytes], NDArray[np.float32]]:
    """From an encoder of pictures, to float32 (d,), to one of videos, to (30, d) or to the mean over frames (d,)."""

    def encode_video(data: bytes) -> NDArray[np.float32]:
        steps = np.stack([encode_image(frame) for frame in frames(data)])
        return steps.mean(axis=0, dtype=np.float32) if mean else steps

    return encode_video


def frames(data: bytes) -> list[Image.Image]:
    """30 frames of a video at even distances from the first to the last, RGB, 224 x 224; a short one repeats its last.

    Raises:
        UnreadableError: not a video, damaged, or of too many frames or pixels.
        UsageError: PyAV is not installed.
    """
    count = sum(1 for _ in _decoded(data))
    if count == 0:
        raise UnreadableError("it has no frame")
    wanted = places(count)
    kept = {
        place: frame.to_image().convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        for place, frame in enumerate(_decoded(data))
        if place in wanted
    }
    return [kept[place] for place in wanted]


def places(count: int) -> list[int]:
    """The 30 frames that are taken of ``count``: floor of even steps, or all of them and the last again."""
    if count < FRAMES:
        return [min(place, count - 1) for place in range(FRAMES)]
    return [place * (count - 1) // (FRAMES - 1) for place in range(FRAMES)]


def decoder() -> str:
    """What decodes, for the cache key."""
    return f"av={_av().__version__}"


def _av() -> Any:
    av = usable("av")
    if av is None:
        raise UsageError("videos are decoded by PyAV, which is not there: pip install 'mmbench[video]'")
    return av


def _decoded(data: bytes) -> Iterator[Any]:
    """The frames as they are shown. The header's count is not believed."""
    av = _av()
    try:
        with av.open(io.BytesIO(data), options={"format_whitelist": CONTAINERS}) as container:
            if not container.streams.video:
                raise UnreadableError("it has no picture")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            if stream.width * stream.height > LARGEST_PIXELS:
                raise UnreadableError(f"{stream.width} x {stream.height} pixels are too many")
            for place, frame in enumerate(container.decode(stream)):
                if place == MOST_FRAMES:
                    raise UnreadableError(f"it has more than {MOST_FRAMES:,} frames")
                yield frame
    except (av.FFmpegError, ValueError, OSError) as error:
        raise UnreadableError(f"it cannot be decoded: {' '.join(str(error).split())}") from None
