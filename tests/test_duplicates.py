"""Near-duplicates against known pairs and a loop over all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mmbench import duplicates


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("RT @ann_b: The river is OVER the road! https://t.co/x1", "the river is over the road", True),
        ("floods &amp; fires, today", "Floods & fires today...", True),
        ("caf\u00e9 on the corner", "cafe\u0301 on the corner", True),
        ("the river is over the road", "the river is under the road", False),
        ("@ann the art of report writing", "the art of report writing", True),
        ("a report from art class", "a repo from art class", False),
    ],
)
def test_normalised_texts(a: str, b: str, same: bool) -> None:
    assert (duplicates.normalise(a) == duplicates.normalise(b)) is same


def test_short_texts_have_no_key() -> None:
    assert duplicates.text_keys(["", "wow", "look here", "https://a.b/c @me", "look at this"]) == [
        "", "", "", "", "look at this",
    ]  # fmt: skip


def test_repeats_within_a_group_are_not_counted() -> None:
    keys = ["k", "k", "k", "", ""]
    groups = np.array(["g1", "g1", "g2", "g3", "g4"])
    train, test = np.array([1, 0, 0, 1, 0], bool), np.array([0, 1, 1, 0, 1], bool)
    assert duplicates.repeated(keys, groups, train, test).tolist() == [2]


def picture(seed: int, side: int = 120) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def distance(a: Image.Image, b: Image.Image) -> int:
    return int((duplicates.difference_bits(a)[:64] != duplicates.difference_bits(b)[:64]).sum())


def test_a_hash_survives_scaling_and_brightness_and_tells_pictures_apart() -> None:
    one = picture(1)
    assert distance(one, one.resize((300, 300), Image.Resampling.BICUBIC)) <= duplicates.DISTANCE
    assert distance(one, ImageEnhance.Brightness(one).enhance(0.8)) <= duplicates.DISTANCE
    apart = [distance(picture(a), picture(b)) for a in range(8) for b in range(a)]
    assert min(apart) > duplicates.DISTANCE
    assert duplicates.difference_bits(Image.new("RGB", (50, 50), (90, 90, 90)))[64] == 0


def test_hashes_of_files(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    picture(1, 200).save(tmp_path / "b.jpg", quality=80)
    (tmp_path / "c.png").write_bytes(b"no picture")
    paths = [tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "c.png", None]
    hashes, usable, bad = duplicates.image_hashes(paths, tmp_path / "cache")
    assert usable.tolist() == [True, True, False, False]
    assert bad == {2: "it is not an image"}
    assert int(np.bitwise_count(hashes[0] ^ hashes[1])) <= duplicates.DISTANCE
    only_bad = duplicates.image_hashes([tmp_path / "c.png"], tmp_path / "cache")
    assert not only_bad[1].any() and list(only_bad[2]) == [0]


def test_near_rows_equal_a_loop_over_all_pairs() -> None:
    rng = np.random.default_rng(3)
    n = 1300
    hashes = rng.integers(0, 2**63, n, dtype=np.uint64)
    for row in range(0, n, 3):  # plant neighbours at known distances
        flips = np.uint64(0)
        for bit in rng.choice(64, int(rng.integers(0, 8)), replace=False):
            flips |= np.uint64(1) << np.uint64(bit)
        hashes[row] = hashes[(row * 7 + 1) % n] ^ flips
    hashes[-40:] = hashes[0]  # one picture many times, in one group and in many
    groups = np.array([f"g{g}" for g in rng.integers(0, 200, n)])
    groups[-40:-20] = "one"
    earlier = rng.random(n) < 0.5
    expected = [
        j
        for j in np.flatnonzero(~earlier).tolist()
        if any(
            int(hashes[i] ^ hashes[j]).bit_count() <= 4 and groups[i] != groups[j]
            for i in np.flatnonzero(earlier).tolist()
        )
    ]
    assert expected
    assert duplicates.near(hashes, groups, earlier, ~earlier, 4).tolist() == expected
