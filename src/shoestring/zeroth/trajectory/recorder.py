"""Recording: an optimizer's log is written while it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import nn

from shoestring.errors import OutputError, TrajectoryError
from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.trajectory.codec import OPTIMIZER, Change, Mark, Step
from shoestring.zeroth.trajectory.engine import ASKED, FINALIZED, EngineUse, engine_at, engine_of
from shoestring.zeroth.trajectory.header import header_of, mark_of
from shoestring.zeroth.trajectory.log import Log, Trajectory
from shoestring.zeroth.trajectory.matching import check_same, check_weights
from shoestring.zeroth.trajectory.plain import is_plain, plain

_Options = list[dict[str, Any]]


class Recorder:
    """Writes every step of an optimizer to a log, from which `replay` makes the same weights again, bit for bit.

    A record holds the losses a step was answered, and what was changed in the parameter groups since the step before:
    the learning rate mostly. It is written before the weights move, so a crash leaves a log that is at most one step
    ahead; where a step fails and the program goes on, its record is taken back. For MeZO it takes 14 bytes, 8 more
    where the learning rate changed, whatever the size of the model: 20,000 steps are under 0.5 MB.

    What a log cannot know: weights that were changed otherwise than by the optimizer. Marks tell a replay of them.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from shoestring.zeroth import MeZO
        >>> from shoestring.zeroth.trajectory import replay
        >>> w = torch.nn.Parameter(torch.ones(8))
        >>> optimizer = MeZO([("w", w)], lr=0.05)
        >>> path = Path(tempfile.mkdtemp()) / "trajectory.bin"
        >>> with Recorder(optimizer, path):
        ...     for _ in range(20):
        ...         _ = optimizer.step(lambda: (w ** 2).sum())
        >>> again = {"w": torch.ones(8)}
        >>> _ = replay(Trajectory.read(path), again)
        >>> torch.equal(again["w"], w)
        True

    Args:
        optimizer: the optimizer; its weights are what a replay begins with.
        path: the file. It must not exist, unless `resume`.
        model: whose frozen weights a replay is to find unchanged too.
        about: what the log is to say of itself, as JSON has it.
        resume: go on with a log of the same optimizer, cut off where the optimizer now is.

    Raises:
        OutputError: if the file exists, or the disk refuses.
        TrajectoryError: if the log to go on with is another optimizer's, ends before the optimizer's step, or began
            with other weights or has a mark of others there; if the optimizer is not registered.
    """

    def __init__(
        self,
        optimizer: ZerothOrder,
        path: Path,
        *,
        model: nn.Module | None = None,
        about: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        if optimizer.observer is not None:
            raise TrajectoryError(f"{type(optimizer).__name__} is being recorded already")
        optimizer.finalize()
        if not path.exists():
            header = header_of(optimizer, model, dict(about or {}))
            self._log, self._engine = Log.begin(path, header), engine_at(header, ())
        elif resume:
            trajectory = Trajectory.read(path)
            behind = check_same(optimizer, trajectory)
            check_weights(optimizer, trajectory, behind, model)
            self._engine = engine_at(trajectory.header, trajectory.steps[:behind])
            self._log = Log.go_on(trajectory, behind)
        else:
            raise OutputError(f"{path} exists; choose another place, or go on with it: resume=True")
        self.optimizer, self.path = optimizer, path
        # The options of a resumed optimizer may differ in any way from those in the log: the next record has them all.
        self._options: _Options = [{} for _ in optimizer.param_groups] if resume else _options(optimizer)
        self._before: list[Change] = []
        # Beside the engine that the log knows of: that of the last estimate, and whether weights moved back since.
        self._estimating_engine = self._engine
        self._estimated = self._put_in_place = False
        self._expected = optimizer.shared["steps"]
        # Where the log ends but for the record of a step that is not made yet, and whether that moves weights.
        self._made, self._moving, self._failed = self._log.end, False, False
        # Weights from a snapshot have every update applied.
        self._finalized, self._open, self._disturbed = True, False, False
        optimizer.observer = self

    def estimating(self) -> None:
        """Note what was changed since the last step."""
        self._refuse_failed()
        if self.optimizer.shared["steps"] != self._expected:
            raise TrajectoryError(
                f"{self.path}: the optimizer was taken from step {self._expected} to step "
                f"{self.optimizer.shared['steps']} while it was recorded; close the recorder, load, and open another "
                "one with resume=True"
            )
        self._disturbed |= self._open
        self._finalized |= self._put_in_place
        self._open, self._estimated, self._put_in_place = True, False, False
        now = _options(self.optimizer)
        self._before += _changes(self._options, now)
        self._options = now

    def estimated(self) -> None:
        """Note what the options are behind an estimate, which may have changed some itself."""
        self._options = _options(self.optimizer)
        self._estimating_engine, self._estimated = engine_of(self.optimizer), True

    def stepping(self, answers: Sequence[float], *, skipped: bool) -> None:
        """Write the record of a step."""
        self._take_back()  # Of this step, where an interrupt came before anything was moved.
        self._moving = not skipped
        between = _changes(self._options, _options(self.optimizer))
        lr, before = _one_rate(self._before, len(self.optimizer.param_groups))
        before = (*before, *self._engine_changes(self._engine, self._estimating_engine))
        changes = self._engine_changes(self._estimating_engine, engine_of(self.optimizer))
        # Another engine puts the weights in place by itself.
        between += changes or [(OPTIMIZER, FINALIZED, True)] * self._put_in_place
        self._log.append(
            Step(tuple(answers), lr, before, tuple(between), skipped, self._finalized, self._disturbed),
        )

    def stepped(self) -> None:
        """Begin anew."""
        self._expected += 1
        self._made, self._moving = self._log.end, False
        self._options = _options(self.optimizer)
        self._before = []
        self._engine = engine_of(self.optimizer)
        self._finalized = self._open = self._disturbed = self._estimated = self._put_in_place = False

    def finalized(self) -> None:
        """Note that the coming estimate, or update, begins with all updates applied; rounding may depend on it."""
        if self._estimated:
            self._put_in_place = True
        else:
            self._finalized = True

    def mark(self) -> None:
        """Write a digest of the trained weights, and wait until all is on the disk: for checkpoints, and for the end.

        Reads all trained weights once.

        Raises:
            OutputError: if the disk refuses.
            TrajectoryError: if a step failed while it moved the weights.
        """
        self._refuse_failed()
        self.optimizer.finalize()
        self._log.append(Mark(mark_of(self.optimizer)))
        self._made = self._log.end
        self._log.sync()

    def close(self) -> None:
        """End the recording; further steps are not written, and the record of one that failed is taken back."""
        try:
            if self.optimizer.observer is self:
                self.optimizer.observer = None
                self._take_back()
        finally:
            self._log.close()

    def _take_back(self) -> bool:
        """Take a record back whose step was not made; return whether there was one."""
        if self._log.end == self._made or self.optimizer.shared["steps"] == self._expected + 1:
            return False
        self._log.cut(self._made)
        return True

    def _refuse_failed(self) -> None:
        """Refuse to go on behind a step that failed and may have moved some weights."""
        self._failed |= self._take_back() and self._moving
        if self._failed:
            raise TrajectoryError(
                f"{self.path}: step {self._expected} failed while it moved the weights, which may be those of no step: "
                "its record was taken back; close the recorder, load weights and state_dict of a snapshot, and open "
                "another one with resume=True"
            )

    def _engine_changes(self, old: EngineUse, new: EngineUse) -> list[Change]:
        changes = new.changes_from(old)
        if any(name == ASKED for _, name, _ in changes) and not is_plain(self.optimizer.engine_name):
            raise TrajectoryError(
                f"{self.path}: at step {self._expected} the engine was changed to {self.optimizer.engine_name!r}, and "
                "a log cannot hold its options; give them as plain numbers and texts, or begin another log"
            )
        return changes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.mark()
        finally:
            self.close()


def _options(optimizer: ZerothOrder) -> _Options:
    """Return the options of all groups: plain values are copied, others (masks, say) are held as they are."""
    return [
        {
            name: plain(value) if is_plain(value) else _Held(value)
            for name, value in group.items()
            if name not in ("params", "param_names")
        }
        for group in optimizer.param_groups
    ]


class _Held:
    """An option that a log cannot hold: large, and not meant to change."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.value is self.value

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def _changes(old: _Options, new: _Options) -> list[Change]:
    """Return what differs; options are added and changed, groups stay as they are."""
    if len(old) != len(new):
        raise TrajectoryError("a parameter group was added while the optimizer was recorded; begin another log")
    found: list[Change] = []
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        for name, value in after.items():
            if name in before and before[name] == value:
                continue
            if not isinstance(value, _Held):
                found.append((number, name, value))
            elif before:
                raise TrajectoryError(
                    f"the option {name} was replaced while the optimizer was recorded, and a log cannot hold it; "
                    "begin another log"
                )
    return found


def _one_rate(changes: Sequence[Change], groups: int) -> tuple[float | None, tuple[Change, ...]]:
    """Return the learning rate that all groups were given, where it is one, and the other changes."""
    rates = {number: value for number, name, value in changes if name == "lr"}
    if len(rates) != groups or len(set(rates.values())) != 1 or not all(isinstance(v, float) for v in rates.values()):
        return None, tuple(changes)
    return rates[0], tuple(change for change in changes if change[1] != "lr")
