"""Worker processes on this machine, as many as its cores, its GPUs and its memory allow."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from shoestring.errors import WorkerError
from shoestring.runs.config import RunConfig
from shoestring.runs.limits import Limits
from shoestring.studies.launchers.base import LAUNCHERS, Ended, Launcher, Pool
from shoestring.studies.launchers.room import Room, held
from shoestring.studies.launchers.worker import Worker

# What an interrupted run may take to write its record; it looks up between two steps.
_PATIENCE = 20.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Local(Launcher):
    """Worker processes with one thread each, kept from run to run; one that is killed fails its run and is replaced.

    Small models gain nothing from more threads, and a run in a worker gives the same numbers, bit for bit, as `run`
    does with one thread.
    """

    kind: Literal["local"] = "local"  # pyright: ignore[reportIncompatibleVariableOverride]
    jobs: PositiveInt | None = None
    """Runs at once; unless given, one a GPU, or one a core where there is none."""
    memory: PositiveFloat | None = None
    """GiB that all runs together may use; what the machine has free, unless given."""

    @contextmanager
    def open(self) -> Iterator[Pool]:
        """Return the pool; its workers start as they are needed."""
        pool = _Pool(self.jobs, gpus(), Room(int(self.memory * 2**30) if self.memory is not None else None))
        try:
            yield pool
        finally:
            pool.close()


LAUNCHERS.register("local")(Local)


class _Pool:
    def __init__(self, jobs: int | None, cards: list[str], room: Room) -> None:
        self._jobs, self._cards, self._room = jobs, cards, room
        self._workers: list[Worker] = []

    def takes(self, config: RunConfig) -> bool:
        """Return whether a worker is free and memory is enough; the first run always begins."""
        busy = [(worker.config.model, held(worker.pid)) for worker in self._workers if worker.config is not None]
        if not busy:
            return True
        idle = next((worker for worker in self._workers if worker.config is None), None)
        jobs = self._jobs or (len(self._cards) if config.model.device != "cpu" else 0) or cores()
        return len(busy) < jobs and self._room.holds(config.model, busy, held(idle.pid) if idle else 0)

    def submit(self, config: RunConfig, *, force: bool, limits: Limits | None = None) -> None:
        """Give a run to a worker that is free, or to a new one."""
        for worker in [worker for worker in self._workers if worker.config is None and not worker.lives]:
            self._drop(worker)
        free = next((worker for worker in self._workers if worker.config is None), None)
        if free is None:
            free = self._new()
            self._workers.append(free)
        free.begin(config, force=force, limits=limits)

    def wait(self, seconds: float) -> list[Ended]:
        """Return what ended; a worker that was killed is lost with its run."""
        busy = {worker.line: worker for worker in self._workers if worker.config is not None}
        ended: list[Ended] = []
        for line in wait(list(busy), seconds):
            worker = busy[line]  # pyright: ignore[reportArgumentType] - the lines that were asked about
            config = worker.config
            if config is None:
                continue
            answer = worker.answer()
            if isinstance(answer, Ended):
                self._room.learn(config.model, answer.peak)
                ended.append(answer)
            else:
                self._drop(worker)
                ended.append(Ended(config.folder, "lost", error=WorkerError(_killed(answer))))
        return ended

    def close(self) -> None:
        """End all workers; interrupted runs go on from their last checkpoint the next time."""
        for worker in self._workers:
            worker.ask_to_end()
        for worker in self._workers:
            worker.end(_PATIENCE)
        self._workers.clear()

    def _new(self) -> Worker:
        used = [worker.place for worker in self._workers]
        places = range(max(1, len(self._cards)))
        place = min(places, key=used.count)
        return Worker({_VISIBLE: self._cards[place]} if len(self._cards) > 1 else {}, place)

    def _drop(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.end(0.0)


def cores() -> int:
    """Return the number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """Return the CUDA devices this process may use, by the names that `CUDA_VISIBLE_DEVICES` has for them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return named[:count] if len(named) >= count else [str(place) for place in range(count)]


def _killed(number: int) -> str:
    if number >= 0:
        return f"its worker process ended with status {number}"
    names = {one.value: one.name for one in signal.Signals}
    why = ", as the system does when memory runs out" if number == -signal.SIGKILL else ""
    return f"its worker process was ended by {names.get(-number, number)}{why}"
