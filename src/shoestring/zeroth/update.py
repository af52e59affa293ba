"""Updates: how the weights move once the losses are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from shoestring.zeroth.directions.base import Directions, Move
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.tensors import Trained


class Update(Protocol):
    """Moves any part of any tensor, in place; parts may come in any order, each once.

    It holds all it needs (learning rates too), since an engine may apply it as late as in the next step.
    """

    def __call__(self, tensor: Trained, start: int, stop: int) -> None:
        """Move elements start ... stop of `tensor`, seen as one axis."""
        ...


@dataclass(frozen=True)
class Rate:
    """Learning rate and weight decay of one parameter group at one step."""

    lr: float
    weight_decay: float


@dataclass(frozen=True)
class TermsUpdate:
    """theta <- (1 - lr weight_decay) theta - lr * sum over terms of coefficient * z(seed).

    Attributes:
        directions: the family z comes from.
        terms: seeds and coefficients, the estimate of the gradient.
        rates: of each parameter group.
        rounding: seed of stochastic rounding, or None.
    """

    directions: Directions
    terms: Sequence[Term]
    rates: Sequence[Rate]
    rounding: int | None = None

    def __call__(self, tensor: Trained, start: int, stop: int) -> None:
        """Move elements start ... stop of `tensor`, seen as one axis."""
        keep, moves = self.on(tensor)
        if moves or keep != 1:
            self.directions.add(tensor.flat[start:stop], tensor, moves, start, keep, self.rounding)

    def whole(self, tensors: Iterable[Trained]) -> None:
        """Move all of these tensors, in one go where the directions can."""
        found = [(tensor, *self.on(tensor)) for tensor in tensors]
        moves = [Move(tensor.flat, tensor, terms, 0, keep) for tensor, keep, terms in found if terms or keep != 1]
        self.directions.add_all(moves, self.rounding)

    def on(self, tensor: Trained) -> tuple[float, list[Term]]:
        """Return what a tensor is multiplied with, and the terms that are added to it then."""
        rate = self.rates[tensor.group]
        touched = self.directions.touches(tensor)
        moves = [(seed, -rate.lr * coefficient) for seed, coefficient in self.terms] if touched else []
        return 1 - rate.lr * rate.weight_decay, moves


def move(update: Update, tensors: Iterable[Trained]) -> None:
    """Move all of these tensors."""
    if isinstance(update, TermsUpdate):
        update.whole(tensors)
        return
    for tensor in tensors:
        update(tensor, 0, tensor.param.numel())
