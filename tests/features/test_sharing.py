"""What several processes encode has the same bits, and what one of them leaves out is done all the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mmbench.contracts import InputKind
from mmbench.features import Encoded, encode, sharing
from mmbench.features.distinct import encode_distinct
from mmbench.features.sharing import share_out, shared

NOTHING = np.empty(0, dtype=np.int64)
TEXTS = ["flood water in town", None, "safe", "boat news rain road", "help", "flood", "food and water", "rain"]


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SHARE", 2)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path | None]:
    """Nine files, two of them alike and one no picture, and one that is missing."""
    paths: list[Path | None] = []
    for place in range(8):
        pixels = np.random.default_rng(place // 7 * 3 + place % 7).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{place}.png")
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
    (tmp_path / "text.png").write_text("no picture")
    return [*paths[:3], None, *paths[3:], tmp_path / "text.png"]


def both(selector: str, kind: InputKind, values: Sequence[object], folder: Path) -> tuple[Encoded, Encoded]:
    """By one process and by three, each with a cache of its own."""
    return (
        encode(selector, kind, values, NOTHING, folder / "one"),
        encode(selector, kind, values, NOTHING, folder / "three", jobs=3),
    )


def blocks(cache: Path) -> int:
    return len(list(cache.glob("features/*/*/*")))


def same(one: Encoded, other: Encoded) -> bool:
    def whole(encoded: Encoded) -> tuple[object, ...]:
        steps: NDArray[np.bool_] | None = encoded.steps
        return encoded.values.shape, encoded.values.tobytes(), encoded.bad, None if steps is None else steps.tobytes()

    return whole(one) == whole(other)


def test_pictures_have_the_same_bits_and_what_cannot_be_read_is_told(
    pictures: list[Path | None], tmp_path: Path
) -> None:
    one, three = both("hog-color", "image", pictures, tmp_path)
    assert same(one, three) and one.bad == {9: "it is not an image"}
    assert (blocks(tmp_path / "one"), blocks(tmp_path / "three")) == (1, 3)


@pytest.mark.parametrize(("kind", "pool"), [("text", "auto"), ("text", "none"), ("image", "auto")])
def test_vectors_of_a_checkpoint_have_the_same_bits(
    kind: InputKind, pool: str, pictures: list[Path | None], tiny_checkpoints: dict[str, str], tmp_path: Path
) -> None:
    values: Sequence[object] = TEXTS if kind == "text" else pictures
    one, three = both(f"hf:{tiny_checkpoints[kind]}:pool={pool}:batch_size=2", kind, values, tmp_path)
    assert same(one, three) and one.values.any()
    assert blocks(tmp_path / "three") == 3


def test_what_is_stored_and_what_is_little_starts_no_process(
    pictures: list[Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode("hog-color", "image", pictures[:5], NOTHING, tmp_path)

    def refuse(*given: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(sharing, "worker", refuse)
    more = encode("hog-color", "image", pictures[:8], NOTHING, tmp_path, jobs=3)
    assert more.values.any(axis=1).tolist() == [True] * 3 + [False] + [True] * 4


def fail(texts: Sequence[str]) -> None:
    raise RuntimeError(f"not {len(texts)} texts")


def die(texts: Sequence[str]) -> None:
    os._exit(9)


@pytest.mark.parametrize("helper", [fail, die])
def test_what_processes_fail_at_is_done_by_who_asked(
    helper: sharing.Encode, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def alone(texts: list[str]) -> object:
        return enumerate(np.array([[len(text)]], dtype=np.float32)[0] for text in texts)

    with shared(helper, 2):
        found = encode_distinct(TEXTS, tmp_path, "0" * 64, alone)  # type: ignore[arg-type]
    assert found.values.ravel().tolist() == [len(text or "") for text in TEXTS]
    assert "Traceback" not in capfd.readouterr().err


def test_no_more_processes_are_started_than_have_something_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[Sequence[str]] = []
    real = sharing.worker

    def counting(target: object, encode: object, share: Sequence[str]) -> object:
        shares.append(share)
        return real(target, encode, share)  # type: ignore[arg-type]

    monkeypatch.setattr(sharing, "worker", counting)
    with shared(fail, 5000):
        assert share_out(list("abcdefg"))
    assert sorted("".join("".join(share) for share in shares)) == list("abcdefg") and len(shares) == 3


def test_outside_nothing_is_shared() -> None:
    with shared(fail, 1):
        assert not share_out(["a"] * 9)
    assert not share_out(["a"] * 9)
