"""Closures that read weights where no mode of torch reaches: in another thread."""

from __future__ import annotations

from collections.abc import Sequence

from shoestring.zeroth.closures import Closure, evaluate
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained

_SMALL = 1 << 16


def read_elsewhere(closure: Closure, loss: float, points: Points, tensors: Sequence[Trained]) -> bool:
    """Return whether weights matter of which nobody was seen to read any: they are moved in place, and put back.

    A loss that stays is one that was known before, or too coarse to tell.

    Args:
        closure: evaluated once.
        loss: what it returned so far.
        points: the first that is not the weights themselves is where these are moved to.
        tensors: those that are trained; the small ones are moved, or else the smallest.
    """
    row = next((row for row in points.coefficients if any(row)), ())
    terms = [(seed, number) for seed, number in zip(points.seeds, row, strict=bool(row)) if number]
    touched = [tensor for tensor in tensors if points.directions.touches(tensor) and tensor.param.numel()]
    if not terms or not touched:
        return False
    few = [tensor for tensor in touched if tensor.param.numel() <= _SMALL]
    moved = few or [min(touched, key=lambda tensor: tensor.param.numel())]
    kept = [tensor.flat.clone() for tensor in moved]
    try:
        for tensor in moved:
            points.directions.add(tensor.flat, tensor, terms)
        return evaluate(closure) != loss
    finally:
        for tensor, flat in zip(moved, kept, strict=True):
            tensor.flat.copy_(flat)  # Moving back would round.
