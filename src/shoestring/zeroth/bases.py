"""Optimizers whose directions lie in bases that are drawn anew every few steps."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Unpack

from shoestring.errors import OptimizerError
from shoestring.seeds import derive
from shoestring.zeroth.base import Common, Estimate, Evaluate, Params, ZerothOrder
from shoestring.zeroth.checks import check
from shoestring.zeroth.directions.factored import Factored, check_rank
from shoestring.zeroth.spsa import two_sided


class PeriodicBasis(ZerothOrder):
    """Probes one direction a step, from a family that has a rank and a basis; the basis is that of step // period.

    Bases come from the step's number alone, so that nothing of them has to be saved.

    Raises:
        OptimizerError: if rank or period cannot be, or `directions` are given, of which there would be no use.
    """

    def __init__(
        self, params: Params, lr: float, own: dict[str, Any], rank: int, period: int, **common: Unpack[Common]
    ) -> None:
        name = type(self).__name__
        if "directions" in common:
            raise OptimizerError(
                f"{name}: directions={common['directions']!r}; {name} has its own, set by rank and period: leave it out"
            )
        check(name, "period", period, whole=True)
        super().__init__(params, lr, {**own, "rank": check_rank(name, rank), "period": int(period)}, **common)
        self.directions = self.family()

    @abstractmethod
    def make(self, rank: int, basis: int) -> Factored:
        """Return the family of directions with this rank and this seed of the basis."""

    def family(self, number: int | None = None) -> Factored:
        """Return the directions with basis `number` (of this step, where it is None); the last ones are kept."""
        if number is None:
            number = int(self.shared["steps"] // self.shared["period"])
        rank, basis = self.shared["rank"], derive(self.shared["seed"], "basis", number)
        held = self.directions
        if not (isinstance(held, Factored) and (held.rank, held.basis) == (rank, basis)):
            self.directions = held = self.make(rank, basis)
        return held

    def propose(self, evaluate: Evaluate) -> Estimate:
        """Evaluate both ends of one direction."""
        return two_sided(evaluate, self.family(), [self.direction_seed(0)], self.shared["eps"])
