"""JSON, and what to say where a text is none."""

from __future__ import annotations

import json
from typing import Any

from shoestring.errors import DataError


def parsed(where: str, text: str, line: int | None = None) -> Any:
    r"""Return a JSON document: that of a file, or that of one of its lines.

    >>> parsed("a.jsonl", '{"a": 1}\n', 1)
    {'a': 1}

    Args:
        where: the file.
        text: its text, or that of the line.
        line: the 1-based line; None for the file as a whole.

    Raises:
        DataError: if it is not JSON; names line and column.
    """
    try:
        # Without its end, or a line cut off would be found to go wrong on the one below it.
        return json.loads(text if line is None else text.rstrip("\r\n"))
    except json.JSONDecodeError as error:
        what = "the file" if line is None else "the row"
        raise DataError(
            where, f"{what} is not JSON: {error.msg} at column {error.colno}", line or error.lineno
        ) from None
