"""``tfidf-svd``: word 1-2-grams beside character 2-5-grams, weighted by TF-IDF, reduced by a truncated SVD.

Fitted on the train rows alone: vocabulary, document frequencies and components come from them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from mmbench.errors import UsageError
from mmbench.features import Encoded
from mmbench.features.cache import cached
from mmbench.hashing import digest

VERSION = 2
RAREST = 3  # a term must be in so many train texts, where there are many
MANY_TEXTS = 200


def encode(
    values: Sequence[str | None], *, cache: Path, identity: list[str], fit_rows: NDArray[np.int64], dim: int
) -> Encoded:
    """Texts to (n, d), d the smallest of ``dim``, the train texts less one and their terms; None becomes zeros.

    Raises:
        UsageError: the train texts hold no term at all.
    """
    texts = ["" if value is None else value for value in values]
    distinct = list(dict.fromkeys(texts))
    place = {text: row for row, text in enumerate(distinct)}
    rows = np.array([place[text] for text in texts], dtype=np.int64)
    fit = rows[fit_rows]
    key = digest([*identity, "texts", *distinct, "fit", fit])
    features = cached(cache, key, lambda: _reduce(distinct, fit, dim))[rows]
    features[[row for row, value in enumerate(values) if value is None]] = 0
    return Encoded(features)


def _reduce(distinct: list[str], fit: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
    texts = [html.unescape(text) for text in distinct]
    train = [texts[row] for row in fit]
    views = []
    for analyzer, grams in (("word", (1, 2)), ("char_wb", (2, 5))):
        vectorizer = TfidfVectorizer(
            analyzer=analyzer,
            ngram_range=grams,
            sublinear_tf=True,
            min_df=RAREST if len(train) > MANY_TEXTS else 1,
            dtype=np.float32,
        )
        try:
            vectorizer.fit(train)
        except ValueError:  # no term is in enough texts
            continue
        views.append(vectorizer.transform(texts))
    if not views:
        raise UsageError(
            f"encoder tfidf-svd finds no word in the {len(train)} train texts: "
            "leave this modality out with --modalities"
        )
    terms = hstack(views).tocsr()
    components = max(1, min(dim, len(train) - 1, terms.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):  # the share of variance that one text explains
        svd = TruncatedSVD(components, random_state=0, n_iter=4).fit(terms[fit])
    reduced: NDArray[np.float32] = svd.transform(terms).astype(np.float32)
    return reduced
