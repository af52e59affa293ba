"""The one loop behind everything that makes many runs: it hands them to a launcher and hears how they ended."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shoestring.errors import OutputError, ShoestringError, WorkerError
from shoestring.runs.config import RunConfig
from shoestring.runs.folder import is_held
from shoestring.runs.record import now, read_record
from shoestring.runs.run import finished
from shoestring.studies.attempt import leave_failure, told
from shoestring.studies.launchers.base import Ended, Launcher, Pool
from shoestring.studies.queues import InOrder, Queue

__all__ = ["Engine", "InOrder", "Queue", "Watcher"]

# Seconds between two looks at a run that another process makes, and between two times that the watcher is told.
_LATER, _TICK = 2.0, 0.5


class Watcher(Protocol):
    """Is told what goes on."""

    def began(self, config: RunConfig) -> None:
        """Hear that a run began."""
        ...

    def ended(self, ended: Ended) -> None:
        """Hear how a run ended."""
        ...

    def tick(self) -> None:
        """Be called every half second."""
        ...


@dataclass
class Engine:
    """Makes the runs of a queue.

    Attributes:
        launcher: who makes them.
        watcher: who is told.
        force: make runs again even if they are finished.
        stop_on_failure: begin no further run once one has failed.
    """

    launcher: Launcher
    watcher: Watcher
    force: bool = False
    stop_on_failure: bool = False
    _running: dict[Path, tuple[RunConfig, str]] = field(default_factory=dict[Path, tuple[RunConfig, str]])
    _later: list[tuple[float, RunConfig]] = field(default_factory=list[tuple[float, RunConfig]])
    _lost: Counter[Path] = field(default_factory=Counter[Path])
    _since: str = ""
    _failure: BaseException | None = None
    _refused: BaseException | None = None

    def make(self, queue: Queue) -> None:
        """Make every run of a queue; one that fails stops no other.

        Runs that another process makes are waited for; where it gives up, they are made here. One that failed there
        meanwhile has failed.

        Raises:
            OutputError: once the disk has refused a run and those beside it have ended.
            ShoestringError: with `stop_on_failure`, what the first failing run raised.
            WorkerError: with `stop_on_failure`, if a worker was killed.
        """
        ahead: RunConfig | None = None
        self._since = now()
        with self.launcher.open() as pool:
            while True:
                if not self._stops:
                    ahead = self._fill(pool, queue, ahead)
                done = ahead is None and queue.over and not self._later
                if not self._running and (self._stops or done):
                    break
                for ended in pool.wait(_TICK) if self._running else self._idle():
                    self._end(queue, ended)
                self.watcher.tick()
        if self._refused is not None:
            raise self._refused
        if self._failure is not None and self.stop_on_failure:
            raise self._failure

    @property
    def _stops(self) -> bool:
        return self._refused is not None or (self.stop_on_failure and self._failure is not None)

    def _idle(self) -> list[Ended]:
        time.sleep(_TICK / 2)
        return []

    def _fill(self, pool: Pool, queue: Queue, ahead: RunConfig | None) -> RunConfig | None:
        """Begin as many runs as may; return one that is next but has no place yet."""
        while not self._stops:
            ahead = ahead or self._due() or queue.next()
            if ahead is None or not pool.takes(ahead):
                return ahead
            self._begin(pool, queue, ahead)
            ahead = None
        return ahead

    def _due(self) -> RunConfig | None:
        now = time.monotonic()
        for entry in self._later:
            if entry[0] <= now:
                self._later.remove(entry)
                return entry[1]
        return None

    def _begin(self, pool: Pool, queue: Queue, config: RunConfig) -> None:
        try:
            if not self.force and finished(config) is not None:  # By another process, since it was put into the queue.
                self._tell(queue, Ended(config.folder, "ok"))
                return
            self._raise_what_failed(config)
        except ShoestringError as error:
            self._fail(queue, Ended(config.folder, "failed", error=error))
            return
        if config.folder in self._running or is_held(config.folder):
            self._later.append((time.monotonic() + _LATER, config))
            return
        self._running[config.folder] = config, now()
        self.watcher.began(config)
        pool.submit(config, force=self.force, limits=queue.limits(config))

    def _raise_what_failed(self, config: RunConfig) -> None:
        """Raise what another process says a run failed with, since this one began: here it would fail as well."""
        known = read_record(config.folder)
        if not self.force and known is not None and known.status == "failed" and known.finished > self._since:
            raise ShoestringError(known.error)

    def _end(self, queue: Queue, ended: Ended) -> None:
        config, begun = self._running.pop(ended.place)
        if ended.how == "busy":
            self._later.append((time.monotonic() + _LATER, config))
            self.watcher.ended(ended)
        elif ended.how == "refused":
            self._refused = self._refused or _disk(ended)
            self.watcher.ended(ended)
        elif ended.how == "lost":
            self._lose(queue, config, begun, ended)
        elif ended.how == "failed":
            self._fail(queue, ended)
        else:
            self._tell(queue, ended)

    def _lose(self, queue: Queue, config: RunConfig, begun: str, ended: Ended) -> None:
        """Begin a lost run again where the launcher says so; else it failed, and its folder says that."""
        self._lost[ended.place] += 1
        if self._lost[ended.place] <= self.launcher.begin_again:
            self._later.append((time.monotonic(), config))
            self.watcher.ended(ended)
            return
        error = ended.error or WorkerError("its worker was lost")
        try:
            leave_failure(config, f"{told(error)}; it goes on from its last checkpoint", begun)
        except OutputError as refused:
            self._refused = self._refused or refused
        except ShoestringError as why:
            error.add_note(f"no record of it: {why}")
        self._fail(queue, Ended(ended.place, "failed", ended.seconds, error))

    def _fail(self, queue: Queue, ended: Ended) -> None:
        self._failure = self._failure or ended.error
        self._tell(queue, ended)

    def _tell(self, queue: Queue, ended: Ended) -> None:
        queue.ended(ended)
        self.watcher.ended(ended)


def _disk(ended: Ended) -> BaseException:
    error = ended.error or OutputError(f"{ended.place}: the disk refuses")
    error.add_note("no further run was begun; once there is room, the same command goes on where this one stopped")
    return error
