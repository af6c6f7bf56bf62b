"""A JSON file that is a list of objects, or one object, read an object at a time: memory is bounded by the largest one.

The official list of the training labels is above a gigabyte, nearly all of it outlines of lanes that nobody asks for.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mmbench.errors import UsageError

CHUNK = 2**20  # bytes
LARGEST = 2**26  # characters of one object
BLANK = " \t\r\n"


class _Text:
    """The text of a file from a place that moves on; what lies before it is forgotten."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.place, self.ended = "", 0, False

    def more(self, size: int = CHUNK) -> bool:
        """Read on, at least ``size`` bytes; False at the end of the file."""
        if self.ended:
            return False
        data = self.file.read(size)
        self.ended = not data
        self.text = self.text[self.place :] + self.decoder.decode(data, final=self.ended)
        self.place = 0
        return True

    def next(self) -> str:
        """The next character that is not blank, which is not passed; empty at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in BLANK:
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if not self.more():
                return ""

    def value(self) -> Any:
        """The JSON value that begins here; raises ValueError where there is none."""
        decoder = json.JSONDecoder()
        while True:
            try:
                value, self.place = decoder.raw_decode(self.text, self.place)
            except json.JSONDecodeError:
                # cut off by the end of the chunk, or wrong: told apart by reading on, twice as far each time
                rest = len(self.text) - self.place
                if rest > LARGEST or not self.more(max(CHUNK, rest)):
                    raise
            else:
                return value


def read_objects(path: Path, remedy: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of a file with its place in words; ``remedy`` ends every message.

    Raises:
        UsageError: a file that cannot be read, is not UTF-8 or not JSON, or holds anything but objects.
    """
    count = 0
    try:
        with path.open("rb") as file:
            text = _Text(file)
            is_list = text.next() == "["
            text.place += is_list
            while (first := text.next()) != "]" or not is_list:
                where = f"{path}, entry {count + 1}"
                if first != "{":
                    raise UsageError(f"{where}: found {first[:1]!r}, expected an object of a frame; {remedy}")
                yield where, text.value()
                count += 1
                if not is_list or text.next() == "]":
                    break
                if text.next() != ",":
                    raise UsageError(f"{where}: found {text.next()!r} behind it, expected a comma; {remedy}")
                text.place += 1
            text.place += is_list
            if text.next():
                raise UsageError(f"{path}: something stands behind its end; {remedy}")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; {remedy}") from None
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply to be labels of BDD100K; {remedy}") from None
    except ValueError as error:  # not JSON, not UTF-8, a number of too many digits
        raise UsageError(f"{path}, entry {count + 1} or so, is not JSON: {_told(error)}; {remedy}") from None


def _told(error: ValueError) -> str:
    """What is wrong, without the place, which would count from somewhere inside the file."""
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:120]
