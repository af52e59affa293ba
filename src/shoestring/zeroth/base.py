"""What every zeroth-order optimizer is."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, TypedDict, Unpack, get_args, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from shoestring.errors import OptimizerError, TrajectoryError, UnknownNameError
from shoestring.registry import Registry
from shoestring.seeds import derive
from shoestring.zeroth.checks import check, check_choice, python_number
from shoestring.zeroth.closures import Closure, Recorded
from shoestring.zeroth.directions.base import DIRECTIONS, Directions
from shoestring.zeroth.engines.base import Engine, EngineChoice, make_engine
from shoestring.zeroth.engines.interrupts import Uninterrupted
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.observer import Observer, noting
from shoestring.zeroth.points import Points
from shoestring.zeroth.residual import WithResidual
from shoestring.zeroth.states import check_state
from shoestring.zeroth.tensors import trained_tensors
from shoestring.zeroth.update import Rate, TermsUpdate, Update

Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
Evaluate = Callable[[Points], list[float]]
Rounding = Literal["auto", "nearest", "stochastic", "residual"]


class Common(TypedDict, total=False):
    """Settings that every zeroth-order optimizer has; documented at `ZerothOrder`."""

    weight_decay: float
    seed: int
    directions: str | Directions
    engine: EngineChoice
    rounding: Rounding
    nonfinite: Literal["raise", "skip"]


_DEFAULTS: Common = {
    "weight_decay": 0.0,
    "seed": 0,
    "directions": "gaussian",
    "engine": "paired",
    "rounding": "auto",
    "nonfinite": "raise",
}


@dataclass(frozen=True)
class Estimate:
    """What a step found out: a gradient estimate as terms, its projected gradients, and the loss.

    Attributes:
        terms: the estimate is the sum of coefficient * z(seed).
        loss: the loss that is reported.
        projected_grads: slopes along the directions, for the log.
        extra: what the update of a particular optimizer needs beside.
        skipped: whether the step is to move nothing, weight decay included, and to be counted as skipped.
    """

    terms: tuple[Term, ...]
    loss: float
    projected_grads: tuple[float, ...] = ()
    extra: Any = None
    skipped: bool = False


class ZerothOrder(Optimizer):
    """An optimizer that evaluates a closure, without gradients, a fixed number of times a step.

    A step is *estimate*, which evaluates the loss and leaves the weights as they were, and *apply*, which moves them.
    `step(closure)` does both; a trainer that calls `step()` itself calls `estimate(closure)` first.

    An optimizer writes `propose`, which asks for losses at points and turns them into an estimate, and, where it is not
    plain descent along it, `update`. Numbers that must survive a resume live in `shared`, tensors in `state`.

    Args:
        params: parameters or parameter groups; those that do not require gradients are left alone. Groups may have
            their own `lr` and `weight_decay`. Give each tensor once, best with its name: `model.named_parameters()`
            makes a tensor's directions depend on its name, not on which other tensors are there.
        lr: learning rate.
        own: settings of the particular optimizer that are one for all parameters; `eps` is the size of perturbations.
        weight_decay: lambda; lambda * theta is added to the gradient estimate.
        seed: the directions of step t come from the named stream (seed, t); the global generators are not used.
        directions: "gaussian", "rademacher", or a `Directions` of your own.
        engine: how points are evaluated: "paired", "virtual", "fused" or "replay"; with options of its own as a table,
            such as `{"kind": "paired", "max_rows": 32}`.
        rounding: how updates reach half-precision weights: "stochastic", right in the mean; to the "nearest", which
            loses small ones; or with a "residual" of two bytes a weight that keeps the rest, as exact as float32.
            "auto" is stochastic.
        nonfinite: what a NaN or infinite loss does: "raise", or "skip" the step and count it in `shared["skipped"]`.

    Attributes:
        last_loss: the loss of the last estimate.
        last_projected_grads: the projected gradients of the last estimate, one a direction.
        last_passes: how often the last estimate asked for the loss.
        last_answers: what it was answered: with the settings they decide the step.
        given: the settings it was made with.
        observer: is told of every step, or None.
    """

    # On the class, since a copied or unpickled optimizer has its parameter groups and nothing else.
    last_loss: Tensor | None = None
    last_projected_grads: tuple[float, ...] = ()
    last_passes: int = 0
    last_answers: tuple[float, ...] = ()
    given: dict[str, Any]
    observer: Observer | None = None
    _estimate: Estimate | None = None
    _closure: Closure | None = None
    _engine: Engine | None = None
    _trained: Sequence[bool] = ()
    _ties: int = 0

    def __init_subclass__(cls, **more: Any) -> None:
        """Let the constructor note what it is given."""
        super().__init_subclass__(**more)
        if "__init__" in vars(cls):
            cls.__init__ = noting(cls.__init__)

    def __init__(self, params: Params, lr: float, own: dict[str, Any], **common: Unpack[Common]) -> None:
        settings: dict[str, Any] = {**_DEFAULTS, **common}
        unknown = next((name for name in common if name not in _DEFAULTS), None)
        if unknown is not None:
            raise UnknownNameError(f"{type(self).__name__} setting", unknown, ["lr", *own, *_DEFAULTS])
        directions = settings["directions"]
        family = directions if isinstance(directions, str) else type(directions).__name__
        kept = {"optimizer": type(self).__name__, "directions": family, "rounding": settings["rounding"]}
        own = {"seed": settings["seed"], "steps": 0, "skipped": 0, **kept, **own}
        for name, value in {"lr": lr, "weight_decay": settings["weight_decay"]}.items():
            check(type(self).__name__, name, value)
        check_choice(type(self).__name__, "rounding", settings["rounding"], get_args(Rounding))
        check_choice(type(self).__name__, "nonfinite", settings["nonfinite"], ("raise", "skip"))
        if not isinstance(settings["seed"], Integral):
            raise OptimizerError(f"{type(self).__name__}: seed={settings['seed']!r}; it must be a whole number")
        if "eps" in own:
            check(type(self).__name__, "eps", own["eps"], positive=True)
        if not isinstance(directions, (str, Directions)):
            raise OptimizerError(f"{type(self).__name__}: directions={directions!r}; give a name or Directions")
        self.directions: Directions = DIRECTIONS.get(directions)() if isinstance(directions, str) else directions
        make_engine(settings["engine"], ())  # To find a mistake in it before a model is evaluated.
        self.engine_name: EngineChoice = settings["engine"]
        self.rounding: Rounding = settings["rounding"]
        self.nonfinite: str = settings["nonfinite"]
        self._own = tuple(own)
        super().__init__(params, {"lr": python_number(lr), "weight_decay": python_number(settings["weight_decay"])})
        # Numbers in a parameter group are saved and restored with it: the first one carries what is one per optimizer.
        self.param_groups[0].update({name: python_number(value) for name, value in own.items()})

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        kept = ("directions", "engine_name", "rounding", "nonfinite", "given", "_own")
        return super().__getstate__() | {name: getattr(self, name) for name in kept}

    @property
    def shared(self) -> dict[str, Any]:
        """Numbers that are one per optimizer, not per group; saved and restored with it."""
        return self.param_groups[0]

    @abstractmethod
    def propose(self, evaluate: Evaluate) -> Estimate:
        """Ask for the loss at points, and turn the answers into an estimate of the gradient."""

    def update(self, estimate: Estimate) -> Update:
        """Return the update of an estimate: here, descent along it."""
        return TermsUpdate(self.directions, estimate.terms, self.rates(), self.rounding_seed())

    def rates(self) -> list[Rate]:
        """Return learning rate and weight decay of each group, as they are now."""
        return [Rate(float(group["lr"]), group["weight_decay"]) for group in self.param_groups]

    def direction_seed(self, *path: int) -> int:
        """Return the seed of this step's direction number `path`."""
        return derive(self.shared["seed"], "direction", self.shared["steps"], *path)

    def rounding_seed(self) -> int | None:
        """Return the seed of this step's stochastic rounding, None where updates are rounded otherwise."""
        if self.rounding in ("nearest", "residual"):
            return None
        return derive(self.shared["seed"], "rounding", self.shared["steps"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, which may have its own `lr` and `weight_decay`.

        Raises:
            OptimizerError: if they cannot be, or the group has a setting that is one for all parameters.
        """
        for name in self._own:
            if name in param_group:
                raise OptimizerError(
                    f"{type(self).__name__}: {name} is one for all parameters; give it to {type(self).__name__}, "
                    "not to a group"
                )
        for name in ("lr", "weight_decay"):
            check(type(self).__name__, name, param_group.get(name, 0.0))
        param_group |= {
            name: python_number(param_group[name]) for name in ("lr", "weight_decay") if name in param_group
        }
        self._settle()
        self._engine = None
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state.

        Differs: `torch.optim.Optimizer` casts the state to the dtype of the parameters, which loses what is kept in
            float32 beside half-precision weights. Here it keeps its dtype, and moves to the parameter's device.

        Raises:
            OptimizerError: if it is another optimizer's, or of one with other directions, rounding, or without names.
        """
        check_state(type(self).__name__, self._own, state_dict["param_groups"], self.param_groups)
        self._settle()
        super().load_state_dict(state_dict)
        self.shared["optimizer"] = type(self).__name__
        self._estimate = self._engine = None  # Names of parameters are loaded, too, and directions made from them.
        saved = [number for group in state_dict["param_groups"] for number in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for number, param in zip(saved, params, strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, Tensor):
                    self.state[param][name] = value.detach().to(param.device, copy=True)

    @torch.no_grad()
    def estimate(self, closure: Closure) -> Tensor:
        """Evaluate the loss at the points of this step, leave the weights as they were; return the loss, detached.

        Raises:
            OptimizerError: if the loss is not finite or the closure calls `backward()`; the weights are restored.
        """
        self._estimate = None
        self._renew()
        torch.clear_autocast_cache()  # Of an autocast around the loop: it has weights as they were steps ago.
        self.last_passes, self.last_answers = 0, ()
        if self.observer is not None:
            self.observer.estimating()

        def evaluate(points: Points) -> list[float]:
            self.last_passes += len(points.coefficients)
            losses = self.engine.losses(closure, points)
            self._ties += (tied := len(losses) > 1 and len(set(losses)) == 1)
            if tied and self._ties.bit_count() == 1:  # Now and then: losses in steps, as accuracy, are often equal.
                self.engine.doubt()
            return self.finite(losses)

        self._closure = closure
        try:
            found = self.propose(evaluate)
        except _NonFiniteError as error:
            if self.nonfinite == "raise":
                raise OptimizerError(
                    f"{type(self).__name__}: step {self.shared['steps']}: the loss is {error.loss}; the weights are as "
                    "they were before the step; a smaller lr or eps usually helps"
                ) from None
            found = Estimate((), error.loss, skipped=True)
        finally:
            self._closure = None
        self._estimate = found
        self.last_projected_grads = found.projected_grads
        self.last_loss = torch.tensor(found.loss, dtype=torch.float32)
        if self.observer is not None:
            self.observer.estimated()
        return self.last_loss

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Closure) -> Tensor: ...
    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make one step; without a closure, apply what `estimate` found.

        Raises:
            OptimizerError: without a closure and without a preceding `estimate`.
        """
        loss = self.estimate(closure) if closure is not None else None
        if self._estimate is None:
            raise OptimizerError(
                f"{type(self).__name__}.step() needs a closure that returns the loss: opt.step(lambda: loss_of(model))"
            )
        found = self._estimate
        skipped = found.skipped or not math.isfinite(found.loss)
        if self.observer is not None:
            self.observer.stepping(self.last_answers, skipped=skipped)
        self._estimate = None
        with Uninterrupted():  # Or weights would move in a step that is not counted.
            if skipped:
                self.shared["skipped"] += 1
            else:
                update = self.update(found)
                self.engine.apply(WithResidual(update, self.state) if self.rounding == "residual" else update)
            self.shared["steps"] += 1
            if self.observer is not None:
                self.observer.stepped()
        if self._engine is not None and self._engine.instead is not None:
            self.finalize()  # Whoever did not ask for an engine that leaves weights displaced does not get them so.
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state, once what an engine put off has been applied: the weights beside it are its own."""
        self._settle()
        return super().state_dict()

    def _settle(self) -> None:
        if self._engine is not None:
            self.finalize()

    def finalize(self) -> None:
        """Apply what an engine put off: call it before weights are evaluated or saved."""
        self.engine.finalize()
        if self.observer is not None and self._closure is None:  # In an estimate it is the optimizer's own doing.
            self.observer.finalized()

    def measure(self, count: int, compute: Callable[[Closure], Sequence[float]]) -> list[float]:
        """Return `count` numbers that `compute` finds with the closure by other means than its values at points.

        Where a log is replayed there is no model behind the closure, and the logged numbers are returned.

        Raises:
            OptimizerError: outside of `propose`.
        """
        closure = self.closure
        return self.finite(closure.take(count) if isinstance(closure, Recorded) else compute(closure))

    @property
    def closure(self) -> Closure:
        """The closure of the estimate under way, for the few optimizers that need more than its values at points.

        The weights are in place after `finalize()`; count each evaluation in `last_passes`, and ask for numbers through
        `measure`.

        Raises:
            OptimizerError: outside of `propose`.
        """
        if self._closure is None:
            raise OptimizerError(f"{type(self).__name__}: there is a closure only while an estimate is made")
        return self._closure

    @property
    def engine(self) -> Engine:
        """The engine, over the tensors that require gradients when it is first asked for, or an estimate begins.

        Raises:
            OptimizerError: if none does.
        """
        if self._engine is None:
            self._trained = self._flags()
            tensors = trained_tensors(self.param_groups)
            if not tensors:
                raise OptimizerError(
                    f"{type(self).__name__}: none of its {len(self._trained)} tensors requires a gradient, so there is "
                    "nothing to train: call requires_grad_() on those that are to move"
                )
            self._engine = make_engine(self.engine_name, tensors)
        return self._engine

    def _renew(self) -> None:
        """Make the engine anew where tensors were frozen or unfrozen since it was made."""
        if self._engine is None or self._flags() == self._trained:
            return
        if self.observer is not None:
            raise TrajectoryError("tensors were frozen or unfrozen while the optimizer was recorded; begin another log")
        self.finalize()
        self._engine = None

    def _flags(self) -> list[bool]:
        return [param.requires_grad for group in self.param_groups for param in group["params"]]

    def change_engine(self, engine: EngineChoice) -> None:
        """Go on with another engine; what the one before put off is applied."""
        self.finalize()
        self.engine_name, self._engine = engine, None

    def finite(self, losses: Sequence[float]) -> list[float]:
        """Return `losses`; one that is NaN or infinite ends the estimate, as `nonfinite` says."""
        self.last_answers += tuple(losses)
        for loss in losses:
            if not math.isfinite(loss):
                raise _NonFiniteError(loss)
        return list(losses)


class _NonFiniteError(Exception):
    def __init__(self, loss: float) -> None:
        super().__init__(loss)
        self.loss = loss


OPTIMIZERS: Registry[type[Any]] = Registry("zeroth-order optimizer", "shoestring.zeroth.optimizers")
