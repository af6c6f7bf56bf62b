"""``hog-color``: closed forms, every kind of picture that Pillow opens, and every way in which one can be broken."""

from __future__ import annotations

import colorsys
import io
import struct
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mmbench.features import Encoded, encode
from mmbench.features.image import SIDE

GRADIENTS, COLOURS = slice(0, 324), slice(324, 412)
GRID = slice(412, 428)
HALVES = (slice(0, SIDE // 2), slice(SIDE // 2, SIDE))


def hog_color(cache: Path, paths: Sequence[Path | None]) -> Encoded:
    return encode("hog-color", "image", paths, np.empty(0, dtype=np.int64), cache)


class Album:
    """Saves pictures and encodes them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache, self.count = folder, folder / "cache", 0

    def save(self, image: Image.Image | np.ndarray, suffix: str = ".png", **options: object) -> Path:
        self.count += 1
        path = self.folder / f"{self.count}{suffix}"
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
        return path

    def write(self, data: bytes, suffix: str = ".png") -> Path:
        self.count += 1
        path = self.folder / f"{self.count}{suffix}"
        path.write_bytes(data)
        return path

    def features(self, image: Image.Image | np.ndarray | Path, suffix: str = ".png", **options: object) -> np.ndarray:
        path = image if isinstance(image, Path) else self.save(image, suffix, **options)
        encoded = hog_color(self.cache, [path])
        assert encoded.bad == {}
        assert encoded.values.shape == (1, 428) and encoded.values.dtype == np.float32
        assert np.isfinite(encoded.values).all()
        return encoded.values[0]

    def reason(self, path: Path) -> str:
        good = self.save(scene())
        encoded = hog_color(self.cache, [good, path, None])
        assert set(encoded.bad) == {1}
        assert (encoded.values[1:] == 0).all() and encoded.values[0].any()
        reason = encoded.bad[1]
        assert reason and "\n" not in reason and str(self.folder) not in reason
        assert hog_color(self.cache, [good, path, None]).bad == {1: reason}  # from the cache
        return reason


@pytest.fixture
def album(tmp_path: Path) -> Album:
    return Album(tmp_path)


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """An asymmetric picture of few colours."""
    pixels = np.full((height, width, 3), (40, 90, 200), dtype=np.uint8)
    pixels[height // 2 :, : width // 3] = (200, 30, 10)
    pixels[: height // 4, width // 2 :] = (250, 240, 60)
    return Image.fromarray(pixels)


def test_a_uniform_picture_in_closed_form(album: Album) -> None:
    colour = (60, 200, 110)
    vector = album.features(Image.new("RGB", (SIDE, SIDE), colour))
    assert (vector[GRADIENTS] == 0).all()
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    expected = np.zeros(22)
    expected[int(hue * 8)] = saturation * value
    expected[8 + int(saturation * 4)] = 1
    expected[12 + int(value * 4)] = 1
    expected[16:19] = np.array(colour) / 255
    np.testing.assert_allclose(vector[COLOURS].reshape(4, 22), np.tile(expected, (4, 1)), atol=4e-3)
    luma = (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255
    np.testing.assert_allclose(vector[GRID], luma, atol=2e-3)


def test_colour_statistics_recomputed_by_hand(album: Album) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    vector = album.features(pixels)
    quadrants = [pixels[rows, columns] for rows in HALVES for columns in HALVES]
    for quadrant, found in zip(quadrants, vector[COLOURS].reshape(4, 22), strict=True):
        hues, saturations, values = np.zeros(8), np.zeros(4), np.zeros(4)
        flat = quadrant.reshape(-1, 3) / 255
        for red, green, blue in flat:
            hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            hues[min(int(hue * 8), 7)] += saturation * value / len(flat)
            saturations[min(int(saturation * 4), 3)] += 1 / len(flat)
            values[min(int(value * 4), 3)] += 1 / len(flat)
        # Pillow rounds hue, saturation and brightness to 8 bits, so that a pixel may fall into the next bin
        np.testing.assert_allclose(found[:16], np.concatenate([hues, saturations, values]), atol=8e-3)
        np.testing.assert_allclose(found[16:19], flat.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(found[19:22], flat.std(axis=0), atol=1e-5)


def test_brightness_is_read_row_by_row(album: Album) -> None:
    levels = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    vector = album.features(np.kron(levels, np.ones((SIDE // 4, SIDE // 4), dtype=np.uint8)))
    np.testing.assert_allclose(vector[GRID], levels.ravel() / 255, atol=1e-6)


def test_gradients_point_where_brightness_changes(album: Album) -> None:
    ramp = np.tile(np.arange(SIDE, dtype=np.uint8), (SIDE, 1))
    across = album.features(ramp)[GRADIENTS].reshape(3, 3, 2, 2, 9)
    down = album.features(np.ascontiguousarray(ramp.T))[GRADIENTS].reshape(3, 3, 2, 2, 9)
    assert (across[..., 0] > 0.4).all() and (across[..., 1:] == 0).all()
    assert (down[..., 4] > 0.4).all() and (np.delete(down, 4, axis=-1) == 0).all()
    # blocks have unit length
    np.testing.assert_allclose(np.square(across).sum(axis=(2, 3, 4)), 1, atol=1e-4)


def test_gradients_do_not_see_the_sign_of_contrast(album: Album) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    np.testing.assert_allclose(
        album.features(pixels)[GRADIENTS], album.features(255 - pixels)[GRADIENTS], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_the_camera_turned_is_read_upright(album: Album, orientation: int) -> None:
    upright = scene()
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
    exif[0x0112] = orientation
    expected = album.features(upright)
    assert (album.features(stored, exif=exif) == expected).all()
    if orientation > 1:
        assert (album.features(stored) != expected).any()


def test_the_way_of_storing_the_same_colours_changes_nothing(album: Album) -> None:
    picture = scene()
    expected = album.features(picture)
    for suffix in (".bmp", ".tiff", ".ppm", ".gif"):
        assert (album.features(picture, suffix) == expected).all(), suffix
    assert (album.features(picture.quantize(4)) == expected).all()
    opaque = picture.convert("RGBA")
    assert (album.features(opaque) == expected).all()
    assert (album.features(picture, ".webp", lossless=True) == expected).all()


def test_grey_pictures(album: Album) -> None:
    grey = np.random.default_rng(2).integers(0, 256, (40, 60), dtype=np.uint8)
    expected = album.features(np.repeat(grey[:, :, None], 3, axis=2))
    assert (album.features(grey) == expected).all()
    assert (album.features(Image.fromarray(np.dstack([grey, np.full_like(grey, 255)]), "LA")) == expected).all()
    two = grey > 127
    assert (album.features(Image.fromarray(two)) == album.features(two.astype(np.uint8) * 255)).all()


def test_sixteen_bits_are_the_eight_that_they_refine(album: Album) -> None:
    grey = np.random.default_rng(3).integers(60, 180, (40, 60), dtype=np.uint8)
    sixteen = grey.astype(np.uint16) * 257
    np.testing.assert_allclose(album.features(sixteen), album.features(grey), atol=1e-6)
    np.testing.assert_allclose(album.features(sixteen, ".tiff"), album.features(grey), atol=1e-6)
    white = np.full((9, 9), 65535, dtype=np.uint16)
    np.testing.assert_allclose(album.features(white)[GRID], 1)


def test_what_is_transparent_lies_on_white(album: Album) -> None:
    pixels = np.asarray(scene().convert("RGBA")).copy()
    pixels[:20, :30, 3] = 0
    white = np.asarray(scene()).copy()
    white[:20, :30] = 255
    assert (album.features(pixels) == album.features(white)).all()
    half = np.zeros((16, 16, 4), dtype=np.uint8)
    half[..., 3] = 128
    np.testing.assert_allclose(album.features(half)[GRID], 127 / 255, atol=1e-6)
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([255, 0, 0, 0, 0, 0])
    assert (album.features(palette, transparency=1)[GRID] == 1).all()
    assert (album.features(palette)[GRID] == 0).all()
    keyed = Image.new("RGB", (16, 16), (10, 20, 30))
    assert (album.features(keyed, transparency=(10, 20, 30))[GRID] == 1).all()


@pytest.mark.parametrize("suffix", [".jpg", ".tiff"])
def test_four_inks(album: Album, suffix: str) -> None:
    options = {"quality": 100} if suffix == ".jpg" else {}
    red = album.features(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), suffix, **options)
    np.testing.assert_allclose(red, album.features(Image.new("RGB", (32, 32), (255, 0, 0))), atol=0.02)


def test_other_colour_spaces(album: Album) -> None:
    picture = scene()
    np.testing.assert_allclose(
        album.features(picture.convert("YCbCr"), ".jpg", quality=100), album.features(picture), atol=0.2
    )


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tiff"])
def test_of_an_animation_the_first_picture_counts(album: Album, suffix: str) -> None:
    first, second = scene(), Image.new("RGB", (96, 64), (0, 255, 0))
    options = {"lossless": True} if suffix == ".webp" else {}
    path = album.save(first, suffix, save_all=True, append_images=[second], **options)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 2
    assert (album.features(path) == album.features(first)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3000, 1)])
def test_very_small_and_very_narrow_pictures(album: Album, size: tuple[int, int]) -> None:
    vector = album.features(Image.new("RGB", size, (10, 20, 30)))
    np.testing.assert_allclose(vector[COLOURS].reshape(4, 22)[:, 16:19], np.tile([10, 20, 30], (4, 1)) / 255, rtol=1e-4)


def png(width: int, height: int) -> bytes:
    """The beginning of a PNG file that promises so many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_001, 10_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_pixel_bomb_is_told_without_being_unpacked(album: Album, size: tuple[int, int]) -> None:
    path = album.write(png(*size))
    started = time.perf_counter()
    assert "too many" in album.reason(path)
    assert time.perf_counter() - started < 1


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 2_000_000, zip=True)
    file = io.BytesIO()
    scene().save(file, "png", pnginfo=info)
    return file.getvalue()


def stored(kind: str) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, object] = {"exif": exif} if kind in ("jpeg", "png", "webp", "tiff") else {}
    if kind == "tiff":
        options["compression"] = "tiff_lzw"
    scene().save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"<html>404</html>", "not an image"),
        (stored("jpeg")[:-400], "cannot be decoded"),
        (stored("png")[:-100], "cannot be decoded"),
        (stored("jpeg")[:10], ""),
        (png(64, 64), "cannot be decoded"),
        (text_bomb(), "cannot be decoded"),
    ],
    ids=["empty", "text", "truncated jpeg", "truncated png", "stub", "too little data", "text bomb"],
)
def test_what_cannot_be_read_is_told_by_row(album: Album, content: bytes, reason: str) -> None:
    assert reason in album.reason(album.write(content))


def test_what_is_not_there_or_not_a_file_is_told_by_row(album: Album) -> None:
    assert "no such file" in album.reason(album.folder / "none.jpg").lower()
    assert "directory" in album.reason(album.folder).lower()


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "tiff", "webp", "bmp"])
def test_no_damage_raises(album: Album, kind: str) -> None:
    """A cut or a wrong byte anywhere gives features or a reason, never a traceback."""
    whole = stored(kind)
    rng = np.random.default_rng(4)
    paths = [album.write(whole[: int(end)]) for end in rng.integers(0, len(whole), 20)]
    for place in rng.integers(0, min(len(whole), 400), 40):
        damaged = bytearray(whole)
        damaged[place] = rng.integers(256)
        paths.append(album.write(bytes(damaged)))
    encoded = hog_color(album.cache, paths)
    assert np.isfinite(encoded.values).all()
    for row in range(len(paths)):
        assert encoded.values[row].any() != (row in encoded.bad)


class Odd(Exception):  # noqa: N818
    """What a decoder of Pillow may raise besides its own errors."""


@pytest.mark.parametrize(
    "error", [ValueError(), EOFError(), MemoryError(), struct.error("x"), KeyError("x"), zlib.error("x"), Odd("x")]
)
def test_an_error_of_any_kind_while_decoding_is_a_reason(
    album: Album, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = album.save(scene())

    def load(_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(PngImagePlugin.PngImageFile, "load", load)
        encoded = hog_color(album.cache, [path])
    assert set(encoded.bad) == {0} and encoded.bad[0]


def test_a_modality_that_is_missing_or_unreadable_throughout_is_zero(album: Album) -> None:
    encoded = hog_color(album.cache, [None, None, None])
    assert encoded.bad == {} and len(encoded.values) == 3 and not encoded.values.any()
    assert len(hog_color(album.cache, []).values) == 0
    encoded = hog_color(album.cache, [album.write(b""), None, album.write(b"x")])
    assert set(encoded.bad) == {0, 2} and len(encoded.values) == 3 and not encoded.values.any()


def test_rows_keep_their_order_and_copies_are_encoded_once(album: Album) -> None:
    pictures = [np.full((8, 8, 3), level, dtype=np.uint8) for level in (0, 50, 100, 150)]
    paths = [album.save(picture) for picture in pictures]
    copies = [album.write(path.read_bytes()) for path in paths]
    rows = [paths[2], None, paths[0], copies[2], paths[3], paths[2]]
    encoded = hog_color(album.cache, rows).values
    np.testing.assert_allclose(encoded[:, GRID].mean(axis=1) * 255, [100, 0, 0, 100, 150, 100], atol=1e-4)
    assert not encoded[1].any() and encoded[2].any()


def test_nothing_stale(album: Album) -> None:
    path = album.save(scene(), ".bmp")
    first = album.features(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80  # one byte of one pixel, under the same name
    path.write_bytes(bytes(data))
    changed = album.features(path)
    assert (changed != first).any()
    path.write_bytes(b"")
    assert "not an image" in album.reason(path)
    data[-1] ^= 0x80
    path.write_bytes(bytes(data))
    assert (album.features(path) == first).all()


def test_a_file_that_was_mended_is_read_again(album: Album) -> None:
    path = album.write(stored("png")[:-100])
    album.reason(path)
    path.write_bytes(stored("png"))
    assert album.features(path).any()


def test_the_cache_is_not_asked_to_hold_what_was_moved(album: Album) -> None:
    path = album.save(scene())
    first = album.features(path)
    moved = path.rename(album.folder / "moved.png")
    before = {entry for entry in album.cache.rglob("*") if entry.is_file()}
    assert (album.features(moved) == first).all()
    assert {entry for entry in album.cache.rglob("*") if entry.is_file()} == before
