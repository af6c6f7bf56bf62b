"""Sequences of a task card: every layout gives the same steps, what is not there is NaN, and faults are one line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.arrays import write_npz
from mmbench.card import card_task
from mmbench.card_sequences import averaged
from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.features.vector import encode

IDS = ("a", "b", "c", "d", "e")
LENGTHS = (3, 1, 0, 4, 2)
STEPS = [np.random.default_rng(k).normal(size=(n, 2)).astype(np.float32) for k, n in enumerate(LENGTHS)]
PADDED = np.zeros((5, 6, 2), np.float32)
for _place, _steps in enumerate(STEPS):
    PADDED[_place, : len(_steps)] = _steps
WANTED = np.full((5, 4, 2), np.nan)
for _place, _steps in enumerate(STEPS):
    WANTED[_place, : len(_steps)] = _steps
CARD = """\
name = "walks"
table = "t.csv"
id = "id"
licence = "CC0"
[modalities.walk]
kind = "sequence"
{section}
[concepts.mood]
kind = "exclusive"
column = "mood"
[split]
column = "part"
"""
TABLE = "id,mood,part,file\n" + "".join(
    f"{name},{'xy'[k % 2]},{('train', 'train', 'train', 'val', 'test')[k]},{name}.npy\n" for k, name in enumerate(IDS)
)


def load(folder: Path, section: str, table: str = TABLE, **options: str) -> Dataset:
    (folder / "t.csv").write_text(table, encoding="utf-8")
    (folder / "walks.toml").write_text(CARD.format(section=section), encoding="utf-8")
    task = card_task(folder / "walks.toml")
    assert [(m.kind, m.encoder) for m in task.modalities] == [("sequence", "standardize")]
    values = {o.name: o.default for o in task.options} | options
    dataset: Dataset = task.load(LoadRequest(None, folder, task.protocols[0], values, ("walk",), 0))
    return dataset


def write_each(folder: Path) -> None:
    for name, steps in zip(IDS, STEPS, strict=True):
        np.save(folder / f"{name}.npy", steps)


def write_layouts(folder: Path) -> dict[str, str]:
    """The same sequences in every layout that a card can name, and the sections that name them."""
    from safetensors.numpy import save_file

    write_each(folder)
    lengths = np.array(LENGTHS)
    order = [3, 0, 4, 2, 1]
    write_npz(folder / "padded.npz", {"x": PADDED, "n": lengths, "other": np.zeros(2)})
    write_npz(folder / "mixed.npz", {"x": PADDED[order], "n": lengths[order], "k": np.array(IDS)[order]})
    write_npz(folder / "flat.npz", {"x": np.concatenate(STEPS), "n": lengths})
    write_npz(
        folder / "flat_mixed.npz",
        {"x": np.concatenate([STEPS[k] for k in order]), "n": lengths[order], "k": np.array(IDS)[order]},
    )
    named = dict(zip(IDS, STEPS, strict=True))
    write_npz(folder / "named.npz", named)
    save_file(named, folder / "named.safetensors")
    nan = np.where(np.arange(6)[:, None] < lengths[:, None, None], PADDED, np.nan)
    np.save(folder / "nan.npy", nan)
    np.save(folder / "zeros.npy", PADDED)
    np.save(folder / "fortran.npy", np.asfortranarray(nan))
    return {
        "padded": 'file = "padded.npz"\narray = "x"\nlengths = "n"',
        "padded, by id": 'file = "mixed.npz"\narray = "x"\nlengths = "n"\nids = "k"',
        "one after another": 'file = "flat.npz"\narray = "x"\nlengths = "n"',
        "one after another, by id": 'file = "flat_mixed.npz"\narray = "x"\nlengths = "n"\nids = "k"',
        "an array a row": 'file = "named.npz"',
        "an array a row, safetensors": 'file = "named.safetensors"',
        "a file a row": 'column = "file"',
        "padded with NaN": 'file = "nan.npy"',
        "padded with 0": 'file = "zeros.npy"\nzero_padded = true',
        "column by column": 'file = "fortran.npy"',
    }


def test_every_layout_gives_the_same_steps(tmp_path: Path) -> None:
    for layout, section in write_layouts(tmp_path).items():
        dataset = load(tmp_path, section)
        values = np.asarray(dataset.inputs["walk"])
        assert values.shape[0] == 5 and values.shape[2] == 2, layout
        np.testing.assert_array_equal(values[:, :4], WANTED, err_msg=layout)
        assert np.isnan(values[:, 4:]).all(), layout  # the padding of a file that says no lengths
        assert not any("0" in note and "zero_padded" in note for note in dataset.notes), layout


def test_every_layout_in_files_gives_the_same_bits_as_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = write_layouts(tmp_path)
    del sections["column by column"]  # which is refused where it is large
    held = {layout: np.asarray(load(tmp_path, section).inputs["walk"]) for layout, section in sections.items()}
    monkeypatch.setattr("mmbench.bulk.LARGE", 1)
    monkeypatch.setattr("mmbench.bulk.BLOCK", 6)
    monkeypatch.setattr("mmbench.card_sequences.ROWS", 2)
    for layout, section in sections.items():
        values = load(tmp_path, section).inputs["walk"]
        assert isinstance(values, np.memmap), layout
        assert values.astype(np.float64).tobytes() == held[layout].tobytes(), layout
    with pytest.raises(UsageError, match=r"fortran\.npy lies column by column"):
        load(tmp_path, 'file = "fortran.npy"')


def test_padding_changes_no_feature(tmp_path: Path) -> None:
    """A longer padding, in the file or in the array, leaves the encoded steps and their mask as they are."""
    section = 'file = "w.npz"\narray = "x"\nlengths = "n"'
    encoded = []
    for longest in (4, 9):
        padded = np.full((5, longest, 2), 7.0)  # no padding value is looked at where there are lengths
        padded[:, :4] = np.where(np.isnan(WANTED), padded[:, :4], WANTED)
        write_npz(tmp_path / "w.npz", {"x": padded, "n": np.array(LENGTHS)})
        values = np.asarray(load(tmp_path, section).inputs["walk"])
        np.testing.assert_array_equal(values, WANTED)
        wider = np.concatenate([values, np.full((5, longest, 2), np.nan)], axis=1)
        fit = np.arange(3)
        encoded += [
            encode(x, cache=tmp_path / "cache", identity=["x"], fit_rows=fit, kind="sequence") for x in (values, wider)
        ]
    for one in encoded:
        assert one.steps is not None
        assert one.steps.sum(axis=1).tolist() == list(LENGTHS)
        np.testing.assert_array_equal(one.values[:, :4], encoded[0].values)
        assert not one.values[~one.steps].any()


def test_steps_of_0_are_padding_only_where_the_card_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", PADDED)
    dataset = load(tmp_path, 'file = "zeros.npy"')
    np.testing.assert_array_equal(np.asarray(dataset.inputs["walk"]), PADDED)
    assert any("20 steps hold nothing but 0" in note and "zero_padded = true" in note for note in dataset.notes)


def test_cells_that_are_not_finite_are_missing_and_told(tmp_path: Path) -> None:
    steps = PADDED[:, :4].astype(np.float64)
    steps[0, 0], steps[1, 0, 1], steps[3, 2] = [np.inf, 1.0], np.nan, [np.nan, -np.inf]
    write_npz(tmp_path / "w.npz", {"x": steps, "n": np.array(LENGTHS)})
    dataset = load(tmp_path, 'file = "w.npz"\narray = "x"\nlengths = "n"')
    values = np.asarray(dataset.inputs["walk"])
    assert np.isnan(values[0, 0, 0]) and values[0, 0, 1] == 1 and np.isnan(values[3, 2]).all()
    assert any("walk: 2 cells are not finite" in note for note in dataset.notes)
    assert any("walk: 1 rows have no features: masked" in note for note in dataset.notes)


@pytest.mark.parametrize(("length", "most"), [(7, 3), (8, 4), (5, 5), (2, 5), (100, 1), (11, 10)])
def test_long_sequences_are_means_of_even_runs(length: int, most: int) -> None:
    steps = np.random.default_rng(length).normal(size=(length, 3))
    steps[0, 0] = np.nan
    steps[:, 2] = np.nan
    found = averaged(steps, most)
    runs = [[t for t in range(length) if t * most // length == place] for place in range(min(most, length))]
    if length <= most:
        runs = [[t] for t in range(length)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing
        wanted = np.stack([np.nanmean(steps[run], axis=0) for run in runs])
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert max(map(len, runs)) - min(map(len, runs)) <= 1


def test_what_is_longer_than_max_steps_is_averaged(tmp_path: Path) -> None:
    write_each(tmp_path)
    values = np.asarray(load(tmp_path, 'column = "file"\nmax_steps = 2').inputs["walk"])
    assert values.shape == (5, 2, 2)
    np.testing.assert_allclose(values[0], [STEPS[0][:2].mean(0), STEPS[0][2]], rtol=1e-6)
    np.testing.assert_allclose(values[3], [STEPS[3][:2].mean(0), STEPS[3][2:].mean(0)], rtol=1e-6)
    np.testing.assert_array_equal(values[4], STEPS[4])
    assert np.isnan(values[2]).all() and np.isnan(values[1, 1]).all()


def test_a_row_whose_file_is_not_there_is_dealt_with(tmp_path: Path) -> None:
    write_each(tmp_path)
    (tmp_path / "e.npy").unlink()
    with pytest.raises(UsageError, match=r"t\.csv: row 5, column 'file' names e\.npy, which is not there"):
        load(tmp_path, 'column = "file"')
    masked = load(tmp_path, 'column = "file"', missing_images="mask")
    assert np.isnan(np.asarray(masked.inputs["walk"])[4]).all()
    empty = load(tmp_path, 'column = "file"', TABLE.replace("e.npy", ""))
    np.testing.assert_array_equal(empty.inputs["walk"], masked.inputs["walk"])
    dropped = load(tmp_path, 'column = "file"', missing_images="drop")
    assert [d.problems[0].split[4] for d in (masked, empty, dropped)] == ["test", "test", ""]
    assert "1 of 5 rows have no sequence file: walk is masked there" in masked.notes
    assert "1 of 5 rows have no sequence file: dropped from every split" in dropped.notes
    lines = [[note for note in d.notes if "no features" in note] for d in (masked, empty, dropped)]
    told = [[f"walk: {count} rows have no features: masked"] for count in (1, 2, 1)]
    assert lines == told  # row 3 has a file of no steps


FLAT = {"x": np.zeros((10, 2)), "n": np.array(LENGTHS)}


@pytest.mark.parametrize(
    ("arrays", "section", "told"),
    [
        (FLAT | {"n": np.array([3, 1, 0, 4, 1])}, 'array = "x"\nlengths = "n"', r"sums to 9, array 'x' has 10 steps"),
        (FLAT | {"n": np.array([-1, 1, 4, 4, 2])}, 'array = "x"\nlengths = "n"', "holds -1, expected the number of"),
        (FLAT | {"n": np.array([5, 5])}, 'array = "x"\nlengths = "n"', r"has 2 rows, .*t\.csv has 5"),
        (FLAT | {"n": np.array([2.0] * 5)}, 'array = "x"\nlengths = "n"', "array 'n' holds float64"),
        (FLAT, 'array = "x"\nlengths = "m"', "no array 'm'"),
        (FLAT, 'array = "y"\nlengths = "n"', "unknown array of .* 'y'"),
        (FLAT, 'array = "x"', r"shape \(10, 2\), expected \(rows, steps, features\)"),
        ({"x": PADDED, "n": np.array([3, 1, 0, 4, 7])}, 'array = "x"\nlengths = "n"', "does not fit array 'x'"),
        ({"x": PADDED, "n": np.array([3, 1])}, 'array = "x"\nlengths = "n"', "does not fit array 'x'"),
        ({"x": PADDED[..., None]}, 'array = "x"', r"shape \(5, 6, 2, 1\), expected"),
        ({"x": PADDED[..., :0]}, 'array = "x"', r"has shape \(6, 0\), expected \(steps, features\)"),
        ({"x": PADDED[:4]}, 'array = "x"', r"has 4 rows, .*t\.csv has 5: expected as many, or ids"),
        ({"x": PADDED, "n": np.zeros(5, int)}, 'array = "x"\nlengths = "n"', "no row has a sequence"),
        ({"a": STEPS[0], "b": np.zeros((2, 3))}, "", "row 2: modality walk has 3 features a step, rows before it"),
        ({"a": STEPS[0], "b": np.zeros(3)}, "", r"row 2: modality walk has shape \(3,\), expected \(steps, features\)"),
        ({"p": STEPS[0], "q": STEPS[1]}, "", r"none named by an id of .*t\.csv: give array"),
        ({"a": np.array([["x"]]), "b": STEPS[1]}, "", "array 'a' holds <U1"),
    ],
)  # fmt: skip
def test_sequences_that_do_not_fit_are_one_line(
    tmp_path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], section: str, told: str
) -> None:
    write_npz(tmp_path / "w.npz", arrays)
    with pytest.raises(UsageError, match=told) as raised:
        load(tmp_path, f'file = "w.npz"\n{section}')
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("", "give either file, or column"),
        ('file = "w.npy"\ncolumn = "file"', "give either file, or column"),
        ('column = "file"\nlengths = "n"', "lengths goes with file, not with column"),
        ('file = "w.npy"\nlengths = "n"', "names an array of the same file, which only .npz holds"),
        ('file = "w.npy"\nmax_steps = -1', "max_steps was given -1"),
        ('file = "w.npy"\nmax_step = 3', "did you mean max_steps"),
        ('file = "../w.npy"', "which is not below the card's folder"),
    ],
)
def test_sections_that_cannot_be_are_one_line(tmp_path: Path, section: str, told: str) -> None:
    np.save(tmp_path / "w.npy", PADDED)
    with pytest.raises(UsageError, match=told) as raised:
        load(tmp_path, section)
    assert "\n" not in str(raised.value)


def test_a_damaged_file_of_a_row_is_named(tmp_path: Path) -> None:
    write_each(tmp_path)
    for content in (b"x", b"\x93NUMPY\x01\x00", (tmp_path / "b.npy").read_bytes()[:-1]):
        (tmp_path / "b.npy").write_bytes(content)
        with pytest.raises(UsageError, match=r"b\.npy") as raised:
            load(tmp_path, 'column = "file"')
        assert "\n" not in str(raised.value)
