"""What data is here, whether it can be read, and the sample as files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from mmbench.contracts import DataFile, Task
from mmbench.errors import UsageError
from mmbench.holdings import MANIFEST, holding, verify, write_sample
from mmbench.plugins import shipped

CRISISMMD: Task = shipped("tasks", "crisismmd").TASK
MOSI: Task = shipped("tasks", "mosi").TASK


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "crisismmd"
    assert write_sample("crisismmd", CRISISMMD, folder) == sum(path.is_file() for path in folder.rglob("*"))
    return folder


def test_the_sample_is_read_as_the_data_set_is(sample: Path, tmp_path: Path) -> None:
    assert CRISISMMD.recognises(sample)
    assert list(verify(CRISISMMD, sample, tmp_path)) == []
    assert sorted(path.name for path in sample.parent.iterdir()) == ["crisismmd"]
    write_sample("mosi", MOSI, tmp_path / "mosi")
    assert MOSI.recognises(tmp_path / "mosi")


def test_a_sample_is_not_written_over_anything(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    (tmp_path / "file").write_text("")
    for place in ("full", "file"):
        with pytest.raises(UsageError, match="is there already"):
            write_sample("mosi", MOSI, tmp_path / place)
    with pytest.raises(UsageError, match="cannot be written"):
        write_sample("mosi", MOSI, tmp_path / "file" / "below")
    with pytest.raises(UsageError, match="no generated sample"):
        write_sample("digits", shipped("tasks", "digits").TASK, tmp_path / "digits")
    with pytest.raises(UsageError, match="in memory"):
        write_sample("synthetic", shipped("tasks", "synthetic").TASK, tmp_path / "synthetic")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_a_line_for_each_thing_that_is_wrong(sample: Path, tmp_path: Path) -> None:
    images = sorted(sample.glob("data_image/**/*.jpg"))
    kept = {path: path.read_bytes() for path in (*images[:2], next(sample.glob("annotations/*.tsv")))}
    try:
        images[0].unlink()
        images[1].write_bytes(b"no picture")
        lines = list(verify(CRISISMMD, sample, tmp_path))
        assert len(lines) == 2
        assert any(line.startswith("image: 1 of 1,500 files are not there (first: data_image/") for line in lines)
        assert f"{images[1].relative_to(sample)}: it is not an image" in lines
        table = next(path for path in kept if path.suffix == ".tsv")
        table.write_bytes(b"\xff")
        assert "is not UTF-8" in next(verify(CRISISMMD, sample, tmp_path))
    finally:
        for path, data in kept.items():
            path.write_bytes(data)


def test_manifests(tmp_path: Path) -> None:
    root = tmp_path / "mosi"
    write_sample("mosi", MOSI, root)
    good = hashlib.sha256((root / "mosi_utterance.npz").read_bytes()).hexdigest()
    (root / MANIFEST).write_text(f"{good}  mosi_utterance.npz\n")
    assert list(verify(MOSI, root, tmp_path)) == []
    (root / MANIFEST).write_text(f"{'0' * 64}  mosi_utterance.npz\n{good} *gone\n{good}  ../out\nhello\n")
    assert list(verify(MOSI, root, tmp_path)) == [
        "mosi_utterance.npz: sha256 is not the one in SHA256SUMS",
        "gone: no such file or directory",
        "SHA256SUMS, line 3: expected a SHA-256 and a path below the folder",
        "SHA256SUMS, line 4: expected a SHA-256 and a path below the folder",
    ]
    (root / MANIFEST).unlink()
    (root / "set.zip").write_bytes(b"x")
    file = DataFile("set.zip", "https://example.org/set.zip", 1, f"md5:{hashlib.md5(b'y').hexdigest()}", "him", (), 1)
    assert list(verify(replace(MOSI, files=(file,)), root, tmp_path)) == ["set.zip: md5 is not the one that him lists"]


def test_where_the_data_is(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMBENCH_DATA", str(sample.parent))
    found = holding("crisismmd", CRISISMMD, tmp_path)
    assert found.folder == sample.resolve()
    assert found.state == "CrisisMMD sample (generated), 1,500 rows"
    assert found.size == sum(path.stat().st_size for path in sample.rglob("*") if path.is_file())
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path))
    assert holding("crisismmd", CRISISMMD, tmp_path).state.startswith("not found: the generated sample")
    assert holding("crisismmd", replace(CRISISMMD, embedded="none"), tmp_path).state == "not found"
    (tmp_path / "crisismmd").mkdir()
    (tmp_path / "crisismmd" / "x").write_text("")
    assert holding("crisismmd", CRISISMMD, tmp_path).state == "found, but not in a layout that is read"
