"""One table and the card that names it, which the tests of cards change."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbench.card import card_task
from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError

TABLE = """\
id,who,text,more,size,colour,mood,tags,part
a,u1,hello,you,1.5,red,glad,x;y,train
b,u1,,,,green,sad,,train
c,u2,"a, b",,-2,red,,y,valid
d,u3,bye,now,3,blue,glad,x,TEST
e,u4,more,,4,red,sad,y;x,
"""


CARD = """\
name = "mine"
summary = "a summary"
table = "t.csv"
id = "id"
group = "who"
licence = "CC0"
[modalities.words]
kind = "text"
columns = ["text", "more"]
[modalities.facts]
kind = "tabular"
numeric = ["size"]
categorical = ["colour"]
[concepts.mood]
kind = "exclusive"
column = "mood"
[concepts.tags]
kind = "multilabel"
column = "tags"
[split]
column = "part"
"""


def load(folder: Path, card: str = CARD, table: str = TABLE, seed: int = 0, **options: str) -> Dataset:
    folder.mkdir(exist_ok=True)
    (folder / "t.csv").write_text(table, encoding="utf-8")
    (folder / "mine.toml").write_text(card, encoding="utf-8")
    task = card_task(folder / "mine.toml")
    values = {o.name: o.default for o in task.options} | options
    names = tuple(m.name for m in task.modalities)
    dataset: Dataset = task.load(LoadRequest(None, folder, task.protocols[0], values, names, seed))
    return dataset


def refused(folder: Path, told: str, card: str = CARD, table: str = TABLE, **options: str) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        load(folder, card, table, **options)
    assert "\n" not in str(raised.value)
