"""Names of labels in texts."""

from __future__ import annotations

import pytest

from mmbench import naming


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bus", "buses"), ("bench", "benches"), ("wine glass", "wine glasses"), ("person", "people"),
        ("knife", "knives"), ("mouse", "mice"), ("teddy bear", "teddy bears"), ("toothbrush", "toothbrushes"),
        ("berry", "berries"), ("toy", "toys"), ("skis", "ski"),
    ],
)  # fmt: skip
def test_plurals(name: str, expected: str) -> None:
    assert naming.plural(name) == expected


def test_the_longest_name_counts_and_parts_of_words_do_not() -> None:
    names = naming.Names(["dog", "hot dog", "bear", "teddy bear", "bus", "car"])
    assert names.named("Hotdogs and a hot-dog") == {"hot dog"}
    assert names.named("a TEDDY BEAR, then dogs.") == {"teddy bear", "dog"}
    assert names.named("cargo, busy carpets, dogma") == set()
    assert names.masked("Two buses, a car's door and cargo") == "Two [something], a [something]'s door and cargo"
    assert names.leak(["a dog", None, "a bus and a car"], [{"dog", "bear"}, {"bus"}, {"car"}]) == (2, 4)


def test_no_names_are_found_nowhere() -> None:
    assert naming.Names([]).named("anything") == set()
    assert naming.Names([]).masked("a text") == "a text"
