"""A worker process on this machine, and the line it talks over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from shoestring.runs.config import RunConfig
from shoestring.runs.limits import Limits
from shoestring.studies.launchers.base import Ended

# Threads of torch do not survive a fork.
_CONTEXT = multiprocessing.get_context("spawn")


class Worker:
    """A process that makes runs one after another, in one thread; it ends with the process that began it.

    Attributes:
        line: what its answers come over.
        config: of the run it makes, or None.
        place: which of several GPUs it sees.
    """

    def __init__(self, environment: Mapping[str, str], place: int = 0) -> None:
        self.line, theirs = _CONTEXT.Pipe()
        self.config: RunConfig | None = None
        self.place = place
        self._process = _CONTEXT.Process(target=_work, args=(theirs,), daemon=True)
        with _environment(environment):
            self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid or 0

    @property
    def lives(self) -> bool:
        """Whether the process has not ended."""
        return self._process.is_alive()

    def begin(self, config: RunConfig, *, force: bool, limits: Limits | None = None) -> None:
        """Hand over a run."""
        self.config = config
        with suppress(OSError):  # A process that has ended says so on the line.
            self.line.send((config, force, limits))

    def answer(self) -> Ended | int:
        """Return how the run ended, or the status that the process ended with: -9 where signal 9 ended it."""
        try:
            ended: Ended = self.line.recv()
        except (EOFError, OSError):
            self._process.join(5)
            return self._process.exitcode or 0
        self.config = None
        return ended

    def ask_to_end(self) -> None:
        """Interrupt the run, which leaves a record that says so; a worker without one ends by itself."""
        self.line.close()
        if self.config is not None and self.lives:
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """End, once `ask_to_end` had its time; what does not end is killed."""
        self.line.close()
        self._process.join(seconds)
        if self.lives:
            self._process.kill()
            self._process.join()
        self._process.close()


def _work(line: Connection) -> None:
    # Ctrl-C reaches every process of a terminal; the one that leads asks the others to end, once each.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(KeyboardInterrupt, EOFError, OSError):
        import torch

        from shoestring.studies.attempt import Attempts

        torch.set_num_threads(1)
        attempts = Attempts(freeze=True)
        while True:
            config, force, limits = line.recv()
            line.send(attempts.make(config, force=force, limits=limits))
    os._exit(0)  # What is done is on the disk, and there is nothing to wait for.


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # Whatever is going on: it resumes from its checkpoint, and would hold memory until then.


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    before: dict[str, Any] = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
