"""Raise what is wrong with a section of a task file, all of it at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from shoestring.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T", bound=Settings)


def checked(settings: T, problems: Iterable[str]) -> T:
    """Return `settings`, unless there are problems.

    Raises:
        ValueError: with all of them; pydantic adds the place.
    """
    if text := "; ".join(problems):
        raise ValueError(text)
    return settings


def repeated(what: str, names: Iterable[str]) -> list[str]:
    """Return a problem for each name that stands more than once."""
    return [f"{what} {name!r} stands twice" for name, count in Counter(names).items() if count > 1]
