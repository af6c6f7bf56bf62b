"""Folders of generated samples: written whole or not at all, known again by a marker, mended where they are damaged.

A task's generator writes a sample in the official layout below an empty folder and returns its large files; everything
else in the folder is small and is told by its digest. :func:`ensure` adds the marker last: by it a folder is known as
generated.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from mmbench.errors import UsageError

MARKER = "sample.json"


def ensure(scratch: Path, task: str, version: int, generate: Callable[[Path], Iterable[str]]) -> Path:
    """The folder of a task's sample below ``scratch``: written where it is not there whole, else used as it is.

    Args:
        scratch: where samples are kept.
        task: names the folder, with the version.
        version: of the generator.
        generate: writes the sample below an empty folder; returns the names of the files that are told by their size
            alone (pictures, whose bytes depend on the image library).

    Raises:
        UsageError: ``scratch`` cannot be written.
    """
    home = scratch / f"{task}-sample-v{version}"
    if is_whole(home, version):
        return home
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=scratch))
        try:
            _mark(made, version, set(generate(made)))
            if home.exists() and not is_whole(home, version):
                damaged = Path(tempfile.mkdtemp(prefix=f".{home.name}-damaged-", dir=scratch))
                with suppress(FileNotFoundError):  # another process took it away first
                    home.rename(damaged / home.name)
                shutil.rmtree(damaged)
            try:
                made.rename(home)
            except OSError:  # another process was first
                if not is_whole(home, version):
                    raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"the sample cannot be written to {scratch}: {error.strerror}; free space, or choose another folder with "
            "MMBENCH_CACHE"
        ) from None
    return home


def _mark(home: Path, version: int, by_size: set[str]) -> None:
    names = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    record = {
        "generated": True,
        "version": version,
        "images": {name: (home / name).stat().st_size for name in names if name in by_size},
        "texts": {name: _sha256(home / name) for name in names if name not in by_size},
    }
    (home / MARKER).write_text(json.dumps(record))


def is_whole(home: Path, version: int) -> bool:
    """Whether a folder holds this version of a sample, with every text as written and every picture of its size."""
    try:
        record = json.loads((home / MARKER).read_bytes())
        return bool(
            record["version"] == version
            and all((home / name).stat().st_size == size for name, size in record["images"].items())
            and all(_sha256(home / name) == expected for name, expected in record["texts"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def version_of(home: Path) -> int | None:
    """The generator's version where a folder holds a generated sample, else None.

    Raises:
        UsageError: a marker that cannot be read.
    """
    path = home / MARKER
    if not path.exists():
        return None
    try:
        return int(json.loads(path.read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path} is damaged: it marks a generated sample; delete {home} and generate it again"
        ) from None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
