"""Task cards: what they read, what they refuse, and that nothing leaks from test into a feature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.arrays import write_npz
from mmbench.card import card_task
from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import Registry

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


def test_categories_come_from_the_training_rows_alone(tmp_path: Path) -> None:
    dataset = load(tmp_path)
    values = np.asarray(dataset.inputs["facts"])
    assert values.shape == (5, 3)  # size, green, red: blue is in test only
    np.testing.assert_array_equal(values[0], [1.5, 0, 1])
    np.testing.assert_array_equal(values[3], [3, 0, 0])
    assert np.isnan(values[1, 0]) and values[1, 1] == 1
    assert any("a category that train has not in 1 rows" in note for note in dataset.notes)
    elsewhere = load(tmp_path, table=TABLE.replace("3,blue", "3,purple"))
    np.testing.assert_array_equal(np.asarray(elsewhere.inputs["facts"]), values)


def test_declared_levels_are_all_there_and_bind(tmp_path: Path) -> None:
    card = CARD.replace(
        'categorical = ["colour"]', 'categorical = ["colour"]\nlevels = {colour = ["red", "blue", "green"]}'
    )
    np.testing.assert_array_equal(np.asarray(load(tmp_path, card).inputs["facts"])[3], [3, 0, 1, 0])
    refused(tmp_path, r"t\.csv: row 2, column 'colour' is 'pink', which is not among its levels", card,
            TABLE.replace("green", "pink"))  # fmt: skip


def test_declared_labels_keep_their_order_and_bind(tmp_path: Path) -> None:
    card = CARD.replace('column = "mood"', 'column = "mood"\nlabels = ["sad", "odd", "glad"]\nbackground = "odd"')
    dataset = load(tmp_path, card)
    assert dataset.targets["mood"].tolist() == [2, 0, -1, 2, 0]
    assert dataset.concepts[0].background == "odd"
    refused(tmp_path, r"row 1, column 'mood' holds 'great', which is not among the labels sad, odd, glad", card,
            TABLE.replace("red,glad,x;y", "red,great,x;y"))  # fmt: skip


def test_an_empty_list_of_labels_is_what_the_card_says(tmp_path: Path) -> None:
    card = CARD.replace('column = "tags"', 'column = "tags"\nempty = "unlabelled"')
    assert load(tmp_path, card).targets["tags"][1].tolist() == [-1, -1]


def test_a_column_a_label(tmp_path: Path) -> None:
    card = CARD.replace('column = "tags"', 'columns = ["hot", "wet"]')
    extra = ["hot,wet", "1,0", "0,0", "true,False", "1,", "0.0,1.0"]
    table = "\n".join(f"{line},{more}" for line, more in zip(TABLE.splitlines(), extra, strict=True))
    dataset = load(tmp_path, card, table)
    assert dataset.targets["tags"].tolist() == [[1, 0], [0, 0], [1, 0], [-1, -1], [0, 1]]
    assert dataset.concepts[1].labels == ("hot", "wet")
    refused(tmp_path, r"row 1, column 'wet' is '2', expected 0 or 1", card, table.replace("train,1,0", "train,1,2"))


def many(n: int, part: str = "") -> str:
    rows = [f"r{i},g{i // 3},t{i},,{i},red,{'glad' if i % 3 else 'sad'},x,{part}" for i in range(n)]
    return "\n".join([TABLE.splitlines()[0], *rows, ""])


def test_a_drawn_split_keeps_groups_and_follows_the_seed(tmp_path: Path) -> None:
    card = CARD.replace('column = "part"', "fractions = [0.5, 0.25, 0.25]")
    first, second = load(tmp_path, card, many(240)), load(tmp_path, card, many(240), seed=1)
    split = first.problems[0].split
    assert [(split == part).sum() for part in ("train", "val", "test")] == [120, 60, 60]
    assert all(len(set(split[first.groups == g].tolist())) == 1 for g in set(first.groups.tolist()))
    assert (split != second.problems[0].split).any()
    assert first.fingerprint == second.fingerprint


def test_validation_rows_are_taken_from_train_on_request(tmp_path: Path) -> None:
    table = (
        many(60, "train")
        .replace("g19,", "last,")
        .replace("r57,last,t57,,57,red,sad,x,train", "r57,z,t,,57,red,sad,x,test")
    )
    refused(tmp_path, r"column 'part' has no val rows; \[split\] val_fraction = 0.2", CARD, table)
    dataset = load(tmp_path, CARD + "val_fraction = 0.25\n", table)
    split = dataset.problems[0].split
    assert (split == "test").sum() == 1
    assert 12 <= (split == "val").sum() <= 18
    assert all(len(set(split[dataset.groups == g].tolist())) == 1 for g in set(dataset.groups.tolist()))


def test_a_split_that_tears_a_group_is_refused_or_said_everywhere(tmp_path: Path) -> None:
    table = TABLE.replace("d,u3", "d,u1")
    refused(tmp_path, r"1 groups are in two splits \(first: 'u1'\), so the split leaks", table=table)
    dataset = load(tmp_path, CARD + "leaks = true\n", table)
    assert any("the split leaks" in note for note in dataset.notes)
    assert "leaks" in card_task(tmp_path / "mine.toml").protocols[0].warning


def test_images_are_below_their_root_present_or_dealt_with(tmp_path: Path) -> None:
    card = CARD.replace('[modalities.words]\nkind = "text"\ncolumns = ["text", "more"]',
                        '[modalities.photo]\nkind = "image"\ncolumn = "text"\nroot = "media"')  # fmt: skip
    table = (
        TABLE.replace("hello", "sub/1.jpg")
        .replace('"a, b"', "2.png")
        .replace("bye", "gone.png")
        .replace("more,,4", ",,4")
    )
    (tmp_path / "media" / "sub").mkdir(parents=True)
    (tmp_path / "media" / "sub" / "1.jpg").write_bytes(b"x")
    (tmp_path / "media" / "2.png").write_bytes(b"x")
    refused(tmp_path, r"row 4, column 'text' names gone.png, which is not there; 1 of 4 rows", card, table)
    masked = load(tmp_path, card, table, missing_images="mask")
    media = tmp_path / "media"
    assert list(masked.inputs["photo"]) == [media / "sub" / "1.jpg", None, media / "2.png", None, None]
    assert load(tmp_path, card, table, missing_images="drop").problems[0].split.tolist()[3] == ""
    for outside in ("../t.csv", "/etc/hostname", "sub/../../t.csv"):
        refused(tmp_path, r"row 1, column 'text' is .*, which is not below", card, table.replace("sub/1.jpg", outside))


def features(folder: Path, section: str) -> Dataset:
    return load(folder, CARD.replace('kind = "text"\ncolumns = ["text", "more"]', section))


def test_features_by_row_in_every_format(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    matrix = np.arange(10, dtype=np.float32).reshape(5, 2)
    matrix[1, 0] = -np.inf
    np.save(tmp_path / "f.npy", matrix)
    write_npz(tmp_path / "f.npz", {"one": matrix, "other": np.zeros(3)})
    save_file({"one": matrix}, tmp_path / "f.safetensors")
    for section in ('file = "f.npy"', 'file = "f.npz"\narray = "one"', 'file = "f.safetensors"'):
        dataset = features(tmp_path, f'kind = "features"\n{section}')
        values = np.asarray(dataset.inputs["words"])
        assert np.isnan(values[1, 0])
        np.testing.assert_array_equal(np.delete(values, 1, 0), np.delete(matrix, 1, 0))
        assert any("1 cells in 1 columns (first: 0) are not finite" in note for note in dataset.notes)


def test_features_by_id_in_any_order(tmp_path: Path) -> None:
    write_npz(tmp_path / "f.npz", {"v": np.array([[3.0], [1.0], [9.0]]), "k": np.array(["c", "a", "stranger"])})
    dataset = features(tmp_path, 'kind = "features"\nfile = "f.npz"\narray = "v"\nids = "k"')
    np.testing.assert_array_equal(np.asarray(dataset.inputs["words"])[:, 0], [1, np.nan, 3, np.nan, np.nan])
    assert any("3 rows have no features" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("arrays", "section", "told"),
    [
        ({"v": np.zeros((4, 2))}, "", r"f\.npz has 4 rows, .*t\.csv has 5: expected as many, or ids"),
        ({"v": np.zeros((5, 2)), "w": np.zeros(5)}, "", 'give array = "NAME"'),
        ({"v": np.zeros((5, 2))}, 'array = "vv"', "did you mean v"),
        ({"v": np.zeros((2, 2)), "k": np.array(["a", "a"])}, 'array = "v"\nids = "k"', "holds an id twice"),
        ({"v": np.zeros((2, 2)), "k": np.array(["p", "q"])}, 'array = "v"\nids = "k"', "no id in 'k'"),
        ({"v": np.zeros((5, 2, 2))}, "", "shape"),
        ({"v": np.array([["a"]] * 5)}, "", "holds <U1"),
    ],
)
def test_features_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], section: str, told: str) -> None:
    write_npz(tmp_path / "f.npz", arrays)
    with pytest.raises(UsageError, match=told):
        features(tmp_path, f'kind = "features"\nfile = "f.npz"\n{section}')


def test_a_feature_file_that_is_none(tmp_path: Path) -> None:
    for name in ("f.npy", "f.npz", "f.safetensors", "f.pkl"):
        for content in (None, b"", b"\x80\x04K\x01."):
            if content is not None:
                (tmp_path / name).write_bytes(content)
            with pytest.raises(UsageError, match=name.replace(".", r"\.")) as raised:
                features(tmp_path, f'kind = "features"\nfile = "{name}"')
            assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('licence = "CC0"', "", "has no 'licence'"),
        ('licence = "CC0"', 'license = "CC0"', "unknown key in task card .*'license': did you mean licence"),
        ('name = "mine"', 'name = "My Data"', "name was given 'My Data'"),
        ("numeric =", "numerics =", r"unknown key in .*\[modalities.facts\] 'numerics': did you mean numeric"),
        ('kind = "tabular"', 'kind = "table"', r"unknown kind of .* 'table'"),
        ('kind = "tabular"', "", r"\[modalities.facts\] has no kind"),
        ('kind = "tabular"', "kind = [1]", r"unknown kind of"),
        ('column = "part"', "fraction = [1]", r"unknown key in .*\[split\] 'fraction': did you mean fractions"),
        ('column = "part"', "fractions = [0.5, 0.5, 0.5]", "three shares with sum 1"),
        ('column = "part"', 'column = "parts"', "unknown column of .*t.csv 'parts': did you mean part"),
        ("[modalities.words]", '[modalities."a,b"]', "may not be empty or 'all'"),
        ('numeric = ["size"]', 'numeric = ["size", "mood"]', "column 'mood' is the label of mood"),
        ('categorical = ["colour"]', 'categorical = ["part"]', "column 'part' is the split"),
        ('column = "tags"', 'column = "tags"\ncolumns = ["x"]', "give either column"),
        ('column = "tags"', 'column = "tags"\nempty = "no"', "empty was given 'no'"),
        ('column = "mood"', 'column = "mood"\nlabels = ["a", "a"]', "a label stands twice"),
        ('id = "id"', 'id = "who"', "row 2, column 'who' is 'u1', which row 1 has as well"),
        ("[concepts.mood]", "primary_metric = 3\n[concepts.mood]", "unknown key in .*facts"),
        ('licence = "CC0"', 'licence = "CC0"\nprimary_metric = "macrof1"', "did you mean macro_f1"),
        ('licence = "CC0"', "licence = ", "is not TOML"),
        ('table = "t.csv"', 'table = "u.csv"', r"u\.csv: no such file"),
    ],
)
def test_a_wrong_card_is_one_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in CARD
    refused(tmp_path, told, CARD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (",1.5,red", ",big,red", r"t\.csv: row 1, column 'size' is 'big', expected a number"),
        ("c,u2", "c,", r"row 3, column 'who' is empty: every row needs a group"),
        ("c,u2", ",u2", r"row 3, column 'id' is empty"),
        (",TEST", ",exam", r"row 4, column 'part' is 'exam', expected train, val, test"),
        ("x,TEST", "x", r"row 4 \(line 5\) has 8 fields, the header 9"),
    ],
)
def test_a_wrong_cell_names_file_row_and_column(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in TABLE
    refused(tmp_path, told, table=TABLE.replace(old, new, 1))


def test_a_card_without_modalities_or_concepts(tmp_path: Path) -> None:
    head = CARD.split("[modalities")[0]
    refused(tmp_path, r"has no \[modalities.NAME\]", head)
    refused(tmp_path, r"has no \[concepts.NAME\]", CARD.split("[concepts")[0])


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
    text = (Path(__file__).resolve().parents[1] / "docs" / "own-data.md").read_text(encoding="utf-8")
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


def test_a_column_of_recordings_is_an_audio_modality(tmp_path: Path) -> None:
    import soundfile

    card = CARD.replace(
        "[modalities.facts]", '[modalities.voice]\nkind = "audio"\ncolumn = "size"\nroot = "media"\n[modalities.facts]'
    )
    card = card.replace('numeric = ["size"]\n', "")
    table = (
        TABLE.replace("1.5", "1.wav").replace("-2", "sub/2.flac").replace(",3,", ",absent.wav,").replace(",4,", ",,")
    )
    media = tmp_path / "media"
    (media / "sub").mkdir(parents=True)
    for name in ("1.wav", "sub/2.flac"):
        soundfile.write(media / name, np.zeros(800), 16_000)
    (task,) = [m for m in read_card_task(tmp_path, card, table).modalities if m.name == "voice"]
    assert (task.kind, task.encoder) == ("audio", "logmel")
    masked = load(tmp_path, card, table, missing_images="mask")
    assert list(masked.inputs["voice"]) == [media / "1.wav", None, media / "sub" / "2.flac", None, None]
    assert any("no audio file: voice is masked there" in note for note in masked.notes)
    with pytest.raises(UsageError, match=r"names absent\.wav, which is not there"):
        load(tmp_path, card, table)


def read_card_task(folder: Path, card: str, table: str) -> Any:
    (folder / "t.csv").write_text(table, encoding="utf-8")
    (folder / "mine.toml").write_text(card, encoding="utf-8")
    return card_task(folder / "mine.toml")


def test_a_row_whose_file_of_features_is_not_there_is_dealt_with_as_images_are(tmp_path: Path) -> None:
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.array([1.0, 2.0]))
    card = CARD.replace('kind = "text"\ncolumns = ["text", "more"]', 'kind = "features"\ncolumn = "text"')
    table = (
        TABLE.replace("hello", "a.npy").replace('"a, b"', "b.npy").replace("bye", "gone.npy").replace("more,,4", ",,4")
    )
    refused(tmp_path, r"row 4, column 'text' names gone.npy, which is not there; 1 of 4 rows", card, table)
    masked = load(tmp_path, card, table, missing_images="mask")
    assert np.isnan(masked.inputs["words"]).all(axis=1).tolist() == [False, True, False, True, True]
    assert "words: 2 rows have no features: masked" in masked.notes
    assert "1 of 4 rows have no features file: words is masked there" in masked.notes
    assert load(tmp_path, card, table, missing_images="drop").problems[0].split.tolist()[3] == ""


def test_the_column_that_names_an_absent_file_is_told_and_every_modality_is_counted(tmp_path: Path) -> None:
    card = CARD.replace('columns = ["text", "more"]', 'columns = ["text", "more"]\nroot = "."')
    card = card.replace(
        "[modalities.facts]", '[modalities.photo]\nkind = "image"\ncolumn = "colour"\n[modalities.facts]'
    )
    card = card.replace('categorical = ["colour"]\n', "")
    table = (
        TABLE.replace("hello,you", "t.csv,b.txt")
        .replace('"a, b"', "")
        .replace("bye,now", "t.csv,")
        .replace("more,,4", ",,4")
    )
    refused(
        tmp_path, r"row 1, column 'more' names b.txt, which is not there; 1 of 4 rows have no text file", card, table
    )
    masked = load(tmp_path, card, table, missing_images="mask")
    assert "1 of 4 rows have no text file: words is masked there" in masked.notes
    assert "4 of 4 rows have no image file: photo is masked there" in masked.notes


SCORED = CARD.replace(
    '[concepts.mood]\nkind = "exclusive"\ncolumn = "mood"', '[concepts.size]\nkind = "score"\ncolumn = "size"'
)
SCORED = SCORED.replace('numeric = ["size"]\n', "")


def test_a_score_is_a_number_a_row_and_nothing_where_the_cell_is_empty(tmp_path: Path) -> None:
    dataset = load(tmp_path, SCORED)
    np.testing.assert_array_equal(dataset.targets["size"], [1.5, np.nan, -2, 3, 4])
    assert dataset.targets["size"].dtype == np.float64
    assert dataset.labelled("size").tolist() == [True, False, True, True, True]
    concept = dataset.concepts[0]
    assert (concept.name, concept.kind, concept.labels, concept.bounds) == ("size", "score", ("size",), None)
    assert "size: 1 rows have no label: masked" in dataset.notes
    bounded = load(tmp_path, SCORED.replace('column = "size"', 'column = "size"\nbounds = [-2, 4]'))
    assert bounded.concepts[0].bounds == (-2, 4)


@pytest.mark.parametrize(
    ("bounds", "cell", "told"),
    [
        ("", "inf", r"t\.csv: row 3, column 'size' is -inf, expected a finite number"),
        ("", "much", r"row 3, column 'size' is '-much', expected a number"),
        ("bounds = [-1.5, 4]", "2", r"row 3, column 'size' is -2, expected one from -1\.5 to 4"),
        ("bounds = [4, -2]", "2", r"\[concepts\.size\]: bounds was given \[4\.0, -2\.0\]: expected the lowest"),
        ("bounds = [1, 1]", "2", "expected the lowest, then the highest"),
        ("bounds = [1]", "2", r"\[concepts\.size\]: bounds was given \[1\]: 1 is missing"),
        ("bounds = [1, inf]", "2", r"\[concepts\.size\]: bounds"),
        ('labels = ["a"]', "2", r"unknown key in .*\[concepts\.size\] 'labels'"),
    ],
)
def test_a_score_that_is_none_is_one_line(tmp_path: Path, bounds: str, cell: str, told: str) -> None:
    card = SCORED.replace('column = "size"', f'column = "size"\n{bounds}')
    refused(tmp_path, told, card, TABLE.replace(",-2,", f",-{cell},"))


def test_a_column_without_any_score_is_one_line(tmp_path: Path) -> None:
    rows = "\n".join(",".join("" if place == 4 else cell for place, cell in enumerate(line.split(",")))
                     for line in TABLE.replace('"a, b"', "a").splitlines()[1:])  # fmt: skip
    refused(tmp_path, "column 'size' has no number in any row", SCORED, TABLE.splitlines()[0] + "\n" + rows + "\n")


def test_a_drawn_split_is_balanced_over_the_parts_of_a_scale(tmp_path: Path) -> None:
    lines = [f"r{k},g{k},t{k},,{k % 100},red,glad,x;y," for k in range(500)]
    table = "\n".join([TABLE.splitlines()[0], *lines, ""])
    dataset = load(tmp_path, SCORED.replace('column = "part"', "fractions = [0.5, 0.25, 0.25]"), table)
    target, split = dataset.targets["size"], dataset.problems[0].split
    for part, share in (("train", 50), ("val", 25), ("test", 25)):
        counts = np.histogram(target[split == part], bins=5)[0]
        assert abs(counts - share).max() <= 3, part


def test_cells_that_say_that_there_is_nothing(tmp_path: Path) -> None:
    table = TABLE.replace(",1.5,", ",NA,").replace("blue,glad", "blue,NA").replace("hello,you", "NA,you")
    refused(tmp_path, r"row 1, column 'size' is 'NA', expected a number", table=table)
    dataset = load(tmp_path, CARD.replace('id = "id"', 'id = "id"\nmissing = ["NA"]'), table)
    assert np.isnan(np.asarray(dataset.inputs["facts"])[0, 0])
    assert dataset.targets["mood"].tolist() == [0, 1, -1, -1, 1]
    assert dataset.inputs["words"][0] == "you"


@pytest.mark.parametrize(
    ("word", "part"), [("trn", "train"), ("Training", "train"), ("DEV", "val"), (" testing ", "test")]
)
def test_words_for_a_split(tmp_path: Path, word: str, part: str) -> None:
    dataset = load(tmp_path, table=TABLE.replace("y;x,", f"y;x,{word}"))
    assert dataset.problems[0].split.tolist()[4] == part


def test_files_named_by_the_id(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for name in "abc":
        (media / f"{name}.jpg").write_bytes(b"x")
        (media / f"{name}.txt").write_text(f"text {name}\n")
        np.save(media / f"{name}.npy", np.array([1.0, ord(name)]))
    where = 'root = "media"\nsuffix = '
    sections = f"""[modalities.photo]
kind = "image"
column = "id"
{where}".jpg"
[modalities.words]
kind = "text"
columns = ["id"]
{where}".txt"
[modalities.facts]
kind = "features"
column = "id"
{where}".npy"
"""
    card = CARD[: CARD.index("[modalities")] + sections + CARD[CARD.index("[concepts") :]
    refused(tmp_path, r"row 4, column 'id' names d\.jpg, which is not there; 1 of 4 rows have no image", card)
    dataset = load(tmp_path, card, missing_images="mask")
    assert list(dataset.inputs["photo"]) == [*(media / f"{name}.jpg" for name in "abc"), None, None]
    assert list(dataset.inputs["words"]) == ["text a", "text b", "text c", None, None]
    np.testing.assert_array_equal(np.asarray(dataset.inputs["facts"])[:3, 1], [97, 98, 99])
    refused(
        tmp_path,
        "suffix goes with root",
        CARD.replace('columns = ["text", "more"]', 'columns = ["text"]\nsuffix = ".txt"'),
    )
    section = 'kind = "features"\nfile = "f.npy"\nsuffix = ".npy"'
    refused(tmp_path, "suffix goes with column", CARD.replace('kind = "text"\ncolumns = ["text", "more"]', section))
    refused(tmp_path, "which is not below", card.replace('".jpg"', '"/../../x"'))


@pytest.mark.parametrize("encoding", ["hex", "no-such", "a\\u0000b", ""])
def test_an_encoding_that_is_none(tmp_path: Path, encoding: str) -> None:
    card = CARD.replace('licence = "CC0"', f'licence = "CC0"\nencoding = "{encoding}"')
    refused(tmp_path, "is no known encoding", card)
    (tmp_path / "t.txt").write_text("x")
    parquet = card.replace("t.csv", "t.npz").replace('columns = ["text", "more"]', 'columns = ["text"]\nroot = "."')
    columns = {name: np.array(["t.txt"] * 5) for name in ("text", "colour")}
    columns |= {
        "id": np.arange(5),
        "who": np.arange(5),
        "size": np.ones(5),
        "mood": np.array(list("ababa")),
        "tags": np.array(["x"] * 5),
    }
    write_npz(tmp_path / "t.npz", columns | {"part": np.array(["train", "train", "val", "test", ""])})
    refused(tmp_path, r"t\.txt: .* is no known encoding", parquet)
