"""``mmbench data status``, ``sample``, ``verify`` and ``fetch``, as a user types them."""

from __future__ import annotations


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
