"""The text encoder against a transcription of TF-IDF in plain Python; it learns from train only."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from mmbench.errors import UsageError
from mmbench.features import encode, text
from mmbench.hashing import digest

ROOT = Path(__file__).parents[2]
TEXTS = [
    "Flood water in the old town",
    "the town is safe, no flood",
    "Fish &amp; chips at the harbour",
    "water water everywhere http://a.b/c1",
    "no news @someone",
    "harbour news: boats safe",
]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Texts of ten words each from a vocabulary of 300."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), size=rng.integers(3, 8))) for _ in range(300)]
    return [" ".join(rng.choice(words, size=10)) for _ in range(count)]


def word_grams(text: str) -> list[str]:
    """Words of two letters or more, and pairs of them."""
    marks = "".join(c if c.isalnum() or c == "_" else " " for c in text.lower())
    words = [word for word in marks.split() if len(word) >= 2]
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def character_grams(text: str) -> list[str]:
    """Patterns of 2 to 5 characters inside words, each padded with a blank; a word shorter than the pattern once."""
    found = []
    for word in text.lower().split():
        padded = f" {word} "
        for n in range(2, 6):
            found += [padded[i : i + n] for i in range(max(1, len(padded) - n + 1))]
            if n >= len(padded):
                break
    return found


def gramian(texts: list[str], fit: list[str], rarest: int = 1) -> NDArray[np.float64]:
    """Inner products of TF-IDF vectors, (1 + ln tf)(1 + ln((1 + n) / (1 + df))) where df >= rarest, of unit length."""
    products = np.zeros((len(texts), len(texts)))
    for grams in (word_grams, character_grams):
        df = Counter(gram for t in fit for gram in set(grams(t)))
        vectors = []
        for t in texts:
            tf = Counter(gram for gram in grams(t) if df[gram] >= rarest)
            vector = {
                gram: (1 + math.log(count)) * (1 + math.log((1 + len(fit)) / (1 + df[gram])))
                for gram, count in tf.items()
            }
            norm = math.sqrt(sum(v * v for v in vector.values())) or 1.0
            vectors.append({gram: v / norm for gram, v in vector.items()})
        products += [[sum(v * b.get(gram, 0.0) for gram, v in a.items()) for b in vectors] for a in vectors]
    return products


def test_at_full_rank_the_features_keep_every_inner_product_of_tfidf() -> None:
    plain = [t.replace("&amp;", "&") for t in TEXTS]
    features = text.reduce_texts(TEXTS, TEXTS, 100).astype(np.float64)
    assert features.shape == (6, 6)
    assert np.allclose(features @ features.T, gramian(plain, plain), atol=1e-5)


def test_other_texts_are_projected_on_the_span_of_the_train_texts() -> None:
    fit, every = [t.replace("&amp;", "&") for t in TEXTS[:4]], [t.replace("&amp;", "&") for t in TEXTS]
    products = gramian(every, fit)
    kernel, cross = products[:4, :4], products[:, :4]
    features = text.reduce_texts(every, fit, 100).astype(np.float64)
    assert np.allclose(features @ features.T, cross @ np.linalg.inv(kernel) @ cross.T, atol=1e-5)


def test_components_are_the_leading_singular_directions() -> None:
    fit = sentences(60)
    eigenvalues = np.linalg.eigvalsh(gramian(fit, fit))[::-1]
    features = text.reduce_texts(fit, fit, 10).astype(np.float64)
    assert features.shape == (60, 10)
    products = features.T @ features
    assert np.allclose(products - np.diag(np.diag(products)), 0, atol=1e-4)
    # The decomposition is randomised: it never finds more than the optimum, and little less.
    assert (np.diag(products) <= eigenvalues[:10] * (1 + 1e-5)).all()
    assert np.diag(products).sum() >= 0.93 * eigenvalues[:10].sum()


def test_repeated_train_texts_add_no_components() -> None:
    fit = TEXTS[:3] * 4
    assert text.reduce_texts(TEXTS, fit, 100).shape == (6, 3)


@pytest.mark.parametrize("fit", [["one"], ["one", "one"], ["one", ""], ["a b c d"], ["日本 語"]])
def test_tiny_data_is_encoded_without_a_warning(fit: list[str], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = encode("tfidf-svd", "text", [*fit, "unseen"], np.arange(len(fit)), tmp_path).values
    assert values.shape == (len(fit) + 1, 1)
    assert values[0].any()
    assert np.isfinite(values).all()


@pytest.mark.parametrize("fit", [["", " "], [None, None]])
def test_train_texts_without_a_word_are_one_clear_line(fit: list[str | None], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"finds no word in the [02] train texts") as caught:
        encode("tfidf-svd", "text", [*fit, "word"], np.arange(2), tmp_path)
    assert "\n" not in str(caught.value)


def test_rows_come_in_input_order_and_missing_ones_are_zero(tmp_path: Path) -> None:
    values = [TEXTS[1], None, TEXTS[0], TEXTS[1], "", TEXTS[2]]
    features = encode("tfidf-svd", "text", values, np.array([0, 1, 2, 5]), tmp_path).values
    alone = text.reduce_texts([TEXTS[1], TEXTS[0], TEXTS[2]], [TEXTS[1], TEXTS[0], TEXTS[2]], 1024)
    assert features[[0, 2, 5]].tobytes() == features[[3, 2, 5]].tobytes() == alone.tobytes()
    assert not features[[1, 4]].any()
    assert features.dtype == np.float32


@pytest.mark.parametrize("count", [60, 300])  # on both sides of the rule for rare terms
def test_rows_outside_the_fit_change_nothing_else(count: int, tmp_path: Path) -> None:
    texts, train = sentences(count), np.arange(count // 2)
    poisoned = [*texts[: count - 5], "zzzz zzzz &lt; @q", "", "abc " * 500, texts[0], "\udcff"]
    before, after = (encode("tfidf-svd:dim=16", "text", v, train, tmp_path).values for v in (texts, poisoned))
    assert before[: count - 5].tobytes() == after[: count - 5].tobytes()
    assert np.array_equal(after[count - 2], after[0])
    assert not np.array_equal(before[count - 5 :], after[count - 5 :])


def test_the_fit_rows_are_part_of_the_key(tmp_path: Path) -> None:
    a, b, c = (encode("tfidf-svd", "text", TEXTS, np.array(r), tmp_path).values for r in ([0, 1], [0, 1, 2], [0, 1]))
    assert a.tobytes() == c.tobytes()
    assert (a.shape[1], b.shape[1]) == (2, 3)


def test_the_cache_is_used_and_a_changed_text_is_not_served_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = []
    reduce_texts = text.reduce_texts
    monkeypatch.setattr(text, "reduce_texts", lambda *given: fits.append(given) or reduce_texts(*given))
    rows = np.arange(4)
    encode("tfidf-svd", "text", TEXTS, rows, tmp_path)
    encode("tfidf-svd", "text", TEXTS, rows, tmp_path)
    assert len(fits) == 1
    changed = encode("tfidf-svd", "text", [*TEXTS[:5], TEXTS[5] + "."], rows, tmp_path).values
    assert len(fits) == 2
    assert np.array_equal(changed, reduce_texts([*TEXTS[:5], TEXTS[5] + "."], TEXTS[:4], 1024))


@pytest.mark.parametrize(("count", "rarest"), [(text.FEW_TEXTS, 1), (text.FEW_TEXTS + 1, 2)])
def test_among_many_texts_what_occurs_once_is_no_term(count: int, rarest: int) -> None:
    fit = sentences(count)
    features = text.reduce_texts(fit[:20], fit, 300).astype(np.float64)
    assert np.allclose(features @ features.T, gramian(fit[:20], fit, rarest), atol=1e-4)
    assert not np.allclose(features @ features.T, gramian(fit[:20], fit, 3 - rarest), atol=1e-2)


def test_a_character_pattern_must_be_in_one_of_a_thousand_train_texts_and_a_word_in_two() -> None:
    fit = ["filler"] * 2995 + ["xyxy"] * 2 + ["wvwv"] * 3
    word, rare_pattern, pattern = text.reduce_texts(["xyxy", "xyx", "wvw"], fit, 10)
    assert word.any() and pattern.any() and not rare_pattern.any()


def test_bits_do_not_depend_on_the_threads_that_libraries_would_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = set()
    reduce_texts = text.reduce_texts

    def watched(*given: object) -> NDArray[np.float32]:
        used.update(pool["num_threads"] for pool in threadpool_info())
        return reduce_texts(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(text, "reduce_texts", watched)
    texts, rows, found = sentences(300), np.arange(300), []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(encode("tfidf-svd:dim=128", "text", texts, rows, tmp_path / str(threads)).values)
    assert used == {1}
    assert found[0].tobytes() == found[1].tobytes()


def test_bits_are_the_same_in_a_fresh_process_allowed_two_threads(tmp_path: Path) -> None:
    """In a fresh process the libraries are loaded by the encoder itself, which must limit them all the same."""
    code = (
        "import sys; from pathlib import Path; import numpy as np; from mmbench.features import encode;"
        "from mmbench.hashing import digest; texts = sys.stdin.read().splitlines();"
        "print(digest([encode('tfidf-svd:dim=128', 'text', texts, np.arange(300), Path(sys.argv[1])).values]))"
    )
    texts = sentences(300)
    here = encode("tfidf-svd:dim=128", "text", texts, np.arange(300), tmp_path / "here").values
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "there")],
        input="\n".join(texts),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == digest([here])


def test_the_order_of_the_train_rows_changes_no_bit(tmp_path):
    generator = np.random.default_rng(3)
    words = [f"w{n}" for n in range(40)]
    texts = [" ".join(generator.choice(words, 6)) for _ in range(60)]
    rows = np.arange(40)
    one = encode("tfidf-svd:dim=8", "text", texts, rows, tmp_path / "one").values
    two = encode("tfidf-svd:dim=8", "text", texts, generator.permutation(rows), tmp_path / "two").values
    assert (one == two).all()
