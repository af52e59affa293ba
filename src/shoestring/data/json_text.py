"""JSON, and what to say where a text is none."""

from __future__ import annotations

import json
import re
from typing import Any

from shoestring.errors import DataError

# An emoji is written as two escapes; a text that was cut between them ends in half a character.
_HALF = re.compile(r"\\u(?:d[89ab]..(?!\\ud[c-f])|(?<!\\ud[89ab]..\\u)d[c-f])", re.IGNORECASE)


def parsed(where: str, text: str, line: int | None = None) -> Any:
    r"""Return a JSON document: that of a file, or that of one of its lines.

    >>> parsed("a.jsonl", '{"a": 1}\n', 1)
    {'a': 1}

    Args:
        where: the file.
        text: its text, or that of the line.
        line: the 1-based line; None for the file as a whole.

    Raises:
        DataError: if it is not JSON, or holds half a character, which no UTF-8 can; names line and column.
    """
    what = "the file" if line is None else "the row"
    try:
        # Without its end, or a line cut off would be found to go wrong on the one below it.
        found = json.loads(text if line is None else text.rstrip("\r\n"))
    except json.JSONDecodeError as error:
        raise DataError(
            where, f"{what} is not JSON: {error.msg} at column {error.colno}", line or error.lineno
        ) from None
    except (ValueError, RecursionError) as error:  # A number of thousands of digits, lists within lists without end.
        raise DataError(where, f"{what} cannot be read: {error}", line) from None
    half = _HALF.search(text)
    if half is not None and not _is_text(found):
        shown, place = text[half.start() : half.start() + 6], line or text.count("\n", 0, half.start()) + 1
        raise DataError(where, f"{what} holds half a character, {shown}: a text was cut within an emoji", place)
    return found


def _is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
