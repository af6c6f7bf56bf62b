"""Archives of strangers: unpacked whole inside one folder, or not at all.

Only files and folders with plain relative names are written: a name that leaves the folder, a link, a device, an
encrypted or sparse member, or more bytes or members than expected ends it before anything is moved into place.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from mmbench.errors import UsageError, reason

MEMBERS = 2_000_000
PIECE = 2**20
BROKEN = (
    EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


def unpack(archive: Path, folder: Path, limit: int) -> list[str]:
    """Unpack a zip or (compressed) tar into an existing folder.

    Args:
        archive: the file.
        folder: where its top-level entries come to lie; none of them may be there already.
        limit: the most bytes it may unpack to.

    Returns:
        The names of the top-level entries, sorted.

    Raises:
        UsageError: not an archive, or a member that is refused (nothing is left behind); an entry that is there.
    """
    made = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
    try:
        with _members(archive) as members:
            _write(members, made, archive.name, limit)
        names = sorted(path.name for path in made.iterdir())
        for name in names:
            if (folder / name).exists() or (folder / name).is_symlink():
                raise UsageError(f"{folder / name} is there already: remove it, or choose another folder")
        for name in names:
            (made / name).rename(folder / name)
    except BROKEN as error:
        raise UsageError(f"{archive} is not an archive that can be read: {reason(error)}") from None
    except OSError as error:
        raise UsageError(f"{archive} cannot be unpacked into {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return names


Member = tuple[str, str, IO[bytes] | None]  # name, what kind of thing it is ("file", "folder", or a refused one), data


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    with archive.open("rb") as file:
        start = file.read(2)
    if start == b"PK":  # by its start: a tar that ends with a zip would pass zipfile.is_zipfile
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(opened)
    else:
        with tarfile.open(archive, "r:*") as stream:
            yield _tar_members(stream)


def _zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        mode = info.external_attr >> 16
        if info.filename.endswith("/"):  # is_dir fails where there is no name
            yield info.filename, "folder", None
        elif info.flag_bits & 1:
            yield info.filename, "encrypted", None
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            yield info.filename, "a link or a device", None
        else:
            with opened.open(info) as data:
                yield info.filename, "file", data


def _tar_members(stream: tarfile.TarFile) -> Iterator[Member]:
    for info in stream:
        if info.isdir():
            yield info.name, "folder", None
        elif not info.isreg() or info.issparse():
            yield info.name, "a link, a device or a sparse file", None
        else:
            yield info.name, "file", stream.extractfile(info)
    # The checksum of a compressed tar stands after its last byte: whoever stops at the last member never sees it.
    if stream.fileobj is not None and len(stream.fileobj.read(PIECE)) == PIECE:
        raise UsageError("there is more in the archive after the end of the tar: it is refused")


def _write(members: Iterator[Member], made: Path, archive: str, limit: int) -> None:
    left = limit
    for number, (name, kind, data) in enumerate(members):
        if number >= MEMBERS:
            raise UsageError(f"{archive} has more than {MEMBERS:,} members: it is refused")
        parts = PurePosixPath(name).parts
        if not parts and kind == "folder":  # the folder itself, "./"
            continue
        plain = name.isprintable() and not any(character in name for character in '\\:"<>|*?')
        if not parts or not plain or name.startswith("/") or ".." in parts:
            raise UsageError(f"{archive}: member {name[:80]!r} has a name that leaves the folder or is no plain path")
        if kind not in ("file", "folder"):
            raise UsageError(f"{archive}: member {name[:80]!r} is {kind}: it is refused")
        path = made.joinpath(*parts)
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            while piece := data.read(PIECE):
                left -= len(piece)
                if left < 0:
                    raise UsageError(f"{archive} unpacks to more than {limit:,} bytes: it is refused")
                file.write(piece)
