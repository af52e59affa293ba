"""A Ray cluster: as many runs at once as its nodes have room for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from shoestring.errors import MissingPackageError, WorkerError, first_line
from shoestring.runs.config import RunConfig
from shoestring.runs.limits import Limits
from shoestring.studies.launchers.base import LAUNCHERS, Ended, Launcher, Pool
from shoestring.studies.launchers.remote import attempt


class Ray(Launcher):
    """Tasks of a Ray cluster whose nodes see the same files under the same paths, and have this package.

    A run whose node or worker is lost is begun again, from its last checkpoint.
    """

    begin_again: ClassVar[int] = 3

    kind: Literal["ray"] = "ray"  # pyright: ignore[reportIncompatibleVariableOverride]
    address: str | None = None
    """Of the cluster, such as `auto` or `ray://head:10001`; unless given, what RAY_ADDRESS says, or a new one here."""
    cpus: PositiveFloat = 1
    """Cores that a run asks for; from 2 on it has as many threads."""
    gpus: NonNegativeFloat = 0
    """GPUs that a run asks for; 0.5 puts two runs on one."""
    memory: PositiveFloat | None = None
    """GiB that a run asks for."""
    jobs: PositiveInt | None = None
    """Most runs at once; what the cluster has room for, unless given."""

    @contextmanager
    def open(self) -> Iterator[Pool]:
        """Return the pool.

        Raises:
            MissingPackageError: if Ray is not installed.
            WorkerError: if the cluster is not there.
        """
        ray = _ray()
        own = not ray.is_initialized()
        if own:
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            except Exception as error:  # Ray raises what it likes.
                raise WorkerError(f"launcher.address={self.address!r}: no Ray cluster answers: {error}") from error
        pool = _Pool(self, ray)
        try:
            yield pool
        finally:
            pool.close()
            if own:
                ray.shutdown()


LAUNCHERS.register("ray")(Ray)


class _Pool:
    def __init__(self, settings: Ray, ray: Any) -> None:
        self._settings, self._ray = settings, ray
        memory = {} if settings.memory is None else {"memory": int(settings.memory * 2**30)}
        # A task that is lost comes back to the engine, which begins it again: it may have ended in its last moment.
        self._attempt = ray.remote(num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=0, **memory)(attempt)
        self._running: dict[Any, Path] = {}

    def takes(self, config: RunConfig) -> bool:
        """Return whether the cluster has room for another run, as far as cores and GPUs say."""
        return len(self._running) < (self._settings.jobs or self._room())

    def submit(self, config: RunConfig, *, force: bool, limits: Limits | None = None) -> None:
        """Hand a run to the cluster."""
        threads = max(1, int(self._settings.cpus))
        task = self._attempt.remote(config, force=force, limits=limits, folder=os.getcwd(), threads=threads)
        self._running[task] = config.folder

    def wait(self, seconds: float) -> list[Ended]:
        """Return what ended.

        Raises:
            WorkerError: if a worker cannot make any run: where this package is not installed, say.
        """
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        ended: list[Ended] = []
        for task in done:
            place = self._running.pop(task)
            try:
                ended.append(self._ray.get(task))
            except self._ray.exceptions.RayTaskError as error:  # `attempt` itself raises nothing.
                why = str(error).strip().splitlines()[-1]
                raise WorkerError(
                    f"a worker of the Ray cluster cannot make runs: {why}; "
                    "the nodes need the same shoestring as this one"
                ) from error
            except self._ray.exceptions.RayError as error:
                lost = WorkerError(f"its node or worker was lost: {first_line(error)}")
                ended.append(Ended(place, "lost", error=lost))
        return ended

    def close(self) -> None:
        """End what is not done: it goes on from its last checkpoint the next time."""
        for task in self._running:
            with suppress(Exception):  # It may have ended, or its node may be gone.
                self._ray.cancel(task, force=True)
        self._running.clear()

    def _room(self) -> int:
        there = self._ray.cluster_resources()
        rooms = [there.get("CPU", 0) / self._settings.cpus]
        if self._settings.gpus:
            rooms.append(there.get("GPU", 0) / self._settings.gpus)
        return max(1, int(min(rooms)))


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingPackageError("--launcher ray needs Ray: pip install 'shoestring[ray]'") from error
