"""CMU-MOSEI at video level: 922 whole videos with averaged features (Zadeh et al., ACL 2018).

One file, ``mosei_video922.npz``: by video ``id``, ``text`` (768), ``audio`` (40), ``video`` (35), ``sdk_fold`` (0
train, 1 val, 2 test of the official folds, 3 in none of them), ``sentiment7_mean`` (mean of the segments' sentiment,
-3 to 3) and ``dominant_emotion_fraction`` (share of segments by dominant emotion, six). Without a folder, a generated
file of that layout, marked by an array ``generated``, is written and read by the same code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.arrays import Shape, npz_names, read_npz, write_npz
from mmbench.contracts import SPLITS, Concept, Dataset, LoadRequest, Modality, Problem, Protocol, Task
from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.splits import grouped_split

NAME = "mosei-video"
SUMMARY = "CMU-MOSEI as 922 whole videos: emotions and sentiment from text, audio and video"

FILE = "mosei_video922.npz"
SIZES = {"text": 768, "audio": 40, "video": 35}
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
CONCEPTS = (Concept("emotion", EMOTIONS[1:], "multilabel"), Concept("sentiment", ("negative", "positive")))
LAYOUT: dict[str, tuple[str, Shape]] = {
    "id": ("U", ("videos",)),
    **{name: ("f", ("videos", size)) for name, size in SIZES.items()},
    "sdk_fold": ("i", ("videos",)),
    "sentiment7_mean": ("f", ("videos",)),
    "dominant_emotion_fraction": ("f", ("videos", len(EMOTIONS))),
    "emotion_names": ("U", (len(EMOTIONS),)),
}
SAMPLE_ROWS = 600
SUITE = (
    "hybrid",
    *(f"{fusion}+equal" for fusion in ("classical", "mfn", "concat", "late", "tensor", "lowrank", "graph", "igfn")),
    *(f"concat+{strategy}" for strategy in ("moo", "mti", "dmtl", "single")),
    "igfn+dmtl",
    "majority",
    *(f"linear:{modality}" for modality in (*SIZES, "all")),
    *(f"only:{modality}" for modality in SIZES),
)


def load(request: LoadRequest) -> Dataset:
    """Read the file, or the generated one where ``request.root`` is None.

    Raises:
        UsageError: the file is not there, or is not of this layout.
    """
    path = write_sample(request.scratch) if request.root is None else request.root / FILE
    arrays = read_npz(path, LAYOUT)
    if tuple(arrays["emotion_names"].tolist()) != EMOTIONS:
        raise UsageError(f"{path}: emotion_names is {arrays['emotion_names'].tolist()}, expected {list(EMOTIONS)}")
    fold, ids = arrays["sdk_fold"], arrays["id"]
    if not np.isin(fold, (0, 1, 2, 3)).all():
        raise UsageError(f"{path}: sdk_fold holds {sorted(set(fold.tolist()))}, expected 0 to 3")
    if len(np.unique(ids)) < len(ids):
        raise UsageError(f"{path}: an id stands twice, expected one row a video")
    sentiment, share = arrays["sentiment7_mean"], arrays["dominant_emotion_fraction"]
    targets = {
        "emotion": np.where(np.isfinite(share).all(axis=1, keepdims=True), share > 0, -1)[:, 1:].astype(np.int64),
        "sentiment": np.where(sentiment == 0, -1, sentiment > 0).astype(np.int64),
    }
    targets["sentiment"][~np.isfinite(sentiment)] = -1
    inputs, notes = _inputs(arrays)
    generated = "generated" in npz_names(path)
    return Dataset(
        ids=ids,
        groups=ids,
        inputs={name: inputs[name] for name in request.modalities},
        concepts=CONCEPTS,
        targets=targets,
        problems=(Problem("joint", tuple(targets), _split(request, fold, ids, targets)),),
        fingerprint=digest(["\n".join(ids.tolist()), *(inputs[m] for m in request.modalities), *targets.values()]),
        title=f"MOSEI, video level, {'sample (generated)' if generated else f'{len(ids)} videos'}",
        generated=generated,
        notes=notes,
    )


def _inputs(arrays: dict[str, NDArray[np.float32]]) -> tuple[dict[str, NDArray[np.float64]], tuple[str, ...]]:
    """The modalities, and what was done to them: the first two video columns are the frame's number and time."""
    inputs = {name: arrays[name].astype(np.float64) for name in SIZES}
    notes = ["video columns 0 and 1 are the frame's number and time: dropped"]
    inputs["video"] = inputs["video"][:, 2:]
    for name, values in inputs.items():
        wrong = ~np.isfinite(values) & ~np.isnan(values).all(axis=1, keepdims=True)
        for column in np.flatnonzero(wrong.any(axis=0)):
            notes.append(f"{name} column {column} is not finite in {wrong[:, column].sum()} rows: set to 0 there")
        values[wrong] = 0.0
    return inputs, tuple(notes)


def _split(
    request: LoadRequest, fold: NDArray[np.int64], ids: NDArray[np.str_], targets: dict[str, NDArray[np.int64]]
) -> NDArray[np.str_]:
    """The official folds, or 60/20/20 balanced over the emotions and the sentiment."""
    if request.protocol.name == "official":
        return np.array([*SPLITS, ""])[fold]
    held = np.concatenate([targets["emotion"] > 0, targets["sentiment"][:, None] == np.arange(2)], axis=1)
    return grouped_split(ids, held, (0.6, 0.2, 0.2), request.split_seed)


def write_sample(scratch: Path) -> Path:
    """Write the generated file below ``scratch``: mood and emotions shift a few directions of each modality."""
    rng = np.random.default_rng(922)
    n = SAMPLE_ROWS
    mood = rng.normal(0.3, 1, n)
    emotion = rng.random((n, 6)) < 1 / (1 + np.exp(mood[:, None] + np.array([-3.0, 1, 1.3, 1.6, 1.4, 1.7])))
    emotion[:, 0] |= ~emotion.any(axis=1)
    counts = emotion * rng.integers(1, 6, (n, 6))
    state = np.concatenate([mood[:, None], emotion], axis=1)
    arrays = {
        name: (state @ rng.normal(0, strength, (7, size)) + rng.normal(0, 1, (n, size))).astype(np.float32)
        for (name, size), strength in zip(SIZES.items(), (0.15, 0.2, 0.1), strict=True)
    }
    arrays["audio"][rng.random(n) < 0.7, 7] = -np.inf
    arrays["video"][:, :2] = rng.uniform(0, 500, (n, 2))
    path = scratch / "mosei-video-sample" / FILE
    write_npz(
        path,
        arrays
        | {
            "id": np.array([f"video{row:04d}" for row in range(n)]),
            "sdk_fold": rng.choice(4, n, p=(0.6, 0.18, 0.2, 0.02)),
            "sentiment7_mean": np.where(rng.random(n) < 0.08, 0, np.clip(mood, -3, 3)).astype(np.float32),
            "dominant_emotion_fraction": (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32),
            "emotion_names": np.array(EMOTIONS),
            "generated": np.array(True),
        },
    )
    return path


TASK = Task(
    title="CMU-MOSEI, video level, 922 videos",
    licence="research use; see the CMU Multimodal SDK",
    citation=(
        "Zadeh, Liang, Poria, Cambria & Morency. Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and "
        "Interpretable Dynamic Fusion Graph. ACL 2018."
    ),
    homepage="http://multicomp.cs.cmu.edu/resources/cmu-mosei-dataset/",
    group="video",
    modalities=tuple(Modality(name, "vector", "standardize") for name in SIZES),
    protocols=(
        Protocol("official", "emotions and sentiment in one model", "Zadeh et al., ACL 2018", "official folds", SUITE),
        Protocol(
            "resplit",
            "as official, on a split of one's own",
            "",
            "60/20/20 by video, stratified; --split-seed draws another",
            SUITE,
        ),
    ),
    load=load,
    proposed="hybrid",
    embedded="sample",
    recognises=lambda root: (root / FILE).is_file(),
    obtain=f"give the folder that holds {FILE} as --data",
    facts=(
        "a row is a whole video: features are averages over it, and an emotion holds if it dominates a segment, so "
        "that longer videos hold more emotions; not comparable with results on segments",
        "'happy' is left out: in this file it includes the segments where no emotion was annotated at all",
        "sentiment is the sign of the segments' mean; videos with a mean of exactly 0 have no sentiment label",
        "videos that are in none of the official folds are not used under protocol official",
        "features are averages over a video: of the temporal parts of hybrid, the reference, only the layers remain",
    ),
)
