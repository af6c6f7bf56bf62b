"""Selectors of encoders: canonical forms, and what each mistake says."""

from __future__ import annotations

import pytest

from mmbench.errors import UsageError
from mmbench.features import ENCODERS, TABLE, check, is_fitted, parse


@pytest.mark.parametrize(
    ("selector", "kind", "canonical"),
    [
        ("tfidf-svd", "text", "tfidf-svd"),
        (f"tfidf-svd:dim={TABLE['tfidf-svd'].parameters['dim'][1]}", "text", "tfidf-svd"),
        ("tfidf-svd:dim=064", "text", "tfidf-svd:dim=64"),
        ("hog-color", "image", "hog-color"),
        ("standardize", "vector", "standardize"),
        ("hf:bert-base-uncased", "text", "hf:bert-base-uncased"),
        ("hf:./a/folder:pool=cls", "image", "hf:./a/folder:pool=cls"),
        ("hf:org/name:max_length=9:pool=max", "text", "hf:org/name:pool=max:max_length=9"),
        ("hf:org/name:pool=auto:batch_size=32", "text", "hf:org/name"),
        ("hf:org/name:max_seconds=5", "audio", "hf:org/name:max_seconds=5"),
        ("elmo:./elmo:mix=average:pool=max", "text", "elmo:./elmo:pool=max"),
        ("inception-v3:a.pth", "image", "inception-v3:a.pth"),
        ("logmel", "audio", "logmel"),
    ],
)
def test_a_selector_has_one_canonical_form(selector: str, kind: str, canonical: str) -> None:
    assert check(selector, kind) == canonical
    assert check(canonical, kind) == canonical
    assert parse(selector, kind) == parse(canonical, kind)


@pytest.mark.parametrize(
    ("selector", "kind", "message"),
    [
        ("tfidf", "text", "unknown encoder 'tfidf': did you mean tfidf-svd"),
        ("", "text", "unknown encoder ''"),
        ("hog", "image", "unknown encoder 'hog': did you mean hog-color"),
        ("tfidf-svd:dims=5", "text", "unknown parameter of encoder tfidf-svd 'dims': did you mean dim"),
        ("tfidf-svd:", "text", "unknown parameter of encoder tfidf-svd"),
        ("tfidf-svd:dim", "text", "dim"),
        ("tfidf-svd:dim=0", "text", "dim was given '0'"),
        ("tfidf-svd:dim=many", "text", "dim was given 'many'"),
        ("tfidf-svd:dim=", "text", "dim was given ''"),
        ("hog-color:bins=3", "image", "unknown parameter of encoder hog-color 'bins': known: none"),
        ("tfidf-svd", "image", "encoder tfidf-svd is for text, this modality is image: use hog-color or hf"),
        ("standardize", "text", "encoder standardize is for vector/sequence, this modality is text"),
        ("hf:x", "vector", "encoder hf is for text/image/audio/video, this modality is vector: use standardize"),
        ("hf", "text", "needs a checkpoint"),
        ("elmo", "text", "needs a checkpoint: elmo:<folder>"),
        ("elmo:x:mixed=top", "text", "unknown parameter of encoder elmo 'mixed': did you mean mix"),
        ("elmo:x:mix=last", "text", "mix was given 'last'.*'average' or 'top'"),
        ("inception-v3", "image", "needs a checkpoint: inception-v3:<file>"),
        ("inception-v3:x:pool=mean", "image", "unknown parameter of encoder inception-v3 'pool'"),
        ("inception", "image", "unknown encoder 'inception': did you mean inception-v3"),
        ("log-mel", "audio", "unknown encoder 'log-mel': did you mean logmel"),
        ("tfidf-svd", "audio", "this modality is audio: use hf or logmel"),
        ("hf:", "text", "needs a checkpoint"),
        ("hf:pool=cls", "text", "needs a checkpoint"),
        ("hf:x:pool=average", "text", "pool was given 'average'.*'mean'"),
        ("hf:x:pol=cls", "text", "unknown parameter of encoder hf 'pol': did you mean pool"),
    ],
)
def test_a_wrong_selector_is_one_line(selector: str, kind: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        parse(selector, kind)
    assert "\n" not in str(raised.value)


def test_what_learns_from_train_rows_is_known() -> None:
    assert {name for name in TABLE if is_fitted(f"{name}:x=1")} == {"tfidf-svd", "standardize", "bpe"}
    assert set(ENCODERS) == set(TABLE)
    assert all(summary for _, summary in ENCODERS.values())
