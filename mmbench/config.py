"""The settings of a run: defaults < protocol < mmbench.toml < --config < flags, validated in one place."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from mmbench.errors import UsageError, reason, unknown
from mmbench.hashing import digest

PRESETS = Path(__file__).resolve().parent / "presets"


class Training(BaseModel):
    """How every network is trained: one budget for all methods."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=64, ge=2)
    epochs: int = Field(default=30, ge=1)
    patience: int = Field(default=5, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    width: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    objectives: Literal["concept", "label"] = "concept"


class RunConfig(BaseModel):
    """What a run is; everything here is stored in ``run.json``, and :meth:`run_hash` names the folder.

    ``options`` are the task's own (labels, split, missing_images, …), resolved. ``thresholds`` says where the
    decision thresholds of multi-label concepts come from. ``train_fraction`` is the share of the training rows that is
    used; all of them are not mentioned, so that runs of before it was a setting keep their names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    protocol: str
    options: dict[str, str]
    modalities: tuple[str, ...]
    concepts: tuple[str, ...]
    encoders: dict[str, str]
    split_seed: int = Field(default=0, ge=0)
    thresholds: Literal["fixed", "val"] = "fixed"
    training: Training = Training()
    train_fraction: float = Field(default=1.0, gt=0, le=1)

    @model_serializer(mode="wrap")
    def _without_the_full_share(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        settings: dict[str, Any] = serialise(self)
        if self.train_fraction == 1:
            del settings["train_fraction"]
        return settings

    def run_hash(self, fingerprints: Iterable[str]) -> str:
        """Eight hex digits over these settings and the fingerprints of data and encoders; all else extends a run."""
        return digest([json.dumps(self.model_dump(mode="json"), sort_keys=True), *fingerprints])[:8]


class Settings(BaseModel):
    """What a settings file may hold; the same keys with dots are what ``--set`` takes."""

    model_config = ConfigDict(extra="forbid")

    protocol: str | None = None
    method: str | None = None
    seeds: str | None = None
    modalities: str | None = None
    concepts: str | None = None
    data: Path | None = None
    out: Path | None = None
    jobs: int | None = Field(default=None, ge=1)
    device: str | None = None
    finetune: bool | None = None
    split_seed: int | None = Field(default=None, ge=0)
    thresholds: Literal["fixed", "val"] | None = None
    near_duplicates: Literal["keep", "group"] | None = None
    train_fraction: str | None = None
    stress: str | None = None
    encoders: dict[str, str] = {}
    task: dict[str, str] = {}
    training: dict[str, Any] = {}


def _settings(values: Mapping[str, Any], where: str) -> Settings:
    """Validate one layer; an unknown key or a value of the wrong type is one line."""
    for key in values:
        if key not in Settings.model_fields:
            raise unknown(f"setting in {where}", key, Settings.model_fields)
    training = values.get("training", {})
    for key in training if isinstance(training, Mapping) else ():
        if key not in Training.model_fields:
            raise unknown(f"setting in {where}", f"training.{key}", [f"training.{k}" for k in Training.model_fields])
    try:
        settings = Settings.model_validate(dict(values))
        Training.model_validate(settings.training)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {key} was given {first['input']!r}: {first['msg']}") from None
    return settings


def read_settings(path: Path) -> Settings:
    """A settings file in TOML.

    Raises:
        UsageError: an unreadable file, one that is not TOML, an unknown key, a value of the wrong type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"settings file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of too many digits
        raise UsageError(f"settings file {path} is not TOML: {reason(error)}") from None
    return _settings(values, path.name)


def find_settings(name: str) -> Settings:
    """The file that ``--config`` names: a path, or a shipped preset."""
    preset = PRESETS / f"{name}.toml"
    if Path(name).is_file() or not preset.is_file():
        if not Path(name).is_file():
            raise unknown("settings file", name, (p.stem for p in PRESETS.glob("*.toml")), "(or give a path)")
        return read_settings(Path(name))
    return read_settings(preset)


def parse_assignments(assignments: Iterable[str]) -> Settings:
    """The layer of ``--set key=value``: ``training.epochs=5``, ``task.labels=text``; training's keys also bare."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: expected key=value, for example training.epochs=5")
        section, dot, rest = key.partition(".")
        if dot:
            if section not in ("task", "training", "encoders"):
                raise unknown("setting", key, ["task.…", "training.…", "encoders.…"])
            values.setdefault(section, {})[rest] = value
        elif key in Training.model_fields:
            values.setdefault("training", {})[key] = value
        elif key in Settings.model_fields and key not in ("task", "training", "encoders"):
            values[key] = value
        else:
            raise unknown("setting", key, [*Settings.model_fields, *Training.model_fields])
    return _settings(values, "--set")


def merge(layers: Iterable[Settings]) -> Settings:
    """Later layers win, key by key."""
    merged: dict[str, Any] = {"encoders": {}, "task": {}, "training": {}}
    for layer in layers:
        for key, value in layer.model_dump(exclude_none=True).items():
            if isinstance(value, dict):
                merged[key] |= value
            else:
                merged[key] = value
    return Settings.model_validate(merged)
