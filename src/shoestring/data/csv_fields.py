"""Texts of any length in csv: Python's reader takes no more than 131,072 characters unless it is told."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST = 2**31 - 1
"""The most that the reader can be told everywhere."""


@contextmanager
def fields_of_any_length() -> Iterator[None]:
    """Let csv readers take long texts, and put the limit of the process back."""
    before = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)
