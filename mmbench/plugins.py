"""The one door by which tasks and methods come in, ours and a user's alike.

Listing reads the constants ``NAME``, ``KIND`` and ``SUMMARY`` from the source without executing anything; a plug-in
is executed when it is used. A user's folders count only where an ``mmbench.toml`` stands beside them; a file of theirs
that is no plug-in is left out with a line, and stops nobody who does not name it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from mmbench.contracts import Task
from mmbench.errors import UsageError, unknown
from mmbench.hashing import digest

Kind = Literal["task", "fusion", "strategy", "model"]
METHOD_KINDS: tuple[Kind, ...] = ("fusion", "strategy", "model")
MARKER = "mmbench.toml"
CARD = ".toml"
NAMED = re.compile(r"\w[\w.-]*")  # what a selector and a comma list can hold
RESERVED = ("all", "ablation", "ceiling")
PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Plugin:
    """A plug-in that was found: what its source says of itself, and where it is."""

    name: str
    kind: Kind
    summary: str
    path: Path
    origin: Literal["shipped", "folder", "file", "installed"]
    paper_name: str = ""


def shipped_folder(name: str) -> Path:
    """``baselines`` or ``tasks`` as shipped: beside the package in a checkout, inside it in a wheel."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def _constants(path: Path) -> dict[str, str]:
    """The top-level string constants of a Python source, read without executing it."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except OSError as error:
        raise UsageError(f"plug-in {path} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"plug-in {path} is not valid Python: {error}") from None
    found: dict[str, str] = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))):
                found[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(value))):
                found[name] = value
    return found


def _card_constants(path: Path) -> dict[str, str]:
    """The name and the summary of a task card, as the constants of a plug-in."""
    from mmbench.card import parse_toml

    values = parse_toml(path)
    return {key.upper(): str(values[key]) for key in ("name", "summary") if key in values}


def _read(path: Path, origin: Literal["shipped", "folder", "file", "installed"], task: bool | None) -> Plugin | None:
    """The plug-in in a file, or None where the file names none."""
    constants = _card_constants(path) if path.suffix == CARD else _constants(path)
    if "NAME" not in constants:
        return None
    name = constants["NAME"]
    if not NAMED.fullmatch(name) or name in RESERVED:
        raise UsageError(
            f"plug-in {path} has NAME = '{name}', expected letters, digits, '-', '_' and '.', not a keyword"
        )
    kind = constants.get("KIND", "task" if task is not False else None)
    if kind not in ("task", *METHOD_KINDS):
        found = "no KIND" if kind is None else f"KIND = '{kind}'"
        raise UsageError(f"plug-in {path} has {found}, expected one of {', '.join(METHOD_KINDS)} or task")
    return Plugin(
        name,
        kind,
        constants.get("SUMMARY", ""),
        path.resolve(),
        origin,
        constants.get("PAPER_NAME", ""),
    )


def _files(folder: Path, suffixes: tuple[str, ...] = (".py",)) -> Iterator[Path]:
    """Plug-in files of a folder: those with one of the suffixes, and the ``__init__.py`` of its sub-folders."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if (path / "__init__.py").is_file():
                yield path / "__init__.py"
            elif path.suffix in suffixes and not path.name.startswith(("_", ".")) and not path.is_dir():
                yield path


def _installed(module: str) -> Path:
    """The source of an installed module, found without importing the packages above it."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first)
    for part in rest:
        inside = spec.submodule_search_locations if spec is not None else None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", inside) if spec is not None and inside is not None else None
    if spec is None or not spec.has_location or spec.origin is None:
        raise UsageError(f"installed plug-in {module} cannot be found: reinstall or remove the package it came with")
    return Path(spec.origin)


class Registry:
    """The plug-ins of one command; built once, handed to whoever needs to look one up."""

    def __init__(self, extra: Iterable[Path] = (), folder: Path | None = None) -> None:
        """Find plug-ins: the shipped ones, those of ``folder`` if it bears the marker, ``extra`` files, installed ones.

        ``broken`` tells of files in the user's folders, and of installed ones, that are no plug-ins.

        Raises:
            UsageError: a name taken twice; one of the ``extra`` files that cannot be read or has no ``NAME``.
        """
        self.extra = tuple(path.resolve() for path in extra)
        self.folder = (folder or Path.cwd()).resolve()
        self._found: dict[tuple[str, str], Plugin] = {}
        self.overrides: list[str] = []
        self.broken: list[str] = []
        for path in _files(PACKAGE / "proposed"):
            self._add(_read(path, "shipped", False))
        self._scan(shipped_folder("baselines"), shipped_folder("tasks"), "shipped")
        if (self.folder / MARKER).is_file():
            self._scan(self.folder / "baselines", self.folder / "tasks", "folder")
        for group, task in (("mmbench.baselines", False), ("mmbench.tasks", True)):
            for entry in entry_points(group=group):
                self._take(entry.module, "installed", task)
        for path in self.extra:
            if not path.is_file():
                found = "it is a folder: name the file of the plug-in" if path.is_dir() else "no such file"
                raise UsageError(f"--plugin {path}: {found}")
            plugin = _read(path, "file", None)
            if plugin is None:
                key = "name" if path.suffix == CARD else "NAME"
                raise UsageError(f'--plugin {path}: no {key} = "..." at its top level')
            self._add(plugin, override=True)

    def _scan(self, baselines: Path, tasks: Path, origin: Literal["shipped", "folder"]) -> None:
        for folder, task in ((baselines, False), (tasks, True)):
            for path in _files(folder, (".py", CARD) if task else (".py",)):
                self._take(path, origin, task)

    def _take(self, found: Path | str, origin: Literal["shipped", "folder", "installed"], task: bool) -> None:
        """Add what a file or an installed module names; a user's that is no plug-in is left out and told."""
        try:
            plugin = _read(found if isinstance(found, Path) else _installed(found), origin, task)
        except UsageError as error:
            if origin == "shipped":
                raise
            self.broken.append(f"left out: {error}")
        else:
            self._add(plugin)

    def _add(self, plugin: Plugin | None, override: bool = False) -> None:
        if plugin is None:
            return
        key = ("task" if plugin.kind == "task" else "method", plugin.name)
        other = self._found.get(key)
        if other is not None and other.path != plugin.path:
            if not override:
                raise UsageError(f"{key[0]} '{plugin.name}' is defined twice: in {other.path} and in {plugin.path}")
            self.overrides.append(f"{key[0]} {plugin.name} from {plugin.path.name}")
        self._found[key] = plugin

    def list(self, *kinds: Kind) -> list[Plugin]:
        """The plug-ins of these kinds, by name."""
        return sorted((p for p in self._found.values() if p.kind in kinds), key=lambda p: p.name)

    def get(self, name: str, *kinds: Kind) -> Plugin:
        """The plug-in of this name; an unknown one is a UsageError with the nearest names."""
        plugin = self._found.get(("task" if "task" in kinds else "method", name))
        if plugin is None or plugin.kind not in kinds:
            what = kinds[0] if len(kinds) == 1 else "method"
            hints = ["(one of your own: --plugin FILE)"] if kinds == ("task",) else []
            raise unknown(what, name, (p.name for p in self.list(*kinds)), "; ".join([*hints, *self.broken]))
        return plugin

    def task(self, name: str) -> Task:
        """The task of this name.

        Raises:
            UsageError: an unknown name, a file that cannot be loaded or offers no task, or one of other types.
        """
        task, path = getattr(self.load(name, "task"), "TASK", None), self.get(name, "task").path
        if not isinstance(task, Task):
            raise UsageError(f"plug-in {path} has no TASK that is a mmbench.contracts.Task")
        try:
            TypeAdapter(Task).validate_python({field.name: _plain(getattr(task, field.name)) for field in fields(task)})
        except ValidationError as error:
            wrong = error.errors()[0]
            place = ".".join(str(part) for part in wrong["loc"] if part != "function-plain")
            raise UsageError(f"plug-in {path}: TASK.{place} is {wrong['input']!r}: {wrong['msg']}") from None
        for what in ("modalities", "protocols"):
            if not getattr(task, what):
                raise UsageError(f"plug-in {path}: TASK has no {what}, expected at least one")
        return task

    def load(self, name: str, *kinds: Kind) -> ModuleType:
        """Execute the plug-in of this name, once a process, and return its module."""
        return load_file(self.get(name, *kinds).path)


def _plain(value: object) -> object:
    """A part of a task with what it is made of as dictionaries, which are validated as instances are not."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


@cache
def load_file(path: Path) -> ModuleType:
    """The module of a plug-in file, known once by its real path.

    A file of the ``mmbench`` package is imported as itself, any other as ``mmbench_plugins.<folder>.<file>``; a task
    card becomes a module of its name, summary and task.
    """
    if path.suffix == CARD:
        return _card_module(path)
    if path.is_relative_to(PACKAGE / "proposed"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        return importlib.import_module(".".join(parts).removesuffix(".__init__"))
    package = path.name == "__init__.py"
    home = path.parent if package else path
    name = f"mmbench_plugins.{home.parent.name}.{home.stem}"
    if name in sys.modules:
        name += "_" + digest([str(path)])[:8]
    for parent in ("mmbench_plugins", f"mmbench_plugins.{home.parent.name}"):
        if parent not in sys.modules:
            sys.modules[parent] = ModuleType(parent)
            sys.modules[parent].__path__ = []
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)] if package else None
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):  # tables and records alone go to standard output
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        told = " ".join(str(error).split())
        raise UsageError(f"plug-in {path} cannot be loaded: {type(error).__name__}: {told}") from error
    return module


def _card_module(path: Path) -> ModuleType:
    from mmbench.card import card_task

    constants = _card_constants(path)
    module = ModuleType(f"mmbench_plugins.cards.{path.stem}", constants.get("SUMMARY", ""))
    vars(module).update(NAME=constants["NAME"], SUMMARY=constants.get("SUMMARY", ""), TASK=card_task(path))
    return module


def shipped(folder: Literal["baselines", "tasks"], file: str) -> ModuleType:
    """A shipped plug-in's module by its file name: ``shipped("baselines", "moo")``."""
    path = shipped_folder(folder) / f"{file}.py"
    return load_file((path if path.is_file() else path.with_suffix("") / "__init__.py").resolve())
