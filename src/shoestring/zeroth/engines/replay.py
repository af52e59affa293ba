"""The replay engine: the reference's way, and the twin of the others."""

from __future__ import annotations

from shoestring.zeroth.closures import Closure
from shoestring.zeroth.engines.base import ENGINES, Engine
from shoestring.zeroth.engines.interrupts import Uninterrupted
from shoestring.zeroth.points import Points


@ENGINES.register("replay")
class ReplayEngine(Engine):
    """Adds each perturbation to the weights in place, evaluates, and takes it back by adding the opposite.

    P + 1 passes over the weights for P points. In half precision adding and subtracting drifts: the weights are not
    exactly what they were.

    Source: Malladi et al. 2023, algorithm 1.
    """

    def losses(self, closure: Closure, points: Points) -> list[float]:
        """Return the loss at each point; the weights are what they were, up to rounding."""
        points.directions.prepare(self.tensors)
        place = tuple(0.0 for _ in points.seeds)
        found = []
        try:
            for row in points.coefficients:
                with Uninterrupted():
                    self._move(points, place, row)
                    place = row
                found.append(self.evaluate(closure, points))
        finally:
            with Uninterrupted():
                self._move(points, place, tuple(0.0 for _ in points.seeds))
        return found

    def _move(self, points: Points, here: tuple[float, ...], there: tuple[float, ...]) -> None:
        terms = [(seed, b - a) for seed, a, b in zip(points.seeds, here, there, strict=True) if a != b]
        for tensor in self.tensors:
            if terms and points.directions.touches(tensor):
                points.directions.add(tensor.flat, tensor, terms)
