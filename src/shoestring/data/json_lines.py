"""Which line of a JSON document something stands on: asked only where a message has to say it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def line_of(text: str, keys: Sequence[str | int]) -> int:
    r"""Return the 1-based line that a value of a valid JSON document begins on.

    >>> line_of('{"data": [1,\n 2]}', ["data", 1])
    2

    Args:
        text: the document.
        keys: the way to the value: names of fields and 0-based numbers of list items.
    """
    at = _after_space(text, 0)
    for key in keys:
        at = _item(text, at, key) if isinstance(key, int) else _field(text, at, key)
    return text.count("\n", 0, at) + 1


def _item(text: str, at: int, number: int) -> int:
    """Return where item `number` of the list at `at` begins."""
    at = _after_space(text, at + 1)
    for _ in range(number):
        at = _after_comma(text, _DECODER.raw_decode(text, at)[1])
    return at


def _field(text: str, at: int, name: str) -> int:
    """Return where the value called `name` of the object at `at` begins."""
    at = _after_space(text, at + 1)
    while True:
        found, end = _DECODER.raw_decode(text, at)
        at = _after_comma(text, end)  # A colon, which is as long.
        if found == name:
            return at
        at = _after_comma(text, _DECODER.raw_decode(text, at)[1])


def _after_comma(text: str, at: int) -> int:
    return _after_space(text, _after_space(text, at) + 1)


def _after_space(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return at if match is None else match.end()
