"""What this package logs as warnings, kept instead of shown: a contestant would say the same in every round."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER = logging.getLogger("shoestring")


class Heard(logging.Handler):
    """Keeps the texts of warnings, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of a record."""
        self._texts[record.getMessage()] = None

    def taken(self) -> tuple[str, ...]:
        """Return what was heard since this was last asked."""
        found, self._texts = tuple(self._texts), {}
        return found


@contextmanager
def listening() -> Iterator[Heard]:
    """Keep inside the block what would be shown."""
    handler, shown = Heard(), _LOGGER.propagate
    _LOGGER.addHandler(handler)
    _LOGGER.propagate = False
    try:
        yield handler
    finally:
        _LOGGER.propagate = shown
        _LOGGER.removeHandler(handler)
