"""The methods that a request means. Those of shipped plug-ins are remembered: to find them anew takes torch, seconds to
load, which a command that has nothing to train does without.

Where a method is left out they are found anew each time: the reason may be a package that is installed later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from mmbench.contracts import Modality
from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.methods import Method, ablations, build_model, select, sweeps
from mmbench.plugins import METHOD_KINDS, Registry
from mmbench.running.provenance import source_digest, versions
from mmbench.running.remember import remember


@dataclass(frozen=True)
class Choice:
    """Methods in order, and what is said and known of them.

    ``skipped`` has a line for each one left out, ``ablations`` by full method which variant is without which part,
    ``sweeps`` by selector which values each method has, ``raw`` by method the modalities whose inputs it wants as they
    are.
    """

    methods: tuple[Method, ...]
    skipped: tuple[str, ...]
    ablations: dict[str, dict[str, str]]
    sweeps: dict[str, dict[str, dict[str, Any]]]
    raw: dict[str, frozenset[str]]


def choose(
    asked: str, registry: Registry, streams: tuple[Modality, ...], suite: Sequence[str], finetune: bool
) -> Choice:
    """What ``--method`` means for these modalities, with their encoders, under a protocol of this suite.

    Raises:
        UsageError: see :func:`mmbench.methods.select`; a model that cannot be trained on these modalities.
    """

    def find() -> Choice:
        names = [stream.name for stream in streams]
        methods, skipped = select(asked, registry, names, suite, finetune)
        return Choice(
            tuple(methods),
            tuple(skipped),
            ablations(asked, registry, names, finetune),
            sweeps(asked, registry, names, finetune),
            {method.name: _wants_raw(method, registry, streams) for method in methods},
        )

    plugins = registry.list(*METHOD_KINDS)
    if finetune or any(plugin.origin != "shipped" for plugin in plugins):  # they may follow from other files as well
        return find()
    kept = TypeAdapter(Choice)
    key = digest([source_digest(), repr((sorted(versions().items()), asked, streams, list(suite)))])
    found = remember(key, lambda: kept.dump_python(find(), mode="json"), keep=lambda choice: not choice["skipped"])
    return kept.validate_python(found)


def _wants_raw(method: Method, registry: Registry, streams: tuple[Modality, ...]) -> frozenset[str]:
    try:
        return build_model(method, registry).wants_raw(streams)
    except UsageError:
        raise
    except (Exception, SystemExit):  # a plug-in that cannot be built fails its own cells, which say why
        return frozenset()
