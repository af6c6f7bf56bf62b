"""``tfidf-svd``: word 1-2-grams beside character 2-5-grams, weighted by TF-IDF, reduced by a truncated SVD.

Fitted on the train rows alone: vocabulary, document frequencies and components come from them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import UsageError
from mmbench.features import Encoded
from mmbench.features.cache import cached
from mmbench.hashing import digest

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

VERSION = 3
FEW_TEXTS = 200
ITERATIONS = 5


def encode(
    values: Sequence[str | None], *, cache: Path, identity: list[str], fit_rows: NDArray[np.int64], dim: int
) -> Encoded:
    """Texts to (n, d), d at most ``dim`` and the rank of the train texts' terms; None, having no terms, becomes zeros.

    Raises:
        UsageError: the train texts have no terms at all.
    """
    texts = ["" if value is None else value for value in values]
    distinct = sorted(set(texts))
    place = {text: row for row, text in enumerate(distinct)}
    rows = np.array([place[text] for text in texts], dtype=np.int64)
    fit = [text for text in (values[row] for row in fit_rows) if text is not None]
    key = digest([*identity, "texts", *distinct, "fit", *sorted(fit)])
    return Encoded(cached(cache, key, lambda: reduce_texts(distinct, fit, dim))[rows])


def reduce_texts(texts: list[str], fit: list[str], dim: int) -> NDArray[np.float32]:
    """(n, d) float32: projections of ``texts`` on the leading right singular vectors of the terms of ``fit``.

    A text's terms depend on itself and on ``fit``, never on the other texts. Entities (``&amp;``) are undone; links and
    mentions are kept, since they carry signal. A character pattern must be in one of a thousand train texts, a word in
    two of them: on CrisisMMD that costs no accuracy on dev and halves the time and the memory of the decomposition. The
    decomposition is a randomised one; with fewer iterations its last components, and scores by half a point, depend on
    the draw. ``fit`` is taken in sorted order, so that the order of the rows changes nothing.

    Raises:
        UsageError: ``fit`` has no terms at all.
    """
    from scipy.sparse import hstack
    from sklearn.decomposition import TruncatedSVD

    fit = sorted(fit)
    few = len(fit) <= FEW_TEXTS
    views = [
        _terms(texts, fit, "word", (1, 2), 1 if few else 2),
        _terms(texts, fit, "char_wb", (2, 5), 1 if few else max(2, len(fit) // 1000)),
    ]
    train, every = (hstack(part).tocsr() for part in zip(*views, strict=True))
    if train.shape[1] == 0:
        raise UsageError(
            f"encoder tfidf-svd finds no word in the {len(fit)} train texts: leave this modality out with --modalities"
        )
    components = min(dim, *train.shape)
    with np.errstate(divide="ignore", invalid="ignore"):  # the share of variance that one text explains
        svd = TruncatedSVD(components, n_iter=ITERATIONS, random_state=0).fit(train)
    # Beyond the rank (repeated texts) a component is rounding: nothing on train, and noise on every other text.
    kept = svd.singular_values_ > 1e-4 * svd.singular_values_[0]
    reduced: NDArray[np.float32] = svd.transform(every)[:, kept].astype(np.float32)
    return reduced


def _terms(
    texts: list[str], fit: list[str], analyzer: str, grams: tuple[int, int], rarest: int
) -> tuple[csr_matrix, csr_matrix]:
    """TF-IDF with logarithmic term frequency, rows of unit length: of ``fit``, and of ``texts``."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        preprocessor=_clean,
        analyzer=analyzer,
        ngram_range=grams,
        min_df=rarest,
        sublinear_tf=True,
        dtype=np.float32,
    )
    try:
        train = vectorizer.fit_transform(fit)
    except ValueError:  # no term is in enough texts
        return csr_matrix((len(fit), 0), dtype=np.float32), csr_matrix((len(texts), 0), dtype=np.float32)
    return train, vectorizer.transform(texts)


def _clean(text: str) -> str:
    return html.unescape(text).lower()
