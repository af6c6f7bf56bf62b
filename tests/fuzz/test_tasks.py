"""Hostile files of the shipped tasks: each loader reads them, as the contract says, or refuses them in one line."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import strategies as st

from mmbench.arrays import write_npz
from mmbench.contracts import LoadRequest
from mmbench.plugins import Registry
from mmbench.running.loading import load_dataset

from .conftest import ODD, altered, damaged, hunt, spoiled, told, tree

REGISTRY = Registry()
ARRAYS: tuple[Any, ...] = (
    np.zeros(0), np.zeros((0, 3)), np.zeros((2, 0)), np.full((3, 2), np.nan), np.full(4, np.inf), np.zeros(()),
    np.full((2, 7), -1e308), np.zeros((1, 1, 1)), np.arange(6), np.arange(6).reshape(3, 2) - 3, np.array(["a", "b"]),
    np.array([b"a\xff"]), np.array(["\ud800", "x\n"]), np.array([True]), np.array([2**63], np.uint64), np.array([1j]),
    np.zeros((4, 2), "f2"), np.zeros((4, 2), ">f8"), np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    np.full((3, 2), 1e18),
)  # fmt: skip


def module(task: str, name: str) -> Any:
    """A module of a task's folder."""
    return sys.modules[f"{REGISTRY.load(task, 'task').__name__}.{name}"]


def attempt(task: str, root: Path, scratch: Path, protocol: str, modalities: tuple[str, ...]) -> str:
    """What is said of a folder of data."""
    found = REGISTRY.task(task)
    chosen = next(p for p in found.protocols if p.name == protocol)
    options = {option.name: option.default for option in found.options} | dict(chosen.defaults)
    options |= {name: "mask" for name in options if name == "missing_images"}
    request = LoadRequest(root, scratch, chosen, options, modalities)
    return told(lambda: load_dataset(task, found, request))


def hunt_file(tries: int, path: Path, examples: st.SearchStrategy[bytes], attempt: Callable[[], str]) -> None:
    """Put other contents in a file of a sound folder, where nothing else may change."""
    whole = path.read_bytes()
    before = tree(path.parent)

    def other(content: bytes) -> str:
        path.write_bytes(content)
        return attempt()

    assert attempt() == ""
    try:
        hunt(tries, examples, other)
    finally:
        path.write_bytes(whole)
    assert tree(path.parent) == before


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_pickle(value: Any) -> bytes:
    return pickle.dumps(value, 4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small samples of all tasks, as their generators write them, without the marks that they are samples."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for task, name, sizes in (
            ("bdd100k", "SIZES", {"train": 8, "val": 5}),
            ("coco", "SIZES", {"train2017": 8, "val2017": 5}),
            ("crisismmd", "EVENTS", {"coast_storm": 40, "river_flood": 40}),
        ):
            sample, found[task] = module(task, "sample"), tmp_path_factory.mktemp(task)
            patch.setattr(sample, name, sizes)
            sample.generate(found[task])
        found["mosei"] = tmp_path_factory.mktemp("mosei")
        module("mosei", "sample").generate(found["mosei"], videos=5)
        for task in ("mosei-video", "mosi", "bdd100k-stats"):
            loaded = REGISTRY.load(task, "task")
            if hasattr(loaded, "SAMPLE_ROWS"):
                patch.setattr(loaded, "SAMPLE_ROWS", 60)
            found[task] = loaded.write_sample(tmp_path_factory.mktemp(task)).parent
    return found


@pytest.mark.parametrize(
    ("task", "file", "protocol"),
    [
        ("bdd100k", "labels/bdd100k_labels_images_val.json", "joint"),
        ("coco", "annotations/instances_val2017.json", "official"),
        ("coco", "annotations/captions_val2017.json", "masked"),
    ],
)
def test_json(folders: dict[str, Path], tmp_path: Path, task: str, file: str, protocol: str) -> None:
    path = folders[task] / file
    whole = json.loads(path.read_bytes())
    modalities = ("text",) if task == "coco" else ("telemetry",)
    examples = altered(whole).map(as_json) | damaged(path.read_bytes())
    hunt_file(80, path, examples, lambda: attempt(task, folders[task], tmp_path, protocol, modalities))


def test_a_recording_is_never_more_than_missing(folders: dict[str, Path]) -> None:
    path = next(p for p in sorted((folders["bdd100k"] / "info/100k/val").iterdir()) if len(p.read_bytes()) > 9000)
    whole = path.read_bytes()
    info = module("bdd100k", "info")

    def read(content: bytes) -> str:
        path.write_bytes(content)
        found, why = info.read_info(path)
        series = info.motion(found, 1.0)
        if series is None:
            return why or "no speed"
        assert series.shape == (3, 21) and np.isfinite(series).all()
        assert (series[0] >= 0).all() and np.abs(series[1]).max() <= info.HARDEST
        return ""

    hunt(100, altered(json.loads(whole)).map(as_json) | damaged(whole), read)
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("file", "protocol"),
    [
        ("annotations/coast_storm_final_data.tsv", "mt25"),
        ("crisismmd_datasplit_all/task_humanitarian_text_img_train.tsv", "official"),
        ("crisismmd_datasplit_agreed_label/task_informative_text_img_agreed_lab_dev.tsv", "agreed"),
    ],
)
def test_tsv(folders: dict[str, Path], tmp_path: Path, file: str, protocol: str) -> None:
    path = folders["crisismmd"] / file
    whole = path.read_bytes()
    rows = [line.split("\t") for line in whole.decode().rstrip("\n").split("\n")]

    def as_tsv(rows: Any) -> bytes:
        lines = ["\t".join(map(str, row if isinstance(row, list) else [row])) for row in rows]
        return "\n".join(lines).encode("utf-8", "surrogatepass")

    odd = (*(value for value in ODD if isinstance(value, str)), ["x"], [])
    examples = altered(rows, odd).map(as_tsv) | damaged(whole)
    home, modalities = folders["crisismmd"], ("text", "image")
    hunt_file(80, path, examples, lambda: attempt("crisismmd", home, tmp_path, protocol, modalities))


def write_csd(path: Path, value: Any) -> None:
    """Nested dictionaries as groups, anything else as a data set, but for what HDF5 cannot hold."""

    def put(parent: Any, name: str, item: Any) -> None:
        try:
            if isinstance(item, dict):
                group = parent.create_group(name)
                for key, inner in item.items():
                    put(group, key, inner)
            else:
                parent[name] = item
        except (TypeError, ValueError, OverflowError, OSError, UnicodeError, RuntimeError):
            return

    with h5py.File(path, "w") as file:
        for key, item in value.items():
            put(file, key, item)


def read_csd(item: Any) -> Any:
    return {key: read_csd(inner) for key, inner in item.items()} if isinstance(item, h5py.Group) else item[()]


@pytest.mark.parametrize("name", ["LABELS", "text", "audio"])
def test_computational_sequences(folders: dict[str, Path], tmp_path: Path, name: str) -> None:
    csd, root = module("mosei", "csd"), folders["mosei"]
    path = root / (csd.LABELS if name == "LABELS" else csd.FILES[name])
    with h5py.File(path, "r") as file:
        whole = read_csd(file)

    def as_csd(value: Any) -> bytes:
        made = tmp_path / "made.csd"
        write_csd(made, value)
        return made.read_bytes()

    examples = (altered(whole, ARRAYS + ODD) | spoiled(whole)).map(as_csd)
    examples |= damaged(path.read_bytes())
    modalities = ("text", "audio", "video")
    hunt_file(30, path, examples, lambda: attempt("mosei", root, tmp_path, "official", modalities))


class Runs:
    """What a hostile pickle does when it is loaded as it asks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __deepcopy__(self, memo: object) -> Runs:
        return self

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_of_mmsa(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = {
        fold: {
            "id": [f"{fold}{row // 2}$_${row}" for row in range(n)],
            "regression_labels": np.linspace(-3, 3, n).astype("f4"),
            "text_bert": np.ones((n, 3, 5), "f4"),
            **{key: rng.normal(size=(n, 5, d)).astype("f4") for key, d in (("text", 6), ("audio", 3), ("vision", 2))},
        }
        for fold, n in (("train", 4), ("valid", 3), ("test", 3))
    }
    root, ran = tmp_path / "root", tmp_path / "ran"
    root.mkdir()
    path = root / "aligned_50.pkl"
    path.write_bytes(as_pickle(whole))
    examples = altered(whole, (*ARRAYS, *ODD, Runs(ran), [Runs(ran)])) | spoiled(whole)
    hunt_file(
        120, path, examples.map(as_pickle) | damaged(as_pickle(whole)),
        lambda: attempt("mosei", root, tmp_path, "mmsa", ("text", "audio", "video")),
    )  # fmt: skip
    assert not ran.exists()


@pytest.mark.parametrize("task", ["mosei-video", "mosi", "bdd100k-stats"])
def test_npz(folders: dict[str, Path], tmp_path: Path, task: str) -> None:
    (path,) = folders[task].iterdir()
    with np.load(path) as archive:
        whole = dict(archive)

    def as_npz(value: Any) -> bytes:
        made = tmp_path / "made.npz"
        arrays = {name.replace("/", "|").encode("utf-8", "replace").decode(): item for name, item in value.items()}
        for name, item in list(arrays.items()):
            try:
                write_npz(made, {"x": np.array(item)})
            except (ValueError, OverflowError):  # what NumPy cannot hold, or not without a pickle
                del arrays[name]
        write_npz(made, {name: np.array(item) for name, item in arrays.items()})
        return made.read_bytes()

    examples = (altered(whole, ARRAYS + ODD) | spoiled(whole)).map(as_npz)
    examples |= damaged(path.read_bytes())
    protocol, modalities = REGISTRY.task(task).protocols[0].name, tuple(m.name for m in REGISTRY.task(task).modalities)
    hunt_file(60, path, examples, lambda: attempt(task, folders[task], tmp_path, protocol, modalities))
