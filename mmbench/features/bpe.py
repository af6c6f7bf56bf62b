"""``bpe``: a text as the sequence of its tokens, byte-level byte-pair encoding, with the times of a timed text.

Tokens (Sennrich, Haddow & Birch, ACL 2016, on bytes: every text has some, none is unknown) are learned from the train
texts alone. So is what a token becomes: positive pointwise mutual information of tokens at most four places apart,
factored into vectors (Levy & Goldberg, NeurIPS 2014, with the square roots of the singular values), scaled so that
their numbers have a mean square of 1 over the train tokens. Frozen, as every encoder here; the network's first layer
maps them on.

A :class:`mmbench.streams.TimedText` adds two numbers to each token: its start and its end since the text's first word,
in standard deviations of the train tokens. A token of a word has its share of the word's time, by characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from mmbench.errors import UsageError
from mmbench.features import Encoded
from mmbench.features.cache import cached
from mmbench.features.padding import pad
from mmbench.hashing import digest
from mmbench.streams import TimedText

VERSION = 1
WINDOW = 4  # places

Tokens = tuple[NDArray[np.int64], NDArray[np.int64]]


def encode(
    values: Sequence[str | None],
    *,
    cache: Path,
    identity: list[str],
    fit_rows: NDArray[np.int64],
    vocabulary: int,
    dim: int,
    max_length: int,
) -> Encoded:
    """Texts to (n, T, d), T at most ``max_length``, with their steps; None and the empty text have none.

    Raises:
        UsageError: the train texts have no token at all.
    """
    fit = sorted((text for text in (values[row] for row in fit_rows) if text), key=_described)
    key = digest([*identity, *map(_described, values), "fit", *map(_described, fit)])

    def build() -> NDArray[np.float32]:
        if not fit:
            raise UsageError("encoder bpe finds no train text: leave this modality out with --modalities")
        tokenizer = learn(fit, vocabulary)
        vectors = token_vectors([tokens[0] for tokens in tokenise(tokenizer, fit)], tokenizer.get_vocab_size(), dim)
        scale = _time_scale(tokenizer, fit)
        found = tokenise(tokenizer, ["" if value is None else value for value in values], max_length)
        rows = [
            _row(value, tokens, vectors, scale) if len(tokens[0]) else None
            for value, tokens in zip(values, found, strict=True)
        ]
        padded, steps = pad(rows)
        padded[~steps] = np.nan
        return padded

    stored = cached(cache, key, build)
    steps: NDArray[np.bool_] = ~np.isnan(stored[:, :, 0])
    return Encoded(np.nan_to_num(stored), steps=steps)


def _described(text: str | None) -> str:
    return "" if text is None else f"{text}\0{text.times if isinstance(text, TimedText) else ''}"


def learn(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer of at most ``vocabulary`` tokens, the 256 bytes among them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(map(_whole, texts), trainer)
    return tokenizer


def _whole(text: str) -> str:
    """A text with ``?`` for each half of a character, which has no bytes."""
    return text.encode("utf-8", "replace").decode()


def tokenise(tokenizer: Tokenizer, texts: Sequence[str], limit: int | None = None) -> list[Tokens]:
    """By text the first ``limit`` token ids, int64 (T,), and the characters each covers, int64 (T, 2)."""
    return [
        (np.array(found.ids[:limit], dtype=np.int64), np.array(found.offsets[:limit], dtype=np.int64).reshape(-1, 2))
        for found in tokenizer.encode_batch([_whole(text) for text in texts])
    ]


def token_vectors(texts: Sequence[NDArray[np.int64]], size: int, dim: int) -> NDArray[np.float64]:
    """A vector for each of ``size`` tokens, (size, d), d at most ``dim``; zeros for a token that no text pairs."""
    from sklearn.decomposition import TruncatedSVD

    first, second = [], []
    for apart in range(1, WINDOW + 1):
        for ids in texts:
            first.append(ids[:-apart])
            second.append(ids[apart:])
    a, b = np.concatenate(first), np.concatenate(second)
    ones = np.ones(2 * len(a))
    pairs = scipy.sparse.coo_array((ones, (np.concatenate([a, b]), np.concatenate([b, a]))), shape=(size, size)).tocsr()
    information = positive_information(pairs)
    if information.nnz == 0:
        return np.zeros((size, 1))
    with np.errstate(divide="ignore", invalid="ignore"):  # the share of variance that one token explains
        svd = TruncatedSVD(min(dim, size - 1), n_iter=10, random_state=0).fit(information)
    spread = svd.singular_values_
    kept = spread > 1e-9 * spread[0]
    vectors: NDArray[np.float64] = (information @ svd.components_[kept].T) / np.sqrt(spread[kept])
    scaled: NDArray[np.float64] = vectors / np.sqrt((vectors[np.concatenate(list(texts))] ** 2).mean())
    return scaled


def positive_information(pairs: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """max(0, log p(a, b) / (p(a) p(b))) of counted pairs (V, V), sparse."""
    counted = pairs.tocoo()
    row, column = counted.coords
    total, marginal = pairs.sum(), np.asarray(pairs.sum(axis=1)).ravel()
    value = np.log(counted.data * total / (marginal[row] * marginal[column]))
    kept = value > 0
    return scipy.sparse.csr_array((value[kept], (row[kept], column[kept])), shape=pairs.shape)


def token_times(text: TimedText, characters: NDArray[np.int64]) -> NDArray[np.float64]:
    """Start and end of each token in seconds since the first word's start, (T, 2).

    Args:
        text: the words and their times.
        characters: (T, 2), the first character of each token and the one after its last.
    """
    start, end = np.empty(len(text)), np.empty(len(text))
    place = 0
    for word, (since, until) in zip(text.split(), text.times, strict=True):
        edges = np.linspace(since, until, len(word) + 1)
        start[place : place + len(word)], end[place : place + len(word)] = edges[:-1], edges[1:]
        if place:  # the space before a word takes no time
            start[place - 1] = end[place - 1] = since
        place += len(word) + 1
    zero = text.times[0][0]
    return np.stack([start[characters[:, 0]] - zero, end[characters[:, 1] - 1] - zero], axis=1)


def _time_scale(tokenizer: Tokenizer, fit: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Mean and deviation of starts and ends over the tokens of timed texts, None where there is no such text."""
    timed = [text for text in fit if isinstance(text, TimedText)]
    if not timed:
        return None
    every = np.concatenate(
        [token_times(text, tokens[1]) for text, tokens in zip(timed, tokenise(tokenizer, timed), strict=True)]
    )
    return every.mean(axis=0), np.maximum(every.std(axis=0), 1e-9)


def _row(
    text: str | None,
    tokens: Tokens,
    vectors: NDArray[np.float64],
    scale: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> NDArray[np.float32]:
    """The steps of a text, float32 (T, d), or (T, d + 2) where train texts have times."""
    ids, characters = tokens
    if scale is None:
        return vectors[ids].astype(np.float32)
    mean, deviation = scale
    when = (
        (token_times(text, characters) - mean) / deviation if isinstance(text, TimedText) else np.zeros((len(ids), 2))
    )
    return np.concatenate([vectors[ids], when], axis=1).astype(np.float32)
