"""What a numba kernel is told besides arrays."""

from __future__ import annotations

from typing import NamedTuple


class Layout(NamedTuple):
    """What goes where.

    Attributes:
        key: the tensor's.
        stream: GAUSSIAN or RADEMACHER.
        width: elements in a row.
        start: place of the weight's first element in the whole tensor.
        stride: elements from one point's output to the next one's.
        tiles: an upper bound of the tiles that a row touches.
        half: BFLOAT16 or FLOAT16 for weights given as uint16.
        fresh: 1 to take the weight as nothing, else 0.
        direct: 1 to go without an array of totals (one direction, no coefficient of 0, rounding to the nearest), 2 if
            the output is the weight besides, else 0.
        rounded: 1 for stochastic rounding, else 0.
        rounding: its seed.
    """

    key: int
    stream: int
    width: int
    start: int = 0
    stride: int = 0
    tiles: int = 0
    half: int = 0
    fresh: int = 0
    direct: int = 0
    rounded: int = 0
    rounding: int = 0
