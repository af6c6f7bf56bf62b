"""The image encoder: what it measures, every kind of file it must read, and every kind it must refuse by name."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mmbench.features import Encoded, encode, image
from mmbench.features.files import UnreadableError
from mmbench.features.image import SIDE, describe, open_image

NO_ROWS = np.empty(0, dtype=np.int64)
DIM = 428
ORIENTATION = 0x0112


def picture(seed: int = 0, size: tuple[int, int] = (90, 60)) -> Image.Image:
    """A smooth coloured picture without symmetry."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def pixels(picture: Image.Image) -> NDArray[np.int64]:
    return np.asarray(picture, dtype=np.int64)


def run(values: list[Path | None], cache: Path) -> Encoded:
    return encode("hog-color", "image", values, NO_ROWS, cache)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_flat_picture_has_no_gradients_and_its_own_colour() -> None:
    red, green, blue = 200, 100, 60
    found = describe(Image.new("RGB", (40, 30), (red, green, blue)))
    assert found.shape == (DIM,)
    assert found.dtype == np.float32
    assert not found[:324].any()
    quadrants = found[324:412].reshape(4, 22)
    saturation, value = 140 / 200, 200 / 255
    for quadrant in quadrants:
        assert quadrant[0] == pytest.approx(saturation * value, abs=0.01)  # a hue of 17 degrees
        assert not quadrant[1:8].any()
        assert quadrant[8:16].tolist() == [0, 0, 1, 0, 0, 0, 0, 1]
        assert np.allclose(quadrant[16:19], [red / 255, green / 255, blue / 255], atol=1e-6)
        assert np.allclose(quadrant[19:22], 0, atol=1e-6)
    luma = round(0.299 * red + 0.587 * green + 0.114 * blue) / 255
    assert np.allclose(found[412:], luma, atol=1 / 255)


def test_quadrants_and_grid_are_where_they_should_be() -> None:
    canvas = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    canvas[: SIDE // 2, SIDE // 2 :] = (255, 0, 0)
    canvas[SIDE // 2 :, : SIDE // 2] = (0, 0, 255)
    found = describe(Image.fromarray(canvas))
    means = found[324:412].reshape(4, 22)[:, 16:19]
    assert means.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    grid = found[412:].reshape(4, 4)
    assert np.allclose(grid[:2, 2:], 76 / 255, atol=1e-6)
    assert np.allclose(grid[2:, :2], 29 / 255, atol=1e-6)
    assert not grid[:2, :2].any() and not grid[2:, 2:].any()


@pytest.mark.parametrize("angle", [0, 45, 90, 135])
def test_stripes_vote_for_the_orientation_across_them(angle: int) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    wave = np.sin((x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))) / 4)
    grey = ((wave + 1) * 127.5).astype(np.uint8)
    votes = describe(Image.fromarray(grey).convert("RGB"))[:324].reshape(-1, 9).sum(axis=0)
    assert int(votes.argmax()) in {int(angle // 20) % 9, int(np.ceil(angle / 20)) % 9}


def test_gradients_ignore_contrast() -> None:
    levels = np.asarray(picture(size=(SIDE, SIDE)).convert("L")) // 2
    faint, strong = (Image.fromarray(levels * factor).convert("RGB") for factor in (1, 2))
    assert np.allclose(describe(faint)[:324], describe(strong)[:324], atol=1e-4)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "I;16", "CMYK"])
def test_every_mode_is_read_as_what_it_shows(mode: str, tmp_path: Path) -> None:
    shown = picture() if mode in ("RGB", "RGBA", "P", "CMYK") else picture().convert("L")
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(shown).astype(np.uint16) * 257)
        assert stored.mode == "I;16"
    else:
        stored = shown.convert(mode)
        shown = stored.convert("RGB") if mode in ("P", "1", "CMYK") else shown
    path = tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}"
    stored.save(path)
    found = open_image(path.read_bytes())
    assert found.mode == "RGB"
    assert np.abs(pixels(found) - pixels(shown.convert("RGB"))).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str, tmp_path: Path) -> None:
    if mode == "P":
        stored = Image.new("P", (8, 8), 0)
        stored.putpalette([0, 0, 0, 255, 0, 0])
        stored.save(tmp_path / "x.png", transparency=0)
    else:
        Image.new(mode, (8, 8), (0,) * len(mode)).save(tmp_path / "x.png")
    assert (pixels(open_image((tmp_path / "x.png").read_bytes())) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(orientation: int, tmp_path: Path) -> None:
    upright = picture()
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    found = open_image((tmp_path / "x.png").read_bytes())
    assert found.size == upright.size
    assert np.array_equal(pixels(found), pixels(upright))


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_an_animation_is_its_first_frame(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(pixels(open_image((tmp_path / f"x.{suffix}").read_bytes())), pixels(frames[0]))


def test_what_cannot_be_read_is_told_by_row_and_the_rest_is_encoded(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    picture().save(good)
    picture(size=(400, 300)).save(tmp_path / "whole.jpg", quality=95)
    whole, png = (tmp_path / "whole.jpg").read_bytes(), good.read_bytes()
    contents = {
        "cut.jpg": whole[: len(whole) // 2],
        "cut.png": png[: len(png) // 2],
        "empty.jpg": b"",
        "text.jpg": b"<html>404 not found</html>",
        "huge.png": png_header(10_001, 10_000),
        "bomb.png": png_header(60_000, 60_000),
        "header.png": png_header(10, 10),
    }
    paths: list[Path | None] = [good, None]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        paths.append(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    paths += [tmp_path / "folder.png", tmp_path / "absent.png", good]
    encoded = run(paths, tmp_path / "cache")
    told = {path.name: encoded.bad[row] for row, path in enumerate(paths) if path is not None and row in encoded.bad}
    assert told.keys() == {*contents, "folder.png", "absent.png"}
    for name, reason in {
        "cut.jpg": "cannot be decoded",
        "cut.png": "cannot be decoded",
        "empty.jpg": "not an image",
        "text.jpg": "not an image",
        "huge.png": "10001 x 10000 pixels are too many",
        "bomb.png": "too many pixels",
        "folder.png": "directory",
        "absent.png": "no such file",
    }.items():
        assert reason in told[name]
    assert all("\n" not in reason and str(tmp_path) not in reason and "0x" not in reason for reason in told.values())
    expected = describe(picture())
    assert np.array_equal(encoded.values[0], expected) and np.array_equal(encoded.values[-1], expected)
    assert not encoded.values[1:-1].any()
    assert encoded.values.shape == (len(paths), DIM)
    assert run(paths, tmp_path / "cache").bad == encoded.bad


def test_a_picture_at_the_limit_is_not_refused_for_its_size() -> None:
    with pytest.raises(UnreadableError) as caught:
        open_image(png_header(10_000, 10_000))
    assert "too many" not in str(caught.value)


def test_nothing_readable_gives_zeros(tmp_path: Path) -> None:
    encoded = run([None, tmp_path / "absent.png"], tmp_path / "cache")
    assert not encoded.values.any()
    assert len(encoded.values) == 2
    assert list(encoded.bad) == [1]


def test_one_changed_byte_under_the_same_name_is_not_served_stale(tmp_path: Path) -> None:
    path, cache = tmp_path / "x.bmp", tmp_path / "cache"
    picture().save(path)
    before = run([path], cache).values
    content, stat = bytearray(path.read_bytes()), path.stat()
    content[-200] ^= 0x80
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = run([path], cache).values
    assert np.array_equal(after[0], describe(open_image(bytes(content))))
    assert not np.array_equal(before, after)


def test_a_file_that_changes_between_hashing_and_decoding_is_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    picture(1).save(path)
    second = path.read_bytes()
    picture(0).save(path)
    reads = iter([path.read_bytes(), second])
    with monkeypatch.context() as patched:
        patched.setattr(image.Path, "read_bytes", lambda self: next(reads) if self.name == "x.png" else b"")
        assert run([path], tmp_path / "cache").bad == {0: "it changed while it was being read"}
    path.write_bytes(second)
    assert np.array_equal(run([path], tmp_path / "cache").values[0], describe(picture(1)))


def test_each_distinct_picture_is_described_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[Path | None] = [tmp_path / f"{name}.png" for name in "abcd"]
    for seed, path in enumerate(paths):
        assert path is not None
        picture(seed % 3).save(path)
    described = []
    original = image.describe
    monkeypatch.setattr(image, "describe", lambda shown: described.append(shown) or original(shown))
    few = run(paths[:2], tmp_path / "cache").values
    assert len(described) == 2
    many = run([*paths[::-1], None], tmp_path / "cache").values
    assert len(described) == 3  # the fourth is a copy of the first
    assert np.array_equal(many[[3, 2]], few)
    assert np.array_equal(many[0], many[3])
    assert not many[4].any()


def test_real_photographs_are_read(test_data: Path, tmp_path: Path) -> None:
    photographs = sorted((test_data / "crisismmd" / "CrisisMMD_v2.0" / "data_image").rglob("*.[jp][pn]g"))[::30]
    assert len(photographs) > 20
    encoded = run(list(photographs), tmp_path)
    assert encoded.bad == {}
    assert encoded.values.any(axis=1).all()
    assert np.isfinite(encoded.values).all()
