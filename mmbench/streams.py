"""Inputs that are more than a text, a file or numbers: a transcript with times, and the motion of a vehicle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Times = tuple[tuple[float, float], ...]


class TimedText(str):
    """A transcript that knows when each word is said; to what reads texts it is the words with a space between them.

    ``times`` are a word's start and end in seconds, as many as there are words.
    """

    times: Times

    def __new__(cls, words: Sequence[str], times: Sequence[tuple[float, float]]) -> TimedText:
        """Raises ValueError where a word is empty or holds white space, or there are not as many times as words."""
        if any(word.split() != [word] for word in words) or len(words) != len(times):
            raise ValueError("a timed text needs words without white space, and a start and an end for each")
        text = super().__new__(cls, " ".join(words))
        text.times = tuple((float(start), float(end)) for start, end in times)
        return text

    def __getnewargs__(self) -> tuple[list[str], Times]:  # type: ignore[override]
        return self.split(), self.times


@dataclass(frozen=True)
class Motion:
    """How a vehicle moved, at equal steps from the first to the last moment of a time window.

    Attributes:
        clip: whose motion it is.
        seconds: the length of the window.
        speed, acceleration, turn_rate: m/s, m/s² and rad/s, float64 (steps,), finite.
    """

    clip: str
    seconds: float
    speed: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    turn_rate: NDArray[np.float64]
