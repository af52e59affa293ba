"""The numba kernel for what directions of low rank add at the side of a product.

In one pass, where tensor operations make several: x is read once, and the result written once. Threads take rows by
ticket; each row is summed in one way, whoever takes it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray
from numba.core import types
from numba.extending import overload

from shoestring.zeroth.noise.numba_compiling import bits_of, jit, next_ticket, pointer_to, widest_vectors
from shoestring.zeroth.noise.numba_halves import (
    BFLOAT16,
    from_bfloat16,
    from_float16,
    nearest_bfloat16,
    nearest_float16,
)
from shoestring.zeroth.noise.numba_memory import load

_U64, _F32 = np.uint64, np.float32
_ROWS = 16
"""Rows to a ticket."""


class SideLayout(NamedTuple):
    """The table: b_p + (x V) U_p' for rows of x.

    Attributes:
        ticket: the next one.
        out: address of the result [P N, m].
        x: address of x [P N, n].
        lefts: address of U_p' [P, r, m], float32.
        rights: address of V' [r, n].
        biases: address of the addresses of b [m] of each point, 0 for none.
        stride: numbers from one point's U_p' to the next one's.
        rows: P N.
        lane: N.
        inner: n.
        width: m.
        columns: r.
        half: BFLOAT16 or FLOAT16 for numbers given as uint16.
    """

    ticket: int
    out: int
    x: int
    lefts: int
    rights: int
    biases: int
    stride: int
    rows: int
    lane: int
    inner: int
    width: int
    columns: int
    half: int


FIELDS = len(SideLayout._fields)


def _dot(x, at, factors, place, count, half):
    """Return the product of x[at : at + count] and factors[place : place + count]."""


def _line(out, at, totals, place, number, factors, start, count, half):
    """Add totals[place :] + number * factors[start :] to out[at : at + count], rounded to the nearest."""


@overload(_dot, jit_options={"fastmath": {"reassoc", "nsz", "contract"}})  # Any order: so there can be vectors.
def _dot_of(x, at, factors, place, count, half):
    def wide(x, at, factors, place, count, half):
        widest_vectors()
        total = _F32(0)
        for i in range(count):
            total += x[at + i] * factors[place + i]
        return total

    def narrow(x, at, factors, place, count, half):
        widest_vectors()
        total = _F32(0)
        if half == BFLOAT16:
            for i in range(count):
                total += from_bfloat16(x[at + i]) * factors[place + i]
        else:
            for i in range(count):
                total += from_float16(x[at + i]) * factors[place + i]
        return total

    return narrow if x.dtype == types.uint16 else wide


@overload(_line)
def _line_of(out, at, totals, place, number, factors, start, count, half):
    def wide(out, at, totals, place, number, factors, start, count, half):
        widest_vectors()
        for i in range(count):
            out[at + i] += totals[place + i] + number * factors[start + i]

    def narrow(out, at, totals, place, number, factors, start, count, half):
        widest_vectors()
        if half == BFLOAT16:
            for i in range(count):
                out[at + i] = nearest_bfloat16(
                    from_bfloat16(out[at + i]) + (totals[place + i] + number * factors[start + i])
                )
        else:
            for i in range(count):
                total = from_float16(out[at + i]) + (totals[place + i] + number * factors[start + i])
                out[at + i] = nearest_float16(bits_of(total))

    return narrow if out.dtype == types.uint16 else wide


@jit
def _loaded(address, size, dtype, half):
    """Return numbers in float32."""
    made = np.empty(size, np.float32)
    load(made, carray(pointer_to(address), size, dtype), _U64(0), size, _F32(1), half)
    return made


@jit
def _work(table, dtype):
    """Take tickets until there are none, and make the rows that they stand for."""
    widest_vectors()
    t = carray(table, FIELDS)
    stride, rows, lane, inner, width, columns = _U64(t[6]), _U64(t[7]), _U64(t[8]), _U64(t[9]), _U64(t[10]), _U64(t[11])
    points, last, half = rows // lane, columns - _U64(1), t[12]
    out, x = carray(pointer_to(t[1]), 1, dtype), carray(pointer_to(t[2]), 1, dtype)
    lefts, rights = carray(pointer_to(t[3]), 1, np.float32), _loaded(t[4], columns * inner, dtype, half)
    addresses = carray(pointer_to(t[5]), t[7] // t[8], np.int64)
    biases = np.zeros(points * width, np.float32)
    for point in range(points):
        if addresses[point]:
            biases[point * width : (point + _U64(1)) * width] = _loaded(addresses[point], width, dtype, half)
    totals = np.empty(width, np.float32)
    begin = _U64(next_ticket(table) * _ROWS)
    while begin < rows:
        for row in range(begin, min(begin + _U64(_ROWS), rows)):
            point = row // lane
            base, place, left = biases, point * width, point * stride
            for k in range(columns):
                number = _dot(x, row * inner, rights, k * inner, inner, half)
                if k == last:
                    _line(out, row * width, base, place, number, lefts, left, width, half)
                elif k == 0:
                    for i in range(width):
                        totals[i] = base[place + i] + number * lefts[left + i]
                    base, place = totals, _U64(0)
                else:
                    for i in range(width):
                        totals[i] += number * lefts[left + i]
                left += width
        begin = _U64(next_ticket(table) * _ROWS)


def side_entry(dtype: type, stamp: int) -> Any:
    """Return the kernel for numbers of this dtype, half precision as uint16."""

    def work(table):
        if stamp:
            _work(table, dtype)

    return work
