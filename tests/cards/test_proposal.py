"""Proposed cards: what is guessed of each column, and that the proposal is a card that runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmbench.card import card_task, read_card
from mmbench.card_proposal import propose
from mmbench.card_schema import ImageInput, MultiLabels, TabularInput
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


def test_files_named_by_ids_in_a_folder_are_proposed(tmp_path: Path) -> None:
    folder = tmp_path / "posts"
    for name in ("media", "sound"):
        (folder / name).mkdir(parents=True)
    for i in range(40):
        (folder / "media" / f"{i}.JPG").write_bytes(b"x")
        (folder / "media" / f"{i}.txt").write_text("x")
        np.save(folder / "sound" / f"{i}.npy", np.zeros((3, 2)))
    path = folder / "labels.csv"
    path.write_text("ID,label,note\n" + "".join(f"{i},{'xy'[i % 2]},n{i}\n" for i in range(40)))
    card_path = path.with_suffix(".toml")
    card_path.write_text(propose(path))
    card = read_card(card_path)
    assert card.name == "posts"  # the table is called what any could be
    found = {name: item.model_dump(exclude_defaults=True) for name, item in card.inputs.items()}
    assert found == {
        "media": {"kind": "image", "column": "ID", "root": "media", "suffix": ".JPG"},
        "text": {"kind": "text", "columns": ("ID",), "root": "media", "suffix": ".txt"},
        "sound": {"kind": "sequence", "column": "ID", "root": "sound", "suffix": ".npy"},
    }
    task = card_task(card_path)
    options = {o.name: o.default for o in task.options}
    dataset = task.load(LoadRequest(None, folder, task.protocols[0], options, tuple(card.inputs)))
    assert np.asarray(dataset.inputs["sound"]).shape == (40, 3, 2)


def test_arrays_are_named_by_their_file_unless_it_has_several(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("id,label\n" + "".join(f"{i},{'xy'[i % 2]}\n" for i in range(40)))
    np.savez(tmp_path / "visual.npz", features=np.zeros((40, 2)), lengths=np.ones(40, int))
    np.savez(tmp_path / "views.npz", front=np.zeros((40, 2)), side=np.zeros((40, 3)))
    text = propose(path)
    assert [line for line in text.splitlines() if line.startswith("[modalities")] == [
        "[modalities.front]", "[modalities.side]", "[modalities.visual]",
    ]  # fmt: skip


def test_lengths_are_those_of_the_same_name_or_that_fill_the_array(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("id,label\n" + "".join(f"{i},{'xy'[i % 2]}\n" for i in range(40)))
    two, three = np.arange(40) % 2 + 1, np.arange(40) % 3 + 1
    padded = {"text": np.zeros((40, 3, 4)), "video_x": np.zeros((40, 3, 5))}
    np.savez(tmp_path / "seq.npz", **padded, text_len=two, video_len=three)
    np.savez(tmp_path / "other.npz", x=np.zeros((40, 3, 4)), n=two, m=three)
    np.savez(tmp_path / "steps.npz", audio=np.zeros((60, 4)), motion=np.zeros((60, 5)), len_audio=two, len_motion=two)
    path.with_suffix(".toml").write_text(propose(path))
    chosen = {name: item.lengths for name, item in read_card(path.with_suffix(".toml")).inputs.items()}
    assert chosen == {
        "text": "text_len", "video_x": "video_len", "other": "m", "audio": "len_audio", "motion": "len_motion",
    }  # fmt: skip


def test_folds_in_other_words_and_who_labelled_are_no_inputs(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = "".join(f"{i},some words here {i},{i % 5},a{i % 3},{'xy'[i % 2]}\n" for i in range(40))
    path.write_text("id,text,fold,annotator,label\n" + rows)
    assert '# not used: "fold", "annotator"' in propose(path) and "tabular" not in propose(path)


def test_marks_of_nothing_among_numbers_are_proposed_as_such(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = "".join(f"{i},{'NA' if i % 4 == 0 else i / 7},{'?' if i == 3 else i},{'xy'[i % 2]}\n" for i in range(40))
    path.write_text("id,a,b,label\n" + rows)
    text = propose(path)
    assert 'missing = ["NA", "?"]' in text and 'numeric = ["a", "b"]' in text
    path.with_suffix(".toml").write_text(text)
    assert read_card(path.with_suffix(".toml")).missing == ("NA", "?")


def test_nested_columns_are_told_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"text": f"a long text {i}", "label": "xy"[i % 2], "user": {"name": "ann"}} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert '# not used: "user"' in propose(path)


def test_odd_names_and_texts_survive(tmp_path: Path) -> None:
    path = tmp_path / "ünï.csv"
    rows = [f'some words here {i},"{("é", chr(34) * 2, chr(92), chr(127), "😀")[i % 5]}"' for i in range(50)]
    path.write_text("\n".join(['the text,"my ""label"""', *rows]) + "\n", encoding="utf-8")
    card = path.with_suffix(".toml")
    card.write_text(propose(path), encoding="utf-8")
    (labels,) = read_card(card).targets.values()
    assert set(labels.labels) == {"é", '"', "\\", "\x7f", "😀"}


@pytest.mark.parametrize(("words", "split"), [(("train", "dev", "test"), True), (("train", "bus", "test"), False)])
def test_a_split_is_known_by_its_words_whatever_it_is_called(
    words: tuple[str, ...], split: bool, tmp_path: Path
) -> None:
    path = tmp_path / "d.csv"
    path.write_text("x,of,label\n" + "".join(f"{i / 7},{words[i % 3]},{'ab'[i % 2]}\n" for i in range(40)))
    text = propose(path)
    assert ('[split]\ncolumn = "of"' in text) is split
    assert ('categorical = ["of"]' in text) is not split
