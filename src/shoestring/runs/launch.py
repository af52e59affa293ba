"""Several runs at once, on one machine: worker processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from shoestring.errors import WorkerError
from shoestring.progress import Bar, Progress, Silent
from shoestring.runs.config import RunConfig
from shoestring.runs.record import Record
from shoestring.runs.run import finished, run


def cores() -> int:
    """Return the number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(
    configs: Sequence[RunConfig], *, jobs: int, force: bool = False, progress: Progress | None = None
) -> list[Record]:
    """Make every run that is not done, `jobs` at a time, and return all records in the order of `configs`.

    Small models gain nothing from more than one thread, so workers have one each: a run in one of them gives the same
    numbers, bit for bit, as `run` does with one thread.

    Raises:
        ShoestringError: what the first failing run raises; runs that have not begun by then are not made.
        WorkerError: if a worker process is killed, as the system does when memory runs out.
    """
    records: dict[int, Record] = {}
    with (progress or Silent()).bar("runs", len(configs)) as bar:
        todo = list(range(len(configs)))
        if not force:
            for index in [index for index in todo if finished(configs[index]) is not None]:
                records[index] = run(configs[index])
                todo.remove(index)
                bar.advance()
        records |= _in_workers(configs, todo, min(jobs, len(todo)), force, bar) if todo else {}
    return [records[index] for index in range(len(configs))]


def _in_workers(
    configs: Sequence[RunConfig], todo: Sequence[int], jobs: int, force: bool, bar: Bar
) -> dict[int, Record]:
    # Threads of torch do not survive a fork.
    context = multiprocessing.get_context("spawn")
    records: dict[int, Record] = {}
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        futures: dict[Future[Record], int] = {pool.submit(run, configs[i], force=force): i for i in todo}
        try:
            for future in as_completed(futures):
                index = futures[future]
                records[index] = future.result()
                bar.note(_told(configs[index]))
                bar.advance()
        except BrokenProcessPool as error:
            raise WorkerError(
                f"a worker process was killed with {len(todo) - len(records)} of {len(todo)} runs to go, as the system "
                "does when memory runs out; the same command goes on where they stopped"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return records


def _one_thread() -> None:
    torch.set_num_threads(1)


def _told(config: RunConfig) -> str:
    return f"{config.task.name}, {config.model.kind} model: {config.method.kind}, seed {config.seed}"
