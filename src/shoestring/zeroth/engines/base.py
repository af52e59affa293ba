"""What an engine is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from shoestring.registry import Registry
from shoestring.zeroth.closures import Closure
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update


class Engine(ABC):
    """Evaluates the loss at points around the weights of `tensors`, and applies updates to them."""

    def __init__(self, tensors: Sequence[Trained]) -> None:
        self.tensors = tensors

    @abstractmethod
    def losses(self, closure: Closure, points: Points) -> list[float]:
        """Return the loss at each point; the weights are what they were, whatever happens inside the closure."""

    def apply(self, update: Update) -> None:
        """Move the weights, now or (an engine that defers) on the way through the next evaluation."""
        for tensor in self.tensors:
            update(tensor, 0, tensor.param.numel())

    def finalize(self) -> None:  # noqa: B027 - most put nothing off
        """Do what was put off, so that the weights are what the optimizer means them to be. Nothing, here."""


ENGINES: Registry[type[Engine]] = Registry("engine", "shoestring.zeroth.engines")
