"""Fetching from a server on this machine that breaks off, lies, or has nothing."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mmbench.contracts import DataFile, Task
from mmbench.errors import UsageError
from mmbench.fetching import fetch
from mmbench.plugins import shipped


@dataclass
class Server:
    """Serves one body; ``break_after`` bytes the first answers break off, and ``ranges`` may be off."""

    body: bytes
    url: str = ""
    status: int = 200
    ranges: bool = True
    break_after: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as made:
        made.writestr("set/one.bin", np.random.default_rng(0).bytes(600_000))
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server(archive())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            served.asked.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and served.ranges else 0
            if served.status != 200 or start >= len(served.body):
                self.send_error(served.status if served.status != 200 else 416)
                return
            body = served.body[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = served.break_after.pop(0) if served.break_after else len(body)
            self.wfile.write(body[:cut])
            served.sent += len(body[:cut])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{http.server_port}/set.zip"
        yield served
        http.shutdown()
        thread.join()


def task(server: Server, **changes: object) -> Task:
    digest = f"sha256:{hashlib.sha256(server.body).hexdigest()}"
    file = DataFile("set.zip", server.url, len(server.body), digest, "its author", ("set",), 10**6)
    digits: Task = shipped("tasks", "digits").TASK
    return replace(digits, files=(replace(file, **changes),))


def got(server: Server, folder: Path, **changes: object) -> list[str]:
    told: list[str] = []
    fetch(task(server, **changes), folder, told.append, lambda name, done, of: None)
    return told


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_fetched_checked_unpacked_and_not_fetched_again(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    fetch(task(server), tmp_path / "new", lambda line: None, lambda name, done, of: steps.append((done, of)))
    assert names(tmp_path / "new") == {"set"}
    assert (tmp_path / "new/set/one.bin").stat().st_size == 600_000
    assert steps[-1] == (len(server.body), len(server.body)) and steps == sorted(steps)
    assert got(server, tmp_path / "new") == ["set.zip: set there already, not fetched"]
    assert server.asked == [None]


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:
    server.break_after = [400_000]
    with pytest.raises(UsageError, match="broke off"):
        got(server, tmp_path)
    have = (tmp_path / "set.zip.part").stat().st_size
    assert 0 < have <= 400_000
    got(server, tmp_path)
    assert server.asked == [None, f"bytes={have}-"]
    assert names(tmp_path) == {"set"}


def test_a_server_without_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.break_after, server.ranges = [400_000], False
    with pytest.raises(UsageError, match="broke off"):
        got(server, tmp_path)
    got(server, tmp_path)
    assert names(tmp_path) == {"set"}


@pytest.mark.parametrize("part", [b"of another file" * 1000, b"x" * 700_000])
def test_a_part_of_another_file_does_no_harm(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "set.zip.part").write_bytes(part)
    if len(part) < len(server.body):
        with pytest.raises(UsageError, match="is not the file that its author lists"):
            got(server, tmp_path)
        assert names(tmp_path) == set()
    got(server, tmp_path)
    assert names(tmp_path) == {"set"}


def test_without_a_digest_it_starts_anew_and_says_so(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(b"x" * 100)
    assert "nobody published a digest" in got(server, tmp_path, digest="", size=0)[0]
    assert server.asked == [None]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"digest": "sha256:" + "0" * 64}, "is not the file that its author lists"),
        ({"size": 1000}, "more than the 1,000 bytes"),
        ({"size": 700_000}, "broke off"),
        ({"unpacked": 1000}, "unpacks to more than 1,000 bytes"),
        ({"makes": ("other",)}, "held no other"),
        ({"url": "http://127.0.0.1:9/set.zip"}, "broke off"),
        ({"url": "no address"}, "broke off|not the file"),
        ({"size": 10**18, "unpacked": 10**18}, "has no room"),
    ],
)
def test_what_goes_wrong_is_one_line(server: Server, tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told) as error:
        got(server, tmp_path, **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set" / "one.bin").exists() or "makes" in changes


def test_a_dead_link_and_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UsageError, match="answers 404: the link may be dead"):
        got(server, tmp_path)
    assert names(tmp_path) == set()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        got(server, tmp_path / "file" / "below")


def test_a_task_without_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be fetched"):
        fetch(shipped("tasks", "mosi").TASK, tmp_path / "x", lambda line: None, lambda name, done, of: None)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["crisismmd", "coco"])
def test_what_tasks_declare(name: str) -> None:
    for file in shipped("tasks", name).TASK.files:
        assert file.url.startswith(("https://", "http://")) and file.url.endswith(file.name)
        assert bool(file.digest) == bool(file.digest_by)
        assert file.digest == "" or file.digest.split(":")[0] in ("sha256", "md5")
