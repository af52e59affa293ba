"""What an engine is."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from shoestring.errors import OptimizerError, UnknownNameError
from shoestring.products import quick_products
from shoestring.registry import Registry
from shoestring.zeroth.closures import Closure, evaluate
from shoestring.zeroth.engines.guards import Refusal, Watch, warn_of_lost_updates, warn_of_resolution
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update, move

EngineChoice = str | Mapping[str, Any]
"""An engine's name, or a table of its `kind` and options."""


class Engine(ABC):
    """Evaluates the loss at points around the weights of `tensors`, and applies updates to them.

    Attributes:
        precision: the least precise floating dtype of the first forward pass.
        instead: name of the engine that took over, where this one could not go on.
        cycle: steps in which all is done that is put off, on average: one of so many does what others leave.
    """

    instead: str | None = None
    cycle: int = 1

    def __init__(self, tensors: Sequence[Trained]) -> None:
        self.tensors = tensors
        self._watching = True
        self._weighing = True
        self.precision = torch.float64

    @abstractmethod
    def losses(self, closure: Closure, points: Points) -> list[float]:
        """Return the loss at each point; what happens inside the closure does no harm to the weights."""

    def apply(self, update: Update) -> None:
        """Move the weights, now or (an engine that defers) on the way through the next evaluation."""
        self.weigh(update)
        move(update, self.tensors)

    def finalize(self) -> None:  # noqa: B027 - most put nothing off
        """Do what was put off, so that the weights are what the optimizer means them to be. Nothing, here."""

    def doubt(self) -> None:
        """Watch the next forward pass as if it were the first: equal losses at unlike points may be unread weights."""
        self._watching = True

    def evaluate(self, closure: Closure, points: Points, *modes: AbstractContextManager[Any]) -> float:
        """Return the loss where the weights are; the first forward pass is watched, and none may be random.

        Args:
            closure: returns the loss.
            points: what the weights are perturbed by.
            modes: entered around the forward pass only. What the guards read of the weights afterwards is the
                tensors themselves, and not whole perturbed ones.

        Raises:
            OptimizerError: if it is random, or does not read an adapter that is trained.
        """
        touched = [tensor for tensor in self.tensors if points.directions.touches(tensor)] if self._watching else []
        watch = Watch(touched)
        with ExitStack() as entered:
            for mode in (*(modes or [quick_products()]), watch if self._watching else Refusal()):
                entered.enter_context(mode)
            loss = evaluate(closure)
        if not self._watching:
            return loss
        if watch.forward_seen:
            self._watching = False
            self.precision = watch.precision
            watch.report()
            warn_of_resolution(touched, points)
        return loss

    def weigh(self, update: Update) -> None:
        """Say, once, where an update is too small for the weights; skipped steps say nothing."""
        if self._weighing:
            self._weighing = False
            warn_of_lost_updates(self.tensors, update)


def finite(losses: Sequence[float]) -> bool:
    """Return whether no loss is NaN or infinite."""
    return all(map(math.isfinite, losses))


def make_engine(choice: EngineChoice, tensors: Sequence[Trained]) -> Engine:
    """Return the engine that is asked for, by its name or as a table of `kind` and options.

    Raises:
        UnknownNameError: if there is no such engine, or it has no such option.
        OptimizerError: if the table has no kind.
    """
    options: dict[str, Any] = {"kind": choice} if isinstance(choice, str) else dict(choice)
    kind = options.pop("kind", None)
    if kind is None:
        raise OptimizerError(f'engine={choice!r} has no kind, as in {{"kind": "paired", "max_rows": 32}}')
    engine = ENGINES.get(kind)
    allowed = [name for name in inspect.signature(engine).parameters if name != "tensors"]
    for name in options:
        if name not in allowed:
            raise UnknownNameError(f"option of engine {kind!r}", name, allowed)
    return engine(tensors, **options)


ENGINES: Registry[type[Engine]] = Registry("engine", "shoestring.zeroth.engines")
