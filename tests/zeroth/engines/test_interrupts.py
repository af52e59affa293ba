"""Ctrl-C in the middle of whatever an engine does to weights."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.zeroth import LOZO, MeZO
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.directions.dense import Dense
from shoestring.zeroth.engines import virtual
from shoestring.zeroth.engines.interrupts import Uninterrupted
from shoestring.zeroth.update import move

pytestmark = pytest.mark.usefixtures("frozen_imports")
X = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
DEFER = {"kind": "paired", "defer": True, "small": 0, "tile": 8}


@pytest.fixture(autouse=True)
def pythons_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_waits_until_what_must_not_be_interrupted_is_over() -> None:
    done = []

    def moving() -> None:
        with Uninterrupted():
            interrupt()
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        moving()
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_inside_another_waits_for_the_outer_one() -> None:
    done = []

    def moving() -> None:
        with Uninterrupted():
            with Uninterrupted():
                interrupt()
                done.append(1)
            done.append(2)

    with pytest.raises(KeyboardInterrupt):
        moving()
    assert done == [1, 2]


def test_without_an_interrupt_nothing_is_raised_and_errors_pass() -> None:
    with Uninterrupted():
        pass
    with pytest.raises(ValueError, match="out of paper"), Uninterrupted():
        raise ValueError("out of paper")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_the_user_run_afterwards() -> None:
    came = []
    signal.signal(signal.SIGINT, lambda *_: came.append("handled"))
    with Uninterrupted():
        interrupt()
        came.append("moved")
    assert came == ["moved", "handled"]


def test_where_interrupts_are_ignored_they_still_are() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Uninterrupted():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        interrupt()


def test_another_thread_leaves_handlers_alone() -> None:
    found = []

    def work() -> None:
        with Uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


class Pressed(Directions):
    """Gaussian directions; somebody presses Ctrl-C behind the pass over a tensor number `at`, once passes count."""

    def __init__(self, at: int) -> None:
        self.dense = Dense("gaussian")
        self.at, self.counting = at, False

    def fill(self, out: Tensor, tensor: Any, seed: int, start: int = 0) -> None:
        self.dense.fill(out, tensor, seed, start)

    def add(self, *arguments: Any, **more: Any) -> None:
        self.dense.add(*arguments, **more)
        self.at -= self.counting and self.at > 0
        if self.counting and self.at == 0:
            interrupt()


def problem() -> tuple[nn.Module, Callable[[], Tensor]]:
    stream = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    for param in model.parameters():
        param.data = torch.randn(param.shape, generator=stream, dtype=torch.float64)
    return model, lambda: model(X).square().mean()


def state_after(make: Any, steps: int) -> list[Tensor]:
    model, loss = problem()
    optimizer = make(model.named_parameters(), lr=0.05, eps=0.1, engine="replay", rounding="nearest")
    for _ in range(steps):
        optimizer.step(loss)
    return [param.detach() for param in model.parameters()]


def assert_at(model: nn.Module, wanted: list[Tensor], at: int, tolerance: float = 1e-11) -> None:
    for one, other in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=0, atol=tolerance, msg=f"interrupted at {at}")


@pytest.mark.parametrize("engine", ["replay", "fused", DEFER], ids=str)
def test_wherever_an_evaluation_is_interrupted_the_weights_are_those_after_a_step(engine: Any) -> None:
    states = [state_after(MeZO, steps) for steps in range(4)]
    for at in range(1, 21):
        model, loss = problem()
        directions = Pressed(at)
        optimizer = MeZO(
            model.named_parameters(), lr=0.05, eps=0.1, engine=engine, rounding="nearest", directions=directions
        )
        for _ in range(4):
            directions.counting = True
            try:
                optimizer.estimate(loss)
            except KeyboardInterrupt:
                break
            directions.counting = False
            optimizer.step()
        directions.counting = False
        assert directions.at == 0
        optimizer.finalize()
        assert_at(model, states[optimizer.shared["steps"]], at)


@pytest.mark.parametrize("engine", ["replay", "paired"])
def test_an_update_that_is_interrupted_is_made_of_every_tensor_and_counted(engine: str) -> None:
    model, loss = problem()
    directions = Pressed(2)
    optimizer = MeZO(
        model.named_parameters(), lr=0.05, eps=0.1, engine=engine, rounding="nearest", directions=directions
    )
    optimizer.estimate(loss)
    directions.counting = True
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    assert optimizer.shared["steps"] == 1
    assert_at(model, state_after(MeZO, 1), 2)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_factors_beside_the_weights_are_neither_lost_nor_added_twice(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [at]

    def pressed(*arguments: Any) -> None:
        move(*arguments)
        left[0] -= 1
        if left[0] == 0:
            interrupt()

    monkeypatch.setattr(virtual, "move", pressed)
    model, loss = problem()
    optimizer = LOZO(model.named_parameters(), lr=0.05, eps=0.1, rank=1, engine="virtual", rounding="nearest")
    acts = [lambda: optimizer.step(loss), lambda: optimizer.step(loss), optimizer.finalize]
    for act in acts[: at - 1]:
        act()
    with pytest.raises(KeyboardInterrupt):
        acts[at - 1]()
    assert optimizer.shared["steps"] == min(at, 2)
    optimizer.finalize()
    assert_at(model, state_after(partial(LOZO, rank=1), min(at, 2)), at, 1e-6)
