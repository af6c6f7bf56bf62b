"""``inception-v3``: Inception-v3 (Szegedy et al., CVPR 2016), the 2,048 numbers under its classifier.

The layers bear torchvision's names, so that a state dict of its ``inception_v3`` loads as it is; the classifier and the
auxiliary one (``fc``, ``AuxLogits``) are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from mmbench.errors import UsageError
from mmbench.features import Encoded
from mmbench.features.files import encode_files
from mmbench.features.image import reader
from mmbench.hashing import digest

VERSION = 1
RESIZED, CROPPED = 342, 299
HEADS = ("fc.", "AuxLogits.")
SUFFIXES = (".pth", ".pt", ".safetensors")
Size = int | tuple[int, int]


def encode(
    values: Sequence[Path | None],
    *,
    cache: Path,
    identity: list[str],
    checkpoint: str,
    kind: str,
    frames: str = "mean",
) -> Encoded:
    """Paths to (n, 2048), of videos (n, 30, 2048) with ``frames=steps``; None becomes zeros, bad files are told.

    Raises:
        UsageError: no such weights file, or one that is not of this network.
    """
    model = lru_cache(maxsize=1)(load)

    def encode_image(image: Image.Image) -> NDArray[np.float32]:
        with torch.inference_mode():
            vector: NDArray[np.float32] = model(checkpoint)(pixels(image)[None])[0].numpy()
        return vector

    return encode_files(values, cache, digest(identity), reader(kind, encode_image, frames))


def pixels(image: Image.Image) -> Tensor:
    """The middle of an RGB picture, float32 (3, 299, 299) in [-1, 1], as torchvision's weights ask.

    The shorter side becomes 342 and the middle 299 x 299 is kept; only that part is computed. torchvision normalises
    by ImageNet's mean and deviation, which the network (``transform_input``) turns into (x - .5) / .5: here at once.
    """
    sides = image.size
    resized = [int(RESIZED * side / min(sides)) for side in sides]
    corner = [round((side - CROPPED) / 2) for side in resized]
    scale = [side / new for side, new in zip(sides, resized, strict=True)]
    box = [c * s for c, s in zip(corner, scale, strict=True)] + [
        min((c + CROPPED) * s, side) for c, s, side in zip(corner, scale, sides, strict=True)
    ]
    cropped = image.resize((CROPPED, CROPPED), Image.Resampling.BILINEAR, box=(box[0], box[1], box[2], box[3]))
    rgb = torch.from_numpy(np.array(cropped)).permute(2, 0, 1).float() / 255
    return (rgb - 0.5) / 0.5


class Convolution(nn.Module):
    """A convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Size, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs, H', W')."""
        return functional.relu(self.bn(self.conv(x)))


class Branches(nn.Module):
    """Chains of convolutions beside each other and a pooling, their maps stacked.

    Args:
        inputs: channels that come in.
        chains: lists of (name, outputs, kernel); a name that ends in ``a`` or ``b`` forks from the one before both.
        pooled: channels of the average pooling's 1 x 1 convolution; None where the block halves the sides, with a
            stride of 2 in the last convolution of each chain and maximum pooling.
    """

    def __init__(self, inputs: int, chains: Iterable[Sequence[tuple[str, int, Size]]], pooled: int | None) -> None:
        super().__init__()
        self.chains: list[list[str]] = []
        for chain in chains:
            width = inputs
            for place, (name, outputs, kernel) in enumerate(chain):
                halving = pooled is None and place == len(chain) - 1
                padding = _same(kernel) if not halving else 0
                self.add_module(name, Convolution(width, outputs, kernel, 2 if halving else 1, padding))
                width = width if name.endswith("a") else outputs
            self.chains.append([name for name, _, _ in chain])
        if pooled is not None:
            self.branch_pool = Convolution(inputs, pooled, 1)
        self.halves = pooled is None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, all outputs, H, W), or half of H and W."""
        maps = []
        for chain in self.chains:
            y, forks = x, []
            for name in chain:
                if name[-1] in "ab":
                    forks.append(self.get_submodule(name)(y))
                else:
                    y = self.get_submodule(name)(y)
            maps += forks or [y]
        if self.halves:
            return torch.cat([*maps, functional.max_pool2d(x, 3, stride=2)], dim=1)
        return torch.cat([*maps, self.branch_pool(functional.avg_pool2d(x, 3, stride=1, padding=1))], dim=1)


def _same(kernel: Size) -> Size:
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)


def _block_a(inputs: int, pooled: int) -> Branches:
    return Branches(
        inputs,
        [
            [("branch1x1", 64, 1)],
            [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
            [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
        ],
        pooled,
    )


def _block_c(width: int) -> Branches:
    row, column = (1, 7), (7, 1)
    return Branches(
        768,
        [
            [("branch1x1", 192, 1)],
            [("branch7x7_1", width, 1), ("branch7x7_2", width, row), ("branch7x7_3", 192, column)],
            [
                ("branch7x7dbl_1", width, 1),
                ("branch7x7dbl_2", width, column),
                ("branch7x7dbl_3", width, row),
                ("branch7x7dbl_4", width, column),
                ("branch7x7dbl_5", 192, row),
            ],
        ],
        192,
    )


def _block_e(inputs: int) -> Branches:
    row, column = (1, 3), (3, 1)
    return Branches(
        inputs,
        [
            [("branch1x1", 320, 1)],
            [("branch3x3_1", 384, 1), ("branch3x3_2a", 384, row), ("branch3x3_2b", 384, column)],
            [
                ("branch3x3dbl_1", 448, 1),
                ("branch3x3dbl_2", 384, 3),
                ("branch3x3dbl_3a", 384, row),
                ("branch3x3dbl_3b", 384, column),
            ],
        ],
        192,
    )


class InceptionV3(nn.Module):
    """The network without its classifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        double = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]
        self.Mixed_6a = Branches(288, [[("branch3x3", 384, 3)], double], None)
        self.Mixed_6b = _block_c(128)
        self.Mixed_6c = _block_c(160)
        self.Mixed_6d = _block_c(160)
        self.Mixed_6e = _block_c(192)
        self.Mixed_7a = Branches(
            768,
            [
                [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)],
                [
                    ("branch7x7x3_1", 192, 1),
                    ("branch7x7x3_2", 192, (1, 7)),
                    ("branch7x7x3_3", 192, (7, 1)),
                    ("branch7x7x3_4", 192, 3),
                ],
            ],
            None,
        )
        self.Mixed_7b = _block_e(1280)
        self.Mixed_7c = _block_e(2048)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1], sides of at least 75, to the mean over places (B, 2048)."""
        for name, block in self.named_children():
            x = block(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = functional.max_pool2d(x, 3, stride=2)
        return x.mean(dim=(2, 3))


def weights_digest(checkpoint: str) -> str:
    """Hex digest of the bytes of the weights file.

    Raises:
        UsageError: no such file.
    """
    with _find(checkpoint).open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _find(checkpoint: str) -> Path:
    path = Path(checkpoint).expanduser()
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise UsageError(
            f"inception-v3: '{checkpoint}' is not a file of {', '.join(SUFFIXES)}: "
            "give the state dict of torchvision's inception_v3"
        )
    return path


def load(checkpoint: str) -> InceptionV3:
    """The network with the weights of a file, in evaluation mode; a pickle may hold tensors and nothing else.

    Raises:
        UsageError: no such file, not a state dict, or one that lacks weights, has others or other shapes.
    """
    path = _find(checkpoint)
    # What else can go wrong in a stranger's file is open-ended: safetensors, zipfile and torch raise their own.
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(
            f"inception-v3: {path} cannot be loaded as tensors alone ({type(error).__name__}): "
            "save the model's state_dict(), not the model"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"inception-v3: {path} holds no state dict: save the model's state_dict()")
    if bad := [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise UsageError(f"inception-v3: {path}: {bad[0]} holds numbers that are not finite")
    model = InceptionV3()
    try:
        model.load_state_dict({key: value for key, value in state.items() if not str(key).startswith(HEADS)})
    except RuntimeError as error:
        reason = " ".join(str(error).split(":", 1)[-1].split())
        shown = reason if len(reason) < 200 else reason[:200] + "…"
        raise UsageError(f"inception-v3: {path} is not of torchvision's inception_v3: {shown}") from None
    return model.eval()
