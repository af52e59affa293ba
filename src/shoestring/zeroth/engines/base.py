"""What an engine is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from shoestring.registry import Registry
from shoestring.zeroth.closures import Closure, evaluate
from shoestring.zeroth.engines.guards import Watch, warn_of_lost_updates, warn_of_resolution
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update


class Engine(ABC):
    """Evaluates the loss at points around the weights of `tensors`, and applies updates to them.

    Attributes:
        precision: the least precise floating dtype of the first forward pass.
        instead: name of the engine that took over, where this one could not go on.
    """

    instead: str | None = None

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
        for tensor in self.tensors:
            update(tensor, 0, tensor.param.numel())

    def finalize(self) -> None:  # noqa: B027 - most put nothing off
        """Do what was put off, so that the weights are what the optimizer means them to be. Nothing, here."""

    def evaluate(self, closure: Closure, points: Points) -> float:
        """Return the loss where the weights are; the first forward pass is watched.

        Raises:
            OptimizerError: if it is random, or does not read an adapter that is trained.
        """
        if not self._watching:
            return evaluate(closure)
        touched = [tensor for tensor in self.tensors if points.directions.touches(tensor)]
        with Watch(touched) as watch:
            loss = evaluate(closure)
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


ENGINES: Registry[type[Engine]] = Registry("engine", "shoestring.zeroth.engines")
