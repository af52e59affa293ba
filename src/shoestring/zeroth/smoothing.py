"""Smoothing of a running curvature: a number, or a schedule in steps."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, cast

from torch import Tensor

from shoestring.errors import OptimizerError, UnknownNameError
from shoestring.zeroth.checks import check_share

Smoothing = float | str | Sequence[tuple[int, float]]

SCHEDULES: dict[str, list[tuple[int, float]]] = {
    "constant0": [(0, 0.0)],
    **{f"constant1e-{digits}": [(0, 10.0**-digits)] for digits in (2, 4, 6, 8, 10, 12)},
    "constant_decay1": [(0, 1e-6), (9800, 1e-8)],
}
"""The names of HiZOO's code that can be used there, with their values from a step on."""


def pieces(optimizer: str, smoothing: Smoothing) -> list[list[float]]:
    """Return a smoothing as [[first step, alpha], ...], beginning at step 0.

    Args:
        optimizer: its name, for messages.
        smoothing: alpha; a name in `SCHEDULES`; or pairs (first step, alpha from that step on).

    Raises:
        OptimizerError: if it is none of these, if an alpha is not at least 0 and below 1, or if steps do not begin at 0
            and grow.
        UnknownNameError: if there is no schedule of that name.
    """
    if isinstance(smoothing, str):
        if smoothing not in SCHEDULES:
            raise UnknownNameError(f"{optimizer} smoothing", smoothing, SCHEDULES)
        given = SCHEDULES[smoothing]
    elif isinstance(smoothing, Real) or (isinstance(smoothing, Tensor) and smoothing.ndim == 0):
        given = [(0, cast("float", smoothing))]
    elif isinstance(smoothing, Sequence) and all(map(_is_piece, smoothing)):
        given = list(smoothing)
    else:
        raise OptimizerError(
            f"{optimizer}: smoothing={smoothing!r}; give a number, pairs (first step, alpha), or one of the names "
            f"{', '.join(SCHEDULES)}"
        )
    firsts = [first for first, _ in given]
    if not given or firsts[0] != 0 or firsts != sorted(set(firsts)):
        raise OptimizerError(
            f"{optimizer}: smoothing={smoothing!r}; pairs (first step, alpha) begin at step 0 and their steps grow"
        )
    for _, alpha in given:
        check_share(optimizer, "smoothing", alpha)
    return [[int(first), float(alpha)] for first, alpha in given]


def _is_piece(pair: Any) -> bool:
    """Return whether this is a step and something that goes with it."""
    return isinstance(pair, Sequence) and len(pair) == 2 and isinstance(pair[0], Real)


def alpha_at(schedule: Sequence[Sequence[float]], step: int) -> float:
    """Return the alpha of a step."""
    return [alpha for first, alpha in schedule if first <= step][-1]
