"""Points at which the loss is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from shoestring.zeroth.directions.base import Directions


@dataclass(frozen=True)
class Points:
    """P points around the weights: theta + sum_j coefficients[p][j] z(seeds[j]).

    Attributes:
        directions: the family z comes from.
        seeds: of the J directions.
        coefficients: [P][J], one row a point; a row of zeros is theta itself.
    """

    directions: Directions
    seeds: tuple[int, ...]
    coefficients: tuple[tuple[float, ...], ...]


def both_ends(directions: Directions, seed: int, eps: float) -> Points:
    """Return theta + eps z and theta - eps z."""
    return Points(directions, (seed,), ((eps,), (-eps,)))


def one_sided(directions: Directions, seeds: tuple[int, ...], eps: float) -> Points:
    """Return theta, then theta + eps z(seed) for each seed."""
    rows = [tuple(eps if column == row else 0.0 for column in range(len(seeds))) for row in range(len(seeds))]
    return Points(directions, seeds, (tuple(0.0 for _ in seeds), *rows))
