"""Videos: which frames are taken, what they become, and files that are no videos."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmbench.errors import UsageError
from mmbench.features import encode, video
from mmbench.features.files import UnreadableError
from mmbench.features.image import describe
from mmbench.features.optional import usable

NOTHING = np.empty(0, dtype=np.int64)


@pytest.fixture
def av() -> Any:
    found = usable("av")
    if found is None:
        pytest.skip("PyAV is not installed: pip install 'mmbench[video]'")
    return found


def made(av: Any, levels: list[int]) -> bytes:
    """A video whose frames are of one grey level each."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        for level in levels:
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize("count", [30, 31, 60, 300, 1001])
def test_frames_are_taken_at_even_distances(count: int) -> None:
    assert video.places(count) == np.floor(np.linspace(0, count - 1, 30) + 1e-9).astype(int).tolist()


@pytest.mark.parametrize("count", [1, 7, 29])
def test_a_short_video_repeats_its_last_frame(count: int) -> None:
    assert video.places(count) == [*range(count), *[count - 1] * (30 - count)]


@pytest.mark.parametrize("count", [5, 30, 90])
def test_the_frames_are_those_of_the_video(count: int, av: Any) -> None:
    levels = [int(20 + 200 * place / max(1, count - 1)) for place in range(count)]
    found = video.frames(made(av, levels))
    assert len(found) == 30 and {(frame.size, frame.mode) for frame in found} == {((224, 224), "RGB")}
    seen = [float(np.asarray(frame).mean()) for frame in found]
    np.testing.assert_allclose(seen, [levels[place] for place in video.places(count)], atol=4)


def test_a_video_is_the_mean_of_its_frames(av: Any, tmp_path: Path) -> None:
    data = made(av, [30] * 20 + [220] * 20)
    (tmp_path / "a.mp4").write_bytes(data)
    (tmp_path / "b.mp4").write_bytes(data[:200])
    paths = [tmp_path / "a.mp4", None, tmp_path / "b.mp4"]
    encoded = encode("hog-color", "video", paths, NOTHING, tmp_path / "cache")
    expected = np.mean([describe(frame) for frame in video.frames(data)], axis=0)
    np.testing.assert_allclose(encoded.values[0], expected, atol=1e-6)
    assert not encoded.values[1:].any() and set(encoded.bad) == {2}


def test_a_video_is_a_sequence_of_its_frames_on_request(av: Any, tmp_path: Path) -> None:
    data = made(av, [30] * 20 + [220] * 20)
    (tmp_path / "a.mov").write_bytes(data)
    (tmp_path / "b.mov").write_bytes(b"")
    encoded = encode(
        "hog-color:frames=steps", "video", [None, tmp_path / "a.mov", tmp_path / "b.mov"], NOTHING, tmp_path / "cache"
    )
    assert encoded.values.shape == (3, 30, 428) and encoded.steps is not None
    assert encoded.steps.sum(axis=1).tolist() == [0, 30, 0] and set(encoded.bad) == {2}
    np.testing.assert_array_equal(encoded.values[1], [describe(frame) for frame in video.frames(data)])
    with pytest.raises(UsageError, match="unknown parameter of encoder hog-color 'frames'"):
        encode("hog-color:frames=steps", "image", [None], NOTHING, tmp_path / "cache")


@pytest.mark.parametrize(
    "content",
    [b"", b"no video", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", b"ffconcat version 1.0\nfile /etc/hostname\n"],
)
def test_what_is_no_video_is_told(content: bytes, av: Any) -> None:
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        video.frames(content)


def test_a_playlist_opens_no_other_file(av: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private.mp4").write_bytes(made(av, [9] * 9))
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        video.frames(b"ffconcat version 1.0\nfile private.mp4\n")


def test_a_picture_or_sound_is_no_video(av: Any) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with pytest.raises(UnreadableError):
        video.frames(buffer.getvalue())


def test_too_many_frames_are_told(av: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MOST_FRAMES", 4)
    with pytest.raises(UnreadableError, match="more than 4 frames"):
        video.frames(made(av, [0] * 9))


def test_without_a_decoder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(video, "usable", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'mmbench\[video\]'"):
        encode("hog-color", "video", [tmp_path / "a.mp4"], NOTHING, tmp_path)


def test_the_frames_as_small_pictures(av: Any, tmp_path: Path) -> None:
    levels = [int(20 + 7 * place) for place in range(30)]
    (tmp_path / "grey.mp4").write_bytes(made(av, levels))
    found = encode("pixels:side=8", "video", [tmp_path / "grey.mp4", None], NOTHING, tmp_path / "cache")
    assert found.values.shape == (2, 30, 3 * 8 * 8) and found.steps is not None
    assert found.steps.sum(axis=1).tolist() == [30, 0]
    assert found.values.min() >= 0 and found.values.max() <= 1
    np.testing.assert_allclose(found.values[0].mean(axis=1) * 255, levels, atol=4)
    with pytest.raises(UsageError, match="side was given '4'"):
        encode("pixels:side=4", "video", [], NOTHING, tmp_path / "cache")


def test_pictures_go_channel_by_channel_row_by_row(av: Any, tmp_path: Path) -> None:
    """Red above, blue below: the first third of a frame is red's channel, whose first half is full."""
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    picture[:24, :, 0], picture[24:, :, 2] = 255, 255
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    (tmp_path / "two.mp4").write_bytes(buffer.getvalue())
    frame = encode("pixels:side=8", "video", [tmp_path / "two.mp4"], NOTHING, tmp_path / "cache").values[0, 0]
    red, _, blue = frame.reshape(3, 8, 8)
    assert red[:3].min() > 0.8 and red[5:].max() < 0.2 and blue[:3].max() < 0.2 and blue[5:].min() > 0.8


def test_a_checkpoint_keeps_the_frames_by_steps_and_not_unpooled(
    av: Any, tiny_checkpoints: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "grey.mp4").write_bytes(made(av, [10, 200]))
    selector = f"hf:{tiny_checkpoints['image']}"
    kept = encode(f"{selector}:frames=steps", "video", [tmp_path / "grey.mp4"], NOTHING, tmp_path / "cache")
    assert kept.values.shape == (1, 30, 6)
    with pytest.raises(UsageError, match="with frames=steps"):
        encode(f"{selector}:pool=none", "video", [tmp_path / "grey.mp4"], NOTHING, tmp_path / "cache")
