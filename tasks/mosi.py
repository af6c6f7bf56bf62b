"""CMU-MOSI at utterance level: sentiment of 2,199 opinion utterances (Zadeh et al., 2016), its clean 752.

One file, ``mosi_utterance.npz``: by utterance ``id``, ``video_id``, ``text`` (100), ``audio`` (73), ``video`` (100),
``sentiment`` (-3 to 3) and ``split_bclstm``. Text and video features were learned on the labels of the bc-LSTM train
rows, so that a model would be given its own answers there: only the other rows are used, cross-validated by video.
Without a folder, a generated file of that layout, marked by an array ``generated``, is written and read by the same
code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.arrays import Shape, npz_names, read_npz, write_npz
from mmbench.contracts import Concept, Dataset, LoadRequest, Modality, Problem, Protocol, Task
from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.splits import grouped_split

NAME = "mosi"
SUMMARY = "CMU-MOSI, the 752 utterances whose features saw no label: sentiment, cross-validated by video"

FILE = "mosi_utterance.npz"
SIZES = {"text": 100, "audio": 73, "video": 100}
CONCEPTS = (
    Concept("sentiment2", ("negative", "non-negative")),
    Concept("sentiment7", ("-3", "-2", "-1", "0", "1", "2", "3")),
)
LAYOUT: dict[str, tuple[str, Shape]] = {
    "id": ("U", ("utterances",)),
    "video_id": ("U", ("utterances",)),
    **{name: ("f", ("utterances", size)) for name, size in SIZES.items()},
    "sentiment": ("f", ("utterances",)),
    "split_bclstm": ("U", ("utterances",)),
}
FOLDS = 5
SUITE = (
    *(f"{fusion}+equal" for fusion in ("concat", "late", "tensor", "lowrank", "graph", "igfn")),
    *(f"concat+{strategy}" for strategy in ("moo", "dmtl", "single")),
    "igfn+dmtl",
    "majority",
    *(f"linear:{modality}" for modality in (*SIZES, "all")),
    *(f"only:{modality}" for modality in SIZES),
)


def load(request: LoadRequest) -> Dataset:
    """Read the file, or the generated one where ``request.root`` is None; the bc-LSTM train rows are left out.

    Raises:
        UsageError: the file is not there, is not of this layout, or has too few videos.
    """
    path = write_sample(request.scratch) if request.root is None else request.root / FILE
    arrays = read_npz(path, LAYOUT)
    if not np.isin(arrays["split_bclstm"], ("train", "test")).all():
        raise UsageError(f"{path}: split_bclstm holds {sorted(set(arrays['split_bclstm']))}, expected train and test")
    clean = arrays["split_bclstm"] == "test"
    rows = {name: values[clean] for name, values in arrays.items()}
    ids, videos, sentiment = rows["id"], rows["video_id"], rows["sentiment"]
    if len(np.unique(ids)) < len(ids):
        raise UsageError(f"{path}: an id stands twice, expected one row an utterance")
    if len(np.unique(videos)) < FOLDS:
        raise UsageError(
            f"{path}: {len(np.unique(videos))} videos outside of bc-LSTM's train, expected {FOLDS} or more"
        )
    if not (np.abs(sentiment) <= 3).all():
        raise UsageError(f"{path}: sentiment holds a value outside of -3 to 3")
    inputs = {name: rows[name].astype(np.float64) for name in request.modalities}
    targets = {
        "sentiment2": (sentiment >= 0).astype(np.int64),
        "sentiment7": np.rint(sentiment).astype(np.int64) + 3,
    }
    generated = "generated" in npz_names(path)
    return Dataset(
        ids=ids,
        groups=videos,
        inputs=inputs,
        concepts=CONCEPTS,
        targets=targets,
        problems=tuple(
            Problem(f"fold-{number + 1}", tuple(targets), split)
            for number, split in enumerate(folds(videos, targets["sentiment7"], request.split_seed))
        ),
        fingerprint=digest(["\n".join(ids.tolist()), "\n".join(videos.tolist()), *inputs.values(), *targets.values()]),
        title="MOSI, " + ("sample (generated)" if generated else f"{len(ids)} utterances of {len(set(videos))} videos"),
        generated=generated,
        notes=(
            f"{(~clean).sum():,} rows are left out: their labels made the text and video features",
            "sentiment2 and sentiment7 are functions of one score: two views of one label",
        ),
    )


def folds(videos: NDArray[np.str_], strata: NDArray[np.int64], seed: int) -> list[NDArray[np.str_]]:
    """Splits of a cross-validation by video: each fold is test once, the next one val, the others train."""
    part = np.zeros(len(videos), dtype=np.int64)
    rest = np.ones(len(videos), dtype=bool)
    for number in range(FOLDS - 1, 0, -1):
        kept = grouped_split(videos[rest], strata[rest], (number / (number + 1), 1 / (number + 1), 0), seed)
        chosen = np.flatnonzero(rest)[kept == "val"]
        part[chosen] = number
        rest[chosen] = False
    return [
        np.where(part == number, "test", np.where(part == (number + 1) % FOLDS, "val", "train"))
        for number in range(FOLDS)
    ]


def write_sample(scratch: Path) -> Path:
    """Write the generated file below ``scratch``: sentiment shifts a few directions of each modality."""
    rng = np.random.default_rng(2199)
    n, videos = 1200, 60
    sentiment = np.clip(rng.uniform(-3.4, 3.4, n), -3, 3).astype(np.float32)
    clip = np.arange(n) // videos
    video = np.array([f"video{row % videos:03d}" for row in range(n)])
    state = np.stack([sentiment, np.abs(sentiment)], axis=1)
    arrays = {
        name: (state @ rng.normal(0, strength, (2, size)) + rng.normal(0, 1, (n, size))).astype(np.float32)
        for (name, size), strength in zip(SIZES.items(), (0.2, 0.12, 0.08), strict=True)
    }
    path = scratch / "mosi-sample" / FILE
    write_npz(
        path,
        arrays
        | {
            "id": np.array([f"{name}_{number}" for name, number in zip(video, clip, strict=True)]),
            "video_id": video,
            "sentiment": sentiment,
            "split_bclstm": np.where(np.arange(n) % videos < videos // 3, "train", "test"),
            "generated": np.array(True),
        },
    )
    return path


TASK = Task(
    title="CMU-MOSI, 752 utterances",
    licence="research use; see the CMU Multimodal SDK",
    citation=(
        "Zadeh, Zellers, Pincus & Morency. Multimodal Sentiment Intensity Analysis in Videos: Facial Gestures and "
        "Verbal Messages. IEEE Intelligent Systems 31(6), 2016. Features and split: Poria et al. Context-Dependent "
        "Sentiment Analysis in User-Generated Videos. ACL 2017."
    ),
    homepage="http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/",
    group="video",
    modalities=tuple(Modality(name, "vector", "standardize") for name in SIZES),
    protocols=(
        Protocol(
            "cv",
            "two views of sentiment in one model, five folds",
            "",
            "five folds by video within bc-LSTM's test rows: one test, one val, three train; not an official split",
            SUITE,
        ),
    ),
    load=load,
    proposed="igfn+dmtl",
    embedded="sample",
    recognises=lambda root: (root / FILE).is_file(),
    obtain=f"give the folder that holds {FILE} as --data",
    facts=(
        "text and video features were learned on the labels of bc-LSTM's 1,447 train rows: only its 752 test rows are "
        "used, and no result here compares with one on an official split",
        "each fold is a problem of its own with a table of its own; folds share training rows and are not independent",
        "a fold tests on 5 to 9 videos: an interval over so few groups is too narrow, so compare folds, not intervals",
        "sentiment2 is negative below 0 and non-negative from 0 on; sentiment7 is the score rounded to a whole number",
    ),
)
