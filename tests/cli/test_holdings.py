"""``mmbench data status``, ``sample``, ``verify`` and ``fetch``, as a user types them."""

from __future__ import annotations

import functools
import hashlib
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


def test_a_sample_is_written_verified_and_found(mmbench, tmp_path, monkeypatch):
    written = mmbench("data", "sample", "mosi", "--output", "mosi")
    assert written.code == 0 and "1 files, generated" in written.err
    good = mmbench("data", "verify", "mosi", "--data", "mosi")
    assert good.code == 0 and good.out == "" and "can be read" in good.err
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path))
    status = mmbench("data", "status")
    assert status.code == 0
    (line,) = [line for line in status.out.splitlines() if line.startswith("mosi ")]
    assert str(tmp_path / "mosi") in line and " MB" in line and "(generated)" in line
    assert "carried by a library" in status.out
    (tmp_path / "mosi" / "mosi_utterance.npz").write_bytes(b"")
    bad = mmbench("data", "verify", "mosi", "--data", "mosi")
    assert bad.code == 1 and len(bad.out.splitlines()) == 1 and "1 problem" in bad.err


def test_mistakes(mmbench, tmp_path):
    assert "no data found for task mosi" in mmbench("data", "verify", "mosi").complaint
    assert "carried by a library" in mmbench("data", "verify", "digits").complaint
    assert "no such folder" in mmbench("data", "verify", "mosi", "--data", "gone").complaint
    fetched = mmbench("data", "fetch", "mosi", "--output", "there")
    assert fetched.code == 2 and "cannot be fetched" in fetched.complaint
    assert not (tmp_path / "there").exists()


PLUGIN = """
import dataclasses
from mmbench.contracts import DataFile
from mmbench.plugins import shipped

NAME = "mine"
FILE = DataFile(
    "mosi.zip", "http://127.0.0.1:{port}/mosi.zip", {size}, "md5:{md5}", "its author", ("mosi_utterance.npz",), 10**7
)
TASK = dataclasses.replace(shipped("tasks", "mosi").TASK, files=(FILE,))
"""


def test_fetched_into_the_place_where_run_looks(mmbench, tmp_path, monkeypatch):
    mmbench("data", "sample", "mosi", "--output", "mosi")
    (tmp_path / "served").mkdir()
    with zipfile.ZipFile(tmp_path / "served" / "mosi.zip", "w") as archive:
        archive.write(tmp_path / "mosi" / "mosi_utterance.npz", "mosi_utterance.npz")
    data = (tmp_path / "served" / "mosi.zip").read_bytes()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        known = {"port": server.server_port, "size": len(data), "md5": hashlib.md5(data).hexdigest()}
        (tmp_path / "mine.py").write_text(PLUGIN.format(**known))
        monkeypatch.setenv("MMBENCH_DATA", str(tmp_path / "data"))
        fetched = mmbench("data", "fetch", "mine", "--plugin", "mine.py")
        again = mmbench("data", "fetch", "mine", "--plugin", "mine.py")
        server.shutdown()
        thread.join()
    assert fetched.code == 0, fetched.err
    assert "whoever fetches it accepts that" in fetched.err and "MB of" in fetched.err
    assert [path.name for path in (tmp_path / "data" / "mine").iterdir()] == ["mosi_utterance.npz"]
    assert again.code == 0 and "there already, not fetched" in again.err
    assert mmbench("data", "verify", "mine", "--plugin", "mine.py").code == 0
