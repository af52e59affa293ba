from __future__ import annotations

import copy
import logging
import math
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.errors import OptimizerError
from shoestring.zeroth import MeZO
from shoestring.zeroth.directions.base import Directions, Move
from shoestring.zeroth.directions.dense import Dense
from shoestring.zeroth.engines.fused import FusedEngine
from shoestring.zeroth.engines.replay import ReplayEngine
from shoestring.zeroth.points import Points, both_ends
from shoestring.zeroth.tensors import Trained, trained_tensors
from shoestring.zeroth.update import Rate, TermsUpdate

pytestmark = pytest.mark.usefixtures("frozen_imports")


def problem(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Callable[[], Tensor]]:
    stream = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    for param in model.parameters():
        param.data = torch.randn(param.shape, generator=stream, dtype=torch.float64).to(dtype)
    x = torch.randn(5, 4, generator=stream, dtype=torch.float64).to(dtype)
    return model, lambda: model(x).double().square().mean()


def trained(engine: str, steps: int, **settings: Any) -> tuple[nn.Module, MeZO, list[float]]:
    model, loss = problem()
    optimizer = MeZO(model.named_parameters(), lr=0.05, eps=1e-3, seed=3, engine=engine, **settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + 0.1 * step))
    losses = []
    for _ in range(steps):
        losses.append(float(optimizer.step(loss)))
        schedule.step()
    return model, optimizer, losses


@pytest.mark.parametrize(
    "settings",
    [{}, {"samples": 3}, {"weight_decay": 0.2}, {"samples": 2, "weight_decay": 0.1, "directions": "rademacher"}],
    ids=str,
)
def test_fifty_fused_steps_are_those_of_replay(settings: dict[str, Any]) -> None:
    fused, optimizer, losses = trained("fused", 50, **settings)
    replayed, _, wanted = trained("replay", 50, **settings)
    assert losses == pytest.approx(wanted, rel=1e-10)
    optimizer.finalize()
    for one, other in zip(fused.parameters(), replayed.parameters(), strict=True):
        torch.testing.assert_close(one.data, other.data, rtol=1e-10, atol=1e-11)


class Counting(Dense):
    """Gaussian directions that count passes over tensors."""

    adds = 0

    def add(self, *arguments: Any, **more: Any) -> None:
        self.adds += 1
        super().add(*arguments, **more)

    def add_all(self, moves: Iterable[Move], rounding: int | None = None) -> None:
        moves = list(moves)
        self.adds += len(moves)
        super().add_all(moves, rounding)


@pytest.mark.parametrize(("engine", "passes"), [("fused", 2), ("replay", 4)])
def test_a_step_of_two_points_makes_so_many_passes_over_the_weights(engine: str, passes: int) -> None:
    model, loss = problem()
    directions = Counting("gaussian")
    optimizer = MeZO(model.parameters(), lr=0.01, engine=engine, directions=directions)
    optimizer.step(loss)
    before = directions.adds
    for _ in range(3):
        optimizer.step(loss)
    assert directions.adds - before == 3 * passes * 4


def test_between_steps_weights_are_displaced_until_they_are_finalized() -> None:
    fused, optimizer, _ = trained("fused", 4)
    replayed, _, _ = trained("replay", 4)

    def apart() -> float:
        pairs = zip(fused.parameters(), replayed.parameters(), strict=True)
        return max(float((one - other).detach().abs().max()) for one, other in pairs)

    assert apart() > 1e-4
    optimizer.finalize()
    assert apart() < 1e-12
    optimizer.finalize()
    assert apart() < 1e-12


@pytest.mark.parametrize("settled_by", ["state_dict", "deepcopy", "pickle", "add_param_group"])
def test_whatever_reads_the_state_finalizes_first(settled_by: str) -> None:
    model, optimizer, _ = trained("fused", 4)
    replayed, _, _ = trained("replay", 4)
    actions: dict[str, Callable[[], Any]] = {
        "state_dict": optimizer.state_dict,
        "deepcopy": lambda: copy.deepcopy(optimizer),
        "pickle": lambda: pickle.dumps(optimizer),
        "add_param_group": lambda: optimizer.add_param_group({"params": [("new", nn.Parameter(torch.ones(2)))]}),
    }
    actions[settled_by]()
    for one, other in zip(model.parameters(), replayed.parameters(), strict=True):
        torch.testing.assert_close(one.data, other.data, rtol=0, atol=1e-12)


class Boom(Exception):
    pass


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("failure", ["exception", "nan"])
def test_a_failing_closure_leaves_the_weights_of_the_steps_before_it(at: int, failure: str) -> None:
    model, optimizer, _ = trained("fused", 2)
    replayed, _, _ = trained("replay", 2)
    calls = iter(range(2))

    def closure() -> float:
        if next(calls) == at:
            if failure == "nan":
                return math.nan
            raise Boom
        return 1.0

    with pytest.raises(Boom if failure == "exception" else OptimizerError):
        optimizer.step(closure)
    for one, other in zip(model.parameters(), replayed.parameters(), strict=True):
        torch.testing.assert_close(one.data, other.data, rtol=0, atol=1e-12)


class Halving:
    """An update that is no sum over directions."""

    def __call__(self, tensor: Trained, start: int, stop: int) -> None:
        tensor.flat[start:stop] *= 0.5


class Relative(Directions):
    """z = w of the unperturbed weights."""

    def prepare(self, tensors: Any) -> None:
        self.weights = {tensor.key: tensor.flat.clone() for tensor in tensors}

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        out.copy_(self.weights[tensor.key][start : start + len(out)])


def pair() -> tuple[nn.Module, Callable[[], Tensor], list[FusedEngine | ReplayEngine], list[nn.Module]]:
    models = [problem()[0] for _ in range(2)]
    return (
        models[0],
        problem()[1],
        [
            engine(trained_tensors([{"params": list(model.parameters())}]))
            for engine, model in zip((FusedEngine, ReplayEngine), models, strict=True)
        ],
        models,
    )


@torch.no_grad()
def drive(engine: FusedEngine | ReplayEngine, model: nn.Module, script: Sequence[Any]) -> list[float]:
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).view(5, 4)
    found = []
    for item in script:
        if isinstance(item, Points):
            found += engine.losses(lambda: model(x).square().mean(), item)
        else:
            engine.apply(item)
    engine.finalize()
    return found


GAUSSIAN, RADEMACHER = Dense("gaussian"), Dense("rademacher")
SCRIPTS: dict[str, list[Any]] = {
    "an update of another kind": [both_ends(GAUSSIAN, 1, 0.1), Halving(), both_ends(GAUSSIAN, 2, 0.1)],
    "two updates": [both_ends(GAUSSIAN, 1, 0.1), Halving(), Halving(), both_ends(GAUSSIAN, 2, 0.1), Halving()],
    "an update before any point": [Halving(), both_ends(GAUSSIAN, 2, 0.1)],
    "other directions": [
        both_ends(GAUSSIAN, 1, 0.1),
        TermsUpdate(GAUSSIAN, [(1, 0.3)], [Rate(0.1, 0.5)]),
        both_ends(RADEMACHER, 1, 0.1),
        TermsUpdate(GAUSSIAN, [(5, 0.3)], [Rate(0.1, 0.5)]),
    ],
    "directions made of the weights": [
        both_ends(Relative(), 1, 0.1),
        TermsUpdate(GAUSSIAN, [(1, 0.3)], [Rate(0.1, 0.0)]),
        both_ends(Relative(), 1, 0.1),
    ],
    "theta itself last": [
        Points(GAUSSIAN, (1, 2), ((0.1, 0.0), (0.0, 0.0))),
        TermsUpdate(GAUSSIAN, [(1, 0.3)], [Rate(0.1, 0.1)]),
        Points(GAUSSIAN, (1, 2), ((0.1, 0.2), (0.0, 0.1))),
    ],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_whatever_moves_between_evaluations_fused_is_replay(name: str) -> None:
    _, _, (fused, replay), models = pair()
    losses = drive(fused, models[0], SCRIPTS[name])
    assert losses == pytest.approx(drive(replay, models[1], SCRIPTS[name]), rel=1e-12)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one.data, other.data, rtol=0, atol=1e-12)


def test_frozen_tensors_and_those_outside_the_directions_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    model, loss = problem()
    model.get_submodule("0").requires_grad_(False)
    before = [param.detach().clone() for param in model.parameters()]
    optimizer = MeZO(model.parameters(), lr=0.1, engine="fused")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            optimizer.step(loss)
    optimizer.finalize()
    moved = [not torch.equal(param, old) for param, old in zip(model.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]
    assert not caplog.records
