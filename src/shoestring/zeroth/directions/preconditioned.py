"""Directions divided, number by number, by the root of a curvature."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.tensors import Trained

Root = Callable[[Trained, int, int], Tensor | None]
"""Returns the divisors of elements start ... stop of a tensor [n], or None for ones."""


class Preconditioned(Directions):
    """z / root, where z is of the base: large steps where the loss is flat, small ones where it is curved.

    Args:
        base: the directions that are divided.
        root: the divisors.
    """

    def __init__(self, base: Directions, root: Root) -> None:
        self.base = base
        self.root = root

    def touches(self, tensor: Trained) -> bool:
        """Return whether the base touches the tensor."""
        return self.base.touches(tensor)

    def chosen(self, tensor: Trained, start: int, stop: int) -> Tensor | None:
        """Return which of the elements start ... stop the base moves."""
        return self.base.chosen(tensor, start, stop)

    def prepare(self, tensors: Iterable[Trained]) -> None:
        """Let the base note what it needs."""
        self.base.prepare(tensors)

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        """Write z / root of elements start ... start + n of `tensor`, seen as one axis, to `out` [n], float32."""
        self.base.fill(out, tensor, seed, start)
        root = self.root(tensor, start, start + len(out))
        if root is not None:
            out.div_(root)
