"""The feature cache: what it serves is whole, right and wanted, whatever happened to its files."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmbench.errors import UsageError
from mmbench.features.cache import BLOCK, cached, cached_rows
from mmbench.hashing import digest

ROOT = Path(__file__).parents[2]
KEY = digest(["key"])
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


class Builder:
    """Builds an array, and counts how often it is asked to."""

    def __init__(self, values: NDArray[np.float32] = VALUES) -> None:
        self.values = values
        self.calls = 0

    def __call__(self) -> NDArray[np.float32]:
        self.calls += 1
        return self.values


class Vectors:
    """Yields vectors by input, and remembers what it was asked for."""

    def __init__(self, unreadable: frozenset[str] = frozenset(), stop_after: int | None = None) -> None:
        self.unreadable = unreadable
        self.stop_after = stop_after
        self.asked: list[str] = []

    def __call__(self, contents: list[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        self.asked += contents
        for count, content in enumerate(c for c in contents if c not in self.unreadable):
            if count == self.stop_after:
                raise KeyboardInterrupt
            yield content, vector(content)


def vector(content: str) -> NDArray[np.float32]:
    return np.frombuffer(bytes.fromhex(content)[:8], dtype=np.uint8).astype(np.float32)


def inputs(count: int, start: int = 0) -> list[str]:
    return [digest([str(number)]) for number in range(start, start + count)]


def files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_an_entry_is_built_once_and_keeps_its_bits(tmp_path: Path) -> None:
    values = np.array([[np.nan, -0.0], [np.inf, 1e-45]], dtype=np.float32)
    build = Builder(values)
    first, second = cached(tmp_path, KEY, build), cached(tmp_path, KEY, build)
    assert build.calls == 1
    assert first.tobytes() == second.tobytes() == values.tobytes()
    assert second.dtype == np.float32


def test_another_key_is_another_entry(tmp_path: Path) -> None:
    cached(tmp_path, KEY, Builder())
    assert np.array_equal(cached(tmp_path, digest(["other"]), Builder(VALUES + 1)), VALUES + 1)
    assert np.array_equal(cached(tmp_path, KEY, Builder(VALUES + 2)), VALUES)


def test_any_damage_is_seen_and_the_entry_built_again(tmp_path: Path) -> None:
    cached(tmp_path, KEY, Builder())
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    damaged = [whole[:length] for length in (0, 1, 63, 64, 65, len(whole) - 1)]
    damaged += [whole + b"x", b"\0" * len(whole)]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for content in damaged:
        path.write_bytes(content)
        build = Builder()
        assert np.array_equal(cached(tmp_path, KEY, build), VALUES)
        assert build.calls == 1
        assert path.read_bytes() == whole


def test_an_entry_under_a_wrong_name_is_not_served(tmp_path: Path) -> None:
    cached(tmp_path, KEY, Builder())
    other = digest(["other"])
    (path,) = files(tmp_path)
    wrong = tmp_path / "features" / other[:2] / other
    wrong.parent.mkdir()
    path.replace(wrong)
    assert np.array_equal(cached(tmp_path, other, Builder(VALUES + 1)), VALUES + 1)


def test_a_cache_that_cannot_be_written_is_told_before_anything_is_built(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    build, vectors = Builder(), Vectors()
    for attempt in (lambda: cached(blocked, KEY, build), lambda: cached_rows(blocked, KEY, inputs(1), vectors)):
        with pytest.raises(UsageError, match=r"cannot write the feature cache in .*blocked.*MMBENCH_CACHE") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert build.calls == 0
    assert vectors.asked == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="no space left on device"):
        cached(tmp_path, KEY, Builder())
    with pytest.raises(UsageError, match="no space left on device"):
        cached_rows(tmp_path, KEY, inputs(3), Vectors())
    assert files(tmp_path) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this platform")
def test_a_process_killed_while_writing_leaves_no_entry(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; import numpy as np\n"
        "from mmbench.features.cache import cached\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL);"
        "cached(Path(sys.argv[1]), sys.argv[2], lambda: np.full((4, 3), 7, dtype=np.float32))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), KEY], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    build = Builder()
    assert np.array_equal(cached(tmp_path, KEY, build), VALUES)
    assert build.calls == 1


def test_two_processes_at_once_both_get_whole_entries(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from mmbench.features.cache import cached, cached_rows\n"
        "from mmbench.hashing import digest\n"
        "cache = Path(sys.argv[1]); parts = []\n"
        "for i in range(30):\n"
        "    parts.append(cached(cache, digest([str(i)]), lambda: np.full((300, 30), i, dtype=np.float32)))\n"
        "rows = cached_rows(cache, digest(['rows']), [digest([str(i)]) for i in range(600)],\n"
        "    lambda missing: ((c, np.full(9, int(c[:4], 16), dtype=np.float32)) for c in missing))\n"
        "print(digest([*parts, *(rows[c] for c in sorted(rows))]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    arrays = [np.full((300, 30), i, dtype=np.float32) for i in range(30)]
    rows = [np.full(9, int(content[:4], 16), dtype=np.float32) for content in sorted(inputs(600))]
    expected = digest([*arrays, *rows])
    assert [line.strip() for line in printed] == [expected, expected]
    build = Builder()
    assert np.array_equal(cached(tmp_path, digest(["7"]), build), np.full((300, 30), 7))
    assert build.calls == 0


def test_rows_are_encoded_once_whatever_list_they_stand_in(tmp_path: Path) -> None:
    vectors = Vectors()
    first = cached_rows(tmp_path, KEY, inputs(5), vectors)
    second = cached_rows(tmp_path, KEY, [*inputs(5, start=3)[::-1], *inputs(2)], vectors)
    assert sorted(vectors.asked) == sorted(inputs(8))
    assert first.keys() == set(inputs(5))
    assert second.keys() == {*inputs(2), *inputs(5, start=3)}
    assert all(np.array_equal(row, vector(content)) for content, row in (first | second).items())
    cached_rows(tmp_path, digest(["another encoder"]), inputs(1), vectors)
    assert vectors.asked.count(inputs(1)[0]) == 2


def test_a_damaged_block_costs_only_its_own_rows(tmp_path: Path) -> None:
    cached_rows(tmp_path, KEY, inputs(3), Vectors())
    (path,) = files(tmp_path)
    cached_rows(tmp_path, KEY, inputs(5), Vectors())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    vectors = Vectors()
    rows = cached_rows(tmp_path, KEY, inputs(5), vectors)
    assert sorted(vectors.asked) == sorted(inputs(3))
    assert all(np.array_equal(rows[content], vector(content)) for content in inputs(5))
    assert path.read_bytes() == whole


def test_what_cannot_be_encoded_is_left_out_and_tried_again(tmp_path: Path) -> None:
    wanted = inputs(4)
    assert cached_rows(tmp_path, KEY, wanted, Vectors(frozenset(wanted[:1]))).keys() == set(wanted[1:])
    again = Vectors()
    assert cached_rows(tmp_path, KEY, wanted, again).keys() == set(wanted)
    assert again.asked == wanted[:1]
    assert cached_rows(tmp_path, digest(["none"]), wanted, Vectors(frozenset(wanted))) == {}
    assert cached_rows(tmp_path, KEY, [], Vectors()) == {}


def test_an_interrupted_pass_keeps_its_finished_blocks(tmp_path: Path) -> None:
    wanted = inputs(2 * BLOCK + 10)
    with pytest.raises(KeyboardInterrupt):
        cached_rows(tmp_path, KEY, wanted, Vectors(stop_after=BLOCK + 5))
    rest = Vectors()
    rows = cached_rows(tmp_path, KEY, wanted, rest)
    assert len(rest.asked) == BLOCK + 10
    assert all(np.array_equal(rows[content], vector(content)) for content in wanted)
