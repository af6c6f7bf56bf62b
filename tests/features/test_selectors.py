"""Encoder selectors: canonical forms, and one clear line for each thing that can be wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmbench.contracts import InputKind
from mmbench.errors import UsageError
from mmbench.features import ENCODERS, check, encode, fingerprint, is_fitted


@pytest.mark.parametrize(
    ("selector", "kind", "canonical"),
    [
        ("tfidf-svd", "text", "tfidf-svd"),
        ("tfidf-svd:dim=1024", "text", "tfidf-svd"),
        ("tfidf-svd:dim=64", "text", "tfidf-svd:dim=64"),
        ("hf:a/b.c", "image", "hf:a/b.c"),
        ("hf:a/b.c:max_length=64:pool=cls", "text", "hf:a/b.c:pool=cls:max_length=64"),
        ("hf:./x:batch_size=32:pool=auto", "text", "hf:./x"),
        ("hog-color", "image", "hog-color"),
        ("standardize", "vector", "standardize"),
    ],
)
def test_the_canonical_selector_has_signature_order_and_no_defaults(
    selector: str, kind: InputKind, canonical: str
) -> None:
    assert check(selector, kind) == canonical
    assert check(canonical, kind) == canonical


@pytest.mark.parametrize(
    ("selector", "kind", "told"),
    [
        ("tfidf-sdv", "text", "did you mean tfidf-svd"),
        ("", "text", "unknown encoder ''"),
        ("hog-color", "text", "this modality is text: use tfidf-svd or hf"),
        ("tfidf-svd", "vector", "this modality is vector: use standardize"),
        ("tfidf-svd:dmi=3", "text", "did you mean dim"),
        ("tfidf-svd:dim", "text", "dim=<value>"),
        ("tfidf-svd:dim=3:dim=4", "text", "once"),
        ("tfidf-svd:dim=0", "text", "dim was given '0'"),
        ("tfidf-svd:dim=many", "text", "dim was given 'many'"),
        ("hog-color:bins=3", "image", "unknown parameter of encoder hog-color 'bins'"),
        ("hf", "text", "needs a checkpoint"),
        ("hf:", "text", "needs a checkpoint"),
        ("hf:pool=cls", "text", "needs a checkpoint"),
        ("hf:x:pool=sum", "text", "pool was given 'sum'"),
    ],
)
def test_a_wrong_selector_is_one_line(selector: str, kind: InputKind, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(selector, kind)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_encoders_that_learn_are_fitted() -> None:
    assert {s: is_fitted(s) for s in ("tfidf-svd:dim=8", "standardize", "hog-color", "hf:x:pool=cls")} == {
        "tfidf-svd:dim=8": True,
        "standardize": True,
        "hog-color": False,
        "hf:x:pool=cls": False,
    }
    with pytest.raises(UsageError, match="unknown encoder"):
        is_fitted("tfidf")


def test_a_fitted_encoder_needs_rows_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs rows"):
        encode("tfidf-svd", "text", ["a word"], np.empty(0, dtype=np.int64), tmp_path)


def test_the_fingerprint_tells_parameters_apart_but_not_spellings() -> None:
    assert fingerprint("tfidf-svd:dim=1024", "text") == fingerprint("tfidf-svd", "text")
    assert fingerprint("tfidf-svd:dim=64", "text") != fingerprint("tfidf-svd", "text")


def test_listing_and_checking_import_nothing_heavy() -> None:
    code = (
        "import sys; from mmbench.features import ENCODERS, check, is_fitted; check('hf:x', 'text'); is_fitted('hf:x');"
        "print([m for m in ('numpy', 'torch', 'sklearn', 'scipy', 'transformers', 'PIL') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(ENCODERS) == {
        "tfidf-svd", "hog-color", "standardize", "hf", "minilm", "elmo", "inception-v3", "logmel", "bpe", "pixels",
        "synthetic-motion",
    }  # fmt: skip
