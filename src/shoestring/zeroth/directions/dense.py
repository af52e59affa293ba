"""Directions of independent numbers, one for every weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from torch import Tensor

from shoestring.zeroth.directions.base import DIRECTIONS, Directions, Move, Target
from shoestring.zeroth.noise import noise_for
from shoestring.zeroth.noise.base import Addition, Distribution, Noise, Products, Source, Spread, Term
from shoestring.zeroth.tensors import Trained

_Stretch = TypeVar("_Stretch", Move, Target, Products)


class Dense(Directions):
    """z[i] independent, of mean 0 and variance 1: Gaussian or Rademacher; made and added in one pass."""

    def __init__(self, distribution: Distribution) -> None:
        self.distribution: Distribution = distribution

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] of `tensor`, seen as one axis, to `out` [n], float32."""
        noise_for(out).fill(out, self._source(tensor), seed, start)

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
        noise_for(weight).add(weight, self._source(tensor), terms, start, keep, rounding)

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
        noise_for(weight).points(outs, weight, self._source(tensor), seeds, coefficients, start)

    def add_all(self, moves: Iterable[Move], rounding: int | None = None) -> None:
        """Do what `add` does to many stretches of weights, at once."""
        for noise, members in by_backend(moves):
            noise.add_all(
                [
                    Addition(weight, self._source(tensor), terms, start, keep)
                    for weight, tensor, terms, start, keep in members
                ],
                rounding,
            )

    def points_all(
        self, targets: Iterable[Target], seeds: Sequence[int], coefficients: Sequence[Sequence[float]]
    ) -> None:
        """Do what `points` does for many stretches of weights, at once."""
        for noise, members in by_backend(targets):
            spreads = [
                Spread(outs, weight, self._source(tensor), coefficients, start)
                for outs, weight, tensor, start in members
            ]
            noise.points_all(spreads, seeds)

    def ready(
        self, target: Target, seeds: Sequence[int], coefficients: Sequence[Sequence[float]]
    ) -> Callable[[], None]:
        """Return a call that writes one stretch of weights as `points` does, with all done before that can be."""
        outs, weight, tensor, start = target
        return noise_for(weight).ready(Spread(outs, weight, self._source(tensor), coefficients, start), seeds)

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
        noise_for(weight).rows(outs, weight, index, self._source(tensor), seeds, coefficients)

    def _source(self, tensor: Trained) -> Source:
        return Source(tensor.key, self.distribution)


def by_backend(stretches: Iterable[_Stretch]) -> Iterable[tuple[Noise, list[_Stretch]]]:
    """Return the stretches of each backend that works for some."""
    found: dict[int, tuple[Noise, list[_Stretch]]] = {}
    for stretch in stretches:
        noise = noise_for(stretch.weight)
        found.setdefault(id(noise), (noise, []))[1].append(stretch)
    return found.values()


@DIRECTIONS.register("gaussian")
def gaussian() -> Dense:
    """Z ~ N(0, I): E z z' = I, |z|^2 near d."""
    return Dense("gaussian")


@DIRECTIONS.register("rademacher")
def rademacher() -> Dense:
    """z[i] = -1 or +1 with equal probability: E z z' = I, |z|^2 = d exactly; an eighth of the random bits' cost."""
    return Dense("rademacher")
