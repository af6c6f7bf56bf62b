"""NumPy archives: what is read, and that a hostile file is one line and never code, memory or a traceback."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mmbench.arrays import npz_names, read_npz, write_npz
from mmbench.errors import UsageError
from mmbench.matrices import ArrayFile

EXPECTED = {"x": ("f", ("rows", 3)), "y": ("i", ("rows",))}
GOOD = {"x": np.arange(12.0).reshape(4, 3), "y": np.arange(4), "other": np.array(["passed over"])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "data.npz"


def test_what_is_written_is_read(path: Path) -> None:
    write_npz(path, GOOD)
    read = read_npz(path, EXPECTED)
    assert set(read) == {"x", "y"}
    assert (read["x"] == GOOD["x"]).all() and read["x"].flags.writeable
    assert sorted(npz_names(path)) == ["other", "x", "y"]
    assert [p.name for p in path.parent.iterdir()] == ["data.npz"]


@pytest.mark.parametrize("array", [np.asfortranarray(GOOD["x"]), GOOD["x"].astype(">f4"), np.zeros((0, 3))])
def test_any_order_of_bytes_and_axes(path: Path, array: np.ndarray) -> None:
    write_npz(path, {"x": array, "y": np.arange(len(array))})
    assert (read_npz(path, EXPECTED)["x"] == array).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": np.zeros((4, 2))}, r"array 'x' has shape \(4, 2\), expected \(rows, 3\)"),
        ({"x": np.zeros(4)}, r"array 'x' has shape \(4,\), expected \(rows, 3\)"),
        ({"y": np.arange(5)}, r"array 'y' has shape \(5,\), expected \(4\)"),
        ({"y": np.array(list("abcd"))}, r"array 'y' holds <U1, expected whole numbers"),
    ],
)
def test_what_does_not_fit_names_the_array(path: Path, change: dict[str, np.ndarray], told: str) -> None:
    write_npz(path, GOOD | change)
    with pytest.raises(UsageError, match=told) as raised:
        read_npz(path, EXPECTED)
    assert str(path) in str(raised.value)


def test_a_missing_array_or_file_is_told(path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_npz(path, EXPECTED)
    write_npz(path, {"x": GOOD["x"]})
    with pytest.raises(UsageError, match="has no array 'y': it has x"):
        read_npz(path, EXPECTED)


class Bomb:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path("executed").touch, ())


def test_a_pickle_is_not_loaded(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    path.parent.mkdir()
    np.savez(path, x=np.array([Bomb()], dtype=object), y=GOOD["y"])
    with pytest.raises(UsageError, match="holds object"):
        read_npz(path, EXPECTED)
    np.save(path.with_suffix(".npy"), np.array([Bomb()], dtype=object))
    with pytest.raises(UsageError, match="holds object"):
        ArrayFile(path.with_suffix(".npy"), tmp_path).open()
    assert not (tmp_path / "executed").exists()


def test_a_header_that_claims_too_much_allocates_nothing(path: Path) -> None:
    path.parent.mkdir()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**50, 3)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(UsageError, match="more than the file holds"):
        read_npz(path, EXPECTED)


@pytest.mark.parametrize(
    "header", ["{'descr': (", "{'descr': (), 'fortran_order': False, 'shape': (1,)}", "(" * 900, "{1L"]
)
def test_a_header_that_is_none_is_one_line(path: Path, header: str) -> None:
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(UsageError, match="cannot be read"):
        read_npz(path, EXPECTED)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_npz(tmp_path / "file" / "data.npz", GOOD)
