"""Errors are one line, whatever the names that they quote are made of."""

from __future__ import annotations

from mmbench.errors import MmbenchError, NotComparableError, UsageError, unknown


def test_what_cannot_be_printed_is_written_as_its_escape() -> None:
    told = "column 'a\nb\r\t\x1b[31m\x00\u2028' in Übersicht 日本 😀"
    for kind in (MmbenchError, UsageError, NotComparableError):
        assert str(kind(told)) == r"column 'a\nb\r\t\x1b[31m\x00\u2028' in Übersicht 日本 😀"
    assert str(UsageError("plain \\n text")) == "plain \\n text"
    assert str(unknown("task", "a\nb", ["a"])).isprintable()
