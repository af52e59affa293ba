"""The loop behind sweeps, with a launcher that makes nothing: what is handed over, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from shoestring.errors import ShoestringError
from shoestring.runs.config import RunConfig, load_config
from shoestring.runs.limits import Limits
from shoestring.runs.record import now, read_record, write_record
from shoestring.studies.attempt import leave_failure
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
        self.hows: list[str] = []

    def began(self, config: RunConfig) -> None:
        pass

    def ended(self, ended: Ended) -> None:
        self.done.append(ended.place)
        self.hows.append(ended.how)

    def tick(self) -> None:
        pass


def config_in(folder: Path) -> RunConfig:
    table = {"task": "SST-2", "data": {"source": "data"}, "model": {"kind": "masked", "name": "m"}}
    return load_config(None, table={**table, "method": {"kind": "zero-shot"}, "output": {"folder": str(folder)}})


def test_a_run_of_two_folders_is_made_in_both_at_once(tmp_path: Path) -> None:
    configs = [config_in(tmp_path / name) for name in ("one", "two")]
    assert configs[0].run_id == configs[1].run_id
    POOLS.append(_Slow())
    watcher = Watcher()
    Engine(Slow(), watcher).make(InOrder(configs))
    assert POOLS[-1].most == 2
    assert POOLS[-1].made == watcher.done == [config.folder for config in configs]


@pytest.mark.parametrize(("seconds", "made", "hows"), [(2, 0, ["failed"]), (-2, 1, ["ok"])])
def test_a_run_that_another_process_failed_meanwhile_has_failed(
    tmp_path: Path, seconds: int, made: int, hows: list[str]
) -> None:
    config = config_in(tmp_path)
    leave_failure(config, "the loss is nan", now())
    record = read_record(config.folder)
    assert record is not None
    ended = datetime.fromisoformat(record.finished) + timedelta(seconds=seconds)
    write_record(config.folder, record.model_copy(update={"finished": ended.isoformat(timespec="seconds")}))
    POOLS.append(_Slow())
    watcher = Watcher()
    Engine(Slow(), watcher).make(InOrder([config]))
    assert (len(POOLS[-1].made), watcher.hows) == (made, hows)
    with pytest.raises(ShoestringError, match="the loss is nan") if made == 0 else nullcontext():
        Engine(Slow(), watcher, stop_on_failure=True).make(InOrder([config]))
