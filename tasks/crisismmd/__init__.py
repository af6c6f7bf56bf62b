"""CrisisMMD v2.0: tweets with images from seven disasters (Alam, Ofli & Imran, ICWSM 2018).

A row is an image with its tweet; its id is the image path, its group the tweet. The data set always holds every
annotated row in the order of the files, whatever the protocol, so that features are computed once. Without a folder,
a generated sample in the same layout is written and read by the same code.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench import sample_folder
from mmbench.absent import BAD_IMAGES, MISSING_IMAGES, without_files
from mmbench.contracts import Concept, DataFile, Dataset, LoadRequest, Modality, Option, Task
from mmbench.errors import UsageError
from mmbench.hashing import digest

from . import sample
from .files import FOLDER, Annotations, find_home, read_annotations
from .labels import MODES
from .notes import notes
from .protocols import PROTOCOLS, SPLIT_CHOICES, check_options, pose

NAME = "crisismmd"
SUMMARY = "tweets with images from seven disasters: informative, humanitarian, damage"


def recognises(root: Path) -> bool:
    """Whether ``root`` is the data set's folder or holds it."""
    return any((home / "annotations").is_dir() for home in (root, root / FOLDER))


def load(request: LoadRequest) -> Dataset:
    """Read CrisisMMD, or the generated sample where ``request.root`` is None.

    The fingerprint holds ids, tweets, texts, concepts and targets, and the sizes of the images where that modality is
    asked for; it does not hold the split, which a run's name hashes apart.

    Raises:
        UsageError: a folder, file or option that does not fit; images that are missing under ``missing_images=error``.
    """
    protocol, options = request.protocol.name, request.options
    check_options(protocol, options["labels"], options["split"])
    home = sample.ensure(request.scratch) if request.root is None else find_home(request.root)
    version = sample_folder.version_of(home)
    annotations = read_annotations(home)
    concepts, targets, problems = pose(
        home, annotations, protocol, options["labels"], options["split"], request.split_seed
    )
    # the ceilings of a sample that another version wrote follow from a law that is not here
    known = version == sample.VERSION
    inputs: dict[str, Any] = {}
    lines: list[str] = []
    parts: list[str | NDArray[np.generic]] = _described(annotations, concepts, targets)
    if "text" in request.modalities:
        inputs["text"] = annotations.text
    if "image" in request.modalities:
        sizes = image_sizes(home, annotations)
        inputs["image"] = [home / path if size else None for path, size in zip(annotations.image, sizes, strict=True)]

        def refuse(reason: str, row: int) -> UsageError:
            return UsageError(
                f"{reason} below {home} (first: {annotations.image[row]}): unpack data_image/ whole, "
                f"or choose --missing-images drop or mask, or --modalities text"
            )

        problems, lines = without_files(problems, sizes > 0, options["missing_images"], "image", refuse)
        if version is None:
            parts.append(sizes)
    if version is not None:
        parts.append(f"sample {version}")  # not its sizes: the bytes of a picture depend on the image library
        lines += [sample.NOTE] if known else []
    return Dataset(
        ids=annotations.image,
        groups=annotations.tweet,
        inputs=inputs,
        concepts=concepts,
        targets=targets,
        problems=problems,
        fingerprint=digest(parts),
        title=_title(annotations, version),
        generated=version is not None,
        facets={"event": annotations.event},
        notes=(*notes(annotations, concepts, targets, problems), *lines),
        ceilings=sample.ceilings(home, annotations, concepts, options["labels"]) if known else {},
    )


def _title(annotations: Annotations, version: int | None) -> str:
    if version is not None:
        return "CrisisMMD sample (generated)"
    return "CrisisMMD v2.0" if annotations.official else "rows in the layout of CrisisMMD (not the official release)"


def image_sizes(home: Path, annotations: Annotations) -> NDArray[np.int64]:
    """The size of each row's image in bytes, (n,) int64; 0 where there is no such file, or an empty one."""
    sizes = np.zeros(len(annotations.image), dtype=np.int64)
    prefix = f"{home}{os.sep}"
    for row, path in enumerate(annotations.image.tolist()):
        try:
            found = os.stat(prefix + path)  # noqa: PTH116 - a Path each would triple the time of 18,082 rows
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode):
            sizes[row] = found.st_size
    return sizes


def _described(
    annotations: Annotations, concepts: tuple[Concept, ...], targets: dict[str, NDArray[np.int64]]
) -> list[str | NDArray[np.generic]]:
    """What a result depends on in any folder, for the fingerprint: ids, groups, texts, labels and targets."""
    parts: list[str | NDArray[np.generic]] = [
        "\n".join(annotations.image.tolist()),
        "\n".join(annotations.tweet.tolist()),
        "\n".join(annotations.text),
    ]
    for concept in concepts:
        parts += [concept.name, concept.kind, "\n".join(concept.labels), targets[concept.name]]
    return parts


SITE = "https://crisisnlp.qcri.org/data/crisismmd"
FILES = (
    DataFile(
        "CrisisMMD_v2.0.tar.gz",
        f"{SITE}/CrisisMMD_v2.0.tar.gz",
        1_902_053_684,
        "sha256:351b9be6123a5d5074407d792bfdddc1f470d4909f65ddd429b584d24607d43f",
        "a third party",
        (FOLDER,),
        2**32,
    ),
    *(
        DataFile(f"{name}.zip", f"{SITE}/{name}.zip", 0, "", "", (name,), 2**28)
        for name in ("crisismmd_datasplit_all", "crisismmd_datasplit_agreed_label")
    ),
)

TASK = Task(
    title="CrisisMMD v2.0",
    licence="CC BY-NC-SA 4.0, research use; tweets are subject to the terms of X",
    citation=(
        "Alam, Ofli & Imran. CrisisMMD: Multimodal Twitter Datasets from Natural Disasters. ICWSM 2018. "
        "Agreed labels: Ofli, Alam & Imran. Analysis of Social Media Data using Multimodal Deep Learning for "
        "Disaster Response. ISCRAM 2020."
    ),
    homepage="https://crisisnlp.qcri.org/crisismmd",
    group="tweet",
    modalities=(Modality("text", "text", "tfidf-svd"), Modality("image", "image", "hog-color")),
    protocols=PROTOCOLS,
    load=load,
    proposed="igfn+dmtl",
    options=(
        Option("labels", "union", MODES, "which annotation is the target: of the text, the image, either, or both"),
        Option("split", "grouped", SPLIT_CHOICES, "who is train, val and test; most protocols have one"),
        MISSING_IMAGES,
        BAD_IMAGES,
    ),
    facts=(
        "informative holds exactly where humanitarian is not not_humanitarian, in every row, for text and for image: "
        "they are not independent evidence, and a split that separates the two concepts' rows leaks",
        "text and image annotations disagree on informative in 29.5 % of rows, on humanitarian in 55.2 %",
        "a tweet has 1 to 4 images, so one text stands in several rows: a split by row leaks",
        "the official damage split shares tweets with train: 71 of 529 dev and 67 of 529 test rows",
        "the agreed humanitarian test file has 9 rows of affected_individuals: its macro F1 is uncertain by about .07",
    ),
    embedded="sample",
    recognises=recognises,
    files=FILES,
    obtain=(
        "get CrisisMMD_v2.0.tar.gz (1,902,053,684 bytes, sha256 "
        "351b9be6123a5d5074407d792bfdddc1f470d4909f65ddd429b584d24607d43f as a third party lists it) and, for the "
        "official splits, crisismmd_datasplit_all.zip and crisismmd_datasplit_agreed_label.zip from "
        "crisisnlp.qcri.org/data/crisismmd/, unpack all in one folder and give it as --data"
    ),
)
