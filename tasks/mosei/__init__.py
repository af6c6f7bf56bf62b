"""CMU-MOSEI by segment (Zadeh et al., ACL 2018): emotions and sentiment from text, audio and video as sequences.

Two kinds of files are read: the CMU Multimodal SDK's computational sequences (``CMU_MOSEI_*.csd``, also those that it
has aligned), with a file of the official folds beside them, and MMSA's pickles (``aligned_50.pkl``,
``unaligned_50.pkl``), which bring their folds and have no emotions. Concepts:

- ``emotions``: happy, sad, anger, surprise, disgust, fear, each present where it was rated above 0;
- ``sentiment``: its classes, three (negative, neutral, positive), two (without the segments at 0) or seven;
- ``sentiment_score``: the rating itself, from -3 to 3.

``--set task.align=word`` (default) averages audio and video over each word; ``none`` leaves every modality its own
steps. Sequences longer than ``task.steps`` are averaged into so many even bins. Without a folder a generated sample in
the layout of the SDK is written and read by the same code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept, Dataset, LoadRequest, Modality, Option, Problem, Protocol, Task
from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.splits import grouped_split

from . import csd, mmsa, sample
from .folds import find_folds, read_folds
from .steps import Segments

NAME = "mosei"
SUMMARY = "CMU-MOSEI by segment: six emotions and sentiment, as classes and as a score, from text, audio and video"

MODALITIES = ("text", "audio", "video")
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
CLASSES = {
    "2": ("negative", "positive"),
    "3": ("negative", "neutral", "positive"),
    "7": ("-3", "-2", "-1", "0", "1", "2", "3"),
}
CONCEPTS = {"mr26": ("emotions",), "mmsa": ("sentiment", "sentiment_score")}
FRACTIONS = (0.6, 0.2, 0.2)
SUITE = (
    "hybrid",
    *(f"{fusion}+equal" for fusion in ("classical", "mfn", "concat", "late")),
    *(f"only:{modality}" for modality in MODALITIES),
    "majority",
    *(f"linear:{modality}" for modality in (*MODALITIES, "all")),
)


def load(request: LoadRequest) -> Dataset:
    """Read the files, or the generated ones where ``request.root`` is None.

    Raises:
        UsageError: files that are missing or not of a layout that is read, no folds, no label of a concept asked for.
    """
    root = sample.ensure(request.scratch) if request.root is None else request.root
    read = _read(root, request)
    _check(root, request, read)
    if request.protocol.name == "resplit":
        read = replace(read, split=_drawn(read, request.split_seed))
    empty = np.logical_and.reduce([np.isnan(values).all(axis=(1, 2)) for values in read.sequences.values()])
    used = (read.split != "") & empty
    read = replace(read, split=np.where(empty, "", read.split))
    concepts, targets = _concepts(read, request.options["sentiment"])
    wanted = CONCEPTS.get(request.protocol.name, tuple(targets))
    if missing := [name for name in wanted if name not in targets]:
        raise UsageError(
            f"{root}: {read.source} have no labels for {', '.join(missing)}: give the .csd files, or --protocol mmsa"
        )
    notes = [*read.notes]
    outside = int((read.split == "").sum()) - int(empty.sum())
    notes += [f"{outside:,} segments are of videos in none of the official folds: not used"] if outside else []
    notes += [f"{used.sum():,} segments have no features at all: left out"] if used.any() else []
    names = ["\n".join(read.ids.tolist()), "\n".join(read.videos.tolist())]
    inputs: dict[str, NDArray[Any]] = dict(read.sequences)
    title = f"{len(read.ids):,} segments of {len(set(read.videos.tolist())):,} videos, {read.source}"
    return Dataset(
        ids=read.ids,
        groups=read.videos,
        inputs=inputs,
        concepts=tuple(concept for concept in concepts if concept.name in wanted),
        targets={name: targets[name] for name in wanted},
        problems=(Problem("joint", wanted, read.split),),
        fingerprint=digest([*names, *inputs.values(), *(targets[name] for name in wanted)]),
        title=f"CMU-MOSEI, {'sample (generated)' if read.generated else title}",
        generated=read.generated,
        notes=tuple(notes),
    )


def _read(root: Path, request: LoadRequest) -> Segments:
    """The segments of the source that was asked for, or that is there: computational sequences first."""
    options, word = request.options, request.options["align"] == "word"
    most = _steps(options["steps"])
    source = options["source"]
    if source == "auto":
        source = "csd" if csd.find(root, csd.LABELS) else "mmsa"
    if source == "mmsa":
        path = csd.find(root, mmsa.FILES[word])
        if path is None:
            other = csd.find(root, mmsa.FILES[not word])
            hint = f"; {other.name} is there: --set task.align={'none' if word else 'word'}" if other else ""
            raise UsageError(f"{root} holds neither {csd.LABELS} nor {mmsa.FILES[word]}, nor has a folder in it{hint}")
        return mmsa.read_segments(path, request.modalities or MODALITIES, word, most)
    drawn = request.protocol.name == "resplit"
    folds = {} if drawn else read_folds(find_folds(root, options["folds"]))
    return csd.read_segments(root, request.modalities or MODALITIES, folds, options["visual"], word, most)


def _steps(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise UsageError(f"task.steps={text}: expected a whole number from 1 to 10000")
    return int(text)


def _check(root: Path, request: LoadRequest, read: Segments) -> None:
    """Refuse what no sound file holds.

    Raises:
        UsageError: says what.
    """
    if len(set(read.ids.tolist())) < len(read.ids):
        raise UsageError(f"{root}: a segment stands twice")
    if (np.abs(read.sentiment) > 3).any():
        raise UsageError(f"{root}: sentiment holds a value outside of -3 to 3")
    if read.emotions is not None and ((read.emotions < 0) | (read.emotions > 3)).any():
        raise UsageError(f"{root}: an emotion is rated outside of 0 to 3")
    if request.protocol.name != "resplit" and not (read.split != "").any():
        raise UsageError(f"{root}: none of its {len(set(read.videos.tolist())):,} videos is in the official folds")


def _concepts(read: Segments, classes: str) -> tuple[list[Concept], dict[str, NDArray[np.generic]]]:
    """The concepts that the files have labels for."""
    concepts: list[Concept] = []
    targets: dict[str, NDArray[np.generic]] = {}
    if read.emotions is not None:
        concepts.append(Concept("emotions", EMOTIONS, "multilabel"))
        rated = np.isfinite(read.emotions).all(axis=1, keepdims=True)
        targets["emotions"] = np.where(rated, read.emotions > 0, -1).astype(np.int64)
    known = ~np.isnan(read.sentiment)
    score = np.where(known, read.sentiment, 0.0)
    classed = {
        "2": np.where(score == 0, -1, score > 0),
        "3": np.sign(score) + 1,
        "7": np.rint(score) + 3,
    }[classes]
    concepts += [
        Concept("sentiment", CLASSES[classes]),
        Concept("sentiment_score", ("sentiment",), "score", bounds=(-3.0, 3.0)),
    ]
    targets["sentiment"] = np.where(known, classed, -1).astype(np.int64)
    targets["sentiment_score"] = np.where(known, read.sentiment, np.nan)
    return concepts, targets


def _drawn(read: Segments, seed: int) -> NDArray[np.str_]:
    """A split by video, balanced over the videos' mean sentiment; finer strata would leave the seed nothing to draw."""
    _, video = np.unique(read.videos, return_inverse=True)
    mean = np.bincount(video, np.nan_to_num(read.sentiment)) / np.bincount(video)
    return grouped_split(read.videos, mean.round()[video].astype(np.int64), FRACTIONS, seed)


TASK = Task(
    title="CMU-MOSEI",
    licence="research use; see the CMU Multimodal SDK",
    citation=(
        "Zadeh, Liang, Poria, Cambria & Morency. Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and "
        "Interpretable Dynamic Fusion Graph. ACL 2018."
    ),
    homepage="https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK",
    group="video",
    modalities=tuple(Modality(name, "sequence", "standardize") for name in MODALITIES),
    protocols=(
        Protocol("official", "emotions and sentiment in one model", "Zadeh et al., ACL 2018", "official folds", SUITE),
        Protocol("mr26", "the six emotions, as MR26 compares them", "Minukhin & Rudoi 2026", "official folds", SUITE),
        Protocol(
            "mmsa",
            "sentiment alone, with the field's columns",
            "Mao et al., M-SENA, ACL 2022 demonstrations",
            "official folds",
            SUITE,
            "mae",
        ),
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
    options=(
        Option("source", "auto", ("auto", "csd", "mmsa"), "which files are read where both are there"),
        Option("align", "word", ("word", "none"), "audio and video averaged over each word, or steps of their own"),
        Option("steps", "50", (), "the most steps of a sequence; longer ones are averaged into so many"),
        Option("visual", "facet", ("facet", "openface"), "which visual features of the computational sequences"),
        Option("sentiment", "3", tuple(CLASSES), "how many classes; 2 leaves out the segments at 0, 7 rounds"),
        Option("folds", "", (), "the file of the official folds; by default the one beside the .csd files"),
    ),
    embedded="sample",
    recognises=lambda root: any(csd.find(root, name) for name in (csd.LABELS, *mmsa.FILES.values())),
    obtain=(
        "CMU's own links are dead; the .csd files and the folds (cmu_mosei_std_folds.py) are described at "
        "github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK, and MMSA keeps its pickles MOSEI/Processed/aligned_50.pkl and "
        "unaligned_50.pkl where the README of github.com/thuiar/MMSA says; either is read, and nothing is promised of "
        "them. Give their folder as --data"
    ),
    facts=(
        "sentiment and sentiment_score are functions of one rating: two views of one label",
        "more than one emotion may hold, and in many segments none does; MR26's seventh row, Neutral, is no label here",
        "COVAREP holds -inf, and what is not finite is set to 0; steps without any feature are masked",
        "the seven classes round half to even, as acc7 does; the SDK's own rule rounds away from zero",
        "MMSA's pickles have other text features (BERT, 768) than the computational sequences (GloVe, 300)",
    ),
)
