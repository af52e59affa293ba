"""The fused engine: in place, with the passes over the weights between two points merged into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shoestring.zeroth.closures import Closure
from shoestring.zeroth.directions.base import Directions, Move
from shoestring.zeroth.engines.base import ENGINES, Engine, finite
from shoestring.zeroth.engines.interrupts import Uninterrupted
from shoestring.zeroth.engines.versions import Versions, refuse_changed
from shoestring.zeroth.noise.base import Term
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import TermsUpdate, Update


@dataclass(frozen=True)
class Place:
    """Where the weights stand: theta + sum of coefficient * z(seed)."""

    directions: Directions
    terms: tuple[Term, ...]


@ENGINES.register("fused")
class FusedEngine(Engine):
    """Moves the weights from point to point in place: for P points P passes over them a step, where replay makes P + 2.

    The way from the last point of one step, theta + a z, to the first of the next is one sum per tensor, restoring,
    update and perturbation together:

        theta' = keep (theta + a z)  -  keep a z  +  sum of moves  +  a' z'

    It needs nothing of the model, reads every weight from its own tensor, and costs no memory. Between steps the
    weights stand at the last point: until `finalize()` a forward pass sees them displaced, and whoever loads other
    weights or converts them is told so at the next move, which leaves those alone; who writes into `param.data` is not,
    for torch does not count that. Whatever fails inside the closure, and a loss that is not finite, puts them back at
    once. In half precision moving to and fro rounds: weights drift, though updates are not lost.

    Where an update is no sum over the same directions, or the directions must see unperturbed weights (`prepare`),
    the three moves follow each other, tensor by tensor.
    """

    _place: Place | None = None
    _update: Update | None = None

    def __init__(self, tensors: Sequence[Trained]) -> None:
        super().__init__(tensors)
        self._versions = Versions(tensors)

    def losses(self, closure: Closure, points: Points) -> list[float]:
        """Return the loss at each point; the weights stay at the last one until the next move or `finalize`."""
        if type(points.directions).prepare is not Directions.prepare:
            self.finalize()
        points.directions.prepare(self.tensors)
        found = []
        changed = self._changed()
        try:
            for row in points.coefficients:
                terms = tuple((seed, number) for seed, number in zip(points.seeds, row, strict=True) if number)
                self._move(Place(points.directions, terms), changed)
                found.append(self.evaluate(closure, points))
        except BaseException:
            self._move(None)  # What a forward pass itself writes is none of our business.
            raise
        self._versions.note()
        if not finite(found):
            self.finalize()
        return found

    def apply(self, update: Update) -> None:
        """Put the update off until the weights move anyway; at once where they are in place."""
        self.weigh(update)
        if self._update is not None:
            self.finalize()
        self._update = update
        if self._place is None:
            self.finalize()

    def finalize(self) -> None:
        """Put the weights back, and apply the update that was put off."""
        if self._place is not None or self._update is not None:
            self._move(None, self._changed())

    def _changed(self) -> list[Trained]:
        """Return the tensors that others changed while they had still to be moved."""
        here, update = self._place, self._update
        waiting = here is not None and (here.terms or update is not None)
        return self._versions.changed() if waiting else []

    def _move(self, there: Place | None, changed: Sequence[Trained] = ()) -> None:
        here, update = self._place, self._update
        if changed:
            there = None
        with Uninterrupted():
            move_from(here, update, there, [tensor for tensor in self.tensors if tensor not in changed])
            self._place, self._update = there, None
        refuse_changed(changed, "fused")


def move_from(here: Place | None, update: Update | None, there: Place | None, tensors: Sequence[Trained]) -> None:
    """Take tensors from a place (None: their own) through an update to another place."""
    places = [place for place in (here, there) if place is not None and place.terms]
    families = {id(place.directions): place.directions for place in places}
    if isinstance(update, TermsUpdate):
        families[id(update.directions)] = update.directions
    if len(families) != 1 or not (update is None or isinstance(update, TermsUpdate)):
        for tensor in tensors:
            _add(tensor, here, -1.0)
            if update is not None:
                update(tensor, 0, tensor.param.numel())
            _add(tensor, there, 1.0)
        return
    (directions,) = families.values()
    found = [(tensor, *_merged(tensor, directions, here, update, there)) for tensor in tensors]
    moves = [Move(tensor.flat, tensor, terms, 0, keep) for tensor, keep, terms in found if terms or keep != 1]
    directions.add_all(moves, None if update is None else update.rounding)


def _merged(
    tensor: Trained, directions: Directions, here: Place | None, update: TermsUpdate | None, there: Place | None
) -> tuple[float, list[Term]]:
    """Return what a tensor is multiplied with, and the terms that are added to it then, for the whole way."""
    keep, moves = (1.0, []) if update is None else update.on(tensor)
    totals: dict[int, float] = {}
    if directions.touches(tensor):
        for seed, number in (*_scaled(here, -keep), *moves, *_scaled(there, 1.0)):
            totals[seed] = totals.get(seed, 0.0) + number
    return keep, [(seed, total) for seed, total in totals.items() if total]


def _scaled(place: Place | None, factor: float) -> list[Term]:
    return [] if place is None else [(seed, factor * number) for seed, number in place.terms]


def _add(tensor: Trained, place: Place | None, sign: float) -> None:
    if place is not None and place.terms and place.directions.touches(tensor):
        place.directions.add(tensor.flat, tensor, _scaled(place, sign))
