"""Pickles: data comes out as it went in, and nothing in a file is ever run."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.errors import UsageError
from mmbench.pickles import read_pickle

DATA = {
    "train": {
        "raw_text": ["so good", "näh", ""],
        "id": np.array(["video$_$1", "video$_$2", "ü"]),
        "words": np.array(["a", "bc", "d"], dtype=object),
        "text": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "turned": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "big": np.arange(3, dtype=">f8"),
        "flags": np.array([True, False]),
        "bytes": np.array([b"a", b"bc"]),
        "none": np.zeros((0, 5), dtype=np.float16),
        "number": np.float64(1.5),
        "point": np.array(7, dtype=np.uint8),
        "pair": (1, None, True, 2.5, b"x", 10**30),
    },
    3: [],
}


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file.pkl"
    path.write_bytes(content)
    return path


def complaint(path: Path) -> str | None:
    """What is said of a file that is not read; anything but one kind of error is a failure of the test."""
    try:
        read_pickle(path)
    except UsageError as error:
        return str(error)
    return None


def same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray) and b.dtype.kind == "O":
        return a == b.tolist()
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and (a == b).all()
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b if not isinstance(b, np.generic) else a == b.item()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_data_comes_out_as_it_went_in(tmp_path, protocol, core):
    content = pickle.dumps(DATA, protocol)
    if protocol < 4:  # a name is a line, so that an older NumPy's can take its place
        content = content.replace(b"numpy._core", core.encode())
    assert same(read_pickle(write(tmp_path, content)), DATA)


class Runs:
    """What a hostile file does when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def hostile(folder: Path) -> list[Any]:
    touch = f"open({str(folder / 'ran')!r}, 'w').close()"
    return [
        Runs(os.system, f"touch {folder / 'ran'}"),
        Runs(eval, touch),
        Runs(exec, touch),
        Runs(subprocess.Popen, ["touch", str(folder / "ran")]),
        Runs(getattr, "x", "upper"),
        Runs(np.load, "x.npy"),
        Runs(__import__, "antigravity"),
        OrderedDict(a=1),
        {1, 2},
        frozenset([1]),
        Path("x"),
        complex(1, 2),
        slice(1),
        np.dtype("f4"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([1j]),
        np.array([[1, None]], dtype=object),
        np.ma.masked_array([1, 2], [True, False]),
        len,
    ]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("number", range(20))
def test_whatever_is_no_data_is_refused_before_it_runs(tmp_path, protocol, number):
    content = pickle.dumps({"train": {"text": hostile(tmp_path)[number]}}, protocol)
    with pytest.raises(UsageError, match="nothing of it was run") as told:
        read_pickle(write(tmp_path, content))
    assert len(str(told.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def build(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def name(module: str, what: str) -> bytes:
    return b"c" + f"{module}\n{what}\n".encode()


DTYPE = name("numpy", "dtype") + b"\x8c\x02f4K\x00K\x01\x87R"
STATE = b"(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
EMPTY = name("numpy.core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"


@pytest.mark.parametrize(
    "content",
    [
        build(name("os", "system")),
        build(b"\x8c\x02os\x8c\x06system\x93"),
        build(b"(S'touch ran'\nios\nsystem\n"),
        build(b"(" + name("os", "system") + b"S'touch ran'\no"),
        build(name("numpy", "ndarray.__class__")),
        build(b"\x8c\x05numpy\x8c\x0cndarray.dump\x93"),
        build(b"\x82\x01"),
        build(b"Pname\n"),
        build(b"K\x01Q"),
        build(b"\x97"),
        build(name("numpy", "dtype"), b"}N}\x8c\x04callK\x01s\x86b"),
        build(name("numpy", "dtype"), b"\x8c\x04callK\x01\x86b"),
        build(name("numpy", "dtype"), b")\x81"),
        build(name("numpy", "dtype"), b"\x8c\x05f4,f4\x85R"),
        build(DTYPE, b"(K\x03\x8c\x01<N\x8c\x01a\x85NJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"),
        build(DTYPE, b"(K\x03\x8c\x01zNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"),
        build(EMPTY),
        build(EMPTY, b"(K\x01J\xff\xff\xff\x7f\x85", DTYPE, STATE, b"\x89C\x04abcdtb"),
        build(EMPTY, b"(K\x01J\xfe\xff\xff\xff\x85", DTYPE, STATE, b"\x89C\x04abcdtb"),
        build(EMPTY, b"(K\x01K\x01\x85K\x05\x89C\x04abcdtb"),
        build(EMPTY, b"K\x05b"),
        build(name("numpy.core.multiarray", "scalar"), DTYPE, b"C\x02ab\x86R"),
        build(name("_codecs", "encode"), b"\x8c\x01x\x8c\x06rot_13\x86R"),
        build(b"]q\x01h\x01a"),
        build(b"]" * 50 + b"a" * 49),
        build(b"}K\x01\x85K\x02s"),
    ],
)
def test_a_hostile_program_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        read_pickle(write(tmp_path, content))
    assert not (tmp_path / "ran").exists()


def test_a_type_that_was_changed_by_one_file_reads_the_next_as_before(tmp_path):
    with pytest.raises(UsageError):
        read_pickle(write(tmp_path, build(name("numpy", "dtype"), b"N}\x8c\x04callK\x01s\x86b")))
    assert same(read_pickle(write(tmp_path, pickle.dumps(DATA))), DATA)


def test_a_small_file_that_promises_much_takes_little(tmp_path, monkeypatch):
    laughs = b"]q\x00" + b"".join(
        b"]" + b"h" + bytes([n]) + b"a" + b"h" + bytes([n]) + b"aq" + bytes([n + 1]) for n in range(25)
    )
    found = read_pickle(write(tmp_path, build(laughs)))
    assert len(found) == 2 and found[0] is found[1]
    for content in (b"\x8e" + struct.pack("<Q", 1 << 45), b"\x8d" + struct.pack("<Q", 1 << 62), b"r\xff\xff\xff\x7f"):
        with pytest.raises(UsageError, match="damaged"):
            read_pickle(write(tmp_path, build(content)))
    monkeypatch.setattr(pickle, "bytearray", lambda size: pytest.fail(f"makes room for {size} bytes"), raising=False)
    with pytest.raises(UsageError, match="damaged"):
        read_pickle(write(tmp_path, build(b"\x96" + struct.pack("<Q", 1 << 30))))
    monkeypatch.undo()
    assert read_pickle(write(tmp_path, pickle.dumps([bytearray(b"xy"), bytearray()], 5))) == [b"xy", b""]
    memo = build(b"K\x05r\xff\xff\xff\x7f")  # the place of a number in a memo that others would make this long
    assert read_pickle(write(tmp_path, memo)) == 5


def test_every_instruction_of_a_pickle_alone_is_an_error_or_data(tmp_path):
    for opcode in pickletools.opcodes:
        for before in (b"", b"K\x01", b"(K\x01", b"}", b"]K\x01", DTYPE, EMPTY):
            told = complaint(write(tmp_path, build(before, opcode.code.encode("latin-1"), b"\x01\x00\n\x00")))
            assert told is None or len(told.splitlines()) == 1


def test_files_that_are_none(tmp_path):
    with pytest.raises(UsageError, match=r"file\.pkl cannot be read"):
        read_pickle(tmp_path / "file.pkl")
    for content in (b"", b"\x89HDF", b"PK\x03\x04", b"text\n"):
        with pytest.raises(UsageError, match="no pickle, or damaged"):
            read_pickle(write(tmp_path, content))
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3))
    with pytest.raises(UsageError, match="no pickle, or damaged"):
        read_pickle(write(tmp_path, stream.getvalue()))
