"""The options that say which data and which run is meant, shared by the verbs that train nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmbench.config import Settings

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="The task.")]
Protocol = Annotated[str | None, typer.Option(help="The task's protocol; its first one by default.")]
Concepts = Annotated[str | None, typer.Option(help="Only these concepts (a,b).")]
Modalities = Annotated[str | None, typer.Option(help="Only these modalities (a,b).")]
Data = Annotated[Path | None, typer.Option(help="The data set's root folder.")]
Labels = Annotated[str | None, typer.Option(help="The task's label mode.")]
SplitSeed = Annotated[int | None, typer.Option(min=0, help="The seed of a drawn split.")]
MissingImages = Annotated[str | None, typer.Option(help="drop, mask or error.")]
BadImages = Annotated[str | None, typer.Option(help="drop or error.")]
CaptionLeak = Annotated[str | None, typer.Option(help="keep or mask the labels' names in captions.")]
Config = Annotated[str | None, typer.Option(help="A settings file (TOML), or a shipped preset: mt25.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, as for run.")]
Plugin = Annotated[list[Path] | None, typer.Option(help="A plug-in file to use.")]
RequireData = Annotated[bool, typer.Option("--require-data", help="Refuse the generated sample.")]


def merge_settings(
    config: str | None, assignments: list[str] | None, task_options: dict[str, str | None], **flags: object
) -> Settings:
    """The settings of ``mmbench.toml``, ``--config``, the flags and ``--set``, as ``mmbench run`` merges them.

    What they say of methods is dropped: these verbs train none.
    """
    from mmbench.config import Settings, find_settings, merge, parse_assignments, read_settings
    from mmbench.plugins import MARKER

    given = {key: value for key, value in task_options.items() if value is not None}
    layers = [read_settings(Path(MARKER))] if Path(MARKER).is_file() else []
    layers += [find_settings(config)] if config else []
    settings = merge([*layers, Settings.model_validate({**flags, "task": given}), parse_assignments(assignments or [])])
    return settings.model_copy(update={"method": None, "seeds": None})
