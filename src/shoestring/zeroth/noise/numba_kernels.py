"""The numba kernel: imported only when a weight on the CPU is first moved.

It works through a table of jobs: a stretch of weights each, the directions that are added to it, and where the sums are
written. Threads take tiles of the table by ticket, so that none waits for another before all is done.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray
from numba.core import types
from numba.extending import overload

from shoestring.zeroth.noise.layout import FIELDS, HEAD, Layout
from shoestring.zeroth.noise.numba_compiling import bits_of, jit, next_ticket, pointer_to, prefetch, widest_vectors
from shoestring.zeroth.noise.numba_halves import (
    BFLOAT16,
    even_bfloat16,
    from_bfloat16,
    from_float16,
    nearest_float16,
    round_bfloat16,
)
from shoestring.zeroth.noise.numba_memory import load, store
from shoestring.zeroth.noise.numba_streams import BLOCKS, TILE, make, make_bits

_U32, _U64, _F32 = np.uint32, np.uint64, np.float32
_LINE = 64


def _direct(outs, there, weight, at, coefficient, keep, z, place, count, layout, bits, spot):
    """Write keep x weight + coefficient x z to outs[there :] in one loop, rounded as `store` does."""


def _both(outs, there, stride, weight, at, coefficient, z, place, count, half):
    """Write weight + coefficient x z to outs[there :], and weight - coefficient x z `stride` further, in one loop."""


@overload(_both)
def _both_of(outs, there, stride, weight, at, coefficient, z, place, count, half):
    def wide(outs, there, stride, weight, at, coefficient, z, place, count, half):
        widest_vectors()
        for i in range(count):
            move = coefficient * z[place + i]
            outs[there + i] = weight[at + i] + move
            outs[there + stride + i] = weight[at + i] - move

    def narrow(outs, there, stride, weight, at, coefficient, z, place, count, half):
        widest_vectors()
        if half == BFLOAT16:
            for i in range(count):
                middle, move = from_bfloat16(weight[at + i]), coefficient * z[place + i]
                outs[there + i] = even_bfloat16(middle + move)
                outs[there + stride + i] = even_bfloat16(middle - move)
        else:
            for i in range(count):
                middle, move = from_float16(weight[at + i]), coefficient * z[place + i]
                outs[there + i] = nearest_float16(bits_of(middle + move))
                outs[there + stride + i] = nearest_float16(bits_of(middle - move))

    return narrow if outs.dtype == weight.dtype == types.uint16 else wide


@overload(_direct)
def _direct_of(outs, there, weight, at, coefficient, keep, z, place, count, layout, bits, spot):
    # Loops of their own where the output is the weight: the compiler must see that, or it would not use vectors.
    def wide(outs, there, weight, at, coefficient, keep, z, place, count, layout, bits, spot):
        widest_vectors()
        if layout.direct == 2:
            for i in range(count):
                outs[there + i] = outs[there + i] * keep + coefficient * z[place + i]
        else:
            for i in range(count):
                outs[there + i] = weight[at + i] * keep + coefficient * z[place + i]

    def narrow(outs, there, weight, at, coefficient, keep, z, place, count, layout, bits, spot):
        widest_vectors()
        same = layout.direct == 2
        if layout.half == BFLOAT16 and same and layout.rounded:
            for i in range(count):
                total = from_bfloat16(outs[there + i]) * keep + coefficient * z[place + i]
                outs[there + i] = round_bfloat16(total, bits[spot + i])
        elif layout.half == BFLOAT16 and same:
            for i in range(count):
                total = from_bfloat16(outs[there + i]) * keep + coefficient * z[place + i]
                outs[there + i] = even_bfloat16(total)
        elif layout.half == BFLOAT16:
            for i in range(count):
                total = from_bfloat16(weight[at + i]) * keep + coefficient * z[place + i]
                outs[there + i] = even_bfloat16(total)
        elif same:
            for i in range(count):
                total = from_float16(outs[there + i]) * keep + coefficient * z[place + i]
                outs[there + i] = nearest_float16(bits_of(total))
        else:
            for i in range(count):
                total = from_float16(weight[at + i]) * keep + coefficient * z[place + i]
                outs[there + i] = nearest_float16(bits_of(total))

    # Rounding float32 totals to half precision is never direct; `wide` is there for its types only.
    return narrow if outs.dtype == weight.dtype == types.uint16 else wide


@jit
def _span(start, width, tile):
    """Return the elements of a row, as places in the tensor, that lie in its `tile`-th tile (none: low >= high)."""
    begin = (start // _U64(TILE) + tile) * _U64(TILE)
    return max(start, begin), min(start + width, begin + _U64(TILE))


@jit
def _repeat(totals, points, count):
    """Copy the first point's total to the others'."""
    widest_vectors()
    for point in range(_U64(1), _U64(points)):
        for i in range(count):
            totals[point * _U64(TILE) + i] = totals[i]


@jit
def _accumulate(totals, base, z, at, coefficient, count, fresh):
    widest_vectors()
    if coefficient == 0:
        return
    if fresh:
        for i in range(count):
            totals[base + i] = coefficient * z[at + i]
    else:
        for i in range(count):
            totals[base + i] += coefficient * z[at + i]


@jit
def _fetch(address, size):
    """Have memory come nearer while the numbers are made that it is needed with."""
    for line in range((size + _U64(_LINE - 1)) // _U64(_LINE)):
        prefetch(np.int64(address + line * _U64(_LINE)))


@jit
def _layout(rows, row):
    """Return a job from its row."""
    r = rows[row : row + FIELDS]
    return Layout(
        r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15], r[16],
        r[17], r[18], r[19], r[20], r[21],
    )  # fmt: skip


@jit
def _array(address, size, dtype):
    """Return memory as an array; nothing checks its size."""
    return carray(pointer_to(address), size, dtype)


@jit
def _product(z, layout, left_address, right_address, low, high):
    """Write elements low ... high of left right', seen as one axis, to `z`."""
    widest_vectors()
    rank, inner = _U64(layout.rank), _U64(layout.inner)
    left, right = _array(left_address, 1, np.float32), _array(right_address, 1, np.float32)
    at = low
    while at < high:
        row = at // inner
        column, count = at - row * inner, min(high, (row + _U64(1)) * inner) - at
        factor = left[row * rank]
        for i in range(count):
            z[at - low + i] = factor * right[column + i]
        for k in range(_U64(1), rank):
            factor = left[row * rank + k]
            for i in range(count):
                z[at - low + i] += factor * right[k * inner + column + i]
        at += count


@jit
def _combine(rows, row, room, begin, end, out, weight, total):
    """Write keep x weight + sum of coefficients x z of tiles begin ... end of a job to each point's output."""
    layout = _layout(rows, row)
    z, words, bits, totals = room
    points, terms = _U64(layout.points), layout.terms
    outs, weight = _array(layout.outs, 1, out), _array(layout.weight, 1, weight)
    lines, seeds = _array(layout.lines, 1, np.int64), _array(layout.seeds, 1, np.uint64)
    factors = _array(layout.factors, 1, np.int64)
    coefficients = _array(layout.coefficients, (layout.points, terms + 1), total)
    keep = coefficients[0, terms]
    item = _U64(weight.itemsize)
    width, stride, key = _U64(layout.width), _U64(layout.stride), _U64(layout.key)
    for job in range(_U64(begin), _U64(end)):
        line, tile = job // _U64(layout.tiles), job % _U64(layout.tiles)
        offset = _U64(lines[line]) * width
        start = _U64(layout.start) + offset
        low, high = _span(start, width, tile)
        if low >= high:
            continue
        count, at, to = high - low, offset + (low - start), line * width + (low - start)
        if not (layout.fresh or layout.direct):
            load(totals, weight, at, count, keep, layout.half)
            _repeat(totals, points, count)
        _fetch(_U64(layout.weight) + at * item, count * item)
        spot = make_bits(bits, words, _U64(layout.rounding), key, low, high) if layout.rounded else _U64(0)
        for term in range(_U64(terms)):
            if layout.rank:
                place = _U64(0)
                _product(z, layout, factors[2 * term], factors[2 * term + 1], low, high)
            else:
                place = make(z, words, seeds[term], key, _U64(layout.stream), low, high)
            if layout.direct == 3:
                _both(outs, to, stride, weight, at, coefficients[0, 0], z, place, count, layout.half)
                continue
            for point in range(points):
                c, there = coefficients[point, term], point * stride + to
                if layout.direct:
                    _direct(outs, there, weight, at, c, keep, z, place, count, layout, bits, spot)
                else:
                    _accumulate(totals, point * _U64(TILE), z, place, c, count, layout.fresh)
        for point in range(_U64(0) if layout.direct else points):
            store(outs, point * stride + to, totals, point * _U64(TILE), count, layout, bits, spot)


@jit
def _room(size, dtype):
    """Return memory that begins where a cache line does: vectors that straddle two lines take twice as long."""
    made = np.empty(size + _LINE, dtype)
    skip = (-made.ctypes.data % _LINE) // made.itemsize
    return made[skip : skip + size]


@jit
def _work(table, out, weight, total):
    """Take tickets until there are none, and do the tiles that they stand for."""
    jobs, tiles, points, unit = table[1], table[2], table[3], table[4]
    rows = carray(table, HEAD + jobs * FIELDS)
    room = _room(TILE, np.float32), _room(4 * BLOCKS, np.uint32), _room(TILE, np.uint32), _room(points * TILE, total)
    begin = next_ticket(table) * unit
    while begin < tiles:
        end, row, before = min(begin + unit, tiles), HEAD, 0
        while begin < end:
            while rows[row] <= begin:
                before = rows[row]
                row += FIELDS
            until = min(end, rows[row])
            _combine(rows, row, room, begin - before, until - before, out, weight, total)
            begin = until
        begin = next_ticket(table) * unit


def entry(out: type, weight: type, total: type, stamp: int) -> Any:
    """Return the kernel for weights, outputs and sums of these dtypes, half precision as uint16."""

    def work(table):
        if stamp:
            _work(table, out, weight, total)

    return work
