"""Stressed test inputs against what they claim: statistics of the noise, real missing rows, a real exchange of rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmbench.errors import UsageError
from mmbench.evaluation.stressed import Scenario
from mmbench.running.prepare import Part
from mmbench.running.stress import (
    DEFAULT_LEVELS,
    check_stress,
    deviations,
    donors,
    join_levels,
    list_scenarios,
    parse_stress,
    stress,
    targets,
)


def part(n: int, seed: int, group_size: int = 1) -> Part:
    """Two modalities, a vector and a sequence of up to five steps; a tenth of each is missing, never both."""
    rng = np.random.default_rng(seed)
    scale = np.array([0.1, 1.0, 10.0, 0.0])
    present = {"vector": rng.random(n) > 0.1}
    present["walk"] = (rng.random(n) > 0.1) | ~present["vector"]
    steps = (np.arange(5) < rng.integers(1, 6, n)[:, None]) & present["walk"][:, None]
    values = {
        "vector": (rng.standard_normal((n, 4)) * scale + 2) * present["vector"][:, None],
        "walk": rng.standard_normal((n, 5, 3)) * steps[..., None],
    }
    ids = np.array([f"s{row}" for row in range(n)])
    groups = np.array([f"g{row // group_size}" for row in range(n)])
    float32 = {name: value.astype(np.float32) for name, value in values.items()}
    return Part(ids, groups, float32, present, {"walk": steps}, {"c": np.zeros(n, dtype=np.int64)})


TRAIN, TEST = part(400, 0), part(500, 1)
SCALE = deviations(TRAIN)


def rows(whole: Part, index: np.ndarray) -> Part:
    def cut(arrays):
        return {name: array[index] for name, array in arrays.items()}

    return Part(
        whole.ids[index], whole.groups[index], cut(whole.values), cut(whole.present), cut(whole.steps),
        cut(whole.targets),
    )  # fmt: skip


def same(one: Part, other: Part, *names: str) -> bool:
    return all(
        np.array_equal(a[name], b[name])
        for name in names
        for a, b in ((one.values, other.values), (one.present, other.present), (one.steps, other.steps))
        if name in a
    )


def test_deviations_are_those_of_present_rows_and_steps() -> None:
    vector = TRAIN.values["vector"][TRAIN.present["vector"]].astype(np.float64)
    walk = TRAIN.values["walk"][TRAIN.steps["walk"]].astype(np.float64)
    assert SCALE["vector"] == pytest.approx(vector.std(0), rel=1e-6)
    assert SCALE["walk"] == pytest.approx(walk.std(0), rel=1e-6)
    assert SCALE["vector"][3] == 0


@pytest.mark.parametrize("name", ["vector", "walk"])
def test_noise_has_the_deviation_asked_for_and_touches_nothing_else(name: str) -> None:
    other = "walk" if name == "vector" else "vector"
    noisy, since = stress(TEST, Scenario("noise", name, 2.0), SCALE)
    there = TEST.steps.get(name, TEST.present[name])
    added = (noisy.values[name] - TEST.values[name])[there].astype(np.float64)
    z = added[:, SCALE[name] > 0] / (2 * SCALE[name][SCALE[name] > 0])
    n = z.size
    assert abs(z.mean()) < 4 / n**0.5 and abs(z.std() - 1) < 4 / (2 * n) ** 0.5
    assert abs(np.corrcoef(z.T)[np.triu_indices(z.shape[1], 1)]).max() < 4 / len(z) ** 0.5
    assert (noisy.values[name][~there] == 0).all() and (since == 0).all()
    assert same(noisy, TEST, other)
    assert all((noisy.present[m] == TEST.present[m]).all() for m in TEST.present)
    assert (noisy.steps["walk"] == TEST.steps["walk"]).all()


def test_noise_of_a_larger_level_is_the_same_noise_grown_and_all_is_both() -> None:
    one, four = (stress(TEST, Scenario("noise", "all", level), SCALE)[0] for level in (1.0, 4.0))
    for name in TEST.values:
        alone = stress(TEST, Scenario("noise", name, 1.0), SCALE)[0]
        assert (alone.values[name] == one.values[name]).all()
        small, large = (part.values[name].astype(np.float64) - TEST.values[name] for part in (one, four))
        assert large == pytest.approx(4 * small, abs=1e-4)


@pytest.mark.parametrize("axis", ["noise", "missing"])
@pytest.mark.parametrize("modality", ["vector", "all"])
def test_a_row_is_stressed_alike_whatever_stands_beside_it(axis: str, modality: str) -> None:
    scenario = Scenario(axis, "any" if (axis, modality) == ("missing", "all") else modality, 1.0)
    order = np.random.default_rng(3).permutation(len(TEST.ids))[:200]
    mixed = stress(rows(TEST, order), scenario, SCALE)[0]
    assert same(mixed, rows(stress(TEST, scenario, SCALE)[0], order), "vector", "walk")


@pytest.mark.parametrize("name", ["vector", "walk"])
def test_a_missing_modality_looks_as_if_it_had_never_been_there(name: str) -> None:
    other = "walk" if name == "vector" else "vector"
    gone, since = stress(TEST, Scenario("missing", name, 1.0), SCALE)
    had = TEST.present[name]
    assert not gone.present[name].any() and (gone.values[name] == 0).all()
    assert name != "walk" or not gone.steps["walk"].any()
    assert same(gone, TEST, other)
    assert np.isinf(since[~had]).all()
    assert sorted(since[had]) == pytest.approx(np.arange(1, had.sum() + 1) / had.sum(), abs=0)


def test_any_takes_one_modality_of_each_row_at_random() -> None:
    gone, since = stress(TEST, Scenario("missing", "any", 1.0), SCALE)
    before, after = (sum(p.present[name].astype(int) for name in p.present) for p in (TEST, gone))
    assert (before - after == 1).all() and since.max() == 1
    both = before == 2
    taken = (~gone.present["vector"])[both]
    assert abs(taken.mean() - 0.5) < 4 * 0.5 / both.sum() ** 0.5


@pytest.mark.parametrize("group_size", [1, 3, 250])
def test_in_a_conflict_each_row_gets_a_row_of_another_group_and_each_is_used_once(group_size: int) -> None:
    test = part(500, 1, group_size)
    for name, has in test.present.items():
        if 2 * np.unique(test.groups[has], return_counts=True)[1].max() > has.sum():
            with pytest.raises(UsageError, match=f"'{name}' are of one group"):
                donors(test, name)
            continue
        donor = donors(test, name)
        assert sorted(donor[has]) == np.flatnonzero(has).tolist() and (donor[~has] == np.flatnonzero(~has)).all()
        assert (test.groups[donor[has]] != test.groups[has]).all()


def test_a_conflict_is_the_exchange_of_whole_modalities() -> None:
    for name, other in (("vector", "walk"), ("walk", "vector")):
        mixed, since = stress(TEST, Scenario("conflict", name, 1.0), SCALE)
        assert same(mixed, rows(TEST, donors(TEST, name)), name)
        assert same(mixed, TEST, other)
        assert (np.isfinite(since) == TEST.present[name]).all()


def test_any_conflict_exchanges_one_modality_of_each_row() -> None:
    mixed, _ = stress(TEST, Scenario("conflict", "any", 1.0), SCALE)
    changed = {m: (mixed.values[m] != TEST.values[m]).reshape(500, -1).any(1) for m in TEST.values}
    assert (changed["vector"].astype(int) + changed["walk"] == 1).all()


def test_the_rows_of_a_conflict_follow_no_order_of_the_split() -> None:
    order = np.random.default_rng(4).permutation(500)
    assert (order[donors(rows(TEST, order), "walk")] == donors(TEST, "walk")[order]).all()


def test_a_test_split_without_another_group_is_refused_before_training() -> None:
    alone = replace(TEST, groups=np.repeat("g", 500))
    check_stress(alone, ("noise", "missing"))
    with pytest.raises(UsageError, match="leave conflict out"):
        check_stress(alone, ("noise", "conflict"))


@pytest.mark.parametrize(
    "scenario", [Scenario("noise", "all", 1.0), Scenario("missing", "walk", 1.0), Scenario("conflict", "walk", 1.0)]
)
def test_what_is_too_large_for_memory_comes_out_the_same(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    held = stress(TEST, scenario, SCALE)[0]
    monkeypatch.setattr("mmbench.bulk.LARGE", 1)
    monkeypatch.setattr("mmbench.bulk.BLOCK", 40)
    in_file = stress(TEST, scenario, deviations(TRAIN))[0]
    assert isinstance(in_file.values["walk"], np.memmap) and same(held, in_file, "vector", "walk")


def test_training_rows_that_all_lack_a_modality_give_no_noise() -> None:
    empty = replace(TRAIN, present={**TRAIN.present, "vector": np.zeros(400, dtype=bool)})
    noisy, _ = stress(TEST, Scenario("noise", "vector", 1.0), deviations(empty))
    assert same(noisy, TEST, "vector", "walk")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, {}),
        ("missing,noise", {"noise": DEFAULT_LEVELS["noise"], "missing": DEFAULT_LEVELS["missing"]}),
        ("conflict:1/0.5/0.5, noise:3", {"noise": (3.0,), "conflict": (0.5, 1.0)}),
    ],
)
def test_levels_are_read(text: str | None, found: dict[str, tuple[float, ...]]) -> None:
    assert parse_stress(text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("noize", "did you mean noise"),
        ("noise,noise:1", "expected noise once"),
        ("missing:1.5", "shares above 0 and at most 1"),
        ("conflict:0", "level 0 is always shown"),
        ("noise:-1", "standard deviations above 0"),
        ("noise:nan", "standard deviations above 0"),
        ("noise:inf", "standard deviations above 0"),
        ("noise:", "standard deviations above 0"),
        ("noise:a/b", "standard deviations above 0"),
    ],
)
def test_what_is_no_level_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_stress(text)


def test_shares_are_predicted_once_and_noise_at_each_level() -> None:
    levels = join_levels({"noise": (1.0, 2.0)}, {"missing": (0.5,), "noise": (1.0, 3.0)})
    assert levels == {"noise": (1.0, 2.0, 3.0), "missing": (0.5,)}
    listed = list_scenarios(levels, ("a", "b"))
    assert {(s.axis, s.modality) for s in listed} == {(x, m) for x in levels for m in targets(x, ("a", "b"))}
    assert {s.level for s in listed if s.axis == "missing"} == {1.0} and len(listed) == 3 * 3 + 3
    assert targets("noise", ("a",)) == ("a",)
