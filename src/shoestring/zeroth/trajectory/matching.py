"""Whether a log is that of an optimizer, and whether weights are those it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from shoestring.errors import TrajectoryError, suggest
from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.trajectory.engine import engine_at, kind_asked
from shoestring.zeroth.trajectory.header import (
    TensorFacts,
    common_of,
    digest,
    frozen_digest,
    kind_of,
    mark_of,
    name_of,
    options_of,
    short_digest,
)
from shoestring.zeroth.trajectory.log import Trajectory

_FREE = ("steps", "skipped", "lr", "weight_decay")
"""Options that differ between the beginning of a log and a later step, or are in its records."""


def check_same(optimizer: ZerothOrder, trajectory: Trajectory) -> int:
    """Return how many steps of a log an optimizer has behind it.

    Raises:
        TrajectoryError: if the log is not that of such an optimizer on such weights, or does not reach its step.
    """
    header, place = trajectory.header, trajectory.place
    if (name := name_of(optimizer)) != header.optimizer:
        raise TrajectoryError(f"{place} is a log of {header.optimizer!r}, not of {name!r}")
    for setting, wanted in header.common.items():
        if setting != "engine" and (found := common_of(optimizer)[setting]) != wanted:
            raise TrajectoryError(f"{place} is a log of an optimizer with {setting}={wanted!r}, not {found!r}")
    if len(optimizer.param_groups) != len(header.groups):
        raise TrajectoryError(
            f"{place} is a log of an optimizer with {len(header.groups)} parameter groups, not "
            f"{len(optimizer.param_groups)}"
        )
    for group, facts in zip(optimizer.param_groups, header.groups, strict=True):
        names = group.get("param_names") or [None] * len(group["params"])
        found = [
            (name, tuple(param.shape), str(param.dtype).removeprefix("torch."), bool(param.requires_grad))
            for name, param in zip(names, group["params"], strict=True)
        ]
        wanted = [(tensor.name, tensor.shape, tensor.dtype, tensor.trained) for tensor in facts.tensors]
        if found != wanted:
            differing = next((pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]), None)
            shown = f"{_tensor(*differing[1])}, not {_tensor(*differing[0])}" if differing else "others in number"
            raise TrajectoryError(f"{place} is a log of other tensors: {shown}")
    steps = optimizer.shared["steps"] - header.start
    if not 0 <= steps <= len(trajectory.steps):
        raise TrajectoryError(
            f"{place} holds the steps {header.start} to {trajectory.last}; the optimizer is at "
            f"{optimizer.shared['steps']}"
        )
    _check_engine(optimizer, trajectory, steps)
    _check_options(optimizer, trajectory, steps)
    return steps


def find_tensors(trajectory: Trajectory, weights: nn.Module | Mapping[str, Tensor] | Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors of a log among `weights`, in its order.

    Raises:
        TrajectoryError: if one is missing or has another shape or dtype.
    """
    place, wanted = trajectory.place, trajectory.header.tensors()
    if isinstance(weights, nn.Module):
        weights = dict(weights.named_parameters())
    if isinstance(weights, Mapping):
        if any(tensor.name is None for tensor in wanted):
            raise TrajectoryError(
                f"{place} was written for tensors without names; give them as a list, in the order the optimizer had"
            )
        names = [str(tensor.name) for tensor in wanted]
        missing = next((name for name in names if name not in weights), None)
        if missing is not None:
            raise TrajectoryError(
                f"{place} moves the tensor {missing!r}, which is not there{suggest(missing, weights)}"
            )
        found = [weights[name] for name in names]
    else:
        found = list(weights)
        if len(found) != len(wanted):
            raise TrajectoryError(f"{place} was written for {len(wanted)} tensors, {len(found)} are given")
    for number, (tensor, facts) in enumerate(zip(found, wanted, strict=True)):
        shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        if (shape, dtype) != (facts.shape, facts.dtype):
            name = facts.name or f"#{number}"
            raise TrajectoryError(
                f"{place}: the tensor {name} was {facts.dtype} {list(facts.shape)}, this one is {dtype} {list(shape)}"
            )
    return found


def check_base(trajectory: Trajectory, tensors: Sequence[Tensor], model: nn.Module | None) -> None:
    """Check that weights are those a log began with, bit for bit.

    Raises:
        TrajectoryError: if they are not; names the first tensor that differs.
    """
    header, place = trajectory.header, trajectory.place
    facts: list[TensorFacts] = header.tensors()
    trained = [tensor for tensor, fact in zip(tensors, facts, strict=True) if fact.trained]
    if digest(trained) != header.weights:
        differing = (
            fact.name or f"#{number}"
            for number, (tensor, fact) in enumerate(zip(tensors, facts, strict=True))
            if fact.trained and short_digest(tensor) != fact.digest
        )
        begun = f"; it begins at step {header.start}" if header.start else ""
        raise TrajectoryError(
            f"{place} began with other weights than these: {next(differing, 'their order')} differs{begun}; "
            "a log is replayed on the very model it was written for"
        )
    if model is not None and header.frozen is not None and frozen_digest(model, trained) != header.frozen:
        raise TrajectoryError(
            f"{place} was written for a model with other frozen weights than these; "
            "a log is replayed on the very model it was written for"
        )


def check_weights(optimizer: ZerothOrder, trajectory: Trajectory, steps: int, model: nn.Module | None = None) -> None:
    """Check the weights of an optimizer that has `steps` of a log behind it, where the log knows them.

    It does where it begins, and at marks; both are of weights that have every update, so what was put off is applied.

    Raises:
        TrajectoryError: if they are others.
    """
    wanted = trajectory.marks.get(steps)
    if steps and wanted is None:
        return
    optimizer.finalize()
    if not steps:
        check_base(trajectory, [param for group in optimizer.param_groups for param in group["params"]], model)
    elif mark_of(optimizer) != wanted:
        raise TrajectoryError(
            f"{trajectory.place}: at step {optimizer.shared['steps']} the weights are not those that the log has a "
            "mark of; load weights and state_dict of one snapshot of the recorded run"
        )


def _check_engine(optimizer: ZerothOrder, trajectory: Trajectory, steps: int) -> None:
    """Check that the engine asked for is the one the log began with, or the one it was changed to since."""
    header, found = trajectory.header, kind_of(optimizer.engine_name)
    begun, now = header.common["engine"], kind_asked(engine_at(header, trajectory.steps[:steps]).asked)
    if found not in (begun, now):
        wanted = f"{begun!r}" if begun == now else f"{begun!r}, {now!r} from a later step on"
        raise TrajectoryError(f"{trajectory.place} is a log of an optimizer with engine={wanted}, not {found!r}")


def _check_options(optimizer: ZerothOrder, trajectory: Trajectory, steps: int) -> None:
    """Check the settings that the constructor was given and nothing changed since."""
    header = trajectory.header
    changed = {name for step in trajectory.steps[:steps] for _, name, _ in (*step.before, *step.between)}
    found, wanted = options_of(optimizer.shared), header.groups[0].options
    settings = {*header.settings, *optimizer.given, "seed"} - changed - set(_FREE)
    for name in sorted(settings):
        if name in wanted and found.get(name) != wanted[name]:
            raise TrajectoryError(
                f"{trajectory.place} is a log of an optimizer with {name}={wanted[name]!r}, not {found.get(name)!r}"
            )


def _tensor(name: str | None, shape: tuple[int, ...], dtype: str, trained: bool) -> str:
    return f"{name or 'one'} ({dtype} {list(shape)}{'' if trained else ', frozen'})"
