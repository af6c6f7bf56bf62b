"""Task cards: a whole one, the door it comes in by, where its data may lie, and the cards of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.card import card_task
from mmbench.contracts import LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import Registry

from .conftest import CARD, load


def test_a_whole_card(tmp_path: Path) -> None:
    dataset = load(tmp_path)
    assert dataset.ids.tolist() == list("abcde")
    assert dataset.groups.tolist() == ["u1", "u1", "u2", "u3", "u4"]
    assert list(dataset.inputs["words"]) == ["hello\nyou", None, "a, b", "bye\nnow", "more"]
    assert [(c.name, c.labels, c.kind) for c in dataset.concepts] == [
        ("mood", ("glad", "sad"), "exclusive"),
        ("tags", ("x", "y"), "multilabel"),
    ]
    assert dataset.targets["mood"].tolist() == [0, 1, -1, 0, 1]
    assert dataset.targets["tags"].tolist() == [[1, 1], [0, 0], [0, 1], [1, 0], [1, 1]]
    assert dataset.problems[0].split.tolist() == ["train", "train", "val", "test", ""]
    assert not dataset.generated and dataset.title == "mine"


def test_a_card_comes_in_by_the_door_of_plug_ins_without_a_look_at_its_data(tmp_path: Path) -> None:
    (tmp_path / "mmbench.toml").write_text("")
    (tmp_path / "tasks").mkdir()
    card = tmp_path / "tasks" / "mine.toml"
    card.write_text(CARD)
    (tmp_path / "tasks" / "settings.toml").write_text("x = 1\n")
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "stray.toml").write_text(CARD)
    plugin = Registry(folder=tmp_path).get("mine", "task")
    assert (plugin.summary, plugin.path, plugin.origin) == ("a summary", card, "folder")
    task: Any = Registry(folder=tmp_path).load("mine", "task").TASK
    assert [m.kind for m in task.modalities] == ["text", "vector"]
    other = tmp_path / "other.toml"
    other.write_text(CARD.replace("a summary", "another"))
    registry = Registry([other], tmp_path)
    assert registry.get("mine", "task").summary == "another" and registry.overrides
    (tmp_path / "tasks" / "twice.toml").write_text(CARD)
    with pytest.raises(UsageError, match="defined twice"):
        Registry(folder=tmp_path)


def test_a_plug_in_card_without_a_name_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("table = 'x.csv'\n")
    with pytest.raises(UsageError, match=r'no name = "\.\.\."'):
        Registry([path], tmp_path)
    path.write_text("= 1\n")
    with pytest.raises(UsageError, match="is not TOML"):
        Registry([path], tmp_path)


def test_the_data_may_lie_elsewhere(tmp_path: Path) -> None:
    load(tmp_path / "data")
    (tmp_path / "mine.toml").write_text(CARD)
    task = card_task(tmp_path / "mine.toml")
    assert task.recognises(tmp_path / "data") and not task.recognises(tmp_path)
    names = tuple(m.name for m in task.modalities)
    found = task.load(LoadRequest(tmp_path / "data", tmp_path, task.protocols[0], {}, names))
    assert found.fingerprint == load(tmp_path / "data").fingerprint


@pytest.mark.parametrize("n", range(1, 9))
def test_one_to_eight_modalities(tmp_path: Path, n: int) -> None:
    rng = np.random.default_rng(n)
    sections = []
    for view in range(n):
        np.save(tmp_path / f"v{view}.npy", rng.normal(size=(40, 3)))
        sections.append(f'[modalities.v{view}]\nkind = "features"\nfile = "v{view}.npy"\n')
    table = "digit\n" + "\n".join(str(i % 10) for i in range(40)) + "\n"
    head = 'name = "views"\ntable = "t.csv"\nlicence = "CC0"\n'
    dataset = load(
        tmp_path, head + "".join(sections) + '[concepts.digit]\nkind = "exclusive"\ncolumn = "digit"\n', table
    )
    assert len(dataset.inputs) == n and dataset.concepts[0].labels == tuple("0123456789")
    suite = card_task(tmp_path / "mine.toml").protocols[0].suite
    assert ("lowrank+equal" in suite) == ("linear:all" in suite) == (n > 1)
    assert ("tensor+equal" in suite) == (1 < n < 4)


def test_the_cards_of_the_documentation_are_cards(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
    cards = [block.split("```")[0] for block in text.split("```toml\n")[1:]]
    assert len(cards) == 2
    for card in cards:
        (tmp_path / "card.toml").write_text(card, encoding="utf-8")
        assert card_task(tmp_path / "card.toml").modalities
    (tmp_path / "card.toml").write_text(cards[0], encoding="utf-8")
    quoted = "".join(line[4:] + "\n" for line in text.splitlines() if line.startswith(("    post_id,", "    p0")))
    rows = "".join(f"q{i},a{i},text {i},,{i},en,{('fire', 'flood')[i % 2]},glad\n" for i in range(40))
    (tmp_path / "posts.csv").write_text(quoted + rows, encoding="utf-8")
    task = card_task(tmp_path / "card.toml")
    options = {"missing_images": "mask", "bad_images": "error"}
    names = tuple(m.name for m in task.modalities)
    dataset = task.load(LoadRequest(None, tmp_path, task.protocols[0], options, names))
    assert dataset.ids[0] == "p000" and dataset.targets["moods"][:2].tolist() == [[1, 1, 0], [0, 0, 0]]
