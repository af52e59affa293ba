"""Progress without a screen: long work reports here, and whoever runs it decides what is shown."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Bar(Protocol):
    """One piece of long work."""

    def advance(self, steps: int = 1) -> None:
        """Report that `steps` more are done."""
        ...

    def note(self, text: str) -> None:
        """Show a short text beside the bar, such as the current loss."""
        ...


class Progress(Protocol):
    """Opens a bar for each piece of long work."""

    def bar(self, label: str, total: int) -> AbstractContextManager[Bar]:
        """Return a bar of `total` steps, to be used in a `with` block."""
        ...


class _SilentBar:
    def advance(self, steps: int = 1) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


class Silent:
    """Shows nothing; the default everywhere outside the command line."""

    def bar(self, label: str, total: int) -> AbstractContextManager[Bar]:
        """Return a bar that shows nothing."""
        return nullcontext(_SilentBar())
