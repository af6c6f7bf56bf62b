"""What data there is on this machine: where each task's is, whether it can be read, and a sample to look at."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmbench.contracts import LoadRequest, Protocol, Task
from mmbench.errors import UsageError
from mmbench.locate import find_data

MANIFEST = "SHA256SUMS"
LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
EMBEDDED = {
    "sample": "not found: the generated sample is used",
    "real": "real, carried by a library",
    "none": "not found",
}


@dataclass(frozen=True)
class Holding:
    """A task's data here: ``state`` in words, the folder where one was found, and its size in bytes."""

    task: str
    state: str
    folder: Path | None
    size: int
    licence: str


def holding(name: str, task: Task, scratch: Path) -> Holding:
    """What there is for a task without ``--data``; a folder is read, so that a generated sample is known as one."""
    try:
        folder = find_data(name, task, None, require=False)
    except UsageError:
        state = EMBEDDED["none"] if task.embedded == "none" else "found, but not in a layout that is read"
        return Holding(name, state, None, 0, task.licence)
    if folder is None:
        return Holding(name, EMBEDDED[task.embedded], None, 0, task.licence)
    try:
        dataset = task.load(_request(task, task.protocols[0], folder, scratch, ()))
    except UsageError:
        state = f"found, but cannot be read: mmbench data verify {name}"
    else:
        state = f"{'' if dataset.generated else 'real: '}{dataset.title}, {len(dataset.ids):,} rows"
    return Holding(name, state, folder, _size(folder), task.licence)


def _request(
    task: Task, protocol: Protocol, root: Path | None, scratch: Path, modalities: tuple[str, ...]
) -> LoadRequest:
    """A protocol as it is, but that missing images are masked."""
    options = {option.name: option.default for option in task.options} | dict(protocol.defaults)
    if any(option.name == "missing_images" and "mask" in option.choices for option in task.options):
        options["missing_images"] = "mask"
    return LoadRequest(root, scratch, protocol, options, modalities)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def verify(task: Task, root: Path, scratch: Path) -> Iterator[str]:
    """A line for each thing that is wrong with a data set's folder.

    That is what a protocol cannot read, image files that are missing or cannot be decoded, and files that are not what
    a manifest says. A manifest is a file ``SHA256SUMS`` in the folder (as sha256sum writes it), and for an archive that
    still lies there the digest the task knows.
    """
    told: set[str] = set()
    opened: set[Path] = set()
    modalities = tuple(modality.name for modality in task.modalities)
    for protocol in task.protocols:
        try:
            dataset = task.load(_request(task, protocol, root, scratch, modalities))
        except UsageError as error:
            if str(error) not in told:
                told.add(str(error))
                yield f"protocol {protocol.name}: {error}"
            continue
        for modality in task.modalities:
            if modality.kind != "image":
                continue
            paths = list(dataset.inputs[modality.name])
            missing = [str(name) for name, path in zip(dataset.ids, paths, strict=True) if path is None]
            line = f"{modality.name}: {len(missing):,} of {len(paths):,} files are not there"
            if missing and line not in told:
                told.add(line)
                yield f"{line} (first: {missing[0]})"
            fresh = [path for path in paths if path is not None and path not in opened]
            opened.update(fresh)
            yield from _undecodable(fresh, root)
    yield from _unlike_manifest(task, root)


def _undecodable(paths: list[Path], root: Path) -> Iterator[str]:
    from mmbench.features.files import UnreadableError
    from mmbench.features.image import open_image

    for path in paths:
        name = path.relative_to(root) if path.is_relative_to(root) else path
        try:
            open_image(path.read_bytes())
        except UnreadableError as error:
            yield f"{name}: {error}"
        except OSError as error:
            yield f"{name}: {error.strerror or error}"


def _unlike_manifest(task: Task, root: Path) -> Iterator[str]:
    for file in task.files:
        kind, _, expected = file.digest.partition(":")
        if expected and (root / file.name).is_file() and _digest(root / file.name, kind) != expected:
            yield f"{file.name}: {kind} is not the one that {file.digest_by} lists"
    manifest = root / MANIFEST
    if not manifest.is_file():
        return
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        yield f"{MANIFEST}: cannot be read as UTF-8"
        return
    for number, line in enumerate(lines, start=1):
        found = LINE.fullmatch(line)
        if found is None or found[2].startswith("/") or ".." in Path(found[2]).parts:
            yield f"{MANIFEST}, line {number}: expected a SHA-256 and a path below the folder"
            continue
        try:
            if _digest(root / found[2], "sha256") != found[1].lower():
                yield f"{found[2]}: sha256 is not the one in {MANIFEST}"
        except OSError as error:
            yield f"{found[2]}: {(error.strerror or str(error)).lower()}"


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def write_sample(name: str, task: Task, output: Path) -> int:
    """Write a task's generated sample, in the layout of the data set, and return how many files it has.

    A task writes its sample in one folder below the scratch folder it is given; that one becomes ``output``.

    Raises:
        UsageError: a task that writes no sample, ``output`` there already and not empty, or not to be written.
    """
    if task.embedded != "sample":
        raise UsageError(f"task {name} has no generated sample: its data are {EMBEDDED[task.embedded]}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output {output} is there already: name a folder that is empty or not there")
    modalities = tuple(modality.name for modality in task.modalities)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
            task.load(_request(task, task.protocols[0], None, Path(scratch), modalities))
            made = [path for path in Path(scratch).iterdir() if path.is_dir()]
            if len(made) != 1:
                raise UsageError(f"task {name} makes its sample in memory: there are no files to write")
            if output.exists():
                output.rmdir()
            shutil.move(made[0], output)
            output.chmod(0o755)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror or error}") from None
    return sum(path.is_file() for path in output.rglob("*"))
