"""The table over tasks: ranks by hand, Friedman's p by hand, what is left out."""

import numpy as np
from scipy import stats

from mmbench.reporting.across import across_table
from mmbench.reporting.records import Collection


def collection(name, values, metric="macro_f1", concepts=("c",), generated=False):
    """A task's records: ``values`` by method, a number or one a concept."""
    records = [
        {"problem": "joint", "concept": c, "label": "", "metric": metric, "method": m, "mean": np.atleast_1d(v)[i]}
        for m, v in values.items()
        for i, c in enumerate(concepts)
    ]
    info = {"task": {"name": name, "title": name, "generated": generated}, "protocol": {"primary_metric": metric}}
    info["concepts"] = [{"name": c, "kind": "exclusive"} for c in concepts]
    return Collection(info, records, None, {}, {}, frozenset(), {}, ())


def cells(table):
    return {row[0].text: [entry.text for entry in row[1:]] for row in table.rows}


def test_ranks_wins_and_means():
    first = collection("one", {"a": (0.9, 0.5), "b": (0.6, 0.6), "d": (0.1, 0.1)}, concepts=("x", "y"))
    second = collection("two", {"b": 0.2, "a": 0.4, "e": 0.9}, metric="hamming")
    table = across_table([first, second])
    assert cells(table) == {"a": ["1.50", "1", "0.700", "0.400"], "b": ["1.50", "1", "0.600", "0.200"]}
    assert table.columns == ("method", "average rank", "wins", "one (macro_f1)", "two (hamming)")
    assert any("left out: d, e" in note for note in table.notes)
    assert any("needs 5 data sets, has 2" in note for note in table.notes)


def test_ties_share_a_rank_and_a_win():
    table = across_table([collection(n, {"a": 0.5, "b": 0.5, "c": 0.1}) for n in "xyz"])
    assert cells(table)["a"][:2] == cells(table)["b"][:2] == ["1.50", "3"]


def test_five_tasks_have_friedmans_test():
    values = np.random.default_rng(1).random((6, 3))
    table = across_table([collection(str(i), dict(zip("abc", row, strict=True))) for i, row in enumerate(values)])
    chi2 = stats.friedmanchisquare(*values.T).statistic
    p = stats.f.sf(5 * chi2 / (6 * 2 - chi2), 2, 10)
    (note,) = (n for n in table.notes if "Friedman" in n)
    assert note.endswith(f"W {chi2 / 12:.2f}, p {p:.3f}")


def test_a_method_without_a_value_somewhere_is_left_out_and_generated_data_is_named():
    first = collection("one", {"a": (0.9, None), "b": (0.6, 0.6), "c": (0.5, 0.5)}, concepts=("x", "y"), generated=True)
    table = across_table([first, collection("two", {"a": 1.0, "b": 0.5, "c": 0.4, "ceiling:text": 1.0})])
    assert list(cells(table)) == ["b", "c"]
    assert table.notes[0].startswith("GENERATED DATA: one")


def test_one_common_method_is_no_comparison():
    assert across_table([collection("one", {"a": 1.0}), collection("two", {"a": 1.0, "b": 0.5})]) is None
