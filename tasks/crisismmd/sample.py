from __future__ import annotations


def version_of(home):
    return None
