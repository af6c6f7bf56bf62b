"""Files of arrays of numbers (``.npy``, ``.npz``, ``.safetensors``), mapped for reading and taken without trust.

No array is brought into memory as a whole. Nothing is unpickled; a header is checked against the size of its file.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mmbench import bulk
from mmbench.arrays import BROKEN, LARGEST, read_data, read_header
from mmbench.errors import UsageError, reason, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = {".npy": "a NumPy array", ".npz": "a NumPy archive", ".safetensors": "a safetensors file"}
NUMBERS = "fiub"
TENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


class ArrayFile:
    """The arrays of a file.

    Attributes:
        names: of its arrays; a ``.npy`` file has one, named ``""``.

    Args:
        path: the file, told by its suffix.
        folder: where an array that is compressed in its archive is unpacked, if it is large.

    Raises:
        UsageError: no such file, or not one of arrays.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder, self.suffix = path, folder, path.suffix.lower()
        if self.suffix not in SUFFIXES:
            raise UsageError(f"{path}: expected an array in {', '.join(SUFFIXES)}, found '{self.suffix}'")
        self.names: tuple[str, ...] = ("",)
        try:
            self.file: IO[bytes] = path.open("rb")
            if self.suffix == ".npz":
                self.archive = zipfile.ZipFile(self.file)
                self.members = {one.filename.removesuffix(".npy"): one for one in self.archive.infolist()}
                self.names = tuple(self.members)
            elif self.suffix == ".safetensors":
                self.tensors, self.begins = self._read_tensors()
                self.names = tuple(self.tensors)
        except BROKEN as error:
            raise self._broken(error) from None

    def open(self, name: str = "") -> NDArray[Any]:
        """An array of numbers, of any shape; without a name the only one.

        Raises:
            UsageError: no such array, or not one of numbers.
        """
        name = name or (self.names[0] if len(self.names) == 1 else "")
        if name not in self.names:
            raise unknown(f"array of {self.path}", name, self.names, "" if name else '(give array = "NAME")')
        what = f"{self.path}: array '{name}'" if name else str(self.path)
        try:
            if self.suffix == ".npz":
                return self._member(self.members[name], what)
            if self.suffix == ".safetensors":
                return self._tensor(self.tensors[name], what)
            self.file.seek(0)
            shape, fortran, dtype = read_header(self.file, what, NUMBERS)
            return self._mapped(what, shape, dtype, self.file.tell(), fortran)
        except UsageError:
            raise
        except BROKEN as error:
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> UsageError:
        return UsageError(f"{self.path} is not {SUFFIXES[self.suffix]} that can be read: {reason(error)}")

    def _mapped(
        self, what: str, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, fortran: bool = False
    ) -> NDArray[Any]:
        import numpy as np

        length = math.prod(shape) * dtype.itemsize
        if offset + length > os.fstat(self.file.fileno()).st_size:
            raise UsageError(f"{what} says it has shape {shape}, which is more than the file holds")
        if length == 0:
            return np.zeros(shape, dtype)
        if fortran:
            _by_row(what, shape, length)
        return np.memmap(self.file, dtype, "r", offset, shape, "F" if fortran else "C")

    def _member(self, info: zipfile.ZipInfo, what: str) -> NDArray[Any]:
        """An array of an archive: mapped where it is large and stored as it is, else unpacked."""
        with self.archive.open(info) as packed:
            shape, fortran, dtype = read_header(packed, what, NUMBERS)
            length, begins = math.prod(shape) * dtype.itemsize, packed.tell()
            if length < bulk.LARGE:
                return read_data(packed, info.file_size, what, shape, fortran, dtype)
            if info.compress_type != zipfile.ZIP_STORED:
                if fortran:
                    _by_row(what, shape, length)
                return self._unpacked(packed, info.file_size, what, shape, dtype)
        self.file.seek(info.header_offset + 26)  # a member's own header: the lengths of its name and of what is extra
        lengths = self.file.read(4)
        skipped = 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        return self._mapped(what, shape, dtype, info.header_offset + skipped + begins, fortran)

    def _unpacked(
        self, packed: IO[bytes], size: int, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """A large array that is compressed in its archive, laid out in a file of its own."""
        import numpy as np

        width = math.prod(shape[1:]) * dtype.itemsize
        if shape[0] * width > min(size, LARGEST):
            raise UsageError(f"{what} says it has shape {shape}, which is more than the file holds")
        rows = bulk.Rows(shape, self.folder, dtype)
        step = max(1, 8 * bulk.BLOCK // width)
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            data = packed.read(count * width)
            if len(data) < count * width:
                raise UsageError(f"{what} ends early")
            rows.write(start, np.frombuffer(data, dtype).reshape(count, *shape[1:]))
        return rows.array()

    def _read_tensors(self) -> tuple[dict[str, Any], int]:
        """How a safetensors file describes its tensors, once the library has found that sound; and where data begin."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="np") as tensors:
                names = list(tensors.keys())
        except SafetensorError as error:
            raise self._broken(error) from None
        length = int.from_bytes(self.file.read(8), "little")
        described = json.loads(self.file.read(length))
        return {name: described[name] for name in names}, 8 + length

    def _tensor(self, described: dict[str, Any], what: str) -> NDArray[Any]:
        import numpy as np

        kind, shape, offsets = described["dtype"], tuple(described["shape"]), described["data_offsets"]
        if kind not in TENSORS:
            raise UsageError(f"{what} holds {kind}, expected one of {', '.join(TENSORS)}")
        return self._mapped(what, shape, np.dtype(TENSORS[kind]), self.begins + offsets[0])


def _by_row(what: str, shape: tuple[int, ...], length: int) -> None:
    """Refuse a large array that lies column by column: to read its rows is to read all of it for each."""
    if length >= bulk.LARGE and math.prod(shape[1:]) > 1:
        raise UsageError(f"{what} lies column by column: save it row by row, as np.ascontiguousarray(array)")
