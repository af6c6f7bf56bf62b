"""``hf:``: features of a transformers checkpoint, text or image, by hub name or folder.

Pooling by architecture, unless ``pool`` says otherwise: dual encoders (CLIP, SigLIP, ALIGN) give their joint-space
features; sentence encoders the mean over tokens; other text models the mean over tokens too, since the [CLS] vector of
a model that was not fine-tuned carries little; ViT-like models the CLS vector; convolutional ones their pooled map.

Only safetensors weights are loaded, and no code from a checkpoint is ever executed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmbench.contracts import InputKind
from mmbench.errors import UsageError
from mmbench.features import Encoded
from mmbench.features.cache import cached
from mmbench.features.image import encode_files
from mmbench.hashing import digest

VERSION = 2
FULL_LENGTH = ("siglip", "siglip2")  # trained on padded texts: they read the vector off the last place


def encode(
    values: Sequence[Any],
    *,
    cache: Path,
    identity: list[str],
    checkpoint: str,
    kind: InputKind,
    pool: str,
    max_length: int,
    batch_size: int,
) -> Encoded:
    """Texts or image paths to (n, d); None becomes zeros.

    Raises:
        UsageError: a checkpoint that is not there, or cannot be loaded safely.
    """
    folder = find_checkpoint(checkpoint)
    identity = [*identity, *_contents(folder)]
    if kind == "image":
        loaded: list[Any] = []

        def describe(images: list[Image.Image]) -> NDArray[np.float32]:
            if not loaded:
                loaded.extend((_load(checkpoint, folder), _load(checkpoint, folder, "AutoImageProcessor")))
            return _images(loaded[0], loaded[1], images, pool)

        return encode_files(values, cache, identity, describe, batch_size)
    texts = ["" if value is None else value for value in values]
    distinct = sorted(set(texts))
    key = digest([*identity, "texts", *distinct])
    features = cached(
        cache,
        key,
        lambda: encode_texts(
            _load(checkpoint, folder),
            _load(checkpoint, folder, "AutoTokenizer"),
            distinct,
            pool,
            max_length,
            batch_size,
        ),
    )
    place = {text: row for row, text in enumerate(distinct)}
    encoded = features[[place[text] for text in texts]]
    encoded[[row for row, value in enumerate(values) if value is None]] = 0
    return Encoded(encoded)


def find_checkpoint(name: str) -> Path:
    """The folder of a checkpoint: the one given, or the hub's snapshot, downloaded if it may be.

    Raises:
        UsageError: neither a folder with ``config.json`` nor a checkpoint that can be had.
    """
    if (Path(name) / "config.json").is_file():
        return Path(name)
    if Path(name).is_dir():
        raise UsageError(f"checkpoint folder '{name}' has no config.json: expected one written by save_pretrained")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (OSError, ValueError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        reason = "HF_HUB_OFFLINE is set and it is not in the local cache" if offline else type(error).__name__
        raise UsageError(
            f"checkpoint '{name}' is neither a folder nor to be had from the hub ({reason}): "
            "give a folder written by save_pretrained (hf:./folder), or download it where there is a network"
        ) from None


def _contents(folder: Path) -> list[str]:
    """Digests of the files that decide the features."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".txt", ".model", ".safetensors"))
    return [part for path in files for part in (path.name, digest([path.read_bytes()]))]


def _load(name: str, folder: Path, what: str = "AutoModel") -> Any:
    """A model in evaluation mode (float32), a tokenizer or an image processor."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options = {"use_safetensors": True, "dtype": torch.float32} if what == "AutoModel" else {}
    try:
        loaded = getattr(transformers, what).from_pretrained(folder, trust_remote_code=False, **options)
    except Exception as error:  # safetensors, tokenizers and torch raise their own on a damaged file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"checkpoint '{name}' cannot be loaded as {what} (safetensors only): {first}") from None
    return loaded.eval() if what == "AutoModel" else loaded


def encode_texts(
    model: Any, tokenizer: Any, texts: list[str], pool: str, max_length: int, batch_size: int
) -> NDArray[np.float32]:
    """Texts to (n, d), in batches of like length, returned in the order given.

    A text is cut to ``max_length`` tokens, and to what the tokenizer and the model's positions allow.
    """
    places = getattr(model.config.get_text_config(), "max_position_embeddings", None) or max_length
    max_length = min(max_length, tokenizer.model_max_length, places)
    padding: bool | str = True
    if model.config.model_type in FULL_LENGTH:
        max_length, padding = places, "max_length"
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]]
    order = np.argsort(lengths, kind="stable")
    rows: list[NDArray[np.float32] | None] = [None] * len(texts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer(
            [texts[row] for row in chosen],
            padding=padding,
            truncation=True,
            max_length=max_length,
            return_attention_mask=padding is True,
            return_tensors="pt",
        )
        with torch.no_grad():
            pooled = pool_text(model, dict(batch), pool)
        for row, vector in zip(chosen, pooled.float().numpy(), strict=True):
            rows[row] = vector
    return np.stack([row for row in rows if row is not None])


def pool_text(model: Any, batch: dict[str, Tensor], pool: str) -> Tensor:
    """One vector a text, (B, d)."""
    if pool == "auto" and hasattr(model, "get_text_features"):
        return _joint(model.get_text_features(**batch))
    output = getattr(model, "text_model", model)(**batch)
    if pool == "pooler":
        return _pooler(output)
    mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
    return pool_tokens(output.last_hidden_state, mask, "mean" if pool == "auto" else pool)


def _pooler(output: Any) -> Tensor:
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    if pooled is None:
        raise UsageError("encoder hf was given pool=pooler, but this checkpoint has no pooling layer: use pool=mean")
    return pooled.flatten(1)


def _joint(features: Any) -> Tensor:
    """A dual encoder's joint-space features, which newer versions of transformers wrap in an output object."""
    tensor: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return tensor


def pool_tokens(hidden: Tensor, mask: Tensor, pool: str) -> Tensor:
    """(B, L, d) and a mask (B, L) to (B, d): the mean or maximum over tokens, or the first."""
    if pool == "cls":
        return hidden[:, 0]
    if pool == "max":
        return hidden.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _images(model: Any, processor: Any, images: list[Image.Image], pool: str) -> NDArray[np.float32]:
    with torch.no_grad():
        pixels = processor(images, return_tensors="pt")["pixel_values"]
        if hasattr(model, "get_image_features") and pool == "auto":
            features = _joint(model.get_image_features(pixel_values=pixels))
        else:
            output = getattr(model, "vision_model", model)(pixel_values=pixels)
            hidden = output.last_hidden_state
            if hidden.ndim == 4:
                features = _pooler(output) if pool in ("auto", "pooler") else _map(hidden, pool)
            elif pool == "pooler":
                features = _pooler(output)
            else:
                everywhere = torch.ones(hidden.shape[:2], dtype=torch.bool)
                features = pool_tokens(hidden, everywhere, "cls" if pool == "auto" else pool)
    vectors: NDArray[np.float32] = features.float().numpy()
    return vectors


def _map(hidden: Tensor, pool: str) -> Tensor:
    """A feature map (B, C, H, W) to (B, C)."""
    if pool == "cls":
        raise UsageError("encoder hf was given pool=cls, but this checkpoint is convolutional: use pool=mean or max")
    return hidden.amax(dim=(2, 3)) if pool == "max" else hidden.mean(dim=(2, 3))
