"""What a launcher is: it makes runs elsewhere, several at once, and says how each of them ended."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from shoestring.config import Settings
from shoestring.registry import Registry
from shoestring.runs.config import RunConfig
from shoestring.runs.limits import Limits

How = Literal["ok", "pruned", "failed", "busy", "refused", "lost"]


@dataclass(frozen=True)
class Ended:
    """How one attempt at a run ended.

    Attributes:
        place: the run's own folder, which tells it from others; its id it may share with those of other folders.
        how: `ok`; `pruned`: it stayed below its limits; `failed` with an error of its own; `busy`: another process
            makes this run; `refused`: the disk refuses, no fault of the run; `lost`: whatever made it was killed.
        seconds: what it took.
        error: what was raised, unless it is `ok`.
        peak: highest memory of the process so far, in bytes; 0 where it is not known.
    """

    place: Path
    how: How
    seconds: float = 0.0
    error: BaseException | None = None
    peak: int = 0


class Pool(Protocol):
    """Makes runs, each in a process of its own."""

    def takes(self, config: RunConfig) -> bool:
        """Return whether another run may begin now."""
        ...

    def submit(self, config: RunConfig, *, force: bool, limits: Limits | None = None) -> None:
        """Begin a run, within limits that end it early."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """Return the attempts that ended, as soon as there is one; none after `seconds`."""
        ...


class Launcher(Settings):
    """Settings of one way to make many runs.

    Attributes:
        begin_again: how often a run that was lost is begun again: where a machine may go, it is not the run's fault.
    """

    begin_again: ClassVar[int] = 0

    kind: str

    @abstractmethod
    def open(self) -> AbstractContextManager[Pool]:
        """Return what makes runs inside a `with` block; when the block ends, so does every run that is not done.

        Raises:
            WorkerError: if it cannot work here; says what is missing.
        """


LAUNCHERS: Registry[type[Launcher]] = Registry("launcher", "shoestring.studies.launchers")
