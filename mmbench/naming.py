"""Names of labels in texts: how often a label is simply said, and texts in which no label is named.

A caption "a dog on a couch" gives the labels dog and couch away. Names are found in singular and plural, the longest
first, so that a teddy bear is no bear; a hot dog may be written hotdog. Synonyms (man, bike) are not names. Names and
their forms are English.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MASK = "[something]"
IRREGULAR = {"person": "people", "knife": "knives", "mouse": "mice", "sheep": "sheep", "skis": "ski"}


def plural(name: str) -> str:
    """The other form of a name: ``bus`` to ``buses``, ``wine glass`` to ``wine glasses``."""
    start, space, last = name.rpartition(" ")
    if last in IRREGULAR:
        return start + space + IRREGULAR[last]
    if last.endswith(("s", "sh", "ch", "x", "z")):
        return f"{name}es"
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


class Names:
    """Finds these names in texts; of no names it finds nothing."""

    def __init__(self, names: Iterable[str]) -> None:
        self.of_form = {form.lower(): name for name in names for form in (plural(name), name)}
        forms = sorted(self.of_form, key=lambda form: (-len(form), form))
        self.plain = {form.replace(" ", ""): name for form, name in self.of_form.items()}
        patterns = (r"[\s-]?".join(map(re.escape, form.split())) for form in forms)
        self.pattern = re.compile(rf"(?<!\w)(?:{'|'.join(patterns) or '(?!)'})(?!\w)", re.IGNORECASE)

    def named(self, text: str) -> set[str]:
        """Which of them a text names."""
        found = (re.sub(r"[\s-]", "", match.lower()) for match in self.pattern.findall(text))
        return {self.plain[form] for form in found if form in self.plain}

    def masked(self, text: str) -> str:
        """The text with all of them hidden."""
        return self.pattern.sub(MASK, text)

    def leak(self, texts: Sequence[str | None], labels: Sequence[Iterable[str]]) -> tuple[int, int]:
        """How many of all positive labels are named in their own caption, and how many there are."""
        held = [set(names) for names in labels]
        told = sum(len(names & self.named(text)) for text, names in zip(texts, held, strict=True) if text is not None)
        return told, sum(map(len, held))
