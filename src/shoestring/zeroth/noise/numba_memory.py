"""Numbers in memory, whatever their dtype, for numba kernels: half precision is uint16 there."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import overload

from shoestring.zeroth.noise.numba_compiling import bits_of, widest_vectors
from shoestring.zeroth.noise.numba_halves import (
    BFLOAT16,
    from_bfloat16,
    from_float16,
    least,
    nearest_bfloat16,
    nearest_float16,
    to_bfloat16,
    to_float16,
)

_U32, _F32 = np.uint32, np.float32


def load(totals, weight, at, count, keep, half):
    """Write keep x weight[at : at + count] to `totals`."""


def store(outs, at, totals, offset, count, how, bits, place):
    """Write totals[offset : offset + count] to outs[at :], rounded to the nearest or as the bits from `place` say.

    `how` has `half` (BFLOAT16 or FLOAT16) and `rounded` (1 where there are bits).
    """


@overload(load)
def _load(totals, weight, at, count, keep, half):
    def wide(totals, weight, at, count, keep, half):
        widest_vectors()
        for i in range(count):
            totals[i] = weight[at + i] * keep

    def narrow(totals, weight, at, count, keep, half):
        widest_vectors()
        if half == BFLOAT16:
            for i in range(count):
                totals[i] = from_bfloat16(weight[at + i]) * keep
        else:
            for i in range(count):
                totals[i] = from_float16(weight[at + i]) * keep

    return narrow if weight.dtype == types.uint16 else wide


@overload(store)
def _store(outs, at, totals, offset, count, how, bits, place):
    def wide(outs, at, totals, offset, count, how, bits, place):
        widest_vectors()
        for i in range(count):
            outs[at + i] = totals[offset + i]

    def narrow(outs, at, totals, offset, count, how, bits, place):
        widest_vectors()
        if how.half == BFLOAT16 and how.rounded:
            for i in range(count):
                outs[at + i] = to_bfloat16(totals[offset + i], bits[place + i])
        elif how.half == BFLOAT16:
            for i in range(count):
                outs[at + i] = nearest_bfloat16(totals[offset + i])
        elif how.rounded:
            for i in range(count):
                word, up = bits_of(totals[offset + i]), bits[place + i]
                tiny = _U32(_U32(_U32(np.int32(least(word) * _F32(2.0**40))) + up) >> _U32(16))
                outs[at + i] = to_float16(word, _U32(up >> _U32(3)), tiny)
        else:
            for i in range(count):
                outs[at + i] = nearest_float16(bits_of(totals[offset + i]))

    return narrow if outs.dtype == types.uint16 else wide
