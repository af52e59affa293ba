"""A step that fails behind its record leaves no step in the log that the optimizer has not made."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.errors import OptimizerError, TrajectoryError
from shoestring.zeroth import MeZO
from shoestring.zeroth.trajectory import Recorder, Trajectory, catch_up, replay
from shoestring.zeroth.trajectory.log import Log

FAILED = "step 3 failed while it moved the weights, which may be those of no step: its record was taken back"


def start() -> Tensor:
    return torch.linspace(-1, 1, 12).reshape(4, 3)


def loss_of(theta: Tensor) -> Callable[[], Tensor]:
    return lambda: (theta * torch.arange(3.0)).square().sum()


def build(theta: nn.Parameter, **more: Any) -> MeZO:
    return MeZO([("theta", theta)], **({"lr": 1e-3, "seed": 1} | more))


def steps_in(path: Path) -> int:
    return len(Trajectory.read(path).steps)


def replayed(log: Path) -> Tensor:
    base = {"theta": start()}
    replay(log, base)
    return base["theta"]


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def begin(path: Path, **more: Any) -> tuple[Recorder, MeZO, nn.Parameter]:
    """Return what three steps were made with."""
    theta = nn.Parameter(start())
    optimizer = build(theta, **more)
    recorder = Recorder(optimizer, path)
    for _ in range(3):
        optimizer.step(loss_of(theta))
    return recorder, optimizer, theta


def fail(optimizer: MeZO, theta: nn.Parameter, monkeypatch: pytest.MonkeyPatch, *, moved: bool) -> None:
    """Interrupt a step before or behind the move of the weights."""
    real = optimizer.engine.apply

    def apply(update: Any) -> None:
        if moved:
            real(update)
        interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(optimizer.engine, "apply", apply)
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(loss_of(theta))


@contextmanager
def interrupted_behind_a_record(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Interrupt what the block does as soon as a record is written."""
    append = Log.append

    def written(log: Log, record: Any) -> None:
        append(log, record)
        interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", written)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize("moved", [False, True])
def test_whoever_goes_on_behind_a_step_that_failed_is_refused_until_a_snapshot_is_loaded(
    moved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, optimizer, theta = begin(tmp_path / "log")
    weights, state = theta.detach().clone(), copy.deepcopy(optimizer.state_dict())
    fail(optimizer, theta, monkeypatch, moved=moved)
    for _ in range(2):
        with pytest.raises(TrajectoryError, match=FAILED):
            optimizer.step(loss_of(theta))
        with pytest.raises(TrajectoryError, match=FAILED):
            recorder.mark()
    assert steps_in(tmp_path / "log") == optimizer.shared["steps"] == 3
    recorder.close()

    theta.data.copy_(weights)
    optimizer.load_state_dict(state)
    with Recorder(optimizer, tmp_path / "log", resume=True):
        for _ in range(2):
            optimizer.step(loss_of(theta))
    assert steps_in(tmp_path / "log") == optimizer.shared["steps"] == 5
    assert torch.equal(replayed(tmp_path / "log"), theta)


@pytest.mark.parametrize("moved", [False, True])
def test_a_log_that_is_closed_behind_a_step_that_failed_ends_before_it(
    moved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, optimizer, theta = begin(tmp_path / "log")
    weights = theta.detach().clone()
    fail(optimizer, theta, monkeypatch, moved=moved)
    recorder.close()
    recorder.close()
    assert steps_in(tmp_path / "log") == optimizer.shared["steps"] == 3
    assert torch.equal(replayed(tmp_path / "log"), weights)


def test_a_block_that_a_failed_step_was_caught_in_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, optimizer, theta = begin(tmp_path / "log")
    with pytest.raises(TrajectoryError, match=FAILED), recorder:
        fail(optimizer, theta, monkeypatch, moved=True)
    assert steps_in(tmp_path / "log") == 3
    assert optimizer.observer is None


def test_updates_held_beside_weights_that_were_changed_end_the_recording(tmp_path: Path) -> None:
    recorder, optimizer, theta = begin(
        tmp_path / "log", engine={"kind": "virtual", "columns": 1}, directions="low-rank", lr=1e-2
    )
    optimizer.estimate(loss_of(theta))
    with torch.no_grad():
        theta.mul_(1.0)
    with pytest.raises(OptimizerError, match="changed while the weights were not in place"):
        optimizer.step()
    with pytest.raises(TrajectoryError, match=FAILED):
        optimizer.step(loss_of(theta))
    recorder.close()
    assert steps_in(tmp_path / "log") == optimizer.shared["steps"] == 3


def test_a_skipped_step_that_was_interrupted_has_moved_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, optimizer, theta = begin(tmp_path / "log", nonfinite="skip")
    with interrupted_behind_a_record(monkeypatch):
        optimizer.step(lambda: float("nan"))
    for _ in range(2):
        optimizer.step(loss_of(theta))
    recorder.mark()
    recorder.close()
    assert steps_in(tmp_path / "log") == optimizer.shared["steps"] == 5
    assert torch.equal(replayed(tmp_path / "log"), theta)


@pytest.mark.parametrize("engine", ["paired", "fused"])
def test_a_step_that_was_interrupted_with_its_record_is_made_again(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has moved yet, and the estimate is still there."""
    recorder, optimizer, theta = begin(tmp_path / "log", engine=engine)
    optimizer.estimate(loss_of(theta))
    with interrupted_behind_a_record(monkeypatch):
        optimizer.step()
    optimizer.step()
    for _ in range(2):
        optimizer.step(loss_of(theta))
    recorder.mark()
    recorder.close()
    assert steps_in(tmp_path / "log") == optimizer.shared["steps"] == 6
    assert torch.equal(replayed(tmp_path / "log"), theta)


class Torn:
    """A file whose writes are interrupted half-way."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: Any) -> int:
        self.file.write(data[:5])
        raise KeyboardInterrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_record_that_was_interrupted_is_not_left_in_the_middle_of_the_log(tmp_path: Path) -> None:
    recorder, optimizer, theta = begin(tmp_path / "log")
    optimizer.estimate(loss_of(theta))
    whole = recorder._log._file
    recorder._log._file = Torn(whole)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    recorder._log._file = whole
    optimizer.step()
    optimizer.step(loss_of(theta))
    recorder.close()
    assert torch.equal(replayed(tmp_path / "log"), theta)


def test_a_step_that_was_made_and_not_heard_of_stays_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, optimizer, theta = begin(tmp_path / "log")
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "stepped", interrupt)
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(loss_of(theta))
    with pytest.raises(TrajectoryError, match="was taken from step 3 to step 4 while it was recorded; close the"):
        optimizer.step(loss_of(theta))
    recorder.close()
    assert steps_in(tmp_path / "log") == optimizer.shared["steps"] == 4
    assert torch.equal(replayed(tmp_path / "log"), theta)
    with Recorder(optimizer, tmp_path / "log", resume=True):
        optimizer.step(loss_of(theta))
    assert torch.equal(replayed(tmp_path / "log"), theta)


def test_a_failed_step_is_made_again_from_a_snapshot_and_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, optimizer, theta = begin(tmp_path / "log")
    fail(optimizer, theta, monkeypatch, moved=True)
    recorder.close()
    again = nn.Parameter(start())
    resumed = build(again)
    assert catch_up(resumed, tmp_path / "log") == 3
    with Recorder(resumed, tmp_path / "log", resume=True):
        resumed.step(loss_of(again))
    assert torch.equal(replayed(tmp_path / "log"), again)


def test_ctrl_c_during_an_update_leaves_a_step_that_was_made_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        recorder, optimizer, theta = begin(tmp_path / "log")
        real = optimizer.engine.apply

        def apply(update: Any) -> None:
            real(update)
            signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(optimizer.engine, "apply", apply)
            with pytest.raises(KeyboardInterrupt):
                optimizer.step(loss_of(theta))
    finally:
        signal.signal(signal.SIGINT, handler)
    with recorder:
        optimizer.step(loss_of(theta))
    assert optimizer.shared["steps"] == steps_in(tmp_path / "log") == 5
    assert torch.equal(replayed(tmp_path / "log"), theta)
