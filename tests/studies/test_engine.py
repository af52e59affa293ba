"""The loop behind sweeps, with a launcher that makes nothing: what is handed over, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from shoestring.runs.config import RunConfig, load_config
from shoestring.runs.limits import Limits
from shoestring.studies.engine import Engine, InOrder
from shoestring.studies.launchers.base import Ended, Launcher, Pool


class _Slow:
    """Takes any number of runs, and ends one of them whenever it is waited for."""

    def __init__(self) -> None:
        self.at_once: list[Path] = []
        self.made: list[Path] = []
        self.most = 0

    def takes(self, config: RunConfig) -> bool:
        return True

    def submit(self, config: RunConfig, *, force: bool, limits: Limits | None = None) -> None:
        self.at_once.append(config.folder)
        self.made.append(config.folder)
        self.most = max(self.most, len(self.at_once))

    def wait(self, seconds: float) -> list[Ended]:
        return [Ended(self.at_once.pop(0), "ok")]


class Slow(Launcher):
    kind: Literal["slow"] = "slow"  # pyright: ignore[reportIncompatibleVariableOverride]

    @contextmanager
    def open(self) -> Iterator[Pool]:
        yield POOLS[-1]


POOLS: list[_Slow] = []


class Watcher:
    def __init__(self) -> None:
        self.done: list[Path] = []

    def began(self, config: RunConfig) -> None:
        pass

    def ended(self, ended: Ended) -> None:
        self.done.append(ended.place)

    def tick(self) -> None:
        pass


def test_a_run_of_two_folders_is_made_in_both_at_once(tmp_path: Path) -> None:
    table = {"task": "SST-2", "data": {"source": "data"}, "model": {"kind": "masked", "name": "m"}}
    configs = [
        load_config(None, table={**table, "method": {"kind": "zero-shot"}, "output": {"folder": str(tmp_path / name)}})
        for name in ("one", "two")
    ]
    assert configs[0].run_id == configs[1].run_id
    POOLS.append(_Slow())
    watcher = Watcher()
    Engine(Slow(), watcher).make(InOrder(configs))
    assert POOLS[-1].most == 2
    assert POOLS[-1].made == watcher.done == [config.folder for config in configs]
