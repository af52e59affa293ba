"""Which run is next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from shoestring.runs.config import RunConfig
    from shoestring.runs.limits import Limits
    from shoestring.studies.launchers.base import Ended


class Queue(Protocol):
    """Says which run is next; it may wait for others to end."""

    def next(self) -> RunConfig | None:
        """Return the next run, or None where there is none at this time."""
        ...

    def limits(self, config: RunConfig) -> Limits | None:
        """Return what a run must reach on dev to be made to its end."""
        ...

    def ended(self, ended: Ended) -> None:
        """Hear how a run ended."""
        ...

    @property
    def over(self) -> bool:
        """Whether no further run will come, whatever ends."""
        ...


Q = TypeVar("Q", bound=Queue)


class InOrder:
    """The runs of a list, one after another."""

    def __init__(self, configs: Iterable[RunConfig]) -> None:
        self._waiting = deque(configs)

    def next(self) -> RunConfig | None:
        """Return the next run."""
        return self._waiting.popleft() if self._waiting else None

    def limits(self, config: RunConfig) -> Limits | None:
        """Return None: every run is made to its end."""
        return None

    def ended(self, ended: Ended) -> None:
        """Do nothing: no run depends on another."""

    @property
    def over(self) -> bool:
        """Whether all have been given out."""
        return not self._waiting


class Queues(Generic[Q]):
    """Several queues as one.

    Attributes:
        queues: those.
    """

    def __init__(self, queues: Sequence[Q]) -> None:
        self.queues = queues

    def next(self) -> RunConfig | None:
        """Return the next run of the first queue that has one."""
        return next((config for queue in self.queues if (config := queue.next()) is not None), None)

    def limits(self, config: RunConfig) -> Limits | None:
        """Return the limits of the queue that has any for a run."""
        return next((found for queue in self.queues if (found := queue.limits(config)) is not None), None)

    def ended(self, ended: Ended) -> None:
        """Tell every queue; those that did not give the run out do nothing."""
        for queue in self.queues:
            queue.ended(ended)

    @property
    def over(self) -> bool:
        """Whether all are."""
        return all(queue.over for queue in self.queues)
