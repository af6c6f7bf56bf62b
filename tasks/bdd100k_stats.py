"""BDD100K as statistics of its 10,000 validation images: objects, their geometry and places (Yu et al., CVPR 2020).

One file, ``bdd100k_val.npz``: by image ``name``, ``weather``, ``timeofday``, ``scene``, ``counts`` (10 object classes),
``stats`` (7) and ``boxes`` (class, centre x, centre y, width, height; shares of the image), of which image i has the
rows ``box_offsets[i]`` to ``box_offsets[i + 1]``. Without a folder, a generated file of that layout, marked by an array
``generated``, is written and read by the same code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.arrays import Shape, npz_names, read_npz, write_npz
from mmbench.contracts import Concept, Dataset, LoadRequest, Modality, Problem, Protocol, Task
from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.splits import grouped_split

NAME = "bdd100k-stats"
SUMMARY = "BDD100K validation images as object statistics: weather, time of day, scene"

FILE = "bdd100k_val.npz"
NO_LABEL = "undefined"
CONCEPTS = (
    Concept("weather", ("clear", "foggy", "overcast", "partly_cloudy", "rainy", "snowy")),
    Concept("timeofday", ("dawn/dusk", "daytime", "night")),
    Concept("scene", ("city_street", "gas_stations", "highway", "parking_lot", "residential", "tunnel")),
)
CLASSES, STATS = 10, 7
COLUMNS, ROWS = 4, 3  # the cells of the image in which boxes are counted
LAYOUT: dict[str, tuple[str, Shape]] = {
    "name": ("U", ("images",)),
    **{concept.name: ("U", ("images",)) for concept in CONCEPTS},
    "counts": ("f", ("images", CLASSES)),
    "stats": ("f", ("images", STATS)),
    "boxes": ("f", ("boxes", 5)),
    "box_offsets": ("i", ("offsets",)),
}
MODALITIES = ("counts", "stats", "layout")
SAMPLE_ROWS = 1200
SUITE = (
    "hybrid",
    *(f"{fusion}+equal" for fusion in ("classical", "mfn", "concat", "late", "tensor", "lowrank", "graph", "igfn")),
    *(f"concat+{strategy}" for strategy in ("moo", "mti", "dmtl", "single")),
    "igfn+dmtl",
    "majority",
    *(f"linear:{modality}" for modality in (*MODALITIES, "all")),
    *(f"only:{modality}" for modality in MODALITIES),
)


def load(request: LoadRequest) -> Dataset:
    """Read the file, or the generated one where ``request.root`` is None.

    Raises:
        UsageError: the file is not there, is not of this layout, or holds a label that is not of BDD100K.
    """
    path = write_sample(request.scratch) if request.root is None else request.root / FILE
    arrays = read_npz(path, LAYOUT)
    names = arrays["name"]
    if len(np.unique(names)) < len(names):
        raise UsageError(f"{path}: a name stands twice, expected one row an image")
    targets = {concept.name: _codes(path, concept, arrays[concept.name]) for concept in CONCEPTS}
    inputs = {
        "counts": np.log1p(arrays["counts"].astype(np.float64).clip(0)),
        "stats": arrays["stats"].astype(np.float64),
        "layout": np.log1p(layout(path, arrays["boxes"], arrays["box_offsets"], len(names))),
    }
    groups = np.char.partition(names, "-")[:, 0]
    held = np.concatenate([targets[c.name][:, None] == np.arange(len(c.labels)) for c in CONCEPTS], axis=1)
    split = grouped_split(groups, held, (0.6, 0.2, 0.2), request.split_seed)
    generated = "generated" in npz_names(path)
    return Dataset(
        ids=names,
        groups=groups,
        inputs={name: inputs[name] for name in request.modalities},
        concepts=CONCEPTS,
        targets=targets,
        problems=(Problem("joint", tuple(targets), split),),
        fingerprint=digest(["\n".join(names.tolist()), *(inputs[m] for m in request.modalities), *targets.values()]),
        title="BDD100K statistics, " + ("sample (generated)" if generated else f"{len(names):,} validation images"),
        generated=generated,
        facets={name: np.where(arrays[name] == NO_LABEL, "", arrays[name]) for name in ("timeofday", "weather")},
        notes=_notes(targets),
    )


def _codes(path: Path, concept: Concept, labels: NDArray[np.str_]) -> NDArray[np.int64]:
    """The index of each label, -1 for ``undefined``."""
    known = {label: code for code, label in enumerate(concept.labels)} | {NO_LABEL: -1}
    for row, label in enumerate(labels.tolist()):
        if label not in known:
            raise UsageError(f"{path}: {concept.name} of row {row} is '{label}', expected one of {', '.join(known)}")
    return np.array([known[label] for label in labels.tolist()], dtype=np.int64)


def layout(
    path: Path, boxes: NDArray[np.floating[Any]], offsets: NDArray[np.integer[Any]], images: int
) -> NDArray[np.float64]:
    """How many boxes of each class have their centre in each cell of a 4 x 3 grid: (images, 120), class slowest.

    Raises:
        UsageError: offsets that do not cut the boxes into images, or a class that is not 0 to 9.
    """
    whole = len(offsets) == images + 1 and offsets[0] == 0 and offsets[-1] == len(boxes)
    if not whole or (np.diff(offsets) < 0).any():
        raise UsageError(f"{path}: box_offsets does not cut {len(boxes):,} boxes into {images:,} images in order")
    kind = boxes[:, 0]
    if not np.isin(kind, np.arange(CLASSES)).all() or not np.isfinite(boxes).all():
        raise UsageError(f"{path}: boxes holds a class that is not 0 to {CLASSES - 1}, or a value that is not finite")
    column = np.clip(boxes[:, 1] * COLUMNS, 0, COLUMNS - 1).astype(np.int64)
    row = np.clip(boxes[:, 2] * ROWS, 0, ROWS - 1).astype(np.int64)
    found = np.zeros((images, CLASSES * ROWS * COLUMNS))
    image = np.repeat(np.arange(images), np.diff(offsets))
    np.add.at(found, (image, (kind.astype(np.int64) * ROWS + row) * COLUMNS + column), 1)
    return found


def _notes(targets: dict[str, NDArray[np.int64]]) -> tuple[str, ...]:
    unlabelled = ", ".join(f"{name} {(target < 0).sum():,}" for name, target in targets.items())
    rare = [
        f"{label} {count}"
        for concept in CONCEPTS
        for label, count in zip(
            concept.labels,
            np.bincount(targets[concept.name][targets[concept.name] >= 0], minlength=len(concept.labels)),
            strict=True,
        )
        if count < 100
    ]
    lines = [f"'{NO_LABEL}' is no label: {unlabelled} rows are masked"]
    if rare:
        lines.append(f"rows in all of the rare labels: {', '.join(rare)}: a macro F1 over them is uncertain")
    return tuple(lines)


def write_sample(scratch: Path) -> Path:
    """Write the generated file below ``scratch``: brightness tells the time, objects the scene, both the weather."""
    rng = np.random.default_rng(100)
    n = SAMPLE_ROWS
    codes = {
        "weather": rng.choice(6, n, p=(0.4, 0.08, 0.16, 0.12, 0.12, 0.12)),
        "timeofday": rng.choice(3, n, p=(0.12, 0.5, 0.38)),
        "scene": rng.choice(6, n, p=(0.44, 0.08, 0.2, 0.08, 0.12, 0.08)),
    }
    usual = rng.gamma(1.2, 1.2, (6, CLASSES))
    rate = usual[codes["scene"]] * rng.uniform(0.6, 1.3, (6, CLASSES))[codes["weather"]]
    counts = rng.poisson(rate)
    counts[counts.sum(axis=1) == 0, 2] = 1
    kind = np.concatenate([np.repeat(np.arange(CLASSES), row) for row in counts])
    offsets = np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    place = rng.uniform(0.2, 0.8, (6, 2))[np.repeat(codes["weather"], np.diff(offsets))]
    sides = rng.uniform(0.01, 0.2, (len(kind), 2))
    boxes = np.column_stack([kind, np.clip(place + rng.normal(0, 0.2, place.shape), 0, 1), sides])
    stats = rng.uniform(0, 0.5, (n, STATS))
    stats[:, 6] = np.array([0.3, 0.45, 0.15])[codes["timeofday"]] + rng.normal(0, 0.08, n)
    texts = {
        concept.name: np.where(rng.random(n) < 0.05, NO_LABEL, np.array(concept.labels)[codes[concept.name]])
        for concept in CONCEPTS
    }
    rides = rng.integers(0, 2 * n // 3, n)
    path = scratch / "bdd100k-stats-sample" / FILE
    write_npz(
        path,
        {
            "name": np.array([f"{ride:08x}-{row:08x}" for row, ride in enumerate(rides)]),
            **texts,
            "counts": counts.astype(np.float32),
            "stats": stats.astype(np.float32),
            "boxes": boxes.astype(np.float32),
            "box_offsets": offsets,
            "generated": np.array(True),
        },
    )
    return path


TASK = Task(
    title="BDD100K, statistics of the validation images",
    licence="labels: BSD-3-Clause; images and videos: the BDD100K licence (research and education)",
    citation=(
        "Yu, Chen, Wang, Xian, Chen, Liu, Madhavan & Darrell. BDD100K: A Diverse Driving Dataset for Heterogeneous "
        "Multitask Learning. CVPR 2020."
    ),
    homepage="https://bdd-data.berkeley.edu",
    group="name prefix",
    modalities=tuple(Modality(name, "vector", "standardize") for name in MODALITIES),
    protocols=(
        Protocol(
            "default",
            "weather, time of day and scene in one model",
            "",
            "60/20/20 of the official validation images by name prefix, stratified; not an official split",
            SUITE,
        ),
    ),
    load=load,
    proposed="hybrid",
    embedded="sample",
    recognises=lambda root: (root / FILE).is_file(),
    obtain=f"give the folder that holds {FILE} as --data",
    facts=(
        "the file holds the official validation images only: the split is drawn from them, and no result here compares "
        "with one on the official split",
        "the group is the part of an image's name before the dash: of two images that share it 80 % have the same time "
        "of day and 62 % the same weather, against 44 % and 32 % by chance, so a split by row leaks",
        "objects (counts, boxes) are inputs, hence the objects present are not a concept here: they would be their own "
        "answer; counts and layout overlap, the layout's cells of a class sum to its count",
        "brightness, one of the stats, tells day from night: a measurement of the image, which is legitimate input",
        "no pixels: tunnel, gas station or fog can be told only as far as objects and brightness go",
        "an input is one vector: of the temporal parts of hybrid, the reference, only the layers remain",
    ),
)
