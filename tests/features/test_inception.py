"""``inception-v3``: torchvision's names, shapes, equations and picture transform; files that are no such weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from mmbench.errors import UsageError
from mmbench.features import encode, fingerprint
from mmbench.features.inception import InceptionV3, load, pixels
from mmbench.hashing import digest

NOTHING = np.empty(0, dtype=np.int64)


@pytest.fixture(scope="module")
def model() -> InceptionV3:
    torch.manual_seed(0)
    made = InceptionV3().eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            module.bias.data.normal_(0, 0.1)
    return made


@pytest.fixture(scope="module")
def weights(model: InceptionV3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state dict with both classifiers, as torchvision saves it."""
    path = tmp_path_factory.mktemp("inception") / "inception_v3.pth"
    heads = {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000), "AuxLogits.fc.bias": torch.zeros(1000)}
    torch.save(model.state_dict() | heads, path)
    return path


def test_names_and_shapes_are_torchvisions(model: InceptionV3) -> None:
    listed = [f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items()]
    assert len(listed) == 564
    assert listed[0] == "Conv2d_1a_3x3.conv.weight (32, 3, 3, 3)"
    assert "Mixed_7c.branch3x3dbl_3b.conv.weight (384, 384, 3, 1)" in listed
    # Of the list that torchvision 0.28's own module gives, fc and AuxLogits left out.
    assert digest(listed) == "0977df29ebfa5ed2b75b7c88284b7231824c147aeae02ea92b31b1879b10c584"


def test_the_parameters_are_as_many_as_torchvision_publishes(model: InceptionV3) -> None:
    classifier = 2048 * 1000 + 1000
    auxiliary = 768 * 128 + 2 * 128 + 128 * 768 * 25 + 2 * 768 + 768 * 1000 + 1000
    assert sum(p.numel() for p in model.parameters()) + classifier + auxiliary == 27_161_264


class ByHand:
    """Blocks written out over a state dict, in float64."""

    def __init__(self, state: dict[str, Tensor], block: str) -> None:
        self.state, self.block = state, block

    def __call__(self, name: str, x: Tensor, **options: Any) -> Tensor:
        place = f"{self.block}.{name}"
        mean, variance, scale, shift = (
            self.state[f"{place}.bn.{part}"].double()[:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        y = functional.conv2d(x, self.state[f"{place}.conv.weight"].double(), **options)
        return ((y - mean) / (variance + 0.001).sqrt() * scale + shift).clamp(min=0)


def block_a(c: ByHand, x: Tensor) -> list[Tensor]:
    y = c("branch3x3dbl_2", c("branch3x3dbl_1", x), padding=1)
    return [
        c("branch1x1", x),
        c("branch5x5_2", c("branch5x5_1", x), padding=2),
        c("branch3x3dbl_3", y, padding=1),
        c("branch_pool", functional.avg_pool2d(x, 3, 1, 1)),
    ]


def block_b(c: ByHand, x: Tensor) -> list[Tensor]:
    y = c("branch3x3dbl_2", c("branch3x3dbl_1", x), padding=1)
    return [c("branch3x3", x, stride=2), c("branch3x3dbl_3", y, stride=2), functional.max_pool2d(x, 3, 2)]


def block_c(c: ByHand, x: Tensor) -> list[Tensor]:
    y = c("branch7x7_2", c("branch7x7_1", x), padding=(0, 3))
    z = c("branch7x7dbl_1", x)
    for name, padding in (("2", (3, 0)), ("3", (0, 3)), ("4", (3, 0)), ("5", (0, 3))):
        z = c(f"branch7x7dbl_{name}", z, padding=padding)
    pooled = c("branch_pool", functional.avg_pool2d(x, 3, 1, 1))
    return [c("branch1x1", x), c("branch7x7_3", y, padding=(3, 0)), z, pooled]


def block_d(c: ByHand, x: Tensor) -> list[Tensor]:
    y = c("branch7x7x3_2", c("branch7x7x3_1", x), padding=(0, 3))
    z = c("branch7x7x3_3", y, padding=(3, 0))
    first = c("branch3x3_2", c("branch3x3_1", x), stride=2)
    return [first, c("branch7x7x3_4", z, stride=2), functional.max_pool2d(x, 3, 2)]


def block_e(c: ByHand, x: Tensor) -> list[Tensor]:
    y = c("branch3x3_1", x)
    z = c("branch3x3dbl_2", c("branch3x3dbl_1", x), padding=1)
    return [
        c("branch1x1", x),
        c("branch3x3_2a", y, padding=(0, 1)),
        c("branch3x3_2b", y, padding=(1, 0)),
        c("branch3x3dbl_3a", z, padding=(0, 1)),
        c("branch3x3dbl_3b", z, padding=(1, 0)),
        c("branch_pool", functional.avg_pool2d(x, 3, 1, 1)),
    ]


@pytest.mark.parametrize(
    ("name", "by_hand", "channels"),
    [
        ("Mixed_5b", block_a, 192),
        ("Mixed_6a", block_b, 288),
        ("Mixed_6c", block_c, 768),
        ("Mixed_7a", block_d, 768),
        ("Mixed_7c", block_e, 2048),
    ],
)
def test_each_kind_of_block_is_its_equations(
    name: str, by_hand: Callable[[ByHand, Tensor], list[Tensor]], channels: int, model: InceptionV3
) -> None:
    x = torch.rand(1, channels, 5, 6, dtype=torch.float64)
    block = model.get_submodule(name)
    with torch.inference_mode():
        expected = torch.cat(by_hand(ByHand(dict(model.state_dict()), name), x), dim=1)
        # In float32: the module is shared and stays as it is.
        torch.testing.assert_close(block(x.float()).double(), expected, atol=1e-4, rtol=1e-4)


def test_the_sides_shrink_as_published(model: InceptionV3) -> None:
    sides: dict[str, tuple[int, ...]] = {}
    handles = [
        block.register_forward_hook(lambda _, __, out, name=name: sides.__setitem__(name, tuple(out.shape[1:])))
        for name, block in model.named_children()
    ]
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 299, 299)).shape == (1, 2048)
    for handle in handles:
        handle.remove()
    assert sides["Conv2d_1a_3x3"] == (32, 149, 149) and sides["Conv2d_4a_3x3"] == (192, 71, 71)
    assert sides["Mixed_5d"] == (288, 35, 35) and sides["Mixed_6e"] == (768, 17, 17)
    assert sides["Mixed_7a"] == (1280, 8, 8) and sides["Mixed_7c"] == (2048, 8, 8)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (299, 299), (50, 61), (1000, 313)])
def test_pictures_are_resized_cropped_and_normalised_as_torchvision_does(size: tuple[int, int]) -> None:
    draw = np.random.default_rng(0)
    image = Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    short = min(size)
    resized = image.resize((int(342 * size[0] / short), int(342 * size[1] / short)), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 299) / 2), round((resized.height - 299) / 2)
    scaled = np.asarray(resized.crop((left, top, left + 299, top + 299)), dtype=np.float64) / 255
    normalised = (scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    turned = normalised * (np.array([0.229, 0.224, 0.225]) / 0.5) + (np.array([0.485, 0.456, 0.406]) - 0.5) / 0.5
    found = pixels(image).permute(1, 2, 0).numpy()
    # Two grey levels of 256 at the most, since Pillow rounds to 8 bits in both of its passes.
    assert np.abs(found - turned).max() <= 4 / 255 + 1e-6
    assert np.abs(found - turned).mean() < 1e-4


def test_a_very_long_picture_costs_no_memory() -> None:
    assert pixels(Image.new("RGB", (100_000, 2), "red")).shape == (3, 299, 299)


def test_images_become_the_networks_features(weights: Path, model: InceptionV3, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    image = Image.fromarray(draw.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    paths = [tmp_path / "a.png", None, tmp_path / "b.png"]
    encoded = encode(f"inception-v3:{weights}", "image", paths, NOTHING, tmp_path / "cache")
    assert encoded.values.shape == (3, 2048) and encoded.values.dtype == np.float32
    assert encoded.bad == {2: "it is not an image"}
    with torch.inference_mode():
        np.testing.assert_allclose(encoded.values[0], model(pixels(image)[None])[0], atol=1e-5)
    assert not encoded.values[1:].any()


def test_both_formats_and_older_files_load_alike(weights: Path, model: InceptionV3, tmp_path: Path) -> None:
    older = {name: value for name, value in model.state_dict().items() if "num_batches_tracked" not in name}
    save_file(older, tmp_path / "old.safetensors")
    for path in (weights, tmp_path / "old.safetensors"):
        loaded = load(str(path))
        assert not loaded.training
        for name, value in older.items():
            assert torch.equal(loaded.state_dict()[name], value)


def test_the_cache_key_holds_the_bytes_of_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"one")
    before = fingerprint(f"inception-v3:{path}", "image")
    path.write_bytes(b"two")
    assert fingerprint(f"inception-v3:{path}", "image") != before


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as raised:
        load(str(path))
    assert "\n" not in str(raised.value)
    return str(raised.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def test_files_that_are_no_such_weights_are_told(
    weights: Path, model: InceptionV3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    assert "is not a file" in refused(path)
    path.write_bytes(weights.read_bytes()[:100_000])
    assert "cannot be loaded as tensors alone" in refused(path)
    torch.save(Evil(), path)
    assert "cannot be loaded as tensors alone" in refused(path)
    assert not (tmp_path / "executed").exists()
    torch.save([torch.zeros(2)], path)
    assert "holds no state dict" in refused(path)
    for content in (b"", b"\xff" * 64):
        (tmp_path / "w.safetensors").write_bytes(content)
        assert "cannot be loaded as tensors alone" in refused(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("Mixed_6a.branch3x3.conv.weight"), "Mixed_6a.branch3x3.conv.weight"),
        (lambda state: state.update({"other": torch.zeros(1)}), "other"),
        (lambda state: state.update({"Mixed_5b.branch1x1.bn.bias": torch.zeros(63)}), "Mixed_5b.branch1x1.bn.bias"),
        (lambda state: state.update({"Mixed_5b.branch1x1.bn.bias": torch.full((64,), torch.nan)}), "not finite"),
    ],
    ids=["missing", "unexpected", "shape", "nan"],
)
def test_other_weights_are_told(
    change: Callable[[dict[str, Tensor]], Any], said: str, model: InceptionV3, tmp_path: Path
) -> None:
    state = dict(model.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pth")
    assert said in refused(tmp_path / "w.pth")
