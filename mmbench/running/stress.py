"""Test inputs made worse on purpose: noise, a missing modality, modalities that contradict each other.

Only the encoded test inputs of a model that was trained on clean data change, and only what is named below. Everything
is drawn by a hash of the axis, the modality and the sample's id: the same for every method and seed, so that methods
are paired row by row, whatever the order of the rows. A smaller level does to some of the rows, or with the same draws,
what a larger one does. Of a modality that a row does not have, nothing changes.

noise     every feature of every present row, and step, of the modality gets level × its standard deviation over the
          training rows (and steps) that have the modality × a standard normal draw; ``all`` does it to every modality
missing   the modality is taken from a share of the test rows that have it, as if it had never been there; ``any`` takes
          from a share of all rows one modality each, drawn among those that the row has
conflict  a share of the test rows that have the modality get it from another test row, of another group: a fixed
          derangement of these rows, so that at share 1 each is used once; ``any`` as above
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmbench import bulk
from mmbench.bulk import blocks
from mmbench.errors import UsageError, unknown
from mmbench.evaluation.stressed import AXES, WHOLE, Scenario
from mmbench.hashing import derive_seed
from mmbench.locate import cache_folder

if TYPE_CHECKING:
    from mmbench.running.prepare import Part  # takes torch along, which reports of stressed runs do without

Levels = Mapping[str, tuple[float, ...]]
Rows = NDArray[np.bool_]
Array = NDArray[np.float64]
DEFAULT_LEVELS = {"noise": (0.5, 1.0, 2.0), "missing": (0.25, 0.5, 1.0), "conflict": (0.25, 0.5, 1.0)}
ALL, ANY = "all", "any"


def parse_stress(text: str | None) -> dict[str, tuple[float, ...]]:
    """``"noise:0.1/0.5,missing"`` as levels by axis, rising; an axis without levels gets its usual ones.

    Raises:
        UsageError: an unknown axis, one twice, or a level that it cannot have.
    """
    found: dict[str, tuple[float, ...]] = {}
    for item in filter(None, (part.strip() for part in (text or "").split(","))):
        axis, colon, given = item.partition(":")
        if axis not in AXES:
            raise unknown("stress", axis, AXES)
        if axis in found:
            raise UsageError(f"--stress {text}: expected {axis} once, its levels as {axis}:0.25/0.5")
        found[axis] = _levels(item, axis, given) if colon else DEFAULT_LEVELS[axis]
    return {axis: found[axis] for axis in AXES if axis in found}


def _levels(item: str, axis: str, given: str) -> tuple[float, ...]:
    highest = np.finfo(np.float32).max if axis == "noise" else WHOLE
    try:
        levels = {float(level) for level in given.split("/")}
    except ValueError:
        levels = {0.0}
    if not all(0 < level <= highest for level in levels):
        what = "standard deviations above 0" if axis == "noise" else "shares above 0 and at most 1"
        raise UsageError(f"--stress {item}: expected {what}, such as {axis}:0.25/0.5 (level 0 is always shown)")
    return tuple(sorted(levels))


def join_levels(first: Levels, second: Levels) -> dict[str, tuple[float, ...]]:
    """All levels of both, by axis."""
    return {
        axis: tuple(sorted({*first.get(axis, ()), *second.get(axis, ())}))
        for axis in AXES
        if axis in first or axis in second
    }


def targets(axis: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """What an axis is done to: each modality, and where there are several all of them or any one."""
    return (*modalities, *((ALL if axis == "noise" else ANY,) if len(modalities) > 1 else ()))


def scenario_of(axis: str, modality: str, level: float) -> Scenario:
    """The scenario that is predicted and stored for a level: shares are cut from the whole."""
    return Scenario(axis, modality, level if axis == "noise" else WHOLE)


def list_scenarios(levels: Levels, modalities: Sequence[str]) -> tuple[Scenario, ...]:
    """All scenarios that these levels need, each once."""
    return tuple(
        dict.fromkeys(
            scenario_of(axis, modality, level)
            for axis, given in levels.items()
            for modality in targets(axis, modalities)
            for level in given
        )
    )


def deviations(train: Part) -> dict[str, NDArray[np.float32]]:
    """By modality the standard deviation of each feature, (d,), over the training rows (and steps) that have it."""
    found = {}
    for name, values in train.values.items():
        there = train.steps.get(name, train.present[name])
        count = max(int(there.sum()), 1)
        mean = _sum(values, there, lambda rows: rows) / count
        variance = _sum(values, there, lambda rows, mean=mean: (rows - mean) ** 2) / count  # type: ignore[misc]
        found[name] = np.sqrt(variance).astype(np.float32)
    return found


def _sum(values: NDArray[np.float32], there: Rows, of: Callable[[Array], Array]) -> Array:
    """The sum of a function of the rows (or steps) that are there, (d,), a few megabytes at a time."""
    total: Array = np.zeros(values.shape[-1])
    for start, block in blocks(values):
        total += of(block[there[start : start + len(block)]].astype(np.float64)).sum(axis=0)
    return total


def stress(
    test: Part, scenario: Scenario, deviation: Mapping[str, NDArray[np.float32]]
) -> tuple[Part, NDArray[np.float64]]:
    """The test rows under a scenario, and the share from which on each is stressed, (n,); inf where it never is.

    Raises:
        UsageError: a conflict where one group holds more than half of the rows.
    """
    if scenario.axis == "noise":
        names = list(test.values) if scenario.modality == ALL else [scenario.modality]
        noisy = {name: _noisy(test, name, scenario.level * deviation[name]) for name in names}
        return replace(test, values=test.values | noisy), np.zeros(len(test.ids))
    victims, since = _victims(test, scenario)
    if scenario.axis == "missing":
        return _without(test, victims), since
    return _exchanged(test, victims), since


def check_stress(test: Part, axes: Container[str]) -> None:
    """Raise a UsageError where a conflict among these rows cannot be made, before anything is trained."""
    if "conflict" in axes:
        for name in test.values:
            donors(test, name)


def _draw(scenario: str, names: NDArray[np.str_]) -> NDArray[np.int64]:
    """A number for each name, by hash."""
    return np.array([derive_seed(0, f"stress {scenario} {name}") for name in names], dtype=np.int64)


def _noisy(test: Part, name: str, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    there, seeds = test.steps.get(name, test.present[name]), _draw(f"noise {name}", test.ids)

    def noisy(row: int, value: NDArray[np.float32]) -> NDArray[np.float32]:
        drawn = np.random.default_rng(seeds[row]).standard_normal(value.shape, dtype=np.float32)
        added: NDArray[np.float32] = value + scale * drawn * there[row, ..., None]
        return added

    return _changed(test.values[name], test.present[name], noisy)


def _changed(
    values: NDArray[np.float32], rows: Rows, change: Callable[[int, NDArray[np.float32]], NDArray[np.float32] | float]
) -> NDArray[np.float32]:
    """A copy with these rows changed, each given its place and value; in a file where it is large."""
    made = bulk.Rows(values.shape, cache_folder())
    for start, block in blocks(values):
        changed = block.copy()
        for place in np.flatnonzero(rows[start : start + len(block)]):
            changed[place] = change(start + int(place), block[place])
        made.write(start, changed)
    return made.array()


def _victims(test: Part, scenario: Scenario) -> tuple[dict[str, Rows], NDArray[np.float64]]:
    """By modality the rows that would lose it at share 1, and the share from which on each row is touched."""
    axis, modality = scenario.axis, scenario.modality
    if modality != ANY:
        victims = {modality: test.present[modality]}
    else:
        present = np.stack(list(test.present.values()), axis=1)
        turn = _draw(f"{axis} which modality", test.ids) % np.maximum(present.sum(axis=1), 1)
        drawn = present & (present.cumsum(axis=1) == turn[:, None] + 1)
        victims = dict(zip(test.present, drawn.T, strict=True))
    touched = np.flatnonzero(np.any(list(victims.values()), axis=0))
    order = touched[np.argsort(_draw(f"{axis} {modality}", test.ids[touched]), kind="stable")]
    since = np.full(len(test.ids), np.inf)
    since[order] = np.arange(1, len(order) + 1) / max(len(order), 1)
    return victims, since


def _without(test: Part, victims: Mapping[str, Rows]) -> Part:
    values, present, steps = dict(test.values), dict(test.present), dict(test.steps)
    for name, rows in victims.items():
        values[name] = _changed(values[name], rows, lambda row, value: 0.0)
        present[name] = present[name] & ~rows
        if name in steps:
            steps[name] = steps[name] & ~rows[:, None]
    return replace(test, values=values, present=present, steps=steps)


def _exchanged(test: Part, victims: Mapping[str, Rows]) -> Part:
    values, steps, raw = dict(test.values), dict(test.steps), dict(test.raw)
    for name, rows in victims.items():
        source = np.where(rows, donors(test, name), np.arange(len(rows)))
        values[name] = bulk.take(values[name], source, cache_folder())
        if name in steps:
            steps[name] = steps[name][source]
        if name in raw:
            raw[name] = raw[name][source]
    return replace(test, values=values, steps=steps, raw=raw)


def donors(test: Part, name: str) -> NDArray[np.int64]:
    """The row whose modality each row gets in a conflict, (n,): a permutation of those that have it, none of its group.

    The rows in a hashed order, group after group, each give to the one that is as many places on as the largest group
    has rows: that is out of its own group, as long as no group has more than half of them.

    Raises:
        UsageError: a group has.
    """
    has = np.flatnonzero(test.present[name])
    names, group_of_row, sizes = np.unique(test.groups[has], return_inverse=True, return_counts=True)
    largest = int(sizes.max(initial=0))
    if 2 * largest > len(has):
        raise UsageError(
            f"--stress conflict: {largest:,} of the {len(has):,} test rows that have '{name}' are of one group, so not "
            "every row can get another group's: leave conflict out"
        )
    by_group = _draw(f"conflict {name} group", names)[group_of_row]
    order = has[np.lexsort((_draw(f"conflict {name}", test.ids[has]), by_group))]
    donor = np.arange(len(test.ids))
    donor[order] = np.roll(order, largest)
    return donor
