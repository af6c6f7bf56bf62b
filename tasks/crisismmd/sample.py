"""The generated sample of CrisisMMD: the official layout, written from a known law, read by the official loader.

Beside the layout lies ``cues.csv``, the cues each row shows, from which the ceilings follow exactly (:mod:`law`).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench import sample_folder
from mmbench.contracts import Concept
from mmbench.errors import UsageError
from mmbench.splits import grouped_split

from . import official
from .drawing import draw
from .files import SUFFIX, Annotations
from .grammar import tweet
from .labels import DAMAGE, HUMANITARIAN, INFORMATIVE, MERGED, merged
from .law import SOURCES, TOPIC_SHARES, Law, damage_law, posterior, topic_law

VERSION = 1
CUES = "cues.csv"
CUE_COLUMNS = ("image", "text_topic", "image_topic", "text_severity", "image_severity")
EVENTS = {"coast_storm": 420, "harbour_fire": 180, "hill_wildfire": 240, "river_flood": 360, "valley_earthquake": 300}
IMAGES_A_TWEET = (0.92, 0.04, 0.02, 0.02)
DAMAGE_IF = ("affected_individuals", "infrastructure_and_utility_damage", "vehicle_damage")
CANNOT_JUDGE = 0.03
OFFICIAL_FRACTIONS = (0.7, 0.15, 0.15)

ANNOTATION_HEADER = (
    *("tweet_id", "image_id", "text_info", "text_info_conf", "image_info", "image_info_conf"),
    *("text_human", "text_human_conf", "image_human", "image_human_conf", "image_damage", "image_damage_conf"),
    *("tweet_text", "image_url", "image_path"),
)
SPLIT_HEADER = (
    *("event_name", "tweet_id", "image_id", "tweet_text", "image"),
    *("label", "label_text", "label_image", "label_text_image"),
)
NOTE = (
    "generated: the topic is told by "
    + ", ".join(f"{source} in {share:.0%}" for source, share in TOPIC_SHARES.items())
    + " of rows (two: a label each)"
)


@dataclass(frozen=True)
class Row:
    """A row of the sample: what the files say, and its cues in the order of :data:`CUE_COLUMNS`."""

    event: str
    tweet: str
    image: str
    text: str
    text_human: int
    image_human: int
    damage: str
    cues: tuple[int, int, int, int]


def ensure(scratch: Path) -> Path:
    """The folder of the sample below ``scratch``, written where it is not there whole."""
    return sample_folder.ensure(scratch, "crisismmd", VERSION, generate)


def generate(root: Path) -> list[str]:
    """Write the sample below an empty folder, the same texts, labels and pictures every time; names the pictures."""
    rows = sample_rows()
    for number, row in enumerate(rows):
        path = root / row.image
        path.parent.mkdir(parents=True, exist_ok=True)
        _, image_topic, _, image_severity = row.cues
        picture = draw(image_topic, image_severity, np.random.default_rng([VERSION, number]))
        picture.save(path, quality=85)
    texts = _annotation_files(rows) | _split_files(rows)
    texts[CUES] = "\n".join(",".join(map(str, line)) for line in [CUE_COLUMNS, *((r.image, *r.cues) for r in rows)])
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() + b"\n")
    return [row.image for row in rows]


def sample_rows() -> list[Row]:
    """All rows by event, in the order of the files."""
    rng = np.random.default_rng([VERSION])
    rows: list[Row] = []
    for place, (event, n_rows) in enumerate(EVENTS.items()):
        end = len(rows) + n_rows
        number = 0
        while len(rows) < end:
            number += 1
            n_images = 1 + int(np.searchsorted(np.cumsum(IMAGES_A_TWEET[:-1]), rng.random()))
            name = f"{9 + place}{number:017d}"
            day = f"{1 + number % 28}_{1 + place}_2030"
            topics = _draw_tweet(rng, topic_law(), min(n_images, end - len(rows)))
            severities = _draw_tweet(rng, damage_law(), len(topics))
            law, severity = topic_law(), damage_law()
            text = tweet(rng, event, int(law.cues["text"][topics[0]]), int(severity.cues["text"][severities[0]]))
            for image, (topic, harm) in enumerate(zip(topics, severities, strict=True)):
                a, b = int(law.labels["text"][topic]), int(law.labels["image"][topic])
                damage = "nan"
                if {HUMANITARIAN[a], HUMANITARIAN[b]} & set(DAMAGE_IF):
                    cannot = rng.random() < CANNOT_JUDGE
                    damage = "dont_know_or_cant_judge" if cannot else DAMAGE[severity.labels["image"][harm]]
                suffix = "png" if rng.random() < 0.02 else "jpg"
                cues = (
                    int(law.cues["text"][topic]),
                    int(law.cues["image"][topic]),
                    int(severity.cues["text"][harm]),
                    int(severity.cues["image"][harm]),
                )
                path = f"data_image/{event}/{day}/{name}_{image}.{suffix}"
                rows.append(Row(event, name, path, text, a, b, damage, cues))
    return rows


def _draw_tweet(rng: np.random.Generator, law: Law, n_images: int) -> list[int]:
    """Atoms of a tweet's images, independent given its text cue and text label."""
    first = _draw(rng, law.probability)
    same = (law.cues["text"] == law.cues["text"][first]) & (law.labels["text"] == law.labels["text"][first])
    return [first, *(_draw(rng, law.probability * same) for _ in range(n_images - 1))]


def _draw(rng: np.random.Generator, weights: NDArray[np.float64]) -> int:
    total = np.cumsum(weights)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))


def _info(human: int) -> str:
    return INFORMATIVE[int(human > 0)]


def _image_id(row: Row) -> str:
    return row.image.rsplit("/", 1)[1].rsplit(".", 1)[0]


def _table(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    return "\n".join("\t".join(line) for line in (header, *lines))


def _annotation_files(rows: list[Row]) -> dict[str, str]:
    lines: dict[str, list[tuple[str, ...]]] = {event: [] for event in EVENTS}
    for row in rows:
        human = HUMANITARIAN[row.text_human], HUMANITARIAN[row.image_human]
        confidence = "" if row.damage == "nan" else "1.0"
        lines[row.event].append(
            (
                *(row.tweet, _image_id(row), _info(row.text_human), "1.0", _info(row.image_human), "1.0"),
                *(human[0], "1.0", human[1], "1.0", row.damage, confidence),
                *(row.text, f"https://example.org/{_image_id(row)}", row.image),
            )
        )
    return {f"annotations/{event}{SUFFIX}": _table(ANNOTATION_HEADER, part) for event, part in lines.items()}


def _split_files(rows: list[Row]) -> dict[str, str]:
    """The official split files, each concept split by tweet with a seed of its own, so that they differ."""
    rng = np.random.default_rng([VERSION, 1])
    tweets = np.array([row.tweet for row in rows])
    strata = np.array([max(row.text_human, row.image_human) for row in rows])
    files: dict[str, str] = {}
    for seed, concept in enumerate(("informative", "humanitarian", "damage")):
        split = grouped_split(tweets, strata, OFFICIAL_FRACTIONS, seed)
        for part, name in official.PARTS:
            every: list[tuple[str, ...]] = []
            agreed: list[tuple[str, ...]] = []
            for row in (row for row, place in zip(rows, split, strict=True) if place == part):
                start = (row.event, row.tweet, _image_id(row), row.text, row.image)
                if concept == "damage":
                    every += [(*start, row.damage)] if row.damage in DAMAGE else []
                    continue
                codes = np.array([row.text_human, row.image_human])
                if concept == "informative":
                    full = five = [_info(int(label)) for label in codes]
                else:
                    full = [HUMANITARIAN[label] for label in codes]
                    five = [MERGED[label] for label in merged(codes)]
                label = full[int(rng.random() < 0.5)]
                same = five[0] == five[1]
                every.append((*start, label, *full, "Positive" if same else "Negative"))
                agreed += [(*start, label, *five, "Positive")] if same else []
            header = SPLIT_HEADER[:6] if concept == "damage" else SPLIT_HEADER
            files[f"{official.ALL}/task_{concept}_text_img_{name}.tsv"] = _table(header, every)
            if agreed:
                files[f"{official.AGREED}/task_{concept}_text_img_agreed_lab_{name}.tsv"] = _table(header, agreed)
    return files


def ceilings(
    home: Path, annotations: Annotations, concepts: tuple[Concept, ...], mode: str
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """The best possible scores (n, K) by what is seen (``text``, ``image``, ``text+image``) and concept.

    Raises:
        UsageError: ``cues.csv`` is missing, malformed or does not fit the annotations.
    """
    topic, severity = _read_cues(home, annotations)
    return {
        name: {c.name: posterior(c, mode, severity if c.name == "damage" else topic, given) for c in concepts}
        for name, given in SOURCES.items()
    }


def _read_cues(
    home: Path, annotations: Annotations
) -> tuple[Mapping[str, NDArray[np.int64]], Mapping[str, NDArray[np.int64]]]:
    try:
        with (home / CUES).open(encoding="utf-8", newline="") as file:
            by_image = {
                line["image"]: [int(line[column]) for column in CUE_COLUMNS[1:]] for line in csv.DictReader(file)
            }
        table = np.array([by_image[image] for image in annotations.image.tolist()], dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{home / CUES} does not fit the generated sample beside it; delete {home} and generate it again"
        ) from None
    return {"text": table[:, 0], "image": table[:, 1]}, {"text": table[:, 2], "image": table[:, 3]}
