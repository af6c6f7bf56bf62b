"""Files that a table names: paths below a folder, which of them are there, and the text that they hold."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import UsageError
from mmbench.tables import LONGEST_FIELD, Table, without_mark


@dataclass(frozen=True)
class Files:
    """The files of a column.

    ``paths`` are None where the cell is empty or the file is not there, which tell the rows of ``absent`` apart, each
    with the name of the column; ``sizes`` in bytes, (n,) int64.
    """

    paths: list[Path | None]
    sizes: NDArray[np.int64]
    absent: dict[int, str]

    @property
    def empty(self) -> int:
        """How many cells are empty."""
        return self.paths.count(None) - len(self.absent)


def find_files(table: Table, column: str, folder: Path, suffix: str) -> Files:
    """The files of a column, paths below ``folder`` with ``suffix`` behind each; one of no bytes is not there.

    Raises:
        UsageError: a path out of the folder.
    """
    folder = Path(os.path.normpath(folder))
    paths: list[Path | None] = []
    sizes = np.zeros(table.n, dtype=np.int64)
    absent: dict[int, str] = {}
    for row, cell in enumerate(table.texts(column)):
        if not cell.strip():
            paths.append(None)
            continue
        path = Path(os.path.normpath(folder / (cell.strip() + suffix)))
        if "\0" in str(path) or not path.is_relative_to(folder):
            raise table.error(row, column, f"is '{cell[:60]!s}', which is not below {folder}")
        try:
            found = path.stat()
            sizes[row] = found.st_size if stat.S_ISREG(found.st_mode) else 0
        except OSError:
            pass
        paths.append(path if sizes[row] else None)
        if not sizes[row]:
            absent[row] = column
    return Files(paths, sizes, absent)


def read_texts(files: Files, encoding: str) -> list[str | None]:
    """What the files hold, stripped of white space; None where there is none.

    Raises:
        UsageError: a file that cannot be read, in another encoding, or of more than 16 megabytes.
    """
    return [None if path is None else _text(path, encoding) for path in files.paths]


def _text(path: Path, encoding: str) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_FIELD + 1)
        if len(content) > LONGEST_FIELD:
            raise UsageError(f"{path} has more than {LONGEST_FIELD:,} bytes: expected one text")
        return content.decode(without_mark(encoding)).strip() or None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not {encoding}") from None
    except LookupError:
        raise UsageError(f"{path}: '{encoding}' is no known encoding, expected for example utf-8 or cp1252") from None
