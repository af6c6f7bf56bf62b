"""Pickles read without trust: a pickle is a program, and of its instructions only those that build data are run.

What a file may hold is dictionaries, lists, tuples, texts, bytes, numbers, None, and NumPy arrays and scalars of
numbers or texts. The few NumPy names that such arrays are pickled with are answered by stand-ins of this module, which
compute nothing but the array; any other name ends the reading before anything of it is imported, let alone called.
NumPy's own unpickling, which takes a type's layout on trust, is not used either.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import UsageError, reason

CODE = re.compile(r"[biufSUO]\d{1,9}")  # of a type: of records, dates or a list of types there is none
DEEPEST = 32  # levels of dictionaries and lists
SHOWN = 60


class _RefusedError(Exception):
    """What a pickle holds that is no data."""


class _Name:
    """What a NumPy name in the pickle stands for; it can be called, and nothing of it changed."""

    __slots__ = ("call",)
    call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "call", call)

    def __setattr__(self, name: str, value: object) -> None:
        raise _RefusedError("changes what it is read with")

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


class _DType:
    """A type as pickled: its code, then the byte order that its state gives."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, order: str) -> None:
        self.code, self.order = code, order

    def __setstate__(self, state: Any) -> None:
        """``(version, byte order, subarray, names, fields, itemsize, alignment, flags, …)``."""
        if not isinstance(state, tuple) or len(state) < 8 or any(part is not None for part in state[2:5]):
            raise _RefusedError("holds arrays of records")
        if state[1] not in ("<", ">", "=", "|"):
            raise _RefusedError(f"holds a type of byte order {_told(state[1])}")
        self.order = state[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's."""
        return np.dtype(self.code).newbyteorder("=" if self.order == "|" else self.order)  # type: ignore[arg-type]


class _Array:
    """An array as pickled: nothing, then the content that its state gives."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: NDArray[Any] | list[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        """``(version, shape, dtype, is Fortran, bytes or list of objects)``."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("holds an array of another form")
        self.value = _content(state[4], state[2], state[1], fortran=bool(state[3]))


def _content(data: Any, kind: Any, shape: Any, *, fortran: bool) -> NDArray[Any] | list[Any]:
    """The array of these bytes; of objects a list, which may have one dimension only."""
    if not isinstance(kind, _DType):
        raise _RefusedError("holds an array without a type")
    dtype = kind.dtype
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise _RefusedError(f"holds an array of shape {_told(shape)}")
    count = math.prod(shape)
    if dtype.kind == "O":
        if not isinstance(data, list) or len(shape) != 1 or len(data) != count:
            raise _RefusedError("holds an array of objects that is no list")
        return data
    if isinstance(data, str):  # as a pickle of protocol 2 and below may hold bytes
        data = data.encode("latin-1")
    if not isinstance(data, bytes | bytearray) or len(data) != count * dtype.itemsize:
        raise _RefusedError(f"holds an array of shape {shape} with other than {count * dtype.itemsize} bytes")
    flat: NDArray[Any] = np.frombuffer(data, dtype=dtype) if data else np.zeros(count, dtype)
    return flat.reshape(shape, order="F") if fortran else flat.reshape(shape)


def _make_dtype(code: Any, *flags: Any) -> _DType:
    if not isinstance(code, str) or not CODE.fullmatch(code):
        raise _RefusedError(f"holds a type {_told(code)}")
    return _DType(code, "=")


def _make_array(*arguments: Any) -> _Array:
    return _Array()  # the arguments name the class and an empty content


def _make_scalar(kind: Any, data: Any = None) -> Any:
    found = _content(data, kind, (), fortran=False)
    if isinstance(found, list):
        raise _RefusedError("holds an object for a number")
    return found[()].item()


def _make_from_buffer(data: Any, kind: Any, shape: Any, order: Any = "C") -> _Array:
    made = _Array()
    made.value = _content(data, kind, shape, fortran=order == "F")
    return made


def _make_bytes(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError("encodes something else than bytes")
    return text.encode("latin-1")


def _make_empty(*arguments: Any) -> bytes:
    if arguments:
        raise _RefusedError("makes bytes of something else")
    return b""  # as protocol 2 and below write it


def _names() -> dict[tuple[str, str], _Name]:
    """The names that NumPy 1 and 2 write into the pickle of an array, at whatever protocol."""
    found = {
        ("numpy", "ndarray"): _Name(_make_array),
        ("numpy", "dtype"): _Name(_make_dtype),
        ("_codecs", "encode"): _Name(_make_bytes),
        ("__builtin__", "bytes"): _Name(_make_empty),
        ("builtins", "bytes"): _Name(_make_empty),
    }
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "_reconstruct"] = _Name(_make_array)
        found[f"{core}.multiarray", "scalar"] = _Name(_make_scalar)
        found[f"{core}.numeric", "_frombuffer"] = _Name(_make_from_buffer)
    return found


class _Reader(pickle._Unpickler):
    """Python's own interpreter of pickles, whose memory is bounded by the file's, with nothing but these names."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        super().__init__(file, encoding="latin1")
        self.names = _names()

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name.

        Raises:
            _RefusedError: any name that no array needs.
        """
        if (module, name) not in self.names:
            raise _RefusedError(f"asks for {_told(f'{module}.{name}')}, which is no data")
        return self.names[module, name]

    def get_extension(self, code: int) -> None:
        """Names by number, which the process that reads would have had to register."""
        raise _RefusedError(f"asks for extension {code}, which is no data")

    def load_bytearray8(self) -> None:
        """Bytes that may be changed; Python's own makes room for as many as are promised before it reads one."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))  # type: ignore[attr-defined]

    dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}  # type: ignore[dict-item]  # noqa: RUF012


def read_pickle(path: Path) -> Any:
    """The data of a pickle: dictionaries, lists, tuples, texts, bytes, numbers, None, arrays.

    Arrays are read-only views of the bytes that were read. An array of objects becomes a list.

    Raises:
        UsageError: a file that cannot be read, is no pickle or damaged, or holds anything else: one line.
    """
    try:
        with path.open("rb") as file:
            return _plain(_Reader(file).load(), {}, DEEPEST)
    except _RefusedError as error:
        raise UsageError(f"{path} {error}: it is not read, and nothing of it was run") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # what a damaged file makes the interpreter raise has no bound
        raise UsageError(f"{path} is no pickle, or damaged ({type(error).__name__}: {reason(error, SHOWN)})") from None


def _plain(value: Any, seen: dict[int, Any], levels: int) -> Any:
    """The value with every array in its place; whatever stands in several places is converted once."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if levels == 0:
        raise _RefusedError(f"nests more than {DEEPEST} levels")
    found: Any
    if isinstance(value, _Array):
        if value.value is None:
            raise _RefusedError("holds an array without content")
        found = value.value if isinstance(value.value, np.ndarray) else _plain(value.value, seen, levels - 1)
    elif isinstance(value, dict):
        found = {_key(key): _plain(part, seen, levels - 1) for key, part in value.items()}
    elif isinstance(value, list | tuple):
        found = [_plain(part, seen, levels - 1) for part in value]
        found = tuple(found) if isinstance(value, tuple) else found
    elif isinstance(value, bytearray):
        found = bytes(value)
    else:
        raise _RefusedError(f"holds a {type(value).__name__.strip('_')}, which is no data")
    seen[id(value)] = found
    return found


def _key(key: Any) -> Any:
    if not isinstance(key, str | int | float | bytes | bool) and key is not None:
        raise _RefusedError(f"holds a key of type {type(key).__name__}")
    return key


def _told(value: Any) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    text = text.encode("unicode_escape").decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
