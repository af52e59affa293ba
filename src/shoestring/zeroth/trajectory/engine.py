"""Which engine made a step, and how a log says so: half-precision weights depend on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.engines.base import EngineChoice
from shoestring.zeroth.trajectory.codec import OPTIMIZER, Change, Step
from shoestring.zeroth.trajectory.header import Header
from shoestring.zeroth.trajectory.plain import made, plain

ASKED, INSTEAD, FINALIZED = "engine_name", "engine", "finalized"
"""Changes of the optimizer itself: another engine asked for, one that took over, and updates put off, applied."""


@dataclass(frozen=True)
class EngineUse:
    """The engine that an optimizer works with.

    Attributes:
        asked: the one it was given or changed to, as `plain` has it.
        instead: name of the one that took over, where that could not go on.
    """

    asked: Any
    instead: str | None = None

    @property
    def kind(self) -> str:
        """Its name, whatever its options."""
        return self.instead or kind_asked(self.asked)

    @property
    def choice(self) -> EngineChoice:
        """What `change_engine` takes to have it.

        Raises:
            TrajectoryError: if its options could not be written down.
        """
        return made("engine", self.asked) if self.instead is None else self.instead

    def changes_from(self, old: EngineUse) -> list[Change]:
        """Return what a log is to say where `old` was in use before."""
        found: list[Change] = []
        if self != old and (self.asked != old.asked or self.instead is None):
            found.append((OPTIMIZER, ASKED, self.asked))
        if self != old and self.instead is not None:
            found.append((OPTIMIZER, INSTEAD, self.instead))
        return found


def engine_of(optimizer: ZerothOrder) -> EngineUse:
    """Return the engine that an optimizer works with now."""
    return EngineUse(plain(optimizer.engine_name), optimizer.engine.instead)


def engine_at(header: Header, steps: Iterable[Step]) -> EngineUse:
    """Return the engine that a log says was in use behind its first steps, which are `steps`."""
    given, kind = header.settings.get("engine"), header.common["engine"]
    # One that was changed before the log began is not the one in the settings.
    return engine_behind(EngineUse(given if given is not None and kind_asked(given) == kind else kind), steps)


def engine_behind(engine: EngineUse, steps: Iterable[Step]) -> EngineUse:
    """Return the engine in use behind `steps`, which began with `engine`."""
    for step in steps:
        for group, name, value in (*step.before, *step.between):
            if (group, name) == (OPTIMIZER, ASKED):
                engine = EngineUse(value)
            elif (group, name) == (OPTIMIZER, INSTEAD):
                engine = replace(engine, instead=value)
    return engine


def kind_asked(asked: Any) -> str:
    """Return the name of an engine that was asked for, of what `plain` made of it."""
    return asked if isinstance(asked, str) else str(dict(asked["table"]).get("kind"))
