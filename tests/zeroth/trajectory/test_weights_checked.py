"""Whoever goes on with a log has the weights that it knows: those it began with, and those of its marks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.errors import TrajectoryError
from shoestring.zeroth import MeZO
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.trajectory import Recorder, Trajectory, catch_up, header, matching, replay

OTHER_BASE = "began with other weights than these: theta differs"
OTHER_MARK = "log: at step 4 the weights are not those that the log has a mark of; load weights and state_dict of one"


def start() -> Tensor:
    return torch.linspace(-1, 1, 12).reshape(4, 3)


def loss_of(theta: Tensor) -> Callable[[], Tensor]:
    return lambda: (theta * torch.arange(3.0)).square().sum()


def build(weights: Tensor, **more: Any) -> tuple[MeZO, nn.Parameter]:
    theta = nn.Parameter(weights.clone())
    return MeZO([("theta", theta)], **({"lr": 1e-3, "seed": 1} | more)), theta


def make(optimizer: MeZO, theta: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.step(loss_of(theta))


class Recorded:
    """A log of seven steps, with a mark at the fourth, and the snapshot of that; there are none at the end."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.settings = settings
        optimizer, theta = build(start(), **settings)
        recorder = Recorder(optimizer, path)
        make(optimizer, theta, 4)
        recorder.mark()
        self.weights, self.state = theta.detach().clone(), copy.deepcopy(optimizer.state_dict())
        make(optimizer, theta, 3)
        recorder.close()
        optimizer.finalize()
        self.end, self.data = theta.detach().clone(), path.read_bytes()

    def loaded(self) -> tuple[MeZO, nn.Parameter]:
        optimizer, theta = build(self.weights, **self.settings)
        optimizer.load_state_dict(self.state)
        return optimizer, theta


def wrong(weights: Tensor) -> Tensor:
    changed = weights.clone()
    changed[0, 0] += 1e-6
    return changed


def test_catching_up_from_other_weights_than_the_log_began_with_is_refused(tmp_path: Path) -> None:
    found = Recorded(tmp_path / "log")
    optimizer, theta = build(wrong(start()))
    with pytest.raises(TrajectoryError, match=OTHER_BASE):
        catch_up(optimizer, tmp_path / "log")
    assert torch.equal(theta, wrong(start()))
    assert optimizer.shared["steps"] == 0
    right, theta = build(start())
    assert catch_up(right, tmp_path / "log") == 7
    assert torch.equal(theta, found.end)


def test_going_on_from_other_weights_than_the_log_began_with_is_refused_and_the_log_is_kept(tmp_path: Path) -> None:
    found = Recorded(tmp_path / "log")
    optimizer, _ = build(wrong(start()))
    with pytest.raises(TrajectoryError, match=OTHER_BASE):
        Recorder(optimizer, tmp_path / "log", resume=True)
    assert (tmp_path / "log").read_bytes() == found.data
    assert optimizer.observer is None
    right, theta = build(start())
    with Recorder(right, tmp_path / "log", resume=True):
        make(right, theta, 2)
    base = {"theta": start()}
    replay(tmp_path / "log", base)
    assert torch.equal(base["theta"], theta)


def test_other_frozen_weights_at_the_beginning_are_refused_where_the_model_is_given(tmp_path: Path) -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1).requires_grad_(False))
    optimizer = MeZO(model.named_parameters())
    Recorder(optimizer, tmp_path / "log", model=model).close()
    Recorder(optimizer, tmp_path / "log", model=model, resume=True).close()
    model[1].weight.data[0, 0] += 1
    with pytest.raises(TrajectoryError, match="a model with other frozen weights than these"):
        Recorder(optimizer, tmp_path / "log", model=model, resume=True)


@pytest.mark.parametrize("engine", ENGINES.names())
def test_other_weights_than_those_of_a_mark_are_refused(engine: str, tmp_path: Path) -> None:
    found = Recorded(tmp_path / "log", engine=engine, directions="low-rank")
    optimizer, theta = found.loaded()
    theta.data = wrong(found.weights)
    with pytest.raises(TrajectoryError, match=OTHER_MARK):
        Recorder(optimizer, tmp_path / "log", resume=True)
    with pytest.raises(TrajectoryError, match=OTHER_MARK):
        catch_up(optimizer, tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == found.data
    assert torch.equal(theta, wrong(found.weights))
    right, theta = found.loaded()
    assert catch_up(right, tmp_path / "log") == 3
    assert torch.equal(theta, found.end)
    right, theta = found.loaded()
    with Recorder(right, tmp_path / "log", resume=True):
        make(right, theta, 2)
    base = {"theta": start()}
    replay(tmp_path / "log", base)
    assert torch.equal(base["theta"], theta)


@pytest.mark.parametrize("engine", ENGINES.names())
def test_a_mark_is_compared_with_weights_that_have_every_update(engine: str, tmp_path: Path) -> None:
    """The optimizer that comes to a mark by its own steps may have put updates off."""
    Recorded(tmp_path / "log", engine=engine, directions="low-rank")
    for go_on in (catch_up, lambda optimizer, log: Recorder(optimizer, log, resume=True).close()):
        optimizer, theta = build(start(), engine=engine, directions="low-rank")
        make(optimizer, theta, 4)
        go_on(optimizer, tmp_path / "log")


def test_weights_are_taken_as_they_are_where_the_log_has_no_mark(tmp_path: Path) -> None:
    found = Recorded(tmp_path / "log")
    optimizer, theta = found.loaded()
    make(optimizer, theta, 1)
    theta.data = wrong(theta.data)
    assert 5 not in Trajectory.read(tmp_path / "log").marks
    assert catch_up(optimizer, tmp_path / "log") == 2


def test_each_way_in_reads_the_weights_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Recorded(tmp_path / "log")
    log = Trajectory.read(tmp_path / "log")
    read: list[int] = []
    digest = header.digest

    def counted(tensors: Any) -> str:
        read.append(1)
        return digest(tensors)

    monkeypatch.setattr(matching, "digest", counted)
    monkeypatch.setattr(header, "digest", counted)

    def reads(action: Callable[[], Any]) -> int:
        read.clear()
        action()
        return len(read)

    assert reads(lambda: replay(log, {"theta": start()}, steps=3)) == 1
    assert reads(lambda: catch_up(build(start())[0], log, steps=3)) == 1
    assert reads(lambda: catch_up(found.loaded()[0], log)) == 1
    assert reads(lambda: Recorder(found.loaded()[0], tmp_path / "log", resume=True).close()) == 1
