"""Replaying: the same optimizer on the same weights, answered from the log, makes the same steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from shoestring.errors import TrajectoryError
from shoestring.progress import Bar
from shoestring.zeroth.base import OPTIMIZERS, ZerothOrder
from shoestring.zeroth.closures import Recorded
from shoestring.zeroth.trajectory.codec import OPTIMIZER, Change, Step
from shoestring.zeroth.trajectory.engine import FINALIZED, EngineUse, engine_behind
from shoestring.zeroth.trajectory.header import kind_of, mark_of
from shoestring.zeroth.trajectory.log import Trajectory
from shoestring.zeroth.trajectory.matching import check_base, check_same, check_weights, find_tensors
from shoestring.zeroth.trajectory.plain import made, plain

Weights = nn.Module | Mapping[str, Tensor] | Sequence[Tensor]


def replay(
    trajectory: Trajectory | Path,
    weights: Weights,
    *,
    steps: int | None = None,
    bar: Bar | None = None,
    make: Callable[[], ZerothOrder] | None = None,
) -> ZerothOrder:
    """Make the steps of a log on the weights it began with, in place, without a model or data.

    The weights are those of the recorded run bit for bit, on the kind of device it ran on. Costs what the run's own
    passes over the weights cost; a forward pass is made nowhere.

    Args:
        trajectory: a log, or its path.
        weights: the model as it was when the log began; or its tensors by name; or, where the optimizer was given
            tensors without names, these in order.
        steps: stop at this step of the optimizer; by default at the end of the log.
        bar: advanced by one for each step.
        make: makes the optimizer on these weights; by default it is made from what the log says of it.

    Returns:
        The optimizer as it is then.

    Raises:
        TrajectoryError: if the log is damaged, the weights are not those it began with, or do not become what they
            were at a mark; if it began at a step at which the optimizer had a state of its own.
    """
    trajectory = _read(trajectory)
    tensors = find_tensors(trajectory, weights)
    check_base(trajectory, tensors, weights if isinstance(weights, nn.Module) else None)
    if not trajectory.header.fresh:
        raise TrajectoryError(
            f"{trajectory.place} begins at step {trajectory.header.start}, with a state that is not in it; load the "
            "optimizer's state_dict of that step and use catch_up"
        )
    optimizer = optimizer_of(trajectory, tensors) if make is None else make()
    _go(optimizer, trajectory, steps, bar, checked=True)
    return optimizer


def catch_up(
    optimizer: ZerothOrder, trajectory: Trajectory | Path, *, steps: int | None = None, bar: Bar | None = None
) -> int:
    """Make the steps of a log that an optimizer has not made yet: a snapshot and the tail of a log are a resume.

    Args:
        optimizer: with weights and `state_dict` as they were at some step of the log.
        trajectory: a log, or its path.
        steps: stop at this step of the optimizer; by default at the end of the log.
        bar: advanced by one for each step.

    Returns:
        How many steps were made.

    Raises:
        TrajectoryError: if the log is damaged or that of another optimizer, the weights are not those that it says
            they were at this step, where it does, or do not become what they were at a mark.
    """
    return _go(optimizer, _read(trajectory), steps, bar, checked=False)


def optimizer_of(trajectory: Trajectory, tensors: Sequence[Tensor]) -> ZerothOrder:
    """Return the optimizer of a log as it was when the log began, on `tensors`, whose memory it shares.

    Raises:
        TrajectoryError: if its settings could not be written down.
    """
    header = trajectory.header
    places = iter(tensors)
    groups: list[dict[str, Any]] = []
    for facts in header.groups:
        params = [nn.Parameter(next(places).data, requires_grad=tensor.trained) for tensor in facts.tensors]
        named = [(tensor.name, param) for tensor, param in zip(facts.tensors, params, strict=True)]
        groups.append({"params": params if any(name is None for name, _ in named) else named})
    settings = {name: made(name, value) for name, value in header.settings.items()}
    optimizer = OPTIMIZERS.get(header.optimizer)(groups, **settings)
    if kind_of(optimizer.engine_name) != header.common["engine"]:
        optimizer.change_engine(header.common["engine"])
    _restore(optimizer, trajectory)
    return optimizer


def _go(optimizer: ZerothOrder, trajectory: Trajectory, steps: int | None, bar: Bar | None, *, checked: bool) -> int:
    """Make the steps that are left, on weights that were checked or are now; return how many there were."""
    begin = check_same(optimizer, trajectory)
    end = _end(trajectory, optimizer, steps)
    if optimizer.observer is not None:
        raise TrajectoryError(f"{trajectory.place}: close the recorder of the optimizer before it catches up")
    if not checked:
        check_weights(optimizer, trajectory, begin)
    if begin == 0:
        _restore(optimizer, trajectory)
    own = optimizer.engine_name
    given = EngineUse(plain(own))
    # Options come with a snapshot; the engine does not, and a log says no more of it than when it changed.
    if (engine := engine_behind(given, trajectory.steps[:begin])) != given:
        optimizer.change_engine(engine.choice)
    for number in range(begin, end):
        _make(optimizer, trajectory.steps[number], trajectory)
        _check_mark(optimizer, trajectory, number + 1)
        if bar is not None:
            bar.advance()
    optimizer.finalize()
    engine = engine_behind(engine, trajectory.steps[begin:end])
    if engine.instead is not None:  # One that took over would leave the weights out of place in steps to come.
        optimizer.change_engine(own if engine.asked == given.asked else made("engine", engine.asked))
    return end - begin


def _restore(optimizer: ZerothOrder, trajectory: Trajectory) -> None:
    """Give the groups the options that they had when the log began."""
    for group, facts in zip(optimizer.param_groups, trajectory.header.groups, strict=True):
        group.update({name: made(name, value) for name, value in facts.options.items()})


def _make(optimizer: ZerothOrder, step: Step, trajectory: Trajectory) -> None:
    if step.finalized:
        optimizer.finalize()
    if step.lr is not None:
        for group in optimizer.param_groups:
            group["lr"] = step.lr
    _change(optimizer, step.before)
    closure = Recorded(step.answers)
    number = optimizer.shared["steps"]
    try:
        optimizer.estimate(closure)
    except TrajectoryError as error:
        raise TrajectoryError(f"{trajectory.place}: step {number}: {error}") from None
    if len(closure):
        raise TrajectoryError(
            f"{trajectory.place}: step {number}: the optimizer asks for fewer losses than were logged for this step"
        )
    _change(optimizer, step.between)
    optimizer.step()


def _change(optimizer: ZerothOrder, changes: Iterable[Change]) -> None:
    for group, name, value in changes:
        if group != OPTIMIZER:
            optimizer.param_groups[group][name] = made(name, value)
        elif name == FINALIZED:
            optimizer.finalize()
        else:
            optimizer.change_engine(made("engine", value))


def _check_mark(optimizer: ZerothOrder, trajectory: Trajectory, steps: int) -> None:
    wanted = trajectory.marks.get(steps)
    if wanted is None:
        return
    optimizer.finalize()
    if mark_of(optimizer) != wanted:
        header, here = trajectory.header, next(iter(optimizer.param_groups))["params"][0].device.type
        why = "the weights were changed otherwise than by the optimizer while it was recorded"
        if any(step.disturbed for step in trajectory.steps[:steps]):
            why = "an evaluation of the recorded run failed half-way, and its engine perturbs weights in place"
        if here != header.device:
            why = f"it was recorded on {header.device}, where rounding differs from {here}"
        raise TrajectoryError(
            f"{trajectory.place}: at step {optimizer.shared['steps']} the weights are not those of the recorded run: "
            f"{why}"
        )


def _end(trajectory: Trajectory, optimizer: ZerothOrder, steps: int | None) -> int:
    """Return how many steps of the log are behind the optimizer in the end."""
    if steps is None:
        return len(trajectory.steps)
    if not optimizer.shared["steps"] <= steps <= trajectory.last:
        raise TrajectoryError(
            f"{trajectory.place} reaches from step {trajectory.header.start} to {trajectory.last}; "
            f"from step {optimizer.shared['steps']} it cannot be replayed to {steps}"
        )
    return steps - trajectory.header.start


def _read(trajectory: Trajectory | Path) -> Trajectory:
    return Trajectory.read(trajectory) if isinstance(trajectory, Path) else trajectory
