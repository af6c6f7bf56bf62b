"""The feature cache: an entry is whole and right, or it is built again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from mmbench.errors import UsageError
from mmbench.features.cache import cached
from mmbench.hashing import digest

KEY = digest(["an entry"])
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


class Build:
    """Counts how often it is asked."""

    def __init__(self, values: np.ndarray = VALUES) -> None:
        self.values, self.calls = values, 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return self.values


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_an_entry_is_built_once_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    values = np.array([[0.1, -0.0, np.inf], [1e-45, np.nan, 3.4e38]], dtype=np.float32)
    build = Build(values)
    first, second = cached(tmp_path, KEY, build), cached(tmp_path, KEY, build)
    assert build.calls == 1
    assert first.tobytes() == second.tobytes() == values.tobytes()
    assert first.dtype == second.dtype == np.float32
    assert len(entries(tmp_path)) == 1


def test_what_is_returned_may_be_written_to(tmp_path: Path) -> None:
    for _ in range(2):
        cached(tmp_path, KEY, lambda: VALUES.copy())[0] = 9
    assert (cached(tmp_path, KEY, Build()) == VALUES).all()


def test_arrays_are_stored_in_row_order_and_single_precision(tmp_path: Path) -> None:
    wide = np.asfortranarray(VALUES.astype(np.float64))
    assert (cached(tmp_path, KEY, lambda: wide) == VALUES).all()
    assert (cached(tmp_path, KEY, Build()) == VALUES).all()


def test_another_key_is_another_entry(tmp_path: Path) -> None:
    cached(tmp_path, KEY, Build())
    other = Build(VALUES + 1)
    assert (cached(tmp_path, digest(["another"]), other) == VALUES + 1).all()
    assert other.calls == 1
    assert (cached(tmp_path, KEY, Build(VALUES + 2)) == VALUES).all()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "one byte": lambda whole: whole[:1],
    "the header alone": lambda whole: whole[:40],
    "truncated": lambda whole: whole[:-1],
    "longer": lambda whole: whole + b"\0",
    "zeros": lambda whole: bytes(len(whole)),
    "text": lambda whole: b"this is no tensor file, but it is long enough to hold a header",
    "a tensor file of another program": lambda whole: save({"values": VALUES + 1}),
    "an endless header": lambda whole: b"\xff" * 200,
    "written twice": lambda whole: whole + whole,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_built_again_and_mended(tmp_path: Path, damage: str) -> None:
    cached(tmp_path, KEY, Build())
    (path,) = entries(tmp_path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    build = Build()
    assert (cached(tmp_path, KEY, build) == VALUES).all()
    assert (cached(tmp_path, KEY, build) == VALUES).all()
    assert build.calls == 1


def test_no_flipped_bit_is_ever_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    cached(tmp_path, KEY, Build())
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    rebuilt = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        build = Build()
        assert cached(tmp_path, KEY, build).tobytes() == VALUES.tobytes()
        rebuilt += build.calls
    assert rebuilt >= VALUES.nbytes


def test_an_entry_under_another_name_is_not_served(tmp_path: Path) -> None:
    cached(tmp_path, KEY, Build())
    (path,) = entries(tmp_path)
    other = digest(["another"])
    stray = Path(str(path).replace(f"{KEY[:2]}/{KEY}", f"{other[:2]}/{other}"))
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(path.read_bytes())
    assert (cached(tmp_path, other, Build(VALUES + 1)) == VALUES + 1).all()


def test_a_file_in_the_place_of_the_cache_or_a_folder_in_that_of_an_entry_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(UsageError, match=r"cannot write the feature cache .*MMBENCH_CACHE") as raised:
        cached(tmp_path / "file", KEY, Build())
    assert "\n" not in str(raised.value)
    cached(tmp_path / "cache", KEY, Build())
    (path,) = entries(tmp_path / "cache")
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="cannot write the feature cache"):
        cached(tmp_path / "cache", KEY, Build())
    assert entries(tmp_path) == [tmp_path / "file"]


@pytest.mark.parametrize("step", ["mkdir", "open", "fsync", "replace"])
def test_a_full_or_read_only_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    owner, name = {
        "mkdir": (Path, "mkdir"),
        "open": (tempfile, "mkstemp"),
        "fsync": (os, "fsync"),
        "replace": (Path, "replace"),
    }[step]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fail)
        with pytest.raises(UsageError, match=r"(?i)no space left on device.* choose another folder with MMBENCH_CACHE"):
            cached(tmp_path, KEY, Build())
    assert entries(tmp_path) == []
    build = Build()
    assert (cached(tmp_path, KEY, build) == VALUES).all()
    assert build.calls == 1


def test_an_error_while_building_leaves_nothing(tmp_path: Path) -> None:
    def build() -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, KEY, build)
    assert entries(tmp_path) == []


WRITER = """
import os, sys, time
import numpy as np
from pathlib import Path
from mmbench.features import cache
folder, key, mode = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
values = np.arange(200_000, dtype=np.float32).reshape(-1, 50)
if mode == "killed":  # the process dies when the file is written and not yet in its place
    def fsync(descriptor):
        os.kill(os.getpid(), 9)
    cache.os.fsync = fsync
if mode == "race":  # both have looked and found nothing before either writes
    def build():
        (folder / f"building-{os.getpid()}").touch()
        deadline = time.monotonic() + 20
        while len(list(folder.glob("building-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        return values
else:
    def build():
        return values
print(cache.digest([cache.cached(folder, key, build)]))
"""


def start(folder: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), KEY, mode]
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)


LARGE = np.arange(200_000, dtype=np.float32).reshape(-1, 50)


def test_two_processes_that_build_at_once_both_get_it_right(tmp_path: Path) -> None:
    processes = [start(tmp_path, "race") for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [digest([LARGE])] * 2
    assert len(list(tmp_path.glob("building-*"))) == 2
    build = Build(LARGE)
    assert (cached(tmp_path, KEY, build) == LARGE).all()
    assert build.calls == 0
    assert len(entries(tmp_path / "features")) == 1


def test_a_kill_in_the_middle_leaves_no_entry(tmp_path: Path) -> None:
    process = start(tmp_path, "killed")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert [path for path in tmp_path.rglob(f"{KEY}*") if not path.name.startswith(".")] == []
    build = Build(LARGE)
    assert (cached(tmp_path, KEY, build) == LARGE).all()
    assert build.calls == 1
