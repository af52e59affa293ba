"""Where a row is, for messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shoestring.errors import DataError


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a file or data set.

    Attributes:
        where: the file or data set.
        line: 1-based line of the file, or how to find it out; None where there are no lines.
        inside: the row's place in the line or document, such as `passage.questions[2].answers[0]`.
    """

    where: str
    line: int | Callable[[], int] | None = None
    inside: str = ""

    def error(self, what: str) -> DataError:
        """Return an error that says where the row is, and what is wrong with it."""
        line = self.line() if callable(self.line) else self.line
        return DataError(self.where, f"{self.inside}: {what}" if self.inside else what, line)
