"""Closures that give logged answers, and what an optimizer notes of its making."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from shoestring.errors import OptimizerError, TrajectoryError
from shoestring.zeroth import MeZO
from shoestring.zeroth.base import Estimate, Evaluate
from shoestring.zeroth.closures import Recorded


def test_logged_answers_come_in_order_and_end_with_an_error() -> None:
    closure = Recorded([1.0, 2.0, 3.0, 4.0])
    assert (closure(), closure.take(2), len(closure)) == (1.0, [2.0, 3.0], 1)
    with pytest.raises(TrajectoryError, match="asks for more losses than were logged for this step"):
        closure.take(2)


def test_an_optimizer_moves_the_same_on_logged_answers() -> None:
    one, other = (nn.Parameter(torch.ones(8)) for _ in range(2))
    first, second = MeZO([one], lr=0.1, samples=2), MeZO([other], lr=0.1, samples=2)
    first.step(lambda: (one * torch.arange(8.0)).square().sum())
    assert len(first.last_answers) == 4
    second.step(Recorded(first.last_answers))
    assert torch.equal(one, other)


class Slope(MeZO):
    """Asks its closure for a slope, as an optimizer with derivatives would."""

    def propose(self, evaluate: Evaluate) -> Estimate:
        slope, loss = self.measure(2, lambda closure: [3.0, float(closure())])
        return Estimate(((self.direction_seed(), slope),), loss)


def test_numbers_found_by_other_means_are_answers_too() -> None:
    one, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    first, second = Slope([one], lr=0.1), Slope([other], lr=0.1)
    first.step(lambda: 5.0)
    assert first.last_answers == (3.0, 5.0)
    second.step(Recorded([3.0, 5.0]))
    assert torch.equal(one, other)
    with pytest.raises(OptimizerError, match="there is a closure only while an estimate is made"):
        first.measure(1, lambda closure: [float(closure())])


def test_an_optimizer_notes_the_settings_it_was_given() -> None:
    made = MeZO([nn.Parameter(torch.ones(3))], 0.5, eps=0.1, rounding="nearest")
    wanted = {"lr": 0.5, "eps": 0.1, "rounding": "nearest"}
    assert made.given == wanted
    assert copy.deepcopy(made).given == wanted
    assert pickle.loads(pickle.dumps(made)).given == wanted
    assert Slope([nn.Parameter(torch.ones(3))], seed=3).given == {"seed": 3}


class Watch:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def estimating(self) -> None:
        self.heard.append("estimating")

    def estimated(self) -> None:
        self.heard.append("estimated")

    def stepping(self, answers: Sequence[float], *, skipped: bool) -> None:
        self.heard.append((tuple(answers), skipped))

    def stepped(self) -> None:
        self.heard.append("stepped")

    def finalized(self) -> None:
        self.heard.append("finalized")


def test_an_observer_hears_of_every_step() -> None:
    optimizer = MeZO([nn.Parameter(torch.ones(3))], nonfinite="skip")
    watch = optimizer.observer = Watch()
    optimizer.step(lambda: 1.0)
    answers = iter([1.0, float("inf")])
    optimizer.estimate(lambda: next(answers))
    optimizer.finalize()
    optimizer.step()
    wanted = ["estimating", "estimated", ((1.0, 1.0), False), "stepped"]
    wanted += ["estimating", "estimated", "finalized", ((1.0, float("inf")), True), "stepped"]
    assert watch.heard == wanted


def test_a_step_that_the_observer_refuses_moves_nothing_and_can_be_made_again() -> None:
    theta = nn.Parameter(torch.ones(3))
    optimizer, watch = MeZO([theta], lr=0.1), Watch()
    optimizer.observer = watch
    optimizer.estimate(lambda: float(theta.sum()))
    before = theta.detach().clone()

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    watch.stepping = refuse
    with pytest.raises(RuntimeError, match="no"):
        optimizer.step()
    assert torch.equal(theta, before)
    del watch.stepping
    optimizer.step()
    assert not torch.equal(theta, before)
    assert optimizer.shared["steps"] == 1
