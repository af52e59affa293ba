"""The virtual engine: updates of low rank stay beside the weights, as factors, and no weight is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from shoestring.errors import OptimizerError
from shoestring.zeroth.directions.factored import matrix_shape
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.engines.held import Held, parts_of
from shoestring.zeroth.engines.interrupts import Uninterrupted
from shoestring.zeroth.engines.paired import PairedEngine
from shoestring.zeroth.engines.versions import Versions, refuse_changed
from shoestring.zeroth.points import Points
from shoestring.zeroth.residual import WithResidual
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import TermsUpdate, Update, move

_LOG = logging.getLogger(__name__)


class VirtualEngine(PairedEngine):
    """The paired engine, for directions of low rank, which keeps their updates as factors beside the weights.

    A matrix is W + L R' with L [m, c] and R [n, c] until these are added to it, and forward passes take them as they
    take perturbations, by a branch at the side of the product:

        x (W + L R' +- eps U V')' = x W' + (x R) L' +- eps (x V) U'

    Updates along one basis V, as LOZO's are for a period, share its columns; others take up columns of their own. What
    is held is added to the weights before it would have more than `columns`, and by `finalize()`: once, so that
    half-precision weights are rounded once for many steps. Vectors are few, and moved at each step.

    Where there are no factors to keep, it writes every update as the paired engine does, and says so once: directions
    that are not of low rank, updates that are no sums of directions, and weight decay, which moves every weight.

    Memory: as the paired engine, and c (m + n) numbers a matrix, float32.

    Args:
        tensors: those that are trained.
        lanes: points evaluated in one forward pass, at most.
        max_rows: rows of a forward pass, at most.
        tile: elements of large weights that are made at once; None: as the paired engine.
        small: tensors of up to so many elements are made whole, once an evaluation.
        columns: c, at most, but for an update that has more by itself.

    Source: Chen et al. 2024, section 3 (arXiv 2410.07698), whose updates within a period are of rank r together.
    """

    kind = "virtual"

    def __init__(
        self,
        tensors: Sequence[Trained],
        *,
        lanes: int = 3,
        max_rows: int | None = None,
        tile: int | None = None,
        small: int = 1 << 16,
        columns: int = 8,
    ) -> None:
        super().__init__(tensors, lanes=lanes, max_rows=max_rows, tile=tile, small=small)
        if columns < 1:
            raise OptimizerError(f"engine virtual: columns={columns}; it must be at least 1")
        self._columns = self.cycle = columns
        self._matrices = [tensor for tensor in tensors if matrix_shape(tensor) is not None]
        self._vectors = [tensor for tensor in tensors if matrix_shape(tensor) is None]
        self._held: Held | None = None
        self._last: Update | None = None
        self._versions = Versions(self._matrices)
        self._told = False

    def apply(self, update: Update) -> None:
        """Keep the update beside the matrices, where it has factors; move vectors now."""
        if self._instead is not None:
            super().apply(update)
            return
        terms = _terms(update)
        parts = None if terms is None or _decays(terms) else parts_of(terms, self._matrices)
        if parts is None:
            self._fold()
            self._tell(
                "weight decay, which moves every weight" if terms and _decays(terms) else "updates without factors"
            )
            super().apply(update)
            return
        self.weigh(update)
        if self._held is not None and self._held.columns_with(parts) > self._columns:
            self._fold()
        move(update, self._vectors)
        if parts:
            self._held = self._held or Held()
            self._held.take(parts)
            self._last = update
            self._versions.note()

    def placed(self, points: Points) -> Points:
        """Return the points as points around the weights as they lie in memory."""
        if self._held is None:
            return points
        found = None if self._versions.changed() else self._held.around(points, self._matrices)
        if found is None:
            self._fold()
            return points
        return found

    def finalize(self) -> None:
        """Add to the weights what is held beside them."""
        super().finalize()
        self._fold()

    def _tell(self, why: str) -> None:
        if self._matrices and not self._told:
            self._told = True
            _LOG.warning('engine="virtual" writes every weight at each step: %s; engine="paired" does no less', why)

    def _fold(self) -> None:
        held, last = self._held, self._last
        terms = None if last is None else _terms(last)
        if held is None or terms is None:
            return
        changed = self._versions.changed()
        matrices = [tensor for tensor in self._matrices if tensor not in changed and held.pieces(tensor)]
        folded = held.update(terms)
        with Uninterrupted():
            self._held = self._last = None
            move(replace(last, update=folded) if isinstance(last, WithResidual) else folded, matrices)
        refuse_changed(changed, "virtual")


def _terms(update: Update) -> TermsUpdate | None:
    """Return the sum of terms that an update is, if it is one; that there are residuals is no matter here."""
    found = update.update if isinstance(update, WithResidual) else update
    return found if isinstance(found, TermsUpdate) else None


def _decays(update: TermsUpdate) -> bool:
    return any(rate.lr * rate.weight_decay for rate in update.rates)


# Not as a decorator: type checkers would take the class for any engine's.
ENGINES.register("virtual")(VirtualEngine)
