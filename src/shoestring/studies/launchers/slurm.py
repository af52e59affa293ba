"""Jobs of a Slurm cluster, through submitit."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from shoestring.errors import MissingPackageError, WorkerError, first_line
from shoestring.files import make_folder
from shoestring.runs.config import RunConfig
from shoestring.runs.limits import Limits
from shoestring.studies.launchers.base import LAUNCHERS, Ended, Launcher, Pool
from shoestring.studies.launchers.remote import attempt

# Slurm is asked how jobs are no more often than this.
_PAUSE = 0.2


class Slurm(Launcher):
    """One job a run, on a cluster whose nodes see the same files under the same paths, and have this package.

    A run whose job is lost (its time is over, its node is gone) is begun again, from its last checkpoint.
    """

    begin_again: ClassVar[int] = 3

    kind: Literal["slurm"] = "slurm"  # pyright: ignore[reportIncompatibleVariableOverride]
    jobs: PositiveInt = 100
    """Most jobs in the queue at once."""
    partition: str | None = None
    minutes: PositiveInt = 240
    """Longest time of a job."""
    cpus: PositiveInt = 1
    """Cores, and threads, of a run."""
    gpus: NonNegativeInt = 0
    memory: PositiveFloat | None = None
    """GiB of a job."""
    more: dict[str, Any] = {}
    """Further options of sbatch, such as { account = "..." }."""
    logs: str = "slurm-logs"
    """Folder of the jobs' own logs."""
    through: Literal["slurm", "local", "debug"] = "slurm"
    """submitit's executor: `local` starts processes here and `debug` none, to try things without a cluster."""

    @contextmanager
    def open(self) -> Iterator[Pool]:
        """Return the pool.

        Raises:
            MissingPackageError: if submitit is not installed.
            WorkerError: if there is no Slurm here.
            OutputError: if the folder of logs cannot be made.
        """
        submitit = _submitit()
        make_folder(Path(self.logs))
        try:
            executor = submitit.AutoExecutor(folder=self.logs, cluster=self.through)
        except RuntimeError as error:
            raise WorkerError(f"there is no Slurm here: {error}") from error
        options: dict[str, Any] = {"timeout_min": self.minutes, "cpus_per_task": self.cpus, "name": "shoestring"}
        options |= {"gpus_per_node": self.gpus} if self.gpus else {}
        options |= {"mem_gb": self.memory} if self.memory is not None else {}
        options |= {"slurm_partition": self.partition} if self.partition is not None else {}
        executor.update_parameters(**options, **({"slurm_additional_parameters": self.more} if self.more else {}))
        pool = _Pool(self, executor)
        try:
            yield pool
        finally:
            pool.close()


LAUNCHERS.register("slurm")(Slurm)


class _Pool:
    def __init__(self, settings: Slurm, executor: Any) -> None:
        self._settings, self._executor = settings, executor
        self._running: dict[Path, Any] = {}

    def takes(self, config: RunConfig) -> bool:
        """Return whether another job may be queued."""
        return len(self._running) < self._settings.jobs

    def submit(self, config: RunConfig, *, force: bool, limits: Limits | None = None) -> None:
        """Queue a job."""
        folder, threads = os.getcwd(), self._settings.cpus
        job = self._executor.submit(attempt, config, force=force, limits=limits, folder=folder, threads=threads)
        self._running[config.folder] = job

    def wait(self, seconds: float) -> list[Ended]:
        """Return what ended."""
        end = time.monotonic() + seconds
        while True:
            done = [place for place, job in self._running.items() if job.done()]
            if done or time.monotonic() >= end:
                return [self._result(place, self._running.pop(place)) for place in done]
            time.sleep(_PAUSE)

    def close(self) -> None:
        """Cancel what is not done: it goes on from its last checkpoint the next time."""
        for job in self._running.values():
            with suppress(Exception):  # It may have ended.
                job.cancel(check=False)
        self._running.clear()

    def _result(self, place: Path, job: Any) -> Ended:
        try:
            return job.result()
        except Exception as error:  # What was raised in a job comes back as it likes; runs raise nothing.
            return Ended(place, "lost", error=WorkerError(f"its job {job.job_id} was lost: {first_line(error)}"))


def _submitit() -> Any:
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise MissingPackageError("--launcher slurm needs submitit: pip install 'shoestring[slurm]'") from error
