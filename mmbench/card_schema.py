"""What a task card may say: its sections, their keys and defaults."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmbench.contracts import InputKind

Names = tuple[str, ...]


class Section(BaseModel):
    """A part of a card; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TextInput(Section):
    """One text: the columns joined by a line break, empty ones left out; with ``root``, what the files that they name
    below it hold. ``suffix`` is put behind each name.
    """

    kind: Literal["text"]
    columns: Names = Field(min_length=1)
    root: str = ""
    suffix: str = ""
    encoder: str = "tfidf-svd"


class ImageInput(Section):
    """One image a row: paths below ``root``, each with ``suffix`` behind it."""

    kind: Literal["image"]
    column: str
    root: str = "."
    suffix: str = ""
    encoder: str = "hog-color"


class AudioInput(Section):
    """One recording a row: paths below ``root``, each with ``suffix`` behind it."""

    kind: Literal["audio"]
    column: str
    root: str = "."
    suffix: str = ""
    encoder: str = "logmel"


class VideoInput(Section):
    """One video a row: paths below ``root``, each with ``suffix`` behind it."""

    kind: Literal["video"]
    column: str
    root: str = "."
    suffix: str = ""
    encoder: str = "hog-color"


class TabularInput(Section):
    """Columns of numbers as they are, and of categories one-hot; ``x_*`` is every column that begins with ``x_``.

    ``levels`` names the categories of a column; by default they are those that the training rows hold.
    """

    kind: Literal["tabular"]
    numeric: Names = ()
    categorical: Names = ()
    levels: dict[str, Names] = {}
    encoder: str = "standardize"


class Arrays(Section):
    """Where the arrays of a modality are: in one ``file``, or in a file for each row, a ``column`` of paths below
    ``root``, each with ``suffix`` behind it.

    ``array`` names the array of an ``.npz`` or ``.safetensors`` file; its rows are those of the table, or have their
    ids in the array ``ids`` of the same ``.npz`` file. Without ``array``, a file of several has one for each row, named
    by the row's id.
    """

    file: str = ""
    array: str = ""
    ids: str = ""
    column: str = ""
    root: str = "."
    suffix: str = ""
    encoder: str = "standardize"


class FeatureInput(Arrays):
    """A vector a row."""

    kind: Literal["features"]


class SequenceInput(Arrays):
    """A sequence of vectors a row, as many steps as it has.

    ``lengths`` is an array of the same ``.npz`` file: how many steps each row has, where all steps stand one after
    another or rows are padded. Steps of nothing but 0 are padding where ``zero_padded`` says so. What is longer than
    ``max_steps`` is averaged into as many.
    """

    kind: Literal["sequence"]
    lengths: str = ""
    zero_padded: bool = False
    max_steps: int = Field(default=0, ge=0)


class ExclusiveLabels(Section):
    """One label a row; an empty cell is no label. ``background`` is the label that means none of it."""

    kind: Literal["exclusive"]
    column: str
    labels: Names = ()
    background: str | None = None


class MultiLabels(Section):
    """Any number of labels a row: names in one column with a separator between them, or a column of 0 and 1 a label.

    ``empty`` says what an empty cell is: a row without any of the labels, or one that nobody labelled.
    """

    kind: Literal["multilabel"]
    column: str = ""
    separator: str = Field(default=";", min_length=1)
    columns: Names = ()
    labels: Names = ()
    background: str | None = None
    empty: Literal["none", "unlabelled"] = "none"


class ScoreLabels(Section):
    """One number a row; an empty cell is none. ``bounds`` is the scale that it was rated on."""

    kind: Literal["score"]
    column: str
    bounds: tuple[float, float] | None = None


class Split(Section):
    """A column with train, val and test in it, or the shares of a split drawn by group and balanced by label.

    ``val_fraction`` takes validation rows from train where the column has none. ``leaks`` allows a column that has a
    group in two splits; every table then says so.
    """

    column: str = ""
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    val_fraction: float = Field(default=0.0, ge=0, lt=1)
    leaks: bool = False


MediaInput = ImageInput | AudioInput | VideoInput
ArrayInput = FeatureInput | SequenceInput
Input = TextInput | MediaInput | TabularInput | ArrayInput
Labels = ExclusiveLabels | MultiLabels | ScoreLabels
INPUTS: dict[str, type[Section]] = {
    "text": TextInput,
    "image": ImageInput,
    "audio": AudioInput,
    "video": VideoInput,
    "tabular": TabularInput,
    "features": FeatureInput,
    "sequence": SequenceInput,
}
LABELS: dict[str, type[Section]] = {"exclusive": ExclusiveLabels, "multilabel": MultiLabels, "score": ScoreLabels}
KINDS: dict[str, InputKind] = {
    "text": "text",
    "image": "image",
    "audio": "audio",
    "video": "video",
    "tabular": "vector",
    "features": "vector",
    "sequence": "sequence",
}


class Card(Section):
    """A whole card."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    summary: str = ""
    title: str = ""
    table: str
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    quotes: bool = True
    encoding: str = "utf-8"
    missing: Names = ()
    id: str = ""
    group: str = ""
    licence: str
    citation: str = ""
    homepage: str = ""
    primary_metric: str = "macro_f1"
    notes: Names = ()
    modalities: dict[str, Any]
    concepts: dict[str, Any]
    split: Split = Split()

    @property
    def inputs(self) -> dict[str, Input]:
        """The modalities, validated by :func:`read_card`."""
        return self.modalities

    @property
    def targets(self) -> dict[str, Labels]:
        """The concepts, validated by :func:`read_card`."""
        return self.concepts


def names_files(item: Input) -> bool:
    """Whether the cells of the modality's columns are paths."""
    match item:
        case TextInput():
            return bool(item.root)
        case FeatureInput() | SequenceInput():
            return bool(item.column)
        case TabularInput():
            return False
    return True


def columns_of(section: Input | Labels) -> Names:
    """The columns of the table that a section reads."""
    match section:
        case TabularInput():
            return (*section.numeric, *section.categorical)
        case ImageInput() | AudioInput() | VideoInput() | ExclusiveLabels() | ScoreLabels():
            return (section.column,)
        case FeatureInput() | SequenceInput():
            return (section.column,) if section.column else ()
        case TextInput():
            return section.columns
        case MultiLabels():
            return section.columns or (section.column,)
