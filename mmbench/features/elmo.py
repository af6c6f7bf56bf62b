"""``elmo``: deep contextualised words (Peters et al., NAACL 2018), from the options and weights that AllenNLP reads.

A token's bytes go through convolutions of several widths, the maximum over places, highway layers and a projection; two
language models of LSTM cells with a projected output, cell and projection clipped, one in each direction, read the
tokens between sentence boundaries; from the second layer on, the input is added to the output. A token has one vector
a layer, both directions side by side: 2 x 512 numbers in the published models.

A text is the mean over its tokens of the mean over the layers (the layer weights that training starts from); ``mix``
and ``pool`` choose otherwise. Every text starts from an empty state, so that its vector does not depend on the texts
before it, as it would in the published batches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

from mmbench.errors import UsageError, reason
from mmbench.features import Encoded
from mmbench.features.distinct import Rows, encode_distinct, full_batches
from mmbench.hashing import digest

VERSION = 1
BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = range(256, 261)  # 0 to 255 are the bytes of UTF-8
TOKEN = re.compile(r"https?://\S+|[@#]?\w+(?:[-'’.,]\w+)*|[^\w\s]")
State = list[tuple[Tensor, Tensor]]
Clip = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Lstm(BaseModel, strict=True):
    """``options.json``: the language model. ``dim`` is the cell, ``projection_dim`` its output."""

    dim: int = Field(ge=1, le=16384)
    projection_dim: int = Field(ge=1, le=4096)
    n_layers: int = Field(ge=1, le=8)
    cell_clip: Clip
    proj_clip: Clip
    use_skip_connections: bool


class Embedding(BaseModel, strict=True):
    """``options.json``: the embedding of bytes."""

    dim: int = Field(ge=1, le=256)


class CharCnn(BaseModel, strict=True):
    """``options.json``: the token encoder; ``filters`` are width and number."""

    activation: Literal["relu", "tanh"]
    embedding: Embedding
    filters: list[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1, le=4096)]]] = Field(
        min_length=1, max_length=16
    )
    max_characters_per_token: int = Field(ge=3, le=1000)
    n_characters: Literal[262]
    n_highway: int = Field(ge=0, le=8)


class Options(BaseModel):
    """``options.json`` of a checkpoint."""

    lstm: Lstm
    char_cnn: CharCnn


def encode(
    values: Sequence[str | None],
    *,
    cache: Path,
    identity: list[str],
    checkpoint: str,
    mix: Literal["average", "top"],
    pool: Literal["mean", "max"],
    max_length: int,
    batch_size: int,
) -> Encoded:
    """Texts to (n, 2 * projection_dim), the first ``max_length`` tokens of each; None and a text without any: zeros.

    Raises:
        UsageError: a folder without options and weights, or with ones that cannot be used.
    """

    def encode_missing(texts: list[str]) -> Rows:
        return encode_texts(load(checkpoint), texts, mix, pool, max_length, batch_size)

    return encode_distinct(values, cache, digest(identity), encode_missing)


def encode_texts(model: Elmo, texts: Sequence[str], mix: str, pool: str, max_length: int, batch_size: int) -> Rows:
    """Place and vector, float32 (2 * projection_dim,), of each text that has a token, shortest first."""
    sentences = [tokenize(text)[:max_length] for text in texts]
    for rows, new in full_batches([len(sentence) for sentence in sentences], batch_size):
        with torch.inference_mode():
            layers, _ = model([sentences[row] for row in rows])
            tokens = layers.mean(dim=1) if mix == "average" else layers[:, -1]
            vectors = tokens.amax(dim=1) if pool == "max" else tokens.mean(dim=1)
        yield from zip(rows[:new], vectors[:new].numpy(), strict=True)


def tokenize(text: str) -> list[str]:
    """Words (with their # or @), links, and every other mark alone: the model was trained on tokenised text."""
    return TOKEN.findall(text)


class Elmo(nn.Module):
    """The bidirectional language model of a checkpoint, frozen."""

    def __init__(self, options: Options, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.options = options
        self.weights = nn.ParameterDict(
            {name.replace("/", "_"): nn.Parameter(w, requires_grad=False) for name, w in weights.items()}
        )

    def forward(self, sentences: Sequence[Sequence[str]], state: list[State] | None = None) -> tuple[Tensor, Any]:
        """Every layer of every token.

        Args:
            sentences: B lists of tokens, at least one each.
            state: what a call on the B sentences before returned, to read on; None starts from zero.

        Returns:
            (B, n_layers + 1, T, 2 * projection_dim), the token encoder first, zero beyond a sentence's end; and the
            state after the last token.
        """
        lengths = torch.tensor([len(sentence) + 2 for sentence in sentences])
        x = self._encode_tokens(sentences)
        outputs, states = [], []
        for direction in range(2):
            # Reversed within its own length, so that both directions read from the first place on.
            places = torch.arange(x.shape[1]).expand(len(x), -1)
            if direction:
                places = torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)
            before = state[direction] if state else None
            layers, after = self._read(direction, _take(x, places), lengths, before)
            outputs.append(torch.stack([x, *(_take(layer, places) for layer in layers)], dim=1))
            states.append(after)
        found = torch.cat(outputs, dim=-1)[:, :, 1:-1]
        inside = torch.arange(found.shape[2]) < (lengths - 2)[:, None]
        return found * inside[:, None, :, None], states

    def _encode_tokens(self, sentences: Sequence[Sequence[str]]) -> Tensor:
        """(B, T + 2, projection_dim): each token without its context, the sentence's boundaries around them."""
        cnn = self.options.char_cnn
        longest = max(len(sentence) for sentence in sentences)
        codes = torch.full((len(sentences), longest + 2, cnn.max_characters_per_token), PADDING)
        for row, sentence in enumerate(sentences):
            tokens = [bytes_[: cnn.max_characters_per_token - 2] for bytes_ in map(_utf8, sentence)]
            for place, inner in enumerate([[BEGIN_SENTENCE], *tokens, [END_SENTENCE]]):
                codes[row, place, : len(inner) + 2] = torch.tensor([BEGIN_WORD, *inner, END_WORD])
        x = self.weights["char_embed"][codes.flatten(0, 1)].transpose(1, 2)
        activation = torch.tanh if cnn.activation == "tanh" else torch.relu
        maxima = []
        for k in range(len(cnn.filters)):
            kernel = self.weights[f"CNN_W_cnn_{k}"][0].permute(2, 1, 0)
            maxima.append(torch.conv1d(x, kernel, self.weights[f"CNN_b_cnn_{k}"]).amax(dim=-1))
        y = activation(torch.cat(maxima, dim=-1))
        for k in range(cnn.n_highway):
            carry = torch.sigmoid(self._linear(y, f"CNN_high_{k}_W_carry", f"CNN_high_{k}_b_carry"))
            y = (
                carry * torch.relu(self._linear(y, f"CNN_high_{k}_W_transform", f"CNN_high_{k}_b_transform"))
                + (1 - carry) * y
            )
        return self._linear(y, "CNN_proj_W_proj", "CNN_proj_b_proj").reshape(*codes.shape[:2], -1)

    def _linear(self, x: Tensor, weight: str, bias: str) -> Tensor:
        projected: Tensor = x @ self.weights[weight] + self.weights[bias]
        return projected

    def _read(self, direction: int, x: Tensor, lengths: Tensor, before: State | None) -> tuple[list[Tensor], State]:
        """One direction's layers, (B, T, projection_dim) each, and their states after each sentence's last place."""
        lstm = self.options.lstm
        layers: list[Tensor] = []
        after: State = []
        for layer in range(lstm.n_layers):
            cell = f"RNN_{direction}_RNN_MultiRNNCell_Cell{layer}_LSTMCell"
            kernel, projection = self.weights[f"{cell}_W_0"], self.weights[f"{cell}_W_P_0"]
            inputs = x @ kernel[: lstm.projection_dim] + self.weights[f"{cell}_B"]
            h, c = before[layer] if before else (x.new_zeros(len(x), width) for width in (x.shape[2], lstm.dim))
            steps = []
            for place in range(x.shape[1]):
                i, j, f, o = (inputs[:, place] + h @ kernel[lstm.projection_dim :]).chunk(4, dim=1)
                memory = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(j)
                memory = memory.clamp(-lstm.cell_clip, lstm.cell_clip)
                output = (torch.sigmoid(o) * torch.tanh(memory)) @ projection
                output = output.clamp(-lstm.proj_clip, lstm.proj_clip)
                inside = (place < lengths)[:, None]
                c, h = torch.where(inside, memory, c), torch.where(inside, output, h)
                steps.append(output)
            out = torch.stack(steps, dim=1)
            x = out + x if layer and lstm.use_skip_connections else out
            layers.append(x)
            after.append((h, c))
        return layers, after


def _utf8(token: str) -> list[int]:
    return list(token.encode("utf-8", "replace"))


def _take(x: Tensor, places: Tensor) -> Tensor:
    return x.gather(1, places[:, :, None].expand_as(x))


def weights_digest(checkpoint: str) -> str:
    """Hex digest of the bytes of options and weights.

    Raises:
        UsageError: a folder without them.
    """
    parts = []
    for path in find_files(checkpoint):
        with path.open("rb") as file:
            parts.append(file_digest(file, "sha256").hexdigest())
    return digest(parts)


def find_files(checkpoint: str) -> tuple[Path, Path]:
    """The options and the weights of a folder.

    Raises:
        UsageError: not a folder, or not one ``*options.json`` and one ``*weights.hdf5``.
    """
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"elmo: '{checkpoint}' is not a folder: give one that holds AllenNLP's *options.json and *weights.hdf5"
        )
    found = []
    for pattern in ("*options.json", "*weights.hdf5"):
        paths = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
        if len(paths) != 1:
            raise UsageError(
                f"elmo: folder '{checkpoint}' holds {len(paths) or 'no'} files named {pattern}, expected 1"
            )
        found += paths
    return found[0], found[1]


def load(checkpoint: str) -> Elmo:
    """The model of a folder, float32; the files are checked before they are believed.

    Raises:
        UsageError: a folder without options and weights, or with ones that are damaged, incomplete or do not fit.
    """
    options_file, weights_file = find_files(checkpoint)
    try:
        options = Options.model_validate_json(options_file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"elmo: {options_file} has {place + ': ' if place else ''}{first['msg']}") from None
    except OSError as error:
        raise UsageError(f"elmo: {options_file} cannot be read: {error.strerror}") from None
    cnn = options.char_cnn
    if max(width for width, _ in cnn.filters) > cnn.max_characters_per_token:
        raise UsageError(f"elmo: {options_file} has char_cnn.filters wider than max_characters_per_token")
    try:
        with h5py.File(weights_file, "r") as file:
            weights = {
                name: torch.from_numpy(_read_array(file, weights_file, name, shape)) for name, shape in _shapes(options)
            }
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"elmo: {weights_file} is not an HDF5 file that can be read: {reason(error)}") from None
    return Elmo(options, weights).eval()


def _shapes(options: Options) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What the weights file has to hold."""
    lstm, cnn = options.lstm, options.char_cnn
    characters, width = cnn.embedding.dim, sum(number for _, number in cnn.filters)
    yield "char_embed", (cnn.n_characters - 1, characters)
    for k, (span, number) in enumerate(cnn.filters):
        yield f"CNN/W_cnn_{k}", (1, span, characters, number)
        yield f"CNN/b_cnn_{k}", (number,)
    for k in range(cnn.n_highway):
        for part in ("carry", "transform"):
            yield f"CNN_high_{k}/W_{part}", (width, width)
            yield f"CNN_high_{k}/b_{part}", (width,)
    yield "CNN_proj/W_proj", (width, lstm.projection_dim)
    yield "CNN_proj/b_proj", (lstm.projection_dim,)
    for direction in range(2):
        for layer in range(lstm.n_layers):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            yield f"{cell}/W_0", (2 * lstm.projection_dim, 4 * lstm.dim)
            yield f"{cell}/B", (4 * lstm.dim,)
            yield f"{cell}/W_P_0", (lstm.dim, lstm.projection_dim)


def _read_array(file: h5py.File, path: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """One array, kept in this file itself: a link could read any other."""
    node = file
    for part in name.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise UsageError(f"elmo: {path} lacks {name}: give a complete weights file")
        if not isinstance(link, h5py.HardLink):
            raise UsageError(f"elmo: {path} links {name} from elsewhere, which is not followed")
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise UsageError(f"elmo: {path}: {name} is no array")
    if node.external or node.is_virtual:
        raise UsageError(f"elmo: {path} links {name} from elsewhere, which is not followed")
    if node.shape != shape:
        raise UsageError(f"elmo: {path}: {name} has shape {node.shape}, expected {shape} by its options")
    if node.dtype.kind != "f":
        raise UsageError(f"elmo: {path}: {name} holds {node.dtype}, expected floats")
    array: NDArray[np.float32] = node[...].astype(np.float32)
    if not np.isfinite(array).all():
        raise UsageError(f"elmo: {path}: {name} holds numbers that are not finite")
    return array
