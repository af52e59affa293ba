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

    def groups(self, most: int) -> list[Points]:
        """Return the points in order, in groups of at most `most`, each with the directions that it needs."""
        rows = self.coefficients
        return [self.at(rows[start : start + most]) for start in range(0, len(rows), most)]

    def at(self, rows: tuple[tuple[float, ...], ...]) -> Points:
        """Return the points with these rows of coefficients, and the directions that they need."""
        used = [place for place in range(len(self.seeds)) if any(row[place] for row in rows)]
        chosen = tuple(tuple(row[place] for place in used) for row in rows)
        return Points(self.directions, tuple(self.seeds[place] for place in used), chosen)


def both_ends(directions: Directions, seed: int, eps: float) -> Points:
    """Return theta + eps z and theta - eps z."""
    return Points(directions, (seed,), ((eps,), (-eps,)))


def one_sided(directions: Directions, seeds: tuple[int, ...], eps: float) -> Points:
    """Return theta, then theta + eps z(seed) for each seed."""
    rows = [tuple(eps if column == row else 0.0 for column in range(len(seeds))) for row in range(len(seeds))]
    return Points(directions, seeds, (tuple(0.0 for _ in seeds), *rows))
