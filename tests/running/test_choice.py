"""The methods of a request, found anew and remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbench.contracts import Modality
from mmbench.errors import UsageError
from mmbench.plugins import Registry
from mmbench.running import choice
from mmbench.running.choice import Choice, choose

STREAMS = (Modality("text", "text", "tfidf-svd"), Modality("image", "image", "hog-color"))
SUITE = ("concat+equal", "igfn+dmtl", "only:*", "linear:all")
MINE = (
    'NAME = "{name}"\nKIND = "model"\nSUMMARY = "mine"\nfrom mmbench.contracts import Model\n'
    "class Mine(Model):\n    n_parameters = 0\n    fit = predict = None\ndef build(*, k: int = 1):\n    return Mine()\n"
)


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is looked for among the plug-ins from now on."""
    asked: list[str] = []
    select = choice.select

    def counting(text: str, *rest: object) -> object:
        asked.append(text)
        return select(text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(choice, "select", counting)
    return asked


def whole(asked: str, streams: tuple[Modality, ...] = STREAMS, registry: Registry | None = None) -> Choice:
    return choose(asked, registry or Registry(), streams, SUITE, False)


@pytest.mark.parametrize(
    "asked",
    [
        "all",
        "*+equal",
        "all,majority",
        "igfn:delta=0.1/0.5:levels=2:strict_trimodal=on+dmtl:beta=0/2:layer=heads,linear:text",
        "ablation:igfn+dmtl,ablation:hybrid",
        "concat+unimodal+equal,only:image,xattn",
    ],
)
def test_what_is_remembered_is_what_was_found(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted(monkeypatch)
    found = whole(asked)
    assert whole(asked) == found
    assert looked == [asked]
    assert list(found.raw) == [method.name for method in found.methods]


def test_other_modalities_or_encoders_are_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted(monkeypatch)
    assert [m.name for m in whole("all").methods][2:4] == ["only:text", "only:image"]
    whole("all", (STREAMS[0], Modality("image", "image", "hf:somewhere")))
    assert len(looked) == 2


def test_what_was_left_out_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted(monkeypatch)
    for _ in range(2):
        one = whole("all", STREAMS[:1])
        assert [m.name for m in one.methods] == ["concat+equal", "only:text", "linear:all"]
        assert one.skipped[0].startswith("left out igfn+dmtl: igfn+dmtl fuses at least 2 modalities")
    assert len(looked) == 2


def test_what_was_wrong_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted(monkeypatch)
    for _ in range(2):
        with pytest.raises(UsageError, match="unknown method 'conat'"):
            whole("conat")
    assert len(looked) == 2


def test_plug_ins_of_the_users_own_are_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MINE.format(name="mine"))
    registry = Registry([tmp_path / "mine.py"])
    looked = counted(monkeypatch)
    for _ in range(2):
        assert [m.name for m in whole("mine:k=2", registry=registry).methods] == ["mine:k=2"]
    assert len(looked) == 2


def test_a_damaged_memory_is_found_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = whole("all")
    (kept,) = (tmp_path / "cache" / "records").iterdir()
    kept.write_text(kept.read_text().replace("igfn", "graph"))
    looked = counted(monkeypatch)
    assert whole("all") == found and looked == ["all"]
