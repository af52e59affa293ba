"""Several runs at once, on one machine: worker processes of one thread each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shoestring.progress import Bar, Progress, Silent
from shoestring.runs.config import RunConfig
from shoestring.runs.record import Record
from shoestring.runs.run import finished, run
from shoestring.studies.engine import Engine, InOrder
from shoestring.studies.launchers.base import Ended, Launcher
from shoestring.studies.launchers.local import Local, cores

__all__ = ["cores", "run_all"]


def run_all(
    configs: Sequence[RunConfig],
    *,
    jobs: int,
    force: bool = False,
    progress: Progress | None = None,
    launcher: Launcher | None = None,
) -> list[Record]:
    """Make every run that is not done, `jobs` at a time, and return all records in the order of `configs`.

    Raises:
        ShoestringError: what the first failing run raises; runs that have not begun by then are not made.
        WorkerError: if a worker process is killed, as the system does when memory runs out.
    """
    known = {} if force else {config.folder: run(config) for config in configs if finished(config) is not None}
    todo = {config.folder: config for config in configs if config.folder not in known}
    with (progress or Silent()).bar("runs", len(known) + len(todo)) as bar:
        bar.advance(len(known))
        if todo:
            watcher = _Bars(bar, todo)
            Engine(launcher or Local(jobs=jobs), watcher, force=force, stop_on_failure=True).make(
                InOrder(todo.values())
            )
    # What was just made is not checked against its data and model again.
    made = {place: finished(config) or run(config) for place, config in todo.items()}
    return [(known | made)[config.folder] for config in configs]


class _Bars:
    def __init__(self, bar: Bar, configs: dict[Path, RunConfig]) -> None:
        self._bar, self._configs = bar, configs

    def began(self, config: RunConfig) -> None:
        """Show nothing: the bar counts ends."""

    def ended(self, ended: Ended) -> None:
        """Move the bar."""
        if ended.how == "ok":
            self._bar.note(told_of(self._configs[ended.place]))
            self._bar.advance()

    def tick(self) -> None:
        """Show nothing."""


def told_of(config: RunConfig) -> str:
    """Return a line that says which run it is."""
    return f"{config.task.name}, {config.model.kind} model: {config.method.kind}, seed {config.seed}"
