"""Method selectors: ``igfn:delta=0.1/0.5+dmtl:beta=1``, ``only:text``, comma lists, globs over the product, ``all``,
``concat+unimodal+dmtl``, with the losses of each modality alone as further objectives, and ``ablation:hybrid``, a
method and the same without each part that its plug-ins declare in ``ABLATIONS``.

A selector is parsed here and nowhere else; what comes out is a :class:`Method` with a canonical name (defaults
dropped, parameters in the order of the plug-in's signature), so that one method has one name and one folder.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from mmbench.config import Training
from mmbench.contracts import Model, Objective
from mmbench.errors import UsageError, unknown
from mmbench.hashing import digest
from mmbench.plugins import METHOD_KINDS, Kind, Registry

if TYPE_CHECKING:
    from mmbench.modules import Fusion, Strategy

ABLATION = "ablation:"
UNIMODAL = "unimodal"  # between a fusion and a strategy
FINETUNE = "finetune"  # the parameter that --finetune switches on
BARE = ("modality", "rule")  # parameters that are given, and shown, without their name


@dataclass(frozen=True)
class Part:
    """One plug-in of a method with its parameters, validated."""

    plugin: str
    kind: Kind
    parameters: tuple[tuple[str, Any], ...]
    text: str


@dataclass(frozen=True)
class Method:
    """A fusion with a strategy, or a model; ``name`` is canonical.

    With ``unimodal`` the losses of each modality alone are objectives of the strategy as well.
    """

    parts: tuple[Part, ...]
    unimodal: bool = False

    @property
    def name(self) -> str:
        """The canonical selector."""
        first, *others = (part.text for part in self.parts)
        return "+".join([first, *([UNIMODAL] if self.unimodal else []), *others])

    @property
    def is_model(self) -> bool:
        """Whether it is a whole model rather than a product."""
        return self.parts[0].kind == "model"


def plugin_digests(method: Method, registry: Registry) -> dict[str, str]:
    """Digests of the sources of the method's plug-ins that did not ship with mmbench."""
    plugins = [registry.get(part.plugin, part.kind) for part in method.parts]
    return {p.name: digest([p.path.read_bytes()])[:16] for p in plugins if p.origin != "shipped"}


def parameters_of(module: ModuleType) -> dict[str, tuple[Any, Any]]:
    """The selector parameters of a plug-in: name -> (annotation, default or ``inspect.Parameter.empty``).

    Raises:
        UsageError: the plug-in has no function ``build``, or annotations that cannot be read.
    """
    build = getattr(module, "build", None)
    if not callable(build):
        raise UsageError(f"plug-in {module.__file__} has no function build")
    try:
        hints = get_type_hints(build, include_extras=True)
    except Exception as error:  # the annotations are evaluated: whatever a stranger wrote there
        raise UsageError(f"plug-in {module.__file__}: the annotations of build cannot be read: {error}") from error
    keyword = inspect.Parameter.KEYWORD_ONLY
    return {
        name: (hints.get(name, str), parameter.default)
        for name, parameter in inspect.signature(build).parameters.items()
        if parameter.kind is keyword
    }


def ablations_of(module: ModuleType) -> dict[str, str]:
    """The parts that a plug-in declares: in words -> the parameters that switch it off.

    Raises:
        UsageError: its ``ABLATIONS`` are something else.
    """
    declared = getattr(module, "ABLATIONS", {})
    try:
        return TypeAdapter(dict[str, str]).validate_python(declared, strict=True)
    except ValidationError:
        raise UsageError(
            f"plug-in {module.__file__} has ABLATIONS = {declared!r}, "
            'expected a dictionary from words to parameters: {"the gate": "gate=off"}'
        ) from None


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _value(plugin: str, name: str, annotation: Any, text: str) -> object:
    try:
        value: object = TypeAdapter(annotation).validate_python(text)
    except ValidationError as error:
        expected = error.errors()[0]["msg"]
        raise UsageError(f"parameter {name} of {plugin} was given '{text}': {expected}") from None
    except PydanticUserError:
        raise UsageError(f"parameter {name} of {plugin} cannot be given as text: it is a {annotation}") from None
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UsageError(f"parameter {name} of {plugin} was given '{text}': Input should be a finite number")
        value += 0.0  # -0 is 0
    return value


def _parse_part(text: str, registry: Registry, modalities: Sequence[str], finetune: bool = False) -> list[Part]:
    """One side of a selector; several parts where a value sweeps. ``finetune`` is for plug-ins that have it."""
    plugin, *settings = text.split(":")
    found = registry.get(plugin, *METHOD_KINDS)
    known = parameters_of(registry.load(plugin, found.kind))
    bare = next((name for name in BARE if name in known), None)
    given: dict[str, list[Any]] = {}
    for setting in settings:
        name, equals, values = setting.partition("=")
        if not equals:
            if bare is None or bare in given:
                raise UsageError(
                    f"'{setting}' in '{text}' is not a parameter: write name=value"
                    + (f" with {', '.join(known)}" if known else f"; {plugin} has no parameters")
                )
            name, values = bare, setting
        if name not in known:
            raise unknown(f"parameter of {plugin}", name, known)
        if name in given:
            raise UsageError(f"'{text}' gives {name} twice")
        given[name] = [_value(plugin, name, known[name][0], value) for value in values.split("/")]
    if finetune and FINETUNE in known:
        given.setdefault(FINETUNE, [True])
    for name, (_, default) in known.items():
        if default is inspect.Parameter.empty and name not in given:
            example = modalities[0] if name == "modality" else f"{name}=…"
            raise UsageError(f"'{text}' needs a {name}, for example {plugin}:{example}")
    if "modality" in known:
        default = known["modality"][1]
        allowed = [*modalities, *([] if default is inspect.Parameter.empty else [default])]
        for value in given.setdefault("modality", [default]):
            if value not in allowed:
                raise unknown("modality", str(value), allowed)
    parts = []
    for combination in itertools.product(*given.values()):
        chosen = dict(zip(given, combination, strict=True))
        kept = [(n, chosen[n]) for n in known if n in chosen and (n == "modality" or chosen[n] != known[n][1])]
        shown = [_show(v) for n, v in kept if n == bare]
        shown += [f"{n}={_show(v)}" for n, v in kept if n != bare]
        parts.append(Part(plugin, found.kind, tuple(kept), ":".join([plugin, *shown])))
    return parts


def parse(text: str, registry: Registry, modalities: Sequence[str], finetune: bool = False) -> list[Method]:
    """The methods that one selector (no comma, no glob) means.

    A fusion alone means that fusion with ``equal``; so does ``concat+unimodal``. ``finetune`` switches that parameter
    on where a method has it.

    Raises:
        UsageError: an unknown name or parameter, a value out of range, two fusions, a strategy without a fusion.
    """
    words = [side.strip() for side in text.split("+")]
    unimodal = words[1:2] == [UNIMODAL]
    named = words[:1] + words[2:] if unimodal else words
    sides = [_parse_part(side, registry, modalities, finetune) for side in named]
    kinds = [side[0].kind for side in sides]
    if unimodal and kinds[0] != "fusion":
        raise UsageError(f"'{text}': +{UNIMODAL} stands behind a fusion (concat+{UNIMODAL}+dmtl)")
    if kinds == ["fusion"]:
        sides.append(_parse_part("equal", registry, modalities))
    elif kinds not in (["model"], ["fusion", "strategy"]):
        raise UsageError(
            f"'{text}' is a {' and a '.join(kinds)}: expected fusion+strategy (concat+equal) or one model (only:text)"
        )
    return [Method(parts, unimodal) for parts in itertools.product(*sides)]


def ablate(full: Method, registry: Registry, modalities: Sequence[str]) -> dict[str, Method]:
    """The method without each of its parts that is not off already: the part in words -> what is left.

    The parts are what the plug-ins' ``ABLATIONS`` map to the parameters that switch them off.

    Raises:
        UsageError: a method none of whose parts can be switched off.
    """
    variants = {}
    for place, part in enumerate(full.parts):
        for words, switch in ablations_of(registry.load(part.plugin, part.kind)).items():
            switched = {setting.partition("=")[0] for setting in switch.split(":")}
            kept = [f"{name}={_show(value)}" for name, value in part.parameters if name not in switched]
            (off,) = _parse_part(":".join([part.plugin, *kept, switch]), registry, modalities)
            if off != part:
                variants[words] = replace(full, parts=(*full.parts[:place], off, *full.parts[place + 1 :]))
    if full.unimodal:
        variants["unimodal objectives"] = replace(full, unimodal=False)
    if not variants:
        raise UsageError(
            f"{ABLATION}{full.name}: nothing can be switched off; `mmbench info NAME` says which parts a method has"
        )
    return variants


def _expand(selector: str, registry: Registry, modalities: Sequence[str], finetune: bool) -> list[Method]:
    """The methods of one selector; an ablation is its full methods, each before what it is without a part."""
    full = parse(selector.removeprefix(ABLATION), registry, modalities, finetune)
    if not selector.startswith(ABLATION):
        return full
    return [method for each in full for method in (each, *ablate(each, registry, modalities).values())]


def ablations(
    text: str, registry: Registry, modalities: Sequence[str], finetune: bool = False
) -> dict[str, dict[str, str]]:
    """What ``--method`` asks to be ablated: by full method, the variants' names and the part that each is without."""
    found = {}
    for item in (part.strip() for part in text.split(",")):
        if item.startswith(ABLATION):
            for full in parse(item.removeprefix(ABLATION), registry, modalities, finetune):
                variants = ablate(full, registry, modalities)
                found[full.name] = {variant.name: words for words, variant in variants.items()}
    return found


def sweeps(
    text: str, registry: Registry, modalities: Sequence[str], finetune: bool = False
) -> dict[str, dict[str, dict[str, Any]]]:
    """What ``--method`` sweeps: by selector and method's name the values of its swept parameters (``igfn:delta``)."""
    found = {}
    for item in (part.strip() for part in text.split(",")):
        sides = [side.strip().split(":") for side in item.split("+")]
        swept = [(side[0], s.partition("=")[0]) for side in sides for s in side[1:] if "=" in s and "/" in s]
        if not swept or item.startswith(ABLATION):
            continue
        by_method = {}
        for method in parse(item, registry, modalities, finetune):
            values = {}
            for plugin, name in swept:
                part = next(part for part in method.parts if part.plugin == plugin)
                default = parameters_of(registry.load(plugin, part.kind))[name][1]
                values[f"{plugin}:{name}"] = dict(part.parameters).get(name, default)
            by_method[method.name] = values
        if len(by_method) > 1:
            found[item] = by_method
    return found


def _product(registry: Registry, suite: Sequence[str]) -> list[str]:
    names = [
        f"{fusion.name}+{strategy.name}" for fusion in registry.list("fusion") for strategy in registry.list("strategy")
    ]
    return list(dict.fromkeys([*names, *suite]))


def select(
    text: str, registry: Registry, modalities: Sequence[str], suite: Sequence[str], finetune: bool = False
) -> tuple[list[Method], list[str]]:
    """The methods that ``--method`` means, in order and without repeats, and a line for each one left out.

    ``all`` is the protocol's suite, in which ``only:*`` is one selector for each modality; a glob
    ranges over the product of fusions and strategies and the suite. What cannot run with these modalities is left out
    of those with a line, and is a UsageError where it was named.
    """
    methods: dict[str, Method] = {}
    skipped: list[str] = []
    suite = [
        selector.removesuffix("*") + modality if modality else selector
        for selector in suite
        for modality in (modalities if selector.endswith(":*") else ("",))
    ]
    for item in filter(None, (part.strip() for part in text.split(","))):
        pattern = any(c in item for c in "*?[")
        named = not pattern and item != "all"
        if named:
            selectors = [item]
        elif item == "all":
            selectors = list(suite)
        else:
            selectors = [name for name in _product(registry, suite) if fnmatchcase(name, item)]
            if not selectors:
                raise UsageError(f"--method '{item}' matches no method; `mmbench list methods` shows them")
        for selector in selectors:
            try:
                for method in _expand(selector, registry, modalities, finetune):
                    _check_modalities(method, registry, len(modalities))
                    methods[method.name] = method
            except UsageError as error:
                if named:
                    raise
                skipped.append(f"left out {selector}: {error}")
    if finetune and not any((FINETUNE, True) in part.parameters for m in methods.values() for part in m.parts):
        able = [p.name for p in registry.list("model") if FINETUNE in parameters_of(registry.load(p.name, "model"))]
        raise UsageError(f"--finetune: no method of --method '{text}' can be fine-tuned: name {' or '.join(able)}")
    if not methods:
        raise UsageError(f"--method '{text}' names no method that can run" + "".join(f"; {line}" for line in skipped))
    return list(methods.values()), skipped


def _check_modalities(method: Method, registry: Registry, modalities: int) -> None:
    """Refuse a fusion that needs more modalities; one that cannot even be built fails its cells, with its traceback."""
    if method.is_model:
        return
    try:
        fusion = build_fusion(method, registry, max(modalities, 2), Training().width)
    except UsageError:
        raise
    except (Exception, SystemExit):
        return
    least = max(fusion.min_modalities, 2 if method.unimodal else 1)
    if modalities < least:
        raise UsageError(
            f"{method.name} fuses at least {least} modalities and was given {modalities}: "
            f"add one with --modalities, or name a method that takes one (concat+equal)"
        )
    if method.unimodal and fusion.branches > 1:
        name = method.parts[0].plugin
        raise UsageError(f"{method.name}: {name} trains a branch a modality already, leave out +{UNIMODAL}")


def _build(part: Part, registry: Registry, *positional: object) -> Any:
    from mmbench.modules import Fusion, Strategy

    expected = {"fusion": Fusion, "strategy": Strategy, "model": Model}[part.kind]
    build = registry.load(part.plugin, part.kind).build
    try:
        with contextlib.redirect_stdout(sys.stderr):
            made = build(*positional, **dict(part.parameters))
    except ValueError as error:
        raise UsageError(f"{part.text}: {error}") from error
    if not isinstance(made, expected):
        raise TypeError(f"build of {part.plugin} returned a {type(made).__name__}, expected a {expected.__name__}")
    return made


def build_fusion(method: Method, registry: Registry, modalities: int, width: int) -> Fusion:
    """A fresh fusion module; draws its initial weights from torch's global generator."""
    fusion: Fusion = _build(method.parts[0], registry, modalities, width)
    return fusion


def build_strategy(method: Method, registry: Registry, objectives: tuple[Objective, ...]) -> Strategy:
    """A fresh strategy for these objectives."""
    strategy: Strategy = _build(method.parts[1], registry, objectives)
    return strategy


def build_model(method: Method, registry: Registry) -> Model:
    """The model of a method: a plug-in's own, or the network of a fusion and a strategy."""
    if method.is_model:
        model: Model = _build(method.parts[0], registry)
        return model
    from mmbench.training.model import NetworkModel

    return NetworkModel(
        lambda modalities, width: build_fusion(method, registry, modalities, width),
        lambda objectives: build_strategy(method, registry, objectives),
        unimodal=method.unimodal,
    )
