"""Archives that attack: nothing is written outside the folder, and nothing is left behind."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mmbench.errors import UsageError
from mmbench.unpacking import unpack

LIMIT = 10_000


def zipped(path: Path, members: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


def tarred(path: Path, name: str, data: bytes = b"", **attributes: object) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for key, value in attributes.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(data))
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def whole_tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "zip up": lambda p: zipped(p, {"../out.txt": b"x"}),
    "zip up inside": lambda p: zipped(p, {"a/../../out.txt": b"x"}),
    "zip absolute": lambda p: zipped(p, {"/tmp/out.txt": b"x"}),
    "zip backslash": lambda p: zipped(p, {"..\\out.txt": b"x"}),
    "zip drive": lambda p: zipped(p, {"C:out.txt": b"x"}),
    "zip control": lambda p: zipped(p, {"a\x1b[2J": b"x"}),
    "zip link": lambda p: zipped(p, {"link": b"/etc"}, stat.S_IFLNK | 0o777),
    "zip bomb": lambda p: zipped(p, {"bomb": bytes(1_000_000)}),
    "zip bomb in many": lambda p: zipped(p, {f"part{n}": bytes(600) for n in range(20)}),
    "zip twice": lambda p: zipped(p, {"a/b": b"x", "a//b": b"y"}),
    "zip file as folder": lambda p: zipped(p, {"a": b"x", "a/b": b"y"}),
    "tar up": lambda p: tarred(p, "../out.txt", b"x"),
    "tar absolute": lambda p: tarred(p, "/tmp/out.txt", b"x"),
    "tar symlink": lambda p: tarred(p, "link", type=tarfile.SYMTYPE, linkname="/etc"),
    "tar hard link": lambda p: tarred(p, "link", type=tarfile.LNKTYPE, linkname="../secret"),
    "tar device": lambda p: tarred(p, "zero", type=tarfile.CHRTYPE),
    "tar fifo": lambda p: tarred(p, "pipe", type=tarfile.FIFOTYPE),
    "tar bomb": lambda p: tarred(p, "bomb", bytes(1_000_000)),
    "no archive": lambda p: written(p, b"<html>404</html>" * 50),
    "empty": lambda p: written(p, b""),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_are_one_line_and_leave_nothing(tmp_path: Path, what: str) -> None:
    (tmp_path / "secret").write_text("s")
    folder = tmp_path / "data"
    folder.mkdir()
    archive = HOSTILE[what](tmp_path / "archive")
    with pytest.raises(UsageError) as told:
        unpack(archive, folder, LIMIT)
    assert "\n" not in str(told.value) and "\x1b" not in str(told.value)
    assert whole_tree(tmp_path) == {"secret", "data", "archive"}
    assert not Path("/tmp/out.txt").exists()


@pytest.mark.parametrize("cut", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_truncated_and_flipped_archives(tmp_path: Path, kind: str, cut: float) -> None:
    data = bytes(range(256)) * 20
    archive = tmp_path / "archive"
    zipped(archive, {"a/b": data}) if kind == "zip" else tarred(archive, "a/b", data)
    whole = archive.read_bytes()
    folder = tmp_path / "data"
    folder.mkdir()
    archive.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(UsageError):
        unpack(archive, folder, LIMIT)
    middle = len(whole) // 3
    archive.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    with pytest.raises(UsageError):
        unpack(archive, folder, LIMIT)
    assert whole_tree(folder) == set()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_good_archive_is_unpacked_whole(tmp_path: Path, kind: str) -> None:
    data = bytes(range(256)) * 20
    archive = tmp_path / "archive"
    if kind == "zip":
        zipped(archive, {"set/": b"", "set/a/b.bin": data, "set/c.txt": b"c"})
    else:
        with tarfile.open(archive, "w:gz") as made:
            (tmp_path / "b.bin").write_bytes(data)
            (tmp_path / "c.txt").write_bytes(b"c")
            made.add(tmp_path / "b.bin", "./set/a/b.bin")
            made.add(tmp_path / "c.txt", "set/c.txt")
    folder = tmp_path / "data"
    folder.mkdir()
    assert unpack(archive, folder, len(data) + 1) == ["set"]
    assert whole_tree(folder) == {"set", "set/a", "set/a/b.bin", "set/c.txt"}
    assert (folder / "set/a/b.bin").read_bytes() == data
    with pytest.raises(UsageError, match="there already"):
        unpack(archive, folder, LIMIT)
    assert whole_tree(folder) == {"set", "set/a", "set/a/b.bin", "set/c.txt"}
