"""Archives and pickles of strangers: unpacked whole inside one folder or not at all; nothing of them is ever run."""

from __future__ import annotations

import io
import pickle
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from mmbench.pickles import read_pickle
from mmbench.unpacking import unpack

from .conftest import damaged, hunt, told

LIMIT = 20_000
PARTS = ("a", "b", "a.txt", "..", ".", "", "/", "C:", "..\\x", "é", "\udcff", "x" * 300, "\0", "a\n", "\x1b[1m", "con")
NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join)
SIZES = st.sampled_from((0, 1, 5_000, LIMIT + 1))
TAR_KINDS = (
    *([tarfile.REGTYPE] * 6), tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE,
    tarfile.GNUTYPE_SPARSE,
)  # fmt: skip
ZIP_KINDS = (0, 0, 0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK)


@st.composite
def zips(draw: Any) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in draw(st.lists(NAMES, min_size=1, max_size=4)):
            info = zipfile.ZipInfo("x")
            info.filename = name.encode("utf-8", "replace").decode()  # with what ZipInfo would mend
            info.external_attr = (draw(st.sampled_from(ZIP_KINDS)) | 0o777) << 16
            archive.writestr(info, bytes(draw(SIZES)))
    return stream.getvalue()


@st.composite
def tars(draw: Any) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=draw(st.sampled_from(("w", "w:gz", "w:xz", "w:bz2")))) as archive:
        for name in draw(st.lists(NAMES, min_size=1, max_size=4)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = draw(st.sampled_from(TAR_KINDS)), draw(NAMES)
            data = bytes(draw(SIZES)) if info.isreg() else b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def sound(kind: str) -> bytes:
    """An archive of two files in a folder."""
    stream = io.BytesIO()
    files = {"set/a.bin": bytes(range(256)) * 8, "set/b.txt": b"b"}
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in files.items():
                packed.writestr(name, data)
        return stream.getvalue()
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "drawn"), [("zip", zips()), ("", tars()), ("gz", tars()), ("xz", tars())])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives(tmp_path: Path, kind: str, drawn: st.SearchStrategy[bytes]) -> None:
    (tmp_path / "secret").write_text("s")
    archive, number = tmp_path / "archive", 0

    def attempt(content: bytes) -> str:
        nonlocal number
        number += 1
        folder = tmp_path / f"data{number}"
        folder.mkdir()
        archive.write_bytes(content)
        line = told(lambda: unpack(archive, folder, LIMIT))
        found = list(folder.rglob("*"))
        assert not (line and found)
        assert all(path.is_dir() or (path.is_file() and not path.is_symlink()) for path in found)
        assert sum(path.stat().st_size for path in found if path.is_file()) <= LIMIT
        return line

    hunt(80, drawn | damaged(sound(kind)), attempt)
    outside = {path.name for path in tmp_path.iterdir()} - {f"data{n + 1}" for n in range(number)}
    assert outside == {"secret", "archive"} and (tmp_path / "secret").read_text() == "s"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles(tmp_path: Path, protocol: int) -> None:
    whole = {
        "train": {
            "raw_text": ["so good", "näh", ""],
            "id": np.array(["video$_$1", "ü"]),
            "words": np.array(["a", "bc"], dtype=object),
            "text": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
            "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
            "number": np.float64(1.5),
            "pair": (1, None, True, 2.5, b"x", 10**30),
        }
    }
    path = tmp_path / "file.pkl"

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        line = told(lambda: read_pickle(path))
        assert not line or "file.pkl" in line
        return line

    hunt(120, damaged(pickle.dumps(whole, protocol)), attempt)
