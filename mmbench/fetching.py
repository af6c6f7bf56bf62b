"""Get the archives of a data set from where its authors serve them: pooch checks and names, this resumes and bounds.

A download that stops leaves ``<name>.part`` behind, and the next one goes on from there where the archive has a digest
that tells whether the two parts belong together.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmbench.contracts import DataFile, Task
from mmbench.errors import UsageError
from mmbench.unpacking import unpack

PIECE = 2**18
TIMEOUT = (20, 60)  # seconds to connect, and without a byte
LARGEST = 2**36  # bytes of an archive whose size nobody published

Progress = Callable[[str, int, int], None]  # name, bytes so far, bytes in all (0: unknown)


def fetch(task: Task, folder: Path, say: Callable[[str], None], progress: Progress) -> None:
    """Fetch and unpack what is not there yet; an archive is removed once it is unpacked.

    Raises:
        UsageError: nothing to fetch, no room, no connection, another digest, an archive that is refused; one line each.
    """
    if not task.files:
        raise UsageError(f"{task.title} cannot be fetched. {task.obtain}".strip())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from None
    for file in task.files:
        if all((folder / name).exists() for name in file.makes):
            say(f"{file.name}: {', '.join(file.makes)} there already, not fetched")
            continue
        need = file.size + min(file.unpacked, 3 * file.size)
        if shutil.disk_usage(folder).free < need:
            raise UsageError(f"{folder} has no room for {file.name}: about {need / 1e9:.1f} GB are needed")
        archive = download(file, folder, progress)
        if not file.digest:
            say(f"{file.name}: nobody published a digest of it, so it was not checked")
        names = unpack(archive, folder, file.unpacked)
        archive.unlink()
        say(f"{file.name}: unpacked to {', '.join(names)}")
        missing = [name for name in file.makes if not (folder / name).exists()]
        if missing:
            raise UsageError(f"{file.name} held no {', '.join(missing)}: it is not the archive that was expected")


def download(file: DataFile, folder: Path, progress: Progress) -> Path:
    """The archive in ``folder``, its digest checked where there is one; a whole one that is there is taken as it is.

    Raises:
        UsageError: no connection, an answer that is an error, more bytes than expected, or another digest.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("CRITICAL")
    try:
        path = pooch.retrieve(
            file.url, file.digest or None, fname=file.name, path=folder, downloader=_Resuming(file, folder, progress)
        )
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise UsageError(f"{file.url} answers {status}: the link may be dead; see the task's homepage") from None
    except requests.RequestException as error:
        raise UsageError(
            f"{file.url} broke off ({type(error).__name__}): the same command goes on from there"
        ) from None
    except ValueError:
        raise UsageError(
            f"{file.url} is not the file that {file.digest_by} lists ({file.digest}): it was removed"
        ) from None
    except OSError as error:
        raise UsageError(f"{file.name} cannot be written to {folder}: {error.strerror or error}") from None
    return Path(path)


class _Resuming:
    """A downloader for pooch that keeps what it has and asks for the rest."""

    def __init__(self, file: DataFile, folder: Path, progress: Progress) -> None:
        self.file, self.progress = file, progress
        self.part = folder / f"{file.name}.part"

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        import requests

        have = self.part.stat().st_size if self.part.is_file() and self.file.digest else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        # Identity: a body that the server compressed would count other bytes than the range does.
        headers["Accept-Encoding"] = "identity"
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
                self.part.unlink()
                self(url, output_file, pooch)
                return
            answer.raise_for_status()
            if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                have = 0  # the server sends all of it again
            limit = self.file.size or LARGEST
            with self.part.open("ab" if have else "wb") as part:
                for piece in answer.iter_content(PIECE):
                    have += len(piece)
                    if have > limit:
                        part.close()
                        self.part.unlink()
                        raise UsageError(f"{url} sends more than the {limit:,} bytes that were expected: it is refused")
                    part.write(piece)
                    self.progress(self.file.name, have, self.file.size)
        if self.file.size and have < self.file.size:
            raise requests.ConnectionError("it ended early")
        self.part.replace(output_file)
