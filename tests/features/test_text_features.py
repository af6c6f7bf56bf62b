"""``tfidf-svd``: fitted on train alone, the same bits everywhere, and no traceback on the smallest data."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mmbench.errors import UsageError
from mmbench.features import encode

WORDS = ["storm", "flood", "bridge", "water", "road", "house", "people", "help", "safe", "rescue", "dog", "tree"]


def sentences(n: int, seed: int = 0) -> list[str | None]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(n)]


def tfidf(cache: Path, texts: Sequence[str | None], fit: Sequence[int], dim: int = 5) -> np.ndarray:
    encoded = encode(f"tfidf-svd:dim={dim}", "text", texts, np.array(fit, dtype=np.int64), cache)
    assert encoded.bad == {}
    return encoded.values


def test_other_rows_than_train_change_no_bit_of_the_train_rows(tmp_path: Path) -> None:
    texts = sentences(40)
    fit = list(range(0, 40, 2))
    clean = tfidf(tmp_path, texts, fit)
    poisoned = list(texts)
    for row in range(1, 40, 2):
        poisoned[row] = ["", None, "zzz qqq " * 50, "storm " * 99, texts[0], "\0\ud83d"][row // 2 % 6]
    assert tfidf(tmp_path, poisoned, fit)[fit].tobytes() == clean[fit].tobytes()
    poisoned[0] = "another text"
    assert tfidf(tmp_path, poisoned, fit)[fit[1:]].tobytes() != clean[fit[1:]].tobytes()


def test_words_that_only_other_rows_hold_are_nothing(tmp_path: Path) -> None:
    texts = [*sentences(10), "00 99", "storm", "storm"]
    encoded = tfidf(tmp_path, texts, range(10))
    assert (encoded[10] == 0).all()
    assert (encoded[11] == encoded[12]).all() and encoded[11].any()


def test_equals_an_exact_decomposition_of_weights_computed_by_hand(tmp_path: Path) -> None:
    """Where as many components are kept as there are, inner products are those of the weights themselves."""
    texts = ["aa bb", "bb cc cc", "aa dd"]
    train = [*texts, texts[0]]  # rank 3 and three components: nothing is lost
    grams: list[dict[str, int]] = []
    for text in texts:
        words = text.split()
        held = ["w:" + word for word in words] + ["w:" + " ".join(pair) for pair in itertools.pairwise(words)]
        for word in words:
            padded = f" {word} "
            held += [
                f"c:{padded[i : i + n]}" for n in range(2, min(5, len(padded)) + 1) for i in range(len(padded) - n + 1)
            ]
        grams.append({gram: held.count(gram) for gram in held})
    weights: list[dict[str, float]] = []
    for counts in grams:
        weighted: dict[str, float] = {}
        for view in "wc":
            part = {}
            for gram, count in counts.items():
                if gram.startswith(view):
                    within = sum(gram in grams[texts.index(text)] for text in train)
                    part[gram] = (1 + np.log(count)) * (1 + np.log((1 + len(train)) / (1 + within)))
            norm = sum(value**2 for value in part.values()) ** 0.5
            weighted |= {gram: value / norm for gram, value in part.items()}
        weights.append(weighted)
    gramian = np.array([[sum(a[g] * b.get(g, 0) for g in a) for b in weights] for a in weights])
    encoded = tfidf(tmp_path, train, range(4), 3).astype(np.float64)
    assert encoded.shape == (4, 3)
    np.testing.assert_allclose((encoded @ encoded.T)[:3, :3], gramian, atol=1e-5)
    assert np.diag(gramian) == pytest.approx(2)


def test_alike_texts_are_alike_and_html_entities_are_read(tmp_path: Path) -> None:
    texts = [*sentences(10), "storm &amp; flood", "storm & flood", "STORM & Flood"]
    encoded = tfidf(tmp_path, texts, range(11))
    assert (encoded[10] == encoded[11]).all() and (encoded[11] == encoded[12]).all()


def test_missing_texts_are_zero_and_empty_ones_too(tmp_path: Path) -> None:
    texts: list[str | None] = [*sentences(8), None, "", "   "]
    encoded = tfidf(tmp_path, texts, range(9))
    assert (encoded[8:] == 0).all() and encoded[:8].any(axis=1).all()


WORDLESS: list[list[str | None]] = [["", "", ""], [None, None], [None, "", " \n\t "]]
ODD: list[list[str | None]] = [
    ["storm"],
    ["storm", "flood"],
    ["storm at sea", "flood", "a b c"],
    ["same text"] * 5,
    ["same text"] * 300,
    ["storm", None, ""],
    ["a", "b", "c"],
    ["! ! !", "?", "..."],
    ["🔥", "🔥🔥", "\ud83d"],
    ["the", "of and", "the"],
]


@pytest.mark.parametrize("texts", ODD, ids=lambda texts: repr(texts)[:20])
@pytest.mark.parametrize("fitted", [1, 2, 3, None])
def test_the_smallest_and_oddest_data(tmp_path: Path, texts: list[str | None], fitted: int | None) -> None:
    fit = list(range(len(texts)))[:fitted]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = tfidf(tmp_path, [*texts, "storm unseen", None], fit)
    assert encoded.shape[0] == len(texts) + 2 and 1 <= encoded.shape[1] <= 5
    assert np.isfinite(encoded).all()
    missing = [row for row, text in enumerate([*texts, "x", None]) if text is None]
    assert (encoded[missing] == 0).all()
    assert encoded[0].any()


@pytest.mark.parametrize(
    "texts",
    [*WORDLESS, [f"{chr(0x4E00 + 7 * number)}" for number in range(250)]],
    ids=["empty", "missing", "blank", "no term twice"],
)
def test_train_texts_without_a_term_are_one_line(tmp_path: Path, texts: list[str | None]) -> None:
    with pytest.raises(UsageError, match=r"tfidf-svd finds no word in the \d+ train texts.*--modalities") as raised:
        tfidf(tmp_path, [*texts, "storm"], range(len(texts)))
    assert "\n" not in str(raised.value)


def test_many_texts_of_rare_words_share_their_letters(tmp_path: Path) -> None:
    texts = [f"word{number}x" for number in range(250)]
    assert tfidf(tmp_path, texts, range(250)).any(axis=1).all()


def test_the_number_of_components_is_bounded_by_the_data(tmp_path: Path) -> None:
    texts = sentences(30)
    assert tfidf(tmp_path, texts, range(30), 7).shape == (30, 7)
    assert tfidf(tmp_path, texts, range(6), 768).shape in [(30, 5), (30, 6)]


def test_nothing_stale(tmp_path: Path) -> None:
    texts = sentences(20)
    first = tfidf(tmp_path, texts, range(10))
    assert tfidf(tmp_path, texts, range(10)).tobytes() == first.tobytes()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
    assert tfidf(tmp_path, texts, range(11)).tobytes() != first.tobytes()
    assert tfidf(tmp_path, texts, range(10), 4).shape[1] == 4
    changed = [*texts[:3], f"{texts[3]}s", *texts[4:]]
    assert tfidf(tmp_path, changed, range(10)).tobytes() != first.tobytes()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4


def test_the_order_of_rows_is_the_order_given(tmp_path: Path) -> None:
    texts = sentences(20)
    rows = np.random.default_rng(1).permutation(20)
    encoded = tfidf(tmp_path, texts, range(20))
    shuffled = tfidf(tmp_path, [texts[row] for row in rows], np.argsort(rows))
    np.testing.assert_allclose(np.abs(shuffled), np.abs(encoded[rows]), atol=1e-5)


ENCODE = """
import sys
from pathlib import Path
import numpy as np
from mmbench.features import encode
from mmbench.hashing import digest
rng = np.random.default_rng(0)
words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(200)]
texts = [" ".join(rng.choice(words, 8)) for _ in range(260)]
encoded = encode("tfidf-svd:dim=64", "text", texts, np.arange(200), Path(sys.argv[1])).values
print(digest([encoded]))
"""


def test_bits_do_not_depend_on_the_process_or_its_threads(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])
    processes = []
    for threads in ("1", "2"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, threads), "PYTHONHASHSEED": threads}
        command = [sys.executable, "-c", ENCODE, str(tmp_path / threads)]
        processes.append(subprocess.Popen(command, text=True, env=environment, cwd=root, stdout=subprocess.PIPE))
    one, two = (process.communicate(timeout=120)[0].strip() for process in processes)
    assert len(one) == 64
    assert one == two
