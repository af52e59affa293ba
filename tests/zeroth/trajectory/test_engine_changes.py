"""A log knows which engine made each step: the one asked for, the one that took over, the one it was changed to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shoestring.errors import TrajectoryError
from shoestring.training.trajectory import facts_of
from shoestring.zeroth import MeZO
from shoestring.zeroth.trajectory import Recorder, Trajectory, catch_up, replay

# In bfloat16 the fused engine drifts: whoever replays its steps with another one gets other weights.
DTYPES = [torch.bfloat16, torch.float32]
VIRTUAL = {"kind": "virtual", "columns": 2}


def start_of(dtype: torch.dtype) -> Tensor:
    return torch.linspace(-1, 1, 40, dtype=dtype).reshape(8, 5)


def loss_of(weights: Tensor) -> Callable[[], Tensor]:
    return lambda: (weights.float() * torch.arange(5.0)).square().mean()


def build(theta: nn.Parameter, **more: Any) -> MeZO:
    return MeZO([("theta", theta)], **({"lr": 1e-3, "eps": 1e-2, "seed": 1} | more))


class Snapshot:
    """Weights and state of an optimizer, as a checkpoint has them."""

    def __init__(self, optimizer: MeZO, theta: nn.Parameter) -> None:
        self.state = copy.deepcopy(optimizer.state_dict())
        self.weights = theta.detach().clone()

    def load(self, **more: Any) -> tuple[MeZO, nn.Parameter]:
        theta = nn.Parameter(self.weights.clone())
        optimizer = build(theta, **more)
        optimizer.load_state_dict(self.state)
        return optimizer, theta


def replayed(log: Path, dtype: torch.dtype) -> Tensor:
    base = {"theta": start_of(dtype)}
    replay(log, base)
    return base["theta"]


@pytest.mark.parametrize("at", [1, 5, 9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_snapshot_behind_a_takeover_catches_up_with_the_engine_that_took_over(
    dtype: torch.dtype, at: int, tmp_path: Path
) -> None:
    theta = nn.Parameter(start_of(dtype))
    loss = loss_of(theta.detach().view(8, 5))  # which the paired engine cannot follow
    optimizer, snapshot = build(theta), None
    with Recorder(optimizer, tmp_path / "log"):
        for _ in range(10):
            optimizer.step(loss)
            if optimizer.shared["steps"] == at:
                snapshot = Snapshot(optimizer, theta)
    assert snapshot is not None
    assert torch.equal(replayed(tmp_path / "log", dtype), theta)
    again, weights = snapshot.load()
    assert catch_up(again, tmp_path / "log") == 10 - at
    assert torch.equal(weights, theta)
    assert again.engine_name == "paired"  # Whoever asked for it gets no weights out of place when he goes on.
    with Recorder(again, tmp_path / "log", resume=True):
        optimizer.step(loss)
        again.step(loss_of(weights.detach().view(8, 5)))
    assert torch.equal(weights, theta)
    assert torch.equal(replayed(tmp_path / "log", dtype), theta)


def test_a_resumed_run_that_no_engine_took_over_in_says_so(tmp_path: Path) -> None:
    theta = nn.Parameter(start_of(torch.bfloat16))
    optimizer = build(theta)
    with Recorder(optimizer, tmp_path / "log"):
        optimizer.step(loss_of(theta.detach().view(8, 5)))
    resumed, weights = Snapshot(optimizer, theta).load()
    with Recorder(resumed, tmp_path / "log", resume=True):
        for _ in range(5):
            resumed.step(loss_of(weights))
    assert torch.equal(replayed(tmp_path / "log", torch.bfloat16), weights)
    assert facts_of(tmp_path) == {}
    (tmp_path / "log").rename(tmp_path / "trajectory.bin")
    assert facts_of(tmp_path)["engine"] == "paired"


def record(path: Path, start: Tensor, change: Callable[[MeZO], Any], *, mark: bool, **more: Any) -> nn.Parameter:
    """Make nine steps, with a change before the fourth; snapshots lie beside the log."""
    theta = nn.Parameter(start.clone())
    optimizer = build(theta, **more)
    recorder = Recorder(optimizer, path)
    for step in range(9):
        if step == 3:
            change(optimizer)
        optimizer.step(loss_of(theta))
        if step in (4, 6):
            snapshot = Snapshot(optimizer, theta)
            torch.save([snapshot.state, snapshot.weights], path.with_suffix(f".{step + 1}"))
    optimizer.finalize()
    if mark:
        recorder.mark()
    recorder.close()
    return theta


@pytest.mark.parametrize("mark", [False, True])
@pytest.mark.parametrize("other", ["paired", "fused", "replay", VIRTUAL])
@pytest.mark.parametrize("engine", ["paired", "fused", "replay"])
def test_an_engine_that_was_changed_is_changed_in_the_replay(
    engine: str, other: Any, mark: bool, tmp_path: Path
) -> None:
    start, settings = start_of(torch.bfloat16), {"engine": engine, "directions": "low-rank"}
    theta = record(tmp_path / "log", start, lambda made: made.change_engine(other), mark=mark, **settings)
    base = {"theta": start.clone()}
    assert replay(tmp_path / "log", base).engine_name == other
    assert torch.equal(base["theta"], theta)
    for number in (5, 7):
        weights = nn.Parameter(torch.zeros_like(start))
        optimizer = build(weights, **settings)
        state, weights.data = torch.load((tmp_path / "log").with_suffix(f".{number}"))
        optimizer.load_state_dict(state)
        catch_up(optimizer, tmp_path / "log")
        assert torch.equal(weights, theta)
        assert optimizer.engine_name == other
        Recorder(optimizer, tmp_path / "log", resume=True).close()


def test_the_note_of_a_changed_engine_has_its_options(tmp_path: Path) -> None:
    record(tmp_path / "log", start_of(torch.float32), lambda made: made.change_engine(VIRTUAL), mark=False)
    wanted = (-1, "engine_name", {"table": [["kind", "virtual"], ["columns", 2]]})
    assert [step.before for step in Trajectory.read(tmp_path / "log").steps] == [(), (), (), (wanted,)] + 5 * [()]
    (tmp_path / "log").rename(tmp_path / "trajectory.bin")
    assert facts_of(tmp_path)["engine"] == "virtual"


@pytest.mark.parametrize("other", ["paired", "fused", VIRTUAL])
@pytest.mark.parametrize("engine", ["paired", "fused", VIRTUAL])
def test_an_engine_that_was_changed_between_estimate_and_step(engine: Any, other: Any, tmp_path: Path) -> None:
    start = start_of(torch.bfloat16)
    theta = nn.Parameter(start.clone())
    optimizer = build(theta, engine=engine, directions="low-rank")
    with Recorder(optimizer, tmp_path / "log"):
        for step in range(8):
            optimizer.estimate(loss_of(theta))
            if step == 3:
                optimizer.change_engine(other)
            optimizer.step()
    assert torch.equal(replayed(tmp_path / "log", torch.bfloat16), theta)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("engine", ["paired", "fused", VIRTUAL])
def test_weights_that_were_put_in_place_between_estimate_and_step(
    engine: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    theta = nn.Parameter(start_of(dtype))
    optimizer = build(theta, engine=engine, directions="low-rank")
    with Recorder(optimizer, tmp_path / "log"):
        for step in range(8):
            optimizer.estimate(loss_of(theta))
            if step in (2, 3, 6):
                optimizer.finalize()
            optimizer.step()
    assert torch.equal(replayed(tmp_path / "log", dtype), theta)


@pytest.mark.parametrize("other", ["fused", VIRTUAL])
@pytest.mark.parametrize("engine", ["paired", {"kind": "virtual", "columns": 8}])
def test_an_engine_that_was_changed_before_the_log_began(engine: Any, other: Any, tmp_path: Path) -> None:
    start = start_of(torch.bfloat16)
    theta = nn.Parameter(start.clone())
    optimizer = build(theta, engine=engine, directions="low-rank")
    optimizer.change_engine(other)
    with Recorder(optimizer, tmp_path / "log"):
        for _ in range(8):
            optimizer.step(loss_of(theta))
    assert torch.equal(replayed(tmp_path / "log", torch.bfloat16), theta)


def test_an_engine_that_a_log_cannot_hold_is_refused_before_a_step_is_made_with_it(tmp_path: Path) -> None:
    theta = nn.Parameter(start_of(torch.float32))
    optimizer = build(theta)
    with Recorder(optimizer, tmp_path / "log"):
        optimizer.step(loss_of(theta))
        before = theta.detach().clone()
        optimizer.change_engine({"kind": "paired", "max_rows": np.int64(4)})
        with pytest.raises(TrajectoryError, match=r"step 1 the engine was changed to .*max_rows.*cannot hold"):
            optimizer.step(loss_of(theta))
        assert torch.equal(theta, before)
        optimizer.change_engine({"kind": "paired", "max_rows": 4})
        optimizer.step(loss_of(theta))
    assert torch.equal(replayed(tmp_path / "log", torch.float32), theta)


def test_an_optimizer_with_an_engine_that_neither_log_nor_change_has_is_refused(tmp_path: Path) -> None:
    record(tmp_path / "log", start_of(torch.float32), lambda made: made.change_engine("replay"), mark=False)
    state, weights = torch.load((tmp_path / "log").with_suffix(".5"))
    optimizer = build(nn.Parameter(weights), engine="fused")
    optimizer.load_state_dict(state)
    with pytest.raises(TrajectoryError, match="with engine='paired', 'replay' from a later step on, not 'fused'"):
        catch_up(optimizer, tmp_path / "log")
