"""What a noise backend is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from shoestring.zeroth.noise.sides import Side, add_side

Distribution = Literal["gaussian", "rademacher"]
Term = tuple[int, float]
"""A direction's seed and its coefficient."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the numbers of one tensor come from: z[i] is a function of (seed, key, i), for each distribution.

    Attributes:
        key: the tensor's, 0 <= key < 2^63.
        distribution: "gaussian", z ~ N(0, 1), or "rademacher", z = -1 or +1 with equal probability.
    """

    key: int
    distribution: Distribution


class Addition(NamedTuple):
    """What is added to a stretch of weights: weight <- keep * weight + sum over terms of coefficient * z(seed).

    Attributes:
        weight: the stretch [n].
        source: of the numbers of its tensor.
        terms: seeds and coefficients.
        start: place of the stretch's first element in the whole tensor.
        keep: what the weight is multiplied by.
    """

    weight: Tensor
    source: Source
    terms: Sequence[Term]
    start: int = 0
    keep: float = 1.0


class Spread(NamedTuple):
    """A stretch of weights at P points: outs[p] = weight + sum_j coefficients[p][j] * z(seeds[j]).

    Attributes:
        outs: where it is written [P, n].
        weight: the stretch [n].
        source: of the numbers of its tensor.
        coefficients: one row a point.
        start: place of the stretch's first element in the whole tensor.
    """

    outs: Tensor
    weight: Tensor
    source: Source
    coefficients: Sequence[Sequence[float]]
    start: int = 0


class Factors(NamedTuple):
    """A direction of low rank, z = left right' [m, n], seen as one axis.

    Attributes:
        left: [m, r], float32, contiguous.
        right: [n, r], float32, contiguous.
    """

    left: Tensor
    right: Tensor


class Products(NamedTuple):
    """Directions of low rank added to a stretch of weights: weight <- keep * weight + sum of coefficient * z.

    Attributes:
        weight: the stretch [n].
        key: of its tensor.
        terms: directions, all of one rank, and coefficients.
        start: place of the stretch's first element in the whole tensor.
        keep: what the weight is multiplied by.
    """

    weight: Tensor
    key: int
    terms: Sequence[tuple[Factors, float]]
    start: int = 0
    keep: float = 1.0


class Noise(ABC):
    """Makes directions and adds them to weights; every backend gives the same bits, those that `philox` writes down.

    Only what is not a number may be so in other bits.

    All tensors are flat (one axis), contiguous and on one device; stretches do not overlap. `start` is the place of the
    first element in the whole tensor. Sums are made in float32 (float64 for float64 weights), term after term, and
    rounded once; coefficients and `keep` are rounded to that dtype first, and terms of coefficient 0 left out.

    Differs: the reference draws all tensors in order from one torch generator, so its direction for a tensor depends
        on the shapes before it and on the device (princeton-nlp/MeZO large_models/trainer.py:708).
    """

    name: ClassVar[str]

    @abstractmethod
    def fill(self, out: Tensor, source: Source, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] to `out` [n], float32."""

    @abstractmethod
    def add_all(self, additions: Iterable[Addition], rounding: int | None = None) -> None:
        """Compute weight <- round(keep * weight + sum over terms of coefficient * z(seed)) in place, for each stretch.

        `rounding` is the seed of stochastic rounding to a half-precision dtype; None rounds to the nearest.
        """

    @abstractmethod
    def points_all(self, spreads: Iterable[Spread], seeds: Sequence[int]) -> None:
        """Write outs[p] = round(weight + sum_j coefficients[p][j] * z(seeds[j])) for each stretch."""

    @abstractmethod
    def add_products(self, products: Iterable[Products], rounding: int | None = None) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z) in place, z = left right', for each stretch.

        Every z is made element by element, its r products summed in order, so it is the same whatever slice it is for.
        """

    def add_side(self, out: Tensor, x: Tensor, biases: Sequence[Tensor | None], side: Side) -> None:
        """Add b_p + (x V) U_p' to `out` [P, N, m]; `x` [P N, n], b_p [m]: a bias for every point, or none for any.

        The same up to the order of sums: no trajectory depends on it but through losses.
        """
        add_side(out, x, biases, side)

    def add(
        self,
        weight: Tensor,
        source: Source,
        terms: Sequence[Term],
        start: int = 0,
        keep: float = 1.0,
        rounding: int | None = None,
    ) -> None:
        """Add to one stretch of weights, as `add_all` does to many."""
        self.add_all([Addition(weight, source, terms, start, keep)], rounding)

    def points(
        self,
        outs: Tensor,
        weight: Tensor,
        source: Source,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
        start: int = 0,
    ) -> None:
        """Write one stretch of weights at P points, as `points_all` does many."""
        self.points_all([Spread(outs, weight, source, coefficients, start)], seeds)

    def ready(self, spread: Spread, seeds: Sequence[int]) -> Callable[[], None]:
        """Return a call that writes one stretch as `points_all` does, with all done before that can be."""
        return partial(self.points_all, [spread], seeds)

    @abstractmethod
    def rows(
        self,
        outs: Tensor,
        weight: Tensor,
        index: Tensor,
        source: Source,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
    ) -> None:
        """Like `points` for some rows of a matrix: `weight` [V, D], `index` [R] int64, `outs` [P, R, D]."""

    @abstractmethod
    def write(self, weight: Tensor, total: Tensor, key: int, start: int = 0, rounding: int | None = None) -> None:
        """Write round(total) to `weight` [n], the `total` [n] in the dtype sums are made in; `key` of the tensor."""
