"""This very process, one run after another: no other process to look into when something is odd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from shoestring.studies.launchers.base import LAUNCHERS, Ended, Launcher, Pool

if TYPE_CHECKING:
    from shoestring.runs.config import RunConfig
    from shoestring.runs.limits import Limits
    from shoestring.studies.attempt import Attempts


class Here(Launcher):
    """One run after another in this process, with all its threads."""

    kind: Literal["here"] = "here"  # pyright: ignore[reportIncompatibleVariableOverride]

    @contextmanager
    def open(self) -> Iterator[Pool]:
        """Return the pool."""
        from shoestring.studies.attempt import Attempts

        yield _Pool(Attempts(freeze=False))


LAUNCHERS.register("here")(Here)


class _Pool:
    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._next: tuple[RunConfig, bool, Limits | None] | None = None

    def takes(self, config: RunConfig) -> bool:
        """Return whether nothing waits to be made."""
        return self._next is None

    def submit(self, config: RunConfig, *, force: bool, limits: Limits | None = None) -> None:
        """Note what `wait` is to make."""
        self._next = (config, force, limits)

    def wait(self, seconds: float) -> list[Ended]:
        """Make the run, however long it takes."""
        if self._next is None:
            return []
        config, force, limits = self._next
        self._next = None
        return [self._attempts.make(config, force=force, limits=limits)]
