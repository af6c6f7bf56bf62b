"""``hf:``: features of a transformers checkpoint, text, image or audio, by hub name or folder.

Pooling by architecture, unless ``pool`` says otherwise:

- dual encoders (CLIP, SigLIP, ALIGN): their joint-space features; with ``pool``, the tower of that modality;
- sentence encoders (``modules.json``): as they were trained to, most by the mean over tokens;
- other text models, BERT among them: the mean over tokens, since the [CLS] vector of a model that was never fine-tuned
  for sentences carries little of them (Reimers & Gurevych, EMNLP 2019, table 1: mean STS correlation 29 against 55);
- images: the vector of the class token (ViT), the pooled map of a convolutional network (ResNet), else the mean;
- videos: 30 frames, each as an image, their mean or, with ``frames=steps``, their sequence;
- audio: the mean over time (wav2vec2, HuBERT, WavLM), or over the two class tokens (AST's own pooling).

``pool=none`` keeps the sequence: tokens of a text, 49 places of ResNet-50's last map, moments of a recording.

Texts go in batches of the same number of tokens, the last one filled up with its own texts, images one by one: no
token is padded and every batch has the same shape, so that a vector does not depend on what is encoded with it or was
before. Recordings go one by one as well. On one thread images gain nothing from batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
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
from mmbench.features.checkpoint import checkpoint_digest, find_checkpoint, load, sentence_pooling
from mmbench.features.distinct import Rows, encode_distinct, full_batches
from mmbench.features.files import encode_files
from mmbench.features.image import reader
from mmbench.hashing import digest

VERSION = 3
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
    max_seconds: int,
    batch_size: int,
    frames: str = "mean",
) -> Encoded:
    """Texts or paths of files to (n, d), of videos (n, 30, d) with ``frames=steps``; None, and no token, becomes zeros.

    With ``pool="none"`` to (n, T, d), a vector a token, a place of an image, or a moment of a recording.

    Raises:
        UsageError: a checkpoint that is not there, cannot be loaded safely or has no such pooling.
    """
    folder = find_checkpoint(checkpoint)
    key = digest(identity)
    if kind == "video" and pool == "none":
        raise UsageError("encoder hf keeps the frames of a video with frames=steps: pool=none is for other inputs")
    if kind in ("image", "video"):

        @lru_cache(maxsize=1)
        def loaded() -> tuple[Any, Any]:
            processor = load(checkpoint, folder, "AutoImageProcessor")
            return processor, load(checkpoint, folder, "AutoModel", pooler=pool == "pooler")

        def encode_image(image: Image.Image) -> NDArray[np.float32]:
            processor, model = loaded()
            vector: NDArray[np.float32] = pool_image(
                model, processor(image, return_tensors="pt")["pixel_values"], pool
            )[0].numpy()
            return vector

        return encode_files(values, cache, key, reader(kind, encode_image, frames))
    if kind == "audio":
        listen = lru_cache(maxsize=1)(lambda: _listener(checkpoint, folder, pool, max_seconds))
        return encode_files(values, cache, key, lambda data: listen()(data))

    def encode_missing(texts: list[str]) -> Rows:
        tokenizer = load(checkpoint, folder, "AutoTokenizer")
        model = load(checkpoint, folder, "AutoModel", pooler=pool == "pooler")
        how = sentence_pooling(folder) or "auto" if pool == "auto" else pool
        return encode_texts(model, tokenizer, texts, how, max_length, batch_size)

    return encode_distinct(values, cache, key, encode_missing)


def _listener(checkpoint: str, folder: Path, pool: str, max_seconds: int) -> Callable[[bytes], NDArray[np.float32]]:
    """From what a file holds to its vector: the first ``max_seconds`` at the checkpoint's own sampling rate."""
    from mmbench.features.audio import open_audio

    extractor = load(checkpoint, folder, "AutoFeatureExtractor")
    model = load(checkpoint, folder, "AutoModel", pooler=pool == "pooler")
    if model.main_input_name != "input_values":
        raise UsageError(
            f"checkpoint '{checkpoint}' ({model.config.model_type}) is not one that hf reads audio with: "
            "use wav2vec2, HuBERT, WavLM or AST"
        )
    rate = extractor.sampling_rate

    def listen(data: bytes) -> NDArray[np.float32]:
        samples = open_audio(data, rate)[: max_seconds * rate]
        heard = extractor(samples, sampling_rate=rate, return_tensors="pt")["input_values"]
        vector: NDArray[np.float32] = pool_audio(model, heard, pool)[0].numpy()
        return vector

    return listen


def weights_digest(checkpoint: str) -> str:
    """Hex digest of the checkpoint's files; raises as :func:`find_checkpoint` does."""
    return checkpoint_digest(find_checkpoint(checkpoint))


def encode_texts(model: Any, tokenizer: Any, texts: Sequence[str], pool: str, max_length: int, batch_size: int) -> Rows:
    """Place and vector, float32 (d,), of each text, shortest first; none for a text without tokens."""
    limit, padding = text_limit(model, tokenizer, max_length)
    tokens = tokenizer(list(texts), truncation=True, max_length=limit, **padding)["input_ids"]
    for rows, new in full_batches([len(ids) for ids in tokens], batch_size):
        vectors = pool_text(model, torch.tensor([tokens[row] for row in rows]), pool)[:new].numpy()
        yield from zip(rows[:new], vectors, strict=True)


def text_limit(model: Any, tokenizer: Any, max_length: int) -> tuple[int, dict[str, Any]]:
    """How many tokens of a text a model takes, and how the tokenizer has to pad them, if at all."""
    config = model.config.get_text_config()
    places = (getattr(config, "max_position_embeddings", None) or max_length) - _places_before_the_first(model)
    if model.config.model_type in FULL_LENGTH:
        return places, {"padding": "max_length"}
    return min(max_length, tokenizer.model_max_length, places), {}


def text_tower(model: Any) -> Any:
    """The part of a model that reads texts."""
    return model.get_encoder() if model.config.is_encoder_decoder else getattr(model, "text_model", model)


def _places_before_the_first(model: Any) -> int:
    """RoBERTa and its kin (BERTweet) count their places from behind the padding's own."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def pool_text(model: Any, tokens: Tensor, pool: str) -> Tensor:
    """One vector a text: token ids (B, L), int64, all of them to be read, to float32 (B, d), unpooled (B, L, d)."""
    with torch.inference_mode():
        if pool == "auto" and hasattr(model, "get_text_features"):
            return _joint(model.get_text_features(input_ids=tokens))
        return _pool(text_tower(model)(input_ids=tokens), "mean" if pool == "auto" else pool)


def pool_image(model: Any, pixels: Tensor, pool: str) -> Tensor:
    """One vector an image: (B, 3, H, W) to float32 (B, d), unpooled (B, places, d)."""
    with torch.inference_mode():
        if pool == "auto" and hasattr(model, "get_image_features"):
            return _joint(model.get_image_features(pixel_values=pixels))
        tower = getattr(model, "vision_model", model)
        output = tower(pixel_values=pixels)
        if pool == "auto":
            has_class_token = any(
                name.endswith(("cls_token", "class_embedding")) for name, _ in tower.named_parameters()
            )
            convolutional = output.last_hidden_state.ndim == 4
            pool = "cls" if has_class_token else "pooler" if convolutional and "pooler_output" in output else "mean"
        return _pool(output, pool)


def pool_audio(model: Any, heard: Tensor, pool: str) -> Tensor:
    """One vector a recording: samples (B, S), or spectra (B, T, bands), all of them to be read, to float32 (B, d)."""
    with torch.inference_mode():
        has_class_token = any(name.endswith("cls_token") for name, _ in model.named_parameters())
        if pool == "cls" and not has_class_token:
            raise UsageError("encoder hf was given pool=cls, but this checkpoint has no class token: use pool=mean")
        if pool == "auto":
            pool = "pooler" if has_class_token else "mean"
        return _pool(model(input_values=heard), pool)


def _joint(features: Any) -> Tensor:
    """A dual encoder's joint-space features, which newer versions of transformers wrap in an output object."""
    tensor: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return tensor


def _pool(output: Any, pool: str) -> Tensor:
    """(B, L, d) tokens or a (B, d, H, W) map to (B, d), or to (B, L, d) with ``pool="none"``."""
    if pool == "pooler":
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is None:
            raise UsageError(
                "encoder hf was given pool=pooler, but this checkpoint has no pooling layer: use pool=mean, cls or max"
            )
        return pooled.flatten(1)
    hidden: Tensor = output.last_hidden_state
    if hidden.ndim == 4:
        if pool == "cls":
            raise UsageError(
                "encoder hf was given pool=cls, but this checkpoint is convolutional: use pool=mean or max"
            )
        hidden = hidden.flatten(2).transpose(1, 2)
    if pool == "none":
        return hidden
    if pool == "cls":
        return hidden[:, 0]
    return hidden.amax(dim=1) if pool == "max" else hidden.mean(dim=1)
