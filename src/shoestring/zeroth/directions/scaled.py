"""Directions scaled tensor by tensor, and directions confined to some tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

from shoestring.zeroth.directions.base import Directions, Move, Target
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.tensors import Trained


class Scaled(Directions):
    """Base directions times a number for every tensor: c * z; the number goes into the coefficients, so it is free.

    Args:
        base: the directions that are scaled.
        factors: c by the tensor's name; a tensor that is not named, or has c = 0, is left alone.
    """

    def __init__(self, base: Directions, factors: Mapping[str, float]) -> None:
        self.base = base
        self._factors = dict(factors)

    def touches(self, tensor: Trained) -> bool:
        """Return whether c is not 0, and the base touches the tensor."""
        return self._factor(tensor) != 0 and self.base.touches(tensor)

    def chosen(self, tensor: Trained, start: int, stop: int) -> Tensor | None:
        """Return which of the elements start ... stop the base moves."""
        return self.base.chosen(tensor, start, stop)

    def prepare(self, tensors: Iterable[Trained]) -> None:
        """Let the base note what it needs."""
        self.base.prepare(tensors)

    def factors(self, tensor: Trained, seed: int) -> tuple[Tensor, Tensor] | None:
        """Return (c left, right) with c z = c left right', where the base has factors."""
        pair = self.base.factors(tensor, seed)
        return None if pair is None else (pair[0] * self._factor(tensor), pair[1])

    def gather(self, tensors: Iterable[Trained], seeds: Sequence[int]) -> None:
        """Let the base make the factors of many tensors at once."""
        self.base.gather(tensors, seeds)

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        """Write c * z[start : start + n] of `tensor`, seen as one axis, to `out` [n], float32."""
        self.base.fill(out, tensor, seed, start)
        out.mul_(self._factor(tensor))

    def add(
        self,
        weight: Tensor,
        tensor: Trained,
        terms: Sequence[Term],
        start: int = 0,
        keep: float = 1.0,
        rounding: int | None = None,
    ) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * c z(seed)) in place; `weight` [n]."""
        self.base.add(weight, tensor, self._terms(tensor, terms), start, keep, rounding)

    def add_all(self, moves: Iterable[Move], rounding: int | None = None) -> None:
        """Do what `add` does to many stretches of weights, at once."""
        scaled = [move._replace(terms=self._terms(move.tensor, move.terms)) for move in moves]
        self.base.add_all(scaled, rounding)

    def points(
        self,
        outs: Tensor,
        weight: Tensor,
        tensor: Trained,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
        start: int = 0,
    ) -> None:
        """Write outs[p] = round(weight + sum_j coefficients[p][j] c z(seeds[j])) to `outs` [P, n]; `weight` [n]."""
        self.base.points(outs, weight, tensor, seeds, self._scale(tensor, coefficients), start)

    def ready(
        self, target: Target, seeds: Sequence[int], coefficients: Sequence[Sequence[float]]
    ) -> Callable[[], None]:
        """Return a call that writes one stretch of weights as `points` does, with all done before that can be."""
        return self.base.ready(target, seeds, self._scale(target.tensor, coefficients))

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
        self.base.rows(outs, weight, index, tensor, seeds, self._scale(tensor, coefficients))

    def _factor(self, tensor: Trained) -> float:
        return self._factors.get(tensor.name, 0.0)

    def _terms(self, tensor: Trained, terms: Sequence[Term]) -> list[Term]:
        factor = self._factor(tensor)
        return [(seed, coefficient * factor) for seed, coefficient in terms if factor]

    def _scale(self, tensor: Trained, coefficients: Sequence[Sequence[float]]) -> list[list[float]]:
        factor = self._factor(tensor)
        return [[value * factor for value in row] for row in coefficients]
