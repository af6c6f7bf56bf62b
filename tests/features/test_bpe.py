"""Byte-level BPE tokens as a sequence: the merges, the vectors, the times, and what must not leak."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import decoders

from mmbench.errors import UsageError
from mmbench.features import bpe, encode, parse
from mmbench.streams import TimedText

TEXTS = [
    "the river rose over the road", "the road is closed, the river rises", "a bridge over the river fell",
    "no road, no bridge: the town is cut off", "rain fell over the town all day", "the rain is over — ніч минула 🌧",
] * 2  # fmt: skip
ALL = np.arange(len(TEXTS))


def words(text: str) -> list[str]:
    return re.findall(r" ?\w+| ?[^\s\w]+|\s+(?!\S)|\s+", text)


def test_the_first_merges_are_the_most_frequent_pairs() -> None:
    corpus = ["ab abc abc xabc", "xabc abd"]
    tokenizer = bpe.learn(corpus, 258)
    pieces = Counter(tuple(word.replace(" ", "Ġ")) for text in corpus for word in words(text))
    for merge in range(2):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in pieces.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = "".join(max(pairs, key=lambda pair: pairs[pair]))
        assert sum(count == max(pairs.values()) for count in pairs.values()) == 1  # no tie: the oracle is sharp
        assert tokenizer.id_to_token(256 + merge) == best
        joined: Counter[tuple[str, ...]] = Counter()
        for word, count in pieces.items():
            flat = "\0".join(word).replace("\0".join(next(p for p in pairs if "".join(p) == best)), best)
            joined[tuple(flat.split("\0"))] += count
        pieces = joined


def test_every_text_is_its_tokens() -> None:
    tokenizer = bpe.learn(TEXTS, 300)
    tokenizer.decoder = decoders.ByteLevel()
    for text in [*TEXTS, "Ελληνικά", "a\tb\n c", "\x00", "🙂" * 5, " lead and trail "]:
        ((ids, characters),) = bpe.tokenise(tokenizer, [text])
        assert tokenizer.decode(ids.tolist()) == text
        assert characters[0, 0] == 0 and characters[-1, 1] == len(text)
        ((cut, _),) = bpe.tokenise(tokenizer, [text], 3)
        assert cut.tolist() == ids[:3].tolist()
    assert len(bpe.tokenise(tokenizer, ["half \ud83d"])[0][0]) > 0


def test_information_is_that_of_pairs_counted_by_hand() -> None:
    texts = [np.array([0, 1, 2, 0, 1]), np.array([2, 2, 3]), np.array([4]), np.array([], dtype=np.int64)]
    counted = np.zeros((5, 5))
    for ids in texts:
        for i in range(len(ids)):
            for j in range(len(ids)):
                if i != j and abs(i - j) <= bpe.WINDOW:
                    counted[ids[i], ids[j]] += 1
    p = counted / counted.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.nan_to_num(np.log(p / np.outer(p.sum(axis=1), p.sum(axis=0))), neginf=0, nan=0).clip(0)
    vectors = bpe.token_vectors(texts, 5, 5)
    # X = U √S up to one factor, so that (X Xᵀ)² is M Mᵀ up to its fourth power
    square = (vectors @ vectors.T) @ (vectors @ vectors.T)
    np.testing.assert_allclose(
        square / np.linalg.norm(square), expected @ expected.T / np.linalg.norm(expected @ expected.T), atol=1e-6
    )
    used = vectors[np.concatenate(texts)]
    assert (used**2).mean() == pytest.approx(1)
    assert not vectors[4].any()
    assert bpe.token_vectors([np.array([3])], 300, 8).shape == (300, 1)  # no pairs at all


def test_a_tokens_time_is_its_share_of_its_words() -> None:
    text = TimedText(["rivers", "rose", "fast"], [(10.0, 13.0), (13.5, 14.5), (15.0, 16.0)])
    assert text == "rivers rose fast" and pickle.loads(pickle.dumps(text)).times == text.times
    whole = np.array([[0, 6], [6, 11], [11, 16]])  # a token of a word begins with the space before it
    assert bpe.token_times(text, whole).tolist() == [[0, 3], [3.5, 4.5], [5, 6]]
    pieces = np.array([[0, 2], [2, 6], [6, 8], [8, 11], [11, 12], [12, 16]])
    np.testing.assert_allclose(
        bpe.token_times(text, pieces), [[0, 1], [1, 3], [3.5, 3.75], [3.75, 4.5], [5, 5], [5, 6]], atol=1e-12
    )


def test_times_are_two_columns_more_and_zero_where_a_text_has_none(tmp_path: Path) -> None:
    timed = [TimedText(text.split(), [(i, i + 0.5) for i in range(len(text.split()))]) for text in TEXTS[:4]]
    values = [*timed, TEXTS[4], None, ""]
    plain = encode("bpe:dim=6", "text", [*map(str, timed), *values[4:]], np.arange(4), tmp_path)
    encoded = encode("bpe:dim=6", "text", values, np.arange(4), tmp_path)
    assert encoded.steps is not None and plain.steps is not None
    assert encoded.values.shape[2] == plain.values.shape[2] + 2
    np.testing.assert_array_equal(encoded.values[..., :-2], plain.values)
    assert encoded.steps[5:].sum() == 0 and not encoded.values[4, :, -2:].any()
    columns = encoded.values[:4, :, -2:][encoded.steps[:4]]
    np.testing.assert_allclose(columns.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(columns.std(axis=0), 1, atol=1e-5)
    assert encode("tfidf-svd", "text", values, np.arange(4), tmp_path).values.shape[0] == 7


def test_only_train_rows_are_learned_from_and_their_order_is_nothing(tmp_path: Path) -> None:
    fit = np.arange(8)
    one = encode("bpe:dim=8", "text", TEXTS, fit, tmp_path)
    other = encode("bpe:dim=8", "text", [*TEXTS[:8], "something else", "x", "y", "z"], fit, tmp_path)
    np.testing.assert_array_equal(one.values[:8], other.values[:8, : one.values.shape[1]])
    shuffled = [TEXTS[row] for row in (3, 1, 0, 2, 7, 6, 5, 4)] + TEXTS[8:]
    again = encode("bpe:dim=8", "text", shuffled, fit[::-1], tmp_path)
    np.testing.assert_array_equal(again.values[[2, 1, 3, 0]], one.values[:4])


def test_sequences_end_where_texts_do(tmp_path: Path) -> None:
    encoded = encode("bpe:vocabulary=400:max_length=9", "text", [*TEXTS, None, "ab"], ALL, tmp_path)
    assert encoded.steps is not None and encoded.values.shape[1] == 9
    tokenizer = bpe.learn(sorted(TEXTS), 400)
    lengths = [len(ids) for ids, _ in bpe.tokenise(tokenizer, [*TEXTS, "", "ab"], 9)]
    assert encoded.steps.sum(axis=1).tolist() == lengths
    assert not encoded.values[~encoded.steps].any()


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="vocabulary was given '255'"):
        parse("bpe:vocabulary=255", "text")
    with pytest.raises(UsageError, match="finds no train text"):
        encode("bpe", "text", ["", None, "here"], np.array([0, 1]), tmp_path)
    for wrong in ((["a b"], [(0, 1)]), ([""], [(0, 1)]), (["a"], [])):
        with pytest.raises(ValueError, match="timed text"):
            TimedText(*wrong)
