"""The official split files: which rows they hold, where, and with which labels.

They are joined to the annotations on the image path. Their ``label`` column is a random pick between the two
annotations in the "all" files, so labels come from ``label_text`` and ``label_image``, which also harmonise tweets
whose text was annotated inconsistently; damage has one label.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import UsageError

from .files import DAMAGE_CODES, HUMANITARIAN_CODES, INFORMATIVE_CODES, Annotations, Codes, coded, read_table
from .labels import merged

ALL = "crisismmd_datasplit_all"
AGREED = "crisismmd_datasplit_agreed_label"
PARTS = (("train", "train"), ("val", "dev"), ("test", "test"))
CODES: dict[str, Codes] = {
    "informative": INFORMATIVE_CODES,
    "humanitarian": HUMANITARIAN_CODES,
    "damage": DAMAGE_CODES,
}


def find_folder(home: Path, name: str) -> Path:
    """A folder of split files: in the data set's folder or beside it, as the archives unpack."""
    for folder in (home / name, home.parent / name):
        if folder.is_dir():
            return folder
    raise UsageError(
        f"no folder {name} in {home}: this protocol needs the official split; "
        f"unpack {name}.zip from crisisnlp.qcri.org/data/crisismmd/ there, or use --protocol mt25"
    )


def read_concept(
    home: Path, annotations: Annotations, concept: str, labels: str
) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """The official split of one concept.

    Args:
        home: the data set's folder.
        annotations: the rows to place the split files' rows among.
        concept: ``informative``, ``humanitarian`` or ``damage``.
        labels: ``text``, ``image`` or ``agreed``; agreed humanitarian labels are merged to 5 classes.

    Returns:
        split (n,), ``""`` for rows that no file holds, and target (n,), -1 for those.

    Raises:
        UsageError: a missing or malformed file, an image that is not annotated, twice there, or of another tweet.
    """
    folder = find_folder(home, AGREED if labels == "agreed" else ALL)
    suffix = "_agreed_lab" if labels == "agreed" else ""
    remedy = f"unpack {folder.name}.zip again"
    row_of = {image: row for row, image in enumerate(annotations.image.tolist())}
    split = np.full(len(row_of), "", dtype="<U5")
    target = np.full(len(row_of), -1, dtype=np.int64)
    for part, file_part in PARTS:
        path = folder / f"task_{concept}_text_img{suffix}_{file_part}.tsv"
        columns = ("label",) if concept == "damage" else ("label_text", "label_image")
        table = read_table(path, ("tweet_id", "image", *columns), remedy)
        codes = _codes(table, path, concept, labels, remedy)
        for number, (image_path, tweet, code) in enumerate(
            zip(table["image"], table["tweet_id"], codes.tolist(), strict=True), start=2
        ):
            row = row_of.get(image_path)
            if row is None or annotations.tweet[row] != tweet:
                raise UsageError(
                    f"{path}, line {number}: image {image_path[:80]} of tweet {tweet[:30]} is not in the annotations; "
                    f"annotations and split files must be of one release"
                )
            if split[row]:
                raise UsageError(f"{path}, line {number}: image {image_path[:80]} is already in {split[row]}; {remedy}")
            split[row] = part
            target[row] = code
    return split, target


def _codes(table: Mapping[str, list[str]], path: Path, concept: str, labels: str, remedy: str) -> NDArray[np.int64]:
    """The labels of a split file's rows, (n,) int64."""
    if concept == "damage":
        return coded(table, "label", CODES[concept], path, remedy)
    text, image = (coded(table, column, CODES[concept], path, remedy) for column in ("label_text", "label_image"))
    if labels != "agreed":
        return image if labels == "image" else text
    if concept == "humanitarian":
        text, image = merged(text), merged(image)
    if (text != image).any():
        number = int(np.flatnonzero(text != image)[0]) + 2
        raise UsageError(f"{path}, line {number}: label_text and label_image differ in an agreed file; {remedy}")
    return text


def joint_split(splits: list[NDArray[np.str_]], groups: NDArray[np.str_]) -> NDArray[np.str_]:
    """One split for several concepts: a group that any test file holds is only test, else any dev file's only val.

    Args:
        splits: (n,) by concept, ``""`` for rows that a concept's files do not hold.
        groups: (n,) the tweet of each row.

    Returns:
        (n,); ``""`` for rows that no concept's files hold.
    """
    names, group_of_row = np.unique(groups, return_inverse=True)
    joint = np.full(len(names), "", dtype="<U5")
    for part in ("train", "val", "test"):
        for split in splits:
            joint[group_of_row[split == part]] = part
    held = np.logical_or.reduce([split != "" for split in splits])
    return np.where(held, joint[group_of_row], "")
