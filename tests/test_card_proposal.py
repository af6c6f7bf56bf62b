"""Proposed cards: what is guessed of each column, and that the proposal is a card that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmbench.card import ImageInput, MultiLabels, TabularInput, card_task, read_card
from mmbench.card_proposal import propose
from mmbench.contracts import LoadRequest
from mmbench.errors import UsageError


def table(folder: Path, name: str = "My Posts.csv") -> Path:
    (folder / "pics").mkdir()
    lines = ["post_id,user_id,text,photo,note,size,colour,constant,mood_label,tags,split"]
    for i in range(120):
        (folder / "pics" / f"{i}.jpg").write_bytes(b"x")
        tags = ("", "a|b", "b", "c|a")[i % 4]
        mood, part = ("glad", "sad")[i % 2], ("train", "train", "train", "test")[i // 2 % 4]
        lines.append(f"p{i},u{i // 2},this is post {i},{i}.jpg,n{i},{i / 7:.2f},{i % 3}x,1,{mood},{tags},{part}")
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_proposal_is_a_card_that_loads(tmp_path: Path) -> None:
    path = table(tmp_path)
    card_path = path.with_suffix(".toml")
    card_path.write_text(propose(path), encoding="utf-8")
    card = read_card(card_path)
    assert (card.name, card.id, card.group, card.table) == ("my-posts", "post_id", "user_id", "My Posts.csv")
    assert set(card.inputs) == {"text", "image", "tabular"}
    image, tabular, tags = card.inputs["image"], card.inputs["tabular"], card.targets["tags"]
    assert isinstance(image, ImageInput) and image.root == "pics"
    assert isinstance(tabular, TabularInput) and (tabular.numeric, tabular.categorical) == (("size",), ("colour",))
    assert isinstance(tags, MultiLabels) and tags.separator == "|" and tags.labels == ("a", "b", "c")
    assert card.targets["mood_label"].labels == ("glad", "sad")
    assert card.split.column == "split" and card.split.val_fraction == 0.2
    assert '# not used: "note", "constant"' in card_path.read_text()
    task = card_task(card_path)
    names, options = tuple(m.name for m in task.modalities), {o.name: o.default for o in task.options}
    dataset = task.load(LoadRequest(None, tmp_path, task.protocols[0], options, names))
    assert len(dataset.ids) == 120 and set(dataset.problems[0].split.tolist()) == {"train", "val", "test"}


def test_labels_may_be_named_and_lists_are_several_labels(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"review": f"a long text {i}", "score": i % 5, "topics": ["x", "y"][: i % 3]} for i in range(50)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert "[concepts.topics]" in propose(path) and 'labels = ["x", "y"]' in propose(path)
    named = propose(path, ["score"])
    assert "[concepts.score]" in named and 'labels = ["0", "1", "2", "3", "4"]' in named
    assert "[concepts.topics]" not in named


def test_what_no_card_can_be_made_of_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("a,b\n" + "\n".join(f"{i},{i / 3}" for i in range(30)) + "\n")
    with pytest.raises(UsageError, match=r"no column looks like a label: name it with --label \(a, b\)"):
        propose(path)
    with pytest.raises(UsageError, match="unknown column"):
        propose(path, ["c"])
    path.write_text("label\nx\ny\nx\ny\n")
    with pytest.raises(UsageError, match="no column looks like an input"):
        propose(path)


def test_odd_names_and_texts_survive(tmp_path: Path) -> None:
    path = tmp_path / "ünï.csv"
    rows = [f'some words here {i},"{("é", chr(34) * 2, chr(92), chr(127), "😀")[i % 5]}"' for i in range(50)]
    path.write_text("\n".join(['the text,"my ""label"""', *rows]) + "\n", encoding="utf-8")
    card = path.with_suffix(".toml")
    card.write_text(propose(path), encoding="utf-8")
    (labels,) = read_card(card).targets.values()
    assert set(labels.labels) == {"é", '"', "\\", "\x7f", "😀"}
