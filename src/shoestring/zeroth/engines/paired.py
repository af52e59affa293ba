"""The paired engine: all points from pristine weights, in one forward pass of the repeated batch where that can be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch

from shoestring.errors import OptimizerError, ShoestringError
from shoestring.zeroth.closures import Closure, PerExample, Recorded, pieces
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.engines.audit import Audit
from shoestring.zeroth.engines.base import ENGINES, Engine, finite
from shoestring.zeroth.engines.compiled import uncompiled
from shoestring.zeroth.engines.elsewhere import read_elsewhere
from shoestring.zeroth.engines.fused import FusedEngine
from shoestring.zeroth.engines.lanes import LanesError, Repeated
from shoestring.zeroth.engines.places import place_of_error
from shoestring.zeroth.engines.substitution import EscapeError, Substitution
from shoestring.zeroth.engines.versions import refuse_changed
from shoestring.zeroth.engines.weights import Deferred, PointWeights, Scratch
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update

_LOG = logging.getLogger(__name__)
# Losses of one computation made in two orders differ by so much of 1 + |loss|, at most.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}
_COARSE = 3e-2
# Perturbations that many times larger make losses differ by more than rounding, if a lane met the wrong weights.
_LOUDER = {torch.float64: 1.0, torch.float32: 16.0}
_LOUDEST = 64.0
_OFTEN = 6
_TILE = 1 << 20


class PairedEngine(Engine):
    """Makes perturbed weights in scratch wherever a forward pass reads weights; these are never written by evaluating.

    No module is patched: while the closure runs, torch functions that receive a trained tensor get it at the point
    instead (`Substitution`). A `PerExample` closure runs once, on its batch repeated for all P points (`Repeated`): one
    generation of noise serves all of them. Any other closure runs P times. The first step evaluates both ways and
    compares; where a computation does not keep the rows of the repeated batch apart, or the losses disagree, the points
    are evaluated one after the other from then on, with one warning. A forward pass that reads trained memory past its
    substitute (a view made before, scripted code, a thread of its own), or asks for its gradient, is evaluated by the
    fused engine, with one warning that names it.
    What `torch.compile` made runs as it was written, not compiled: the other engines run it compiled.

    Memory: P tiles, the small tensors (biases, norms, adapters) at P points, and what is read of embeddings; and
    activations of P times the rows. `lanes` bounds P: further points take further passes; `max_rows` bounds the rows.
    The weights themselves, where they are a point, take a pass of their own, for which nothing is made.

    Args:
        tensors: those that are trained.
        lanes: points evaluated in one forward pass, at most.
        max_rows: rows of a forward pass, at most; micro-batches are cut, their losses averaged exactly. None: no bound.
        tile: elements of large weights that are made at once. None: a hundredth of all, from 2^20 to 2^22.
        small: tensors of up to so many elements are made whole, once an evaluation.
        defer: apply updates on the way through the next evaluation: weights lag behind until `finalize()`.

    Attributes:
        repeats: whether batches are repeated for all points; None until the first step has found it out.
    """

    kind: ClassVar[str] = "paired"

    def __init__(
        self,
        tensors: Sequence[Trained],
        *,
        lanes: int = 3,
        max_rows: int | None = None,
        tile: int | None = None,
        small: int = 1 << 16,
        defer: bool = False,
    ) -> None:
        super().__init__(tensors)
        tile = usual_tile(self.tensors) if tile is None else tile
        numbers = {"lanes": lanes, "max_rows": 1 if max_rows is None else max_rows, "tile": tile, "small": small}
        for name, number in numbers.items():
            least = int(name != "small")
            if number < least:
                raise OptimizerError(f"engine {self.kind}: {name}={number}; it must be at least {least}")
        self.scratch = Scratch()
        self._lanes, self._max_rows, self._tile, self._small, self._defer = lanes, max_rows, tile, small, defer
        self._deferred: Deferred | None = None
        self.repeats: bool | None = None
        self._instead: FusedEngine | None = None
        self._audited = self._advised = False
        self._unseen = 0

    def losses(self, closure: Closure, points: Points) -> list[float]:
        """Return the loss at each point; the weights are not written, but for an update that was put off."""
        if self._instead is not None:
            return self._instead.losses(closure, points)
        self._refuse_changed()
        if type(points.directions).prepare is not Directions.prepare:
            self.finalize()
        points.directions.prepare(self.tensors)
        try:
            placed = self.placed(points)
            with uncompiled():
                found = self._losses(closure, placed)
            if self._read_elsewhere(closure, points, found):
                raise EscapeError("no tensor in this thread, but in another one")
            return found
        except EscapeError as escape:
            return self._give_up(str(escape), closure, points)
        finally:
            self._catch_up()

    def apply(self, update: Update) -> None:
        """Move the weights, now, or with `defer` on the way through the next evaluation."""
        if self._instead is not None:
            self._instead.apply(update)
        elif self._defer:
            self._refuse_changed()
            self._catch_up()
            self.weigh(update)
            self._deferred = Deferred(update, self.tensors)
        else:
            super().apply(update)

    def doubt(self) -> None:
        """Watch, audit and compare once more in the next evaluation."""
        super().doubt()
        self._audited = False
        self.repeats = None if self.repeats else self.repeats
        if self._instead is not None:
            self._instead.doubt()

    def finalize(self) -> None:
        """Apply what was put off."""
        if self._instead is not None:
            self._instead.finalize()
        self._refuse_changed()
        self._catch_up()

    def placed(self, points: Points) -> Points:
        """Return the points as they are seen from the weights, where these lag behind; here they do not."""
        return points

    def _read_elsewhere(self, closure: Closure, points: Points, losses: Sequence[float]) -> bool:
        """Find out, now and then, whether losses are equal because the model runs where nothing is substituted."""
        if not self._watching or len(losses) < 2 or len(set(losses)) > 1 or isinstance(closure, Recorded):
            return False
        self._unseen += 1
        return self._unseen.bit_count() == 1 and read_elsewhere(closure, losses[0], points, self.tensors)

    def _refuse_changed(self) -> None:
        """Refuse weights that others changed while an update was put off: they do not get it."""
        changed = [] if self._deferred is None else self._deferred.spare_changed()
        if changed:
            self._catch_up()
            refuse_changed(changed, self.kind)

    def _catch_up(self) -> None:
        """Finish an update that was on its way."""
        if self._deferred is not None:
            self._deferred.rest()
            self._deferred = None

    def _losses(self, closure: Closure, points: Points) -> list[float]:
        if not isinstance(closure, PerExample):
            return self._apart(closure, points)
        rows = points.coefficients
        away, still = tuple(row for row in rows if any(row)), tuple(row for row in rows if not any(row))
        moved = iter([loss for group in points.at(away).groups(self._lanes) for loss in self._group(closure, group)])
        # Behind the others, which an update that was put off is applied on the way through.
        unmoved = iter(self._apart(closure, points.at(still)))
        return [next(moved if any(row) else unmoved) for row in rows]

    def _group(self, closure: PerExample, points: Points) -> list[float]:
        if len(points.coefficients) < 2 or self.repeats is False:
            return self._apart(closure, points)
        if self.repeats is None:
            found = self._compare(closure, points)
            if not self.repeats:
                return found
        try:
            return self._together(closure, points)
        except Exception as error:
            if isinstance(error, (ShoestringError, EscapeError)):
                raise
            found = self._apart(closure, points)  # If that fails too, its error is the one to be seen.
            self._part(error)
            return found

    def _compare(self, closure: PerExample, points: Points) -> list[float]:
        """Find out whether a batch can be repeated: evaluate both ways, further out, where weights matter more.

        Returns the losses at the points, found one after the other.
        """
        losses = wanted = self._apart(closure, points)
        loud = _LOUDER.get(self.precision, _LOUDEST)
        if loud != 1.0 and finite(wanted):
            further = tuple(tuple(loud * number for number in row) for row in points.coefficients)
            louder = Points(points.directions, points.seeds, further)
            found = self._apart(closure, louder)
            points, wanted = (louder, found) if finite(found) else (points, wanted)
        if self._watching or not finite(wanted):
            return losses
        try:
            found = self._together(closure, points)
        except Exception as error:
            if isinstance(error, (ShoestringError, EscapeError)):
                raise
            self._part(error)
            return losses
        tolerance = _TOLERANCE.get(self.precision, _COARSE)
        if torch.backends.cuda.matmul.allow_tf32 and self.precision == torch.float32:
            tolerance = _COARSE
        self.repeats = all(abs(a - b) <= tolerance * (1 + abs(b)) for a, b in zip(found, wanted, strict=True))
        if not self.repeats:
            self._part(LanesError(f"the losses, which are {found} together and {wanted} one by one"))
        return losses

    def _part(self, error: Exception) -> None:
        self.repeats = False
        what = f"stopped at {error}" if isinstance(error, LanesError) else f"failed: {error}"
        what += place_of_error(error)
        _LOG.warning(
            "a batch repeated for several points %s; points are evaluated one after the other from now on, which makes "
            "directions once for each instead of once for all",
            what,
        )

    def _together(self, closure: PerExample, points: Points) -> list[float]:
        weights = self._weights(points)
        count = weights.count
        rows = None if self._max_rows is None else max(1, self._max_rows // count)
        means = []
        for batch in closure.micro_batches:
            found = []
            for part in pieces(batch, rows):
                mode = Repeated(weights, count * len(next(iter(part.values()))))
                repeated = mode.repeat(part)
                with mode:
                    found.append(mode.parts(closure.losses(repeated)))
            losses = torch.cat(found, 1)
            means.append(losses.to(torch.promote_types(losses.dtype, torch.float32)).mean(1))
        return torch.stack(means).mean(0).tolist()

    def _apart(self, closure: Closure, points: Points) -> list[float]:
        if isinstance(closure, PerExample) and self._max_rows is not None:
            closure = partial(closure.mean, self._max_rows)
        return [self._at(closure, points, point) for point in points.groups(1)]

    def _at(self, closure: Closure, points: Points, point: Points) -> float:
        """Return the loss at one of the points."""
        if not point.seeds:
            self._catch_up()
            return self.evaluate(closure, points)
        weights = self._weights(point)
        audit = None if self._audited else Audit(weights.table.values(), weights)
        loss = self.evaluate(closure, points, *([] if audit is None else [audit]), Substitution(weights))
        if audit is not None and audit.found:
            raise EscapeError(audit.listed())
        self._audited = not self._watching
        self._advise(weights)
        return loss

    def _weights(self, points: Points) -> PointWeights:
        weights = PointWeights(self.tensors, points, self.scratch, self._tile, self._small, self._deferred)
        if self._deferred is not None:
            for tensor in self.tensors:
                if id(tensor.param) not in weights.table:
                    self._deferred.reach(tensor, tensor.param.numel())
        return weights

    def _advise(self, weights: PointWeights) -> None:
        size = sum(tensor.param.numel() for tensor in weights.table.values())
        if not self._advised and weights.made > _OFTEN * size and size > self._small:
            self._advised = True
            _LOG.warning(
                "one evaluation reads the weights %.0f times over, as generation and shared layers do, and makes "
                'perturbed ones each time; engine="fused" makes them once',
                weights.made / size,
            )

    def _give_up(self, what: str, closure: Closure, points: Points) -> list[float]:
        self.finalize()
        _LOG.warning(
            "the forward pass reads trained memory past the tensors that the optimizer was given: %s; weights are "
            'perturbed in place from now on (engine="fused"), which drifts in half precision',
            what,
        )
        self._instead, self.instead = FusedEngine(self.tensors), "fused"
        return self._instead.losses(closure, points)


def usual_tile(tensors: Sequence[Trained]) -> int:
    """Return a hundredth of all elements: from 2^20, below which products take longer, to 2^22, to stay in caches."""
    return min(max(_TILE, sum(tensor.param.numel() for tensor in tensors) // 100), 4 * _TILE)


# Not as a decorator: type checkers would take the class for any engine's.
ENGINES.register("paired")(PairedEngine)
