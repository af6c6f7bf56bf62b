"""Handwritten digits cut into three strips: real data that scikit-learn carries, and an example of a task plug-in."""

from __future__ import annotations

import numpy as np

from mmbench.contracts import Concept, Dataset, LoadRequest, Modality, Problem, Protocol, Task
from mmbench.hashing import digest
from mmbench.splits import grouped_split

NAME = "digits"
SUMMARY = "1,797 handwritten digits in three strips: digit, parity, at-least-five"

STRIPS = {"left": slice(0, 3), "middle": slice(3, 5), "right": slice(5, 8)}
CONCEPTS = (
    Concept("digit", tuple("0123456789")),
    Concept("parity", ("even", "odd")),
    Concept("at-least-five", ("no", "yes")),
)
SUITE = (
    *(f"{fusion}+equal" for fusion in ("concat", "late", "tensor", "lowrank", "graph", "igfn")),
    *(f"concat+{strategy}" for strategy in ("moo", "mti", "dmtl", "gradnorm", "uncertainty", "single")),
    "igfn+dmtl",
    "majority",
    *(f"linear:{strip}" for strip in (*STRIPS, "all")),
    *(f"only:{strip}" for strip in STRIPS),
)


def load(request: LoadRequest) -> Dataset:
    """The 8x8 images of scikit-learn's test set: strips of 24, 16 and 24 pixels in 0..16, float64."""
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    pixels, digit = images.reshape(-1, 8, 8), digits.astype(np.int64)
    strips = {name: pixels[:, :, columns].reshape(len(pixels), -1) for name, columns in STRIPS.items()}
    ids = np.array([f"{row:04d}" for row in range(len(digit))])
    targets = {"digit": digit, "parity": digit % 2, "at-least-five": (digit >= 5).astype(np.int64)}
    return Dataset(
        ids=ids,
        groups=ids,
        inputs={name: strips[name] for name in request.modalities},
        concepts=CONCEPTS,
        targets=targets,
        problems=(Problem("joint", tuple(targets), grouped_split(ids, digit, (0.6, 0.2, 0.2), request.split_seed)),),
        fingerprint=digest([pixels, digit]),
        title="digits",
        notes=("parity and at-least-five are functions of the digit: three views of one label",),
    )


TASK = Task(
    title="Optical recognition of handwritten digits (UCI, the test set in scikit-learn)",
    licence="CC BY 4.0",
    citation="Alpaydin & Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998.",
    homepage="https://archive.ics.uci.edu/dataset/80",
    group="image",
    modalities=tuple(Modality(name, "vector", "standardize") for name in STRIPS),
    protocols=(
        Protocol("default", "three concepts in one model, 60/20/20", "", "60/20/20, stratified by digit", SUITE),
    ),
    load=load,
    proposed="igfn+dmtl",
    embedded="real",
)
