"""``--resplit``: a split for each seed, one table over all, and the test that overlapping splits allow."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from mmbench.reporting.records import make_records
from mmbench.running.store import RunFolder

METHODS = ("--method", "concat+equal,linear:all,majority")
QUICK = ("--epochs", "2", "--no-energy")


@pytest.fixture
def split(mmbench, tmp_path):
    """Three splits of digits: how to call mmbench, what it printed, and the run folders by split seed."""
    done = mmbench("run", "digits", *METHODS, "--seeds", "3", "--resplit", *QUICK)
    assert done.code == 0, done.err
    folders = [RunFolder(path) for path in (tmp_path / "results" / "runs").iterdir()]
    return mmbench, done, sorted(folders, key=lambda f: f.info()["config"]["split_seed"])


def test_a_row_is_the_corrected_test_over_the_runs_own_values(split):
    _, done, folders = split
    assert [f.info()["config"]["split_seed"] for f in folders] == [0, 1, 2]
    values = {
        m: np.array([next(r["mean"] for r in make_records(f).records if (r["concept"], r["label"], r["method"],
                     r["metric"]) == ("parity", "", m, "macro_f1")) for f in folders])
        for m in ("concat+equal", "linear:all")
    }  # fmt: skip
    table = done.out[done.out.index("parity · macro_f1 over splits, against concat+equal") :]
    row = next(line for line in table.splitlines() if line.startswith("linear:all"))
    d = values["linear:all"] - values["concat+equal"]
    error = np.sqrt(d.var(ddof=1) * (1 / 3 + 359 / 1078))
    half = stats.t.ppf(0.975, 2) * error
    p = 2 * stats.t.sf(abs(d.mean()) / error, 2)
    found = [float(n) for n in re.findall(r"-?\d\.\d+", row.replace("<", ""))]
    expected = [
        values["linear:all"].mean(),
        values["linear:all"].std(ddof=1),
        d.mean(),
        d.mean() - half,
        d.mean() + half,
    ]
    assert found[:2] == pytest.approx(expected[:2], abs=6e-4)
    assert found[2:5] == pytest.approx(expected[2:], abs=6e-3)  # the interval is wide: two decimals
    assert found[5] == pytest.approx(p, abs=1e-3)
    assert "3 splits, seeds 0, 1, 2; about 1,078 training and 359 test rows a split" in table
    assert "over 6 comparisons with concat+equal" in table


def test_compare_prints_it_again_and_another_seed_extends_it(split, tmp_path):
    mmbench, done, folders = split
    names = [folder.path.name for folder in folders]
    again = mmbench("compare", *names, "--resplit", "--reference", "concat+equal")
    assert again.code == 0, again.err
    assert again.out.strip() in done.out
    more = mmbench("run", "digits", *METHODS, "--seeds", "4", "--resplit", *QUICK)
    assert more.out.count("nothing to train") + more.err.count("nothing to train") == 3
    assert "4 splits" in more.out


def test_what_cannot_be_compared_over_splits_is_refused(split, mmbench):
    _, _, folders = split
    names = [folder.path.name for folder in folders]
    assert mmbench("compare", names[0], "--resplit").code == 2
    twice = mmbench("compare", names[0], names[0], "--resplit")
    assert (twice.code, "split seeds 0, 0" in twice.err) == (3, True)
    other = mmbench("run", "digits", *METHODS, "--seeds", "1", "--split-seed", "5", "--epochs", "1", "--no-energy")
    assert other.code == 0
    new = re.search(r"digits-default-\w{8}", other.err + other.out)
    assert new is not None
    mixed = mmbench("compare", names[0], new.group(), "--resplit")
    assert (mixed.code, "training.epochs=1" in mixed.err) == (3, True)
    without = mmbench("compare", *names)
    assert (without.code, "--resplit" in without.err) == (3, True)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("digits", "--seeds", "1"), "one seed"),
        (("digits", "--seeds", "2", "--split-seed", "3"), "--split-seed and --resplit"),
        (("crisismmd", "--protocol", "agreed", "--seeds", "2"), "has a fixed split"),
    ],
)
def test_a_request_that_has_no_splits_to_draw_is_one_line(mmbench, flags, says):
    done = mmbench("run", *flags, "--resplit")
    assert done.code == 2
    assert says in done.err and len(done.err.strip().splitlines()) == 1


SOMETIMES = """
from mmbench.contracts import Model
import numpy as np
NAME = "sometimes"
KIND = "model"
SUMMARY = "fails on the seeds that are named"
class Sometimes(Model):
    n_parameters = 0
    def __init__(self, bad): self.bad = bad
    def fit(self, train, val, context):
        assert str(context.seed) not in self.bad
        self.sizes = {c.name: len(c.labels) for c in context.concepts}
        return {}
    def predict(self, inputs):
        return {name: np.full((len(inputs), k), 1 / k) for name, k in self.sizes.items()}
def build(*, bad: str): return Sometimes(bad)
"""


def test_methods_that_failed_on_a_split_are_not_paired_with_another(mmbench, tmp_path):
    (tmp_path / "sometimes.py").write_text(SOMETIMES)
    command = ("run", "digits", "--plugin", "sometimes.py", "--seeds", "3", "--resplit", *QUICK)
    done = mmbench(*command, "--method", "sometimes:bad=0,sometimes:bad=2,majority")
    assert done.code == 1
    assert "parity · macro_f1 over splits, against majority" in done.out
    runs = [path.name for path in (tmp_path / "results" / "runs").iterdir()]
    again = mmbench("compare", *runs, "--resplit", "--reference", "sometimes:bad=0")
    table = again.out[again.out.index("parity · macro_f1 over splits, against sometimes:bad=0") :]
    rows = {line.split()[0]: line.rstrip() for line in table.splitlines()[2:5]}
    assert rows["sometimes:bad=0"].endswith("reference; 2 of 3 splits")
    assert rows["sometimes:bad=2"].split()[3:] == ["–", "–", "–", "–;", "2", "of", "3", "splits"]
    assert rows["majority"].split()[3:] == ["–", "–", "–", "–"]
    none = mmbench(*command, "--method", "sometimes:bad=012")
    assert none.code == 1 and not none.out
    assert none.err.count("failed: joint sometimes:bad=012 seed") == 6  # as they come, and again at the end
