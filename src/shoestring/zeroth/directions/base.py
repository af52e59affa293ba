"""What a family of directions is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from shoestring.registry import Registry
from shoestring.zeroth.noise import noise_for
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.noise.plain import CHUNK, make_points, summed
from shoestring.zeroth.tensors import Trained


class Move(NamedTuple):
    """What a stretch of weights is told to do: weight <- keep * weight + sum of coefficient * z(seed).

    Attributes:
        weight: the stretch [n].
        tensor: that it is of.
        terms: seeds and coefficients.
        start: place of its first element.
        keep: what it is multiplied by.
    """

    weight: Tensor
    tensor: Trained
    terms: Sequence[Term]
    start: int = 0
    keep: float = 1.0


class Target(NamedTuple):
    """Where a stretch of weights at P points is written.

    Attributes:
        outs: memory for them [P, n].
        weight: the stretch [n].
        tensor: that it is of.
        start: place of its first element.
    """

    outs: Tensor
    weight: Tensor
    tensor: Trained
    start: int = 0


class Directions(ABC):
    """A family of random vectors z(seed), one for every seed, over all trained tensors.

    Only `fill` has to be written; what is built on it here is the slow, general way, and families whose numbers a noise
    backend can add to weights in one pass override it.
    """

    def touches(self, tensor: Trained) -> bool:
        """Return whether z may differ from zero in this tensor; if not, engines leave it alone."""
        return True

    def chosen(self, tensor: Trained, start: int, stop: int) -> Tensor | None:
        """Return which of the elements start ... stop may move [n], bool, or None for all.

        Updates that write weights themselves leave the others as they are, weight decay included.
        """
        return None

    def prepare(self, tensors: Iterable[Trained]) -> None:  # noqa: B027 - most have nothing to note
        """Note what depends on the unperturbed weights; called before each evaluation, when they are in place."""

    def factors(self, tensor: Trained, seed: int) -> tuple[Tensor, Tensor] | None:
        """Return (left [m, r], right [n, r]), float32, where z = left right'; None where there are no factors."""
        return None

    def gather(self, tensors: Iterable[Trained], seeds: Sequence[int]) -> None:  # noqa: B027 - most have none
        """Make the factors of many tensors at once, which takes less time; they will be asked for."""

    @abstractmethod
    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] of `tensor`, seen as one axis, to `out` [n], float32."""

    def add(
        self,
        weight: Tensor,
        tensor: Trained,
        terms: Sequence[Term],
        start: int = 0,
        keep: float = 1.0,
        rounding: int | None = None,
    ) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z(seed)) in place; `weight` [n] from `start`."""

        def fill(z: Tensor, seed: int, start: int) -> None:
            self.fill(z, tensor, seed, start)

        for begin in range(0, len(weight), CHUNK):
            part = weight[begin : begin + CHUNK]
            total = summed(fill, part, terms, start + begin, keep)
            noise_for(part).write(part, total, tensor.key, start + begin, rounding)

    def points(
        self,
        outs: Tensor,
        weight: Tensor,
        tensor: Trained,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
        start: int = 0,
    ) -> None:
        """Write outs[p] = round(weight + sum_j coefficients[p][j] z(seeds[j])) to `outs` [P, n]; `weight` [n]."""
        make_points(lambda z, seed, at: self.fill(z, tensor, seed, at), outs, weight, seeds, coefficients, start)

    def add_all(self, moves: Iterable[Move], rounding: int | None = None) -> None:
        """Do what `add` does to many stretches of weights, which do not overlap."""
        for weight, tensor, terms, start, keep in moves:
            self.add(weight, tensor, terms, start, keep, rounding)

    def points_all(
        self, targets: Iterable[Target], seeds: Sequence[int], coefficients: Sequence[Sequence[float]]
    ) -> None:
        """Do what `points` does for many stretches of weights."""
        for outs, weight, tensor, start in targets:
            self.points(outs, weight, tensor, seeds, coefficients, start)

    def ready(
        self, target: Target, seeds: Sequence[int], coefficients: Sequence[Sequence[float]]
    ) -> Callable[[], None]:
        """Return a call that writes one stretch of weights as `points` does, with all done before that can be."""
        outs, weight, tensor, start = target
        return partial(self.points, outs, weight, tensor, seeds, coefficients, start)

    def rows(
        self,
        outs: Tensor,
        weight: Tensor,
        index: Tensor,
        tensor: Trained,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
    ) -> None:
        """Like `points` for some rows of a matrix: `weight` [V, D], `index` [R] int64, `outs` [P, R, D]."""
        width = weight.shape[1]
        for place, row in enumerate(index.tolist()):
            self.points(outs[:, place], weight[row], tensor, seeds, coefficients, row * width)


DIRECTIONS: Registry[Any] = Registry("directions", "shoestring.zeroth.directions")
