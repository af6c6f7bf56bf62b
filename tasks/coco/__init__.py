"""COCO: which of 80 kinds of object a photograph shows, from the picture and its captions (Lin et al., ECCV 2014).

A row is an image; its id is the image's path. The official test images have no public labels, so val2017 is the test
split, as the field does it, and validation rows are drawn from train2017. Without a folder, a generated sample in the
same layout is written and read by the same code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench import sample_folder
from mmbench.absent import BAD_IMAGES, MISSING_IMAGES, without_files
from mmbench.contracts import (
    Concept,
    DataFile,
    Dataset,
    LoadRequest,
    Modality,
    Option,
    Problem,
    Protocol,
    Task,
)
from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.naming import Names
from mmbench.splits import grouped_split

from . import sample
from .files import Part, parts_of, read_parts

NAME = "coco"
SUMMARY = "photographs with captions: which of 80 kinds of object they show"

CONCEPT = "objects"
OFFICIAL_IMAGES = {"train2017": 118_287, "val2017": 5_000}
FRACTIONS = (0.9, 0.1, 0.0)  # of train2017
DRAWN_FRACTIONS = (0.6, 0.2, 0.2)  # where one part is there alone
SUITE = (
    *(f"{fusion}+equal" for fusion in ("concat", "late", "tensor", "lowrank", "graph", "igfn")),
    "igfn+dmtl",
    "majority",
    *(f"linear:{modality}" for modality in ("text", "image", "all")),
    *(f"only:{modality}" for modality in ("text", "image")),
)


def load(request: LoadRequest) -> Dataset:
    """Read COCO, or the generated sample where ``request.root`` is None.

    Raises:
        UsageError: a folder or file that does not fit; images that are missing under ``missing_images=error``.
    """
    home = sample.ensure(request.scratch) if request.root is None else request.root
    version = sample_folder.version_of(home)
    categories, parts = read_parts(home)
    rows = [(part.name, row, part) for part in parts.values() for row in range(len(part.files))]
    ids = np.array([f"{name}/{part.files[row]}" for name, row, part in rows])
    labels = [part.labels[row] for _, row, part in rows]
    place = {name: column for column, name in enumerate(categories)}
    target = np.zeros((len(rows), len(categories)), dtype=np.int64)
    for row, names in enumerate(labels):
        target[row, [place[name] for name in names]] = 1
    texts, leak = _texts([part.captions[row] for _, row, part in rows], labels, categories, request.options)
    split, note = _split(parts, ids, target, request.split_seed)
    problems: tuple[Problem, ...] = (Problem("joint", (CONCEPT,), split),)
    lines = [note, leak]
    inputs: dict[str, Any] = {}
    described: list[str | NDArray[np.generic]] = ["\n".join(ids.tolist()), "\n".join(categories), target]
    if "text" in request.modalities:
        inputs["text"] = texts
        described.append("\n".join(text or "" for text in texts))
        without = sum(text is None for text in texts)
        lines += [f"{without:,} of {len(texts):,} images have no caption: the text is masked there"] if without else []
    if "image" in request.modalities:
        paths, sizes = _images(home, ids)
        inputs["image"] = paths

        def refuse(reason: str, row: int) -> UsageError:
            return UsageError(
                f"{reason} below {home} (first: {ids[row]}): unpack train2017.zip and val2017.zip, "
                f"or choose --missing-images drop or mask, or --modalities text"
            )

        problems, more = without_files(problems, sizes > 0, request.options["missing_images"], "image", refuse)
        lines += more
        if version is None:
            described.append(sizes)
    if version is not None:
        described.append(f"sample {version}")  # not its sizes: the bytes of a picture depend on the image library
    return Dataset(
        ids=ids,
        groups=ids,
        inputs=inputs,
        concepts=(Concept(CONCEPT, categories, "multilabel"),),
        targets={CONCEPT: target},
        problems=problems,
        fingerprint=digest(described),
        title=_title(parts, version),
        generated=version is not None,
        notes=tuple(lines),
    )


def _title(parts: dict[str, Part], version: int | None) -> str:
    if version is not None:
        return "COCO sample (generated)"
    sizes = {part.name: len(part.files) for part in parts.values()}
    if sizes == OFFICIAL_IMAGES:
        return "COCO 2017"
    return "COCO, " + " and ".join(f"{size:,} images of {name}" for name, size in sizes.items())


def _texts(
    captions: list[tuple[str, ...]], labels: list[frozenset[str]], categories: tuple[str, ...], options: Any
) -> tuple[list[str | None], str]:
    """The text of each row, None without a caption, and the line about labels that captions name."""
    chosen = captions if options["captions"] == "joined" else [some[:1] for some in captions]
    texts = [" ".join(some) or None for some in chosen]
    names = Names(categories)
    told, of = names.leak(texts, labels)
    line = f"caption leak: {told:,} of {of:,} labels that hold ({told / max(of, 1):.1%}) are named in the caption"
    if options["caption_leak"] == "mask":
        texts = [None if text is None else names.masked(text) for text in texts]
        return texts, f"{line}; the names of all categories are masked, synonyms are not"
    return texts, line


def _split(
    parts: dict[str, Part], ids: NDArray[np.str_], target: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.str_], str]:
    if len(parts) < 2:
        (part,) = parts.values()
        line = f"only {part.name} is here: train, val and test are drawn from it, 60/20/20, and no score here compares"
        return grouped_split(ids, target == 1, DRAWN_FRACTIONS, seed), f"{line} with one on val2017"
    train = len(parts["train"].files)
    drawn = grouped_split(ids[:train], target[:train] == 1, FRACTIONS, seed)
    split = np.concatenate([drawn, np.full(len(ids) - train, "test")]).astype("<U5")
    return split, f"test is {parts['val'].name}; val is a tenth of {parts['train'].name}, drawn"


def _images(home: Path, ids: NDArray[np.str_]) -> tuple[list[Path | None], NDArray[np.int64]]:
    """The file of each image, None where it is missing or empty, and its size in bytes, (n,)."""
    paths: list[Path | None] = []
    sizes = np.zeros(len(ids), dtype=np.int64)
    base = home / "images" if not any((home / name).is_dir() for name in parts_of(home).values()) else home
    for row, name in enumerate(ids.tolist()):
        path = base / name
        with_size = path.stat().st_size if path.is_file() else 0
        sizes[row] = with_size
        paths.append(path if with_size else None)
    return paths, sizes


ANNOTATIONS_MD5 = "f4bbac642086de4f52a3fdda2de5fa2c"
SITE = "http://images.cocodataset.org"
FILES = tuple(
    DataFile(
        f"{name}.zip", f"{SITE}/{folder}/{name}.zip", size, f"md5:{md5}", "several public projects", (makes,), bound
    )
    for name, folder, makes, size, md5, bound in (
        ("annotations_trainval2017", "annotations", "annotations", 252_907_541, ANNOTATIONS_MD5, 2**31),
        ("val2017", "zips", "val2017", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80", 2**30),
        ("train2017", "zips", "train2017", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2", 3 * 2**33),
    )
)  # fmt: skip
SPLIT = "official: test is val2017, val a tenth of train2017 drawn; where one part is there alone, 60/20/20 of it"

TASK = Task(
    title="COCO 2017",
    licence="annotations: CC BY 4.0; images: the Flickr terms of use, each under a licence of its own",
    citation=(
        "Lin et al. Microsoft COCO: Common Objects in Context. ECCV 2014. Captions: Chen et al. Microsoft COCO "
        "Captions: Data Collection and Evaluation Server. arXiv:1504.00325, 2015."
    ),
    homepage="https://cocodataset.org",
    group="image",
    modalities=(Modality("text", "text", "tfidf-svd"), Modality("image", "image", "hog-color")),
    protocols=(
        Protocol(
            "official",
            "80 kinds of object as labels, from the picture and a caption as it is",
            "Lin et al., ECCV 2014",
            SPLIT,
            SUITE,
            primary_metric="map",
            defaults={"caption_leak": "keep"},
            warning="captions name many of the labels: use --protocol masked to see what is left without the names",
        ),
        Protocol(
            "masked",
            "as official, but captions name no category",
            "Lin et al., ECCV 2014",
            SPLIT,
            SUITE,
            primary_metric="map",
            defaults={"caption_leak": "mask"},
        ),
    ),
    load=load,
    proposed="igfn+dmtl",
    options=(
        Option("captions", "first", ("first", "joined"), "the first caption of an image, or all of them joined"),
        Option("caption_leak", "keep", ("keep", "mask"), "captions as they are, or with every category's name masked"),
        MISSING_IMAGES,
        BAD_IMAGES,
    ),
    embedded="sample",
    recognises=lambda root: bool(parts_of(root)),
    obtain=(
        "get annotations_trainval2017.zip (253 MB), val2017.zip (0.8 GB) and train2017.zip (19 GB) from "
        "cocodataset.org, or with  mmbench data fetch coco, unpack all in one folder and give it as --data"
    ),
    facts=(
        "captions were written for the pictures and name their objects: a model of the text alone reads labels off",
        "masking hides names in singular and plural, not synonyms (man, bike): what is left still leaks in part",
        "an image without any marked object is a row that holds no label",
        "the cross-attention model proposed for this data is not among the methods: the reference is igfn+dmtl",
    ),
    files=FILES,
)
