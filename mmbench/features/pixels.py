"""``pixels``: the frames of a video as small pictures, for models that look at pictures: a vector of pixels a frame.

30 frames as for every encoder of videos (MR26), each scaled to ``side`` x ``side`` and flattened, channel by channel,
values in [0, 1]. ``hybrid`` puts the pictures together again and convolves them; to other methods a frame is a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmbench.features import Encoded
from mmbench.features.files import encode_files
from mmbench.features.image import reader
from mmbench.hashing import digest

VERSION = 1
CHANNELS = 3


def encode(values: Sequence[Path | None], *, cache: Path, identity: list[str], side: int, frames: str) -> Encoded:
    """Paths of videos to (n, 30, 3 · side · side), ``frames=steps``; what cannot be read is told by row."""

    def pixels(image: Image.Image) -> NDArray[np.float32]:
        small = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)
        return small.transpose(2, 0, 1).ravel() / np.float32(255)

    return encode_files(values, cache, digest(identity), reader("video", pixels, frames))
