"""Checkpoints of transformers: found by hub name or folder, identified by their bytes, loaded without executing any.

Only safetensors weights are read, never a pickle, and no code that comes with a checkpoint is run.
"""

from __future__ import annotations

import json
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal

import torch

from mmbench.errors import UsageError
from mmbench.features.optional import usable
from mmbench.hashing import digest

WANTED = ("*.json", "*.txt", "*.model", "*.codes", "*.safetensors")
Part = Literal["AutoModel", "AutoTokenizer", "AutoImageProcessor", "AutoFeatureExtractor"]
POOLING = Path("1_Pooling", "config.json")  # where sentence-transformers says how it pools


def find_checkpoint(name: str) -> Path:
    """The folder of a checkpoint: the one given, or the hub's snapshot, downloaded if it may be.

    Raises:
        UsageError: neither a folder with ``config.json`` nor a checkpoint that can be had.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(f"checkpoint folder '{name}' has no config.json: give one written by save_pretrained")
        return folder
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED)))
    except HFValidationError:
        reason = "no such folder, and not a name the hub could know"
    except LocalEntryNotFoundError:
        reason = (
            "no such folder, not in the hub's local cache, and HF_HUB_OFFLINE is set"
            if constants.HF_HUB_OFFLINE
            else "no such folder, not in the hub's local cache, and the hub cannot be reached"
        )
    except (OSError, ValueError) as error:
        reason = f"no such folder, and the hub refuses it: {type(error).__name__}"
    raise UsageError(
        f"checkpoint '{name}' not found ({reason}): give a folder written by save_pretrained, "
        "or download it first where there is a network"
    )


def checkpoint_digest(folder: Path) -> str:
    """Hex digest of all that decides the features: names and bytes of the folder's files."""
    files = sorted(path for path in (*folder.iterdir(), folder / POOLING) if path.is_file())
    parts = []
    for path in files:
        with path.open("rb") as file:
            parts += [path.name, file_digest(file, "sha256").hexdigest()]
    return digest(parts)


def sentence_pooling(folder: Path) -> str | None:
    """How a sentence encoder was trained to pool ("mean", "cls" or "max"); None where the checkpoint is not one."""
    if not (folder / "modules.json").is_file():
        return None
    try:
        pooling = json.loads((folder / POOLING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "mean"
    if pooling.get("pooling_mode_cls_token"):
        return "cls"
    return "max" if pooling.get("pooling_mode_max_tokens") else "mean"


def load(name: str, folder: Path, what: Part, pooler: bool = False) -> Any:
    """A float32 model in evaluation mode, a tokenizer, an image processor or (for audio) a feature extractor.

    Args:
        name: of the checkpoint, for messages.
        folder: where it is.
        what: the class of transformers that loads it.
        pooler: whether the model's pooling layer must be there; many checkpoints come without, unharmed.

    Raises:
        UsageError: it has no such part, no safetensors weights, lacks some of them, or is damaged.
    """
    for optional in ("torchaudio", "torchvision"):  # one that fails to be imported would fail transformers too
        usable(optional)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # What else can go wrong in a stranger's files is open-ended: safetensors, tokenizers and torch raise their own.
    try:
        if what == "AutoTokenizer":
            return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if what == "AutoFeatureExtractor":
            return transformers.AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
        if what == "AutoImageProcessor":  # Pillow resizes alike everywhere; torchvision's bits differ
            return transformers.AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, backend="pil")
        model, told = transformers.AutoModel.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0].replace(str(folder), name) or type(error).__name__
        raise UsageError(f"checkpoint '{name}' cannot be loaded as {what} (safetensors only): {first}") from error
    missing = sorted(key for key in told["missing_keys"] if _needed(key, pooler))
    if missing:
        raise UsageError(
            f"checkpoint '{name}' lacks {len(missing)} weights ({missing[0]}, …), which would be random: "
            "give a complete one, written by save_pretrained"
        )
    return model.eval()


def _needed(key: str, pooler: bool) -> bool:
    """Whether a weight plays a part: wav2vec2's ``masked_spec_embed`` is for training, and many files lack it."""
    return not key.endswith("masked_spec_embed") and (pooler or "pooler" not in key)
