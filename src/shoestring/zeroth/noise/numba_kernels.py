"""The numba kernels: imported only when a weight on the CPU is first moved.

Written as many small loops over a tile that stays in the cache, each of which the compiler turns into vector
instructions: one loop over everything runs fifteen times slower. Indices are unsigned, or every access would first test
for a negative one. Compiled without fast-math, so sums keep their order and nothing is fused.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic, overload

from shoestring.zeroth.noise import philox
from shoestring.zeroth.noise.layout import Layout

TILE, BLOCKS = 2048, 512
_U32, _U64, _F32 = np.uint32, np.uint64, np.float32
_M0, _M1 = _U64(philox.MULTIPLIERS[0]), _U64(philox.MULTIPLIERS[1])
_W0, _W1 = _U32(philox.WEYL[0]), _U32(philox.WEYL[1])
_LOW, _T32 = _U64(0xFFFFFFFF), _U64(32)
_ROUNDS, _SHIFT = philox.ROUNDS, _U64(philox.STREAM_SHIFT)
_GAUSSIAN, _RADEMACHER, _ROUNDING = _U64(philox.GAUSSIAN), _U64(philox.RADEMACHER), _U64(philox.ROUNDING)
_LOG_2, _LOG_BIAS = _F32(philox.LOG_2), _U32(0x3F800000 - philox.SQRT_HALF_BITS)
_L0, _L1, _L2, _L3, _L4, _L5, _L6 = (_F32(value) for value in philox.LOG)
_TURN = _F32(philox.TURN)
_S0, _S1, _S2 = (_F32(value) for value in philox.SINE)
_C0, _C1, _C2 = (_F32(value) for value in philox.COSINE)
_ONE, _TWO, _HALF, _256 = _F32(1), _F32(2), _F32(0.5), _F32(256)
BFLOAT16, FLOAT16 = 1, 2


def _reading(source, target) -> Any:
    """Return a function for kernels that reads the bits of one type as another."""

    def typed(typing, value):
        def generate(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(target))

        return target(source), generate

    return intrinsic(typed)


bits_of, float_of = _reading(types.float32, types.uint32), _reading(types.uint32, types.float32)


def _jit(function):
    """Compile a part of `combine`."""
    return numba.njit(nogil=True, error_model="numpy")(function)


def _kept(function, **options):
    """Compile a kernel and keep the machine code for other processes; where no folder can be written, do without."""
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy", **options)(function)


@_jit
def _philox(words, seed, key, stream, first, count):
    """Write words of blocks first ... first + count, which do not straddle a multiple of 2^32: four runs of BLOCKS."""
    start = _U32(first & _LOW)
    high = _U32((first >> _T32) | (stream << _SHIFT))
    key0, key1 = _U32(key & _LOW), _U32(key >> _T32)
    seed0, seed1 = _U32(seed & _LOW), _U32(seed >> _T32)
    for i in range(count):
        c0, c1, c2, c3 = _U32(start + _U32(i)), high, key0, key1
        k0, k1 = seed0, seed1
        for _ in range(_ROUNDS):
            p0, p1 = _U64(c0) * _M0, _U64(c2) * _M1
            c0, c1, c2, c3 = (
                _U32(p1 >> _T32) ^ c1 ^ k0,
                _U32(p1 & _LOW),
                _U32(p0 >> _T32) ^ c3 ^ k1,
                _U32(p0 & _LOW),
            )
            k0, k1 = _U32(k0 + _W0), _U32(k1 + _W1)
        words[i] = c0
        words[i + _U64(BLOCKS)] = c1
        words[i + _U64(2 * BLOCKS)] = c2
        words[i + _U64(3 * BLOCKS)] = c3


@_jit
def _radius(word):
    """Return sqrt(-2 ln u)."""
    s = word | _U32(1)
    high, low = _F32(np.int32(s >> _U32(8))) * _256, _F32(np.int32(s & _U32(255)))
    shifted = _U32(bits_of(high + low) + _LOG_BIAS)
    k = np.int32(np.int32(shifted >> _U32(23)) - np.int32(127))
    unit = float_of(_U32(np.int32(127) - k) << _U32(23))
    t = (high * unit - _ONE) + low * unit
    q = _L6
    q = q * t + _L5
    q = q * t + _L4
    q = q * t + _L3
    q = q * t + _L2
    q = q * t + _L1
    q = q * t + _L0
    return np.sqrt(_F32(np.int32(np.int32(32) - k)) * _LOG_2 + ((t * t) * (t * q + _ONE) - _TWO * t))


@_jit
def _gaussian(z, words, count):
    """Write the Gaussian pairs of words 0 and 1, and of 2 and 3, of `count` blocks (a multiple of 16)."""
    for half in range(_U64(2)):
        for g in range(count >> _U64(4)):
            for lane in range(_U64(16)):
                i = half * _U64(2 * BLOCKS) + (g << _U64(4)) + lane
                r = _radius(words[i])
                w = words[i + _U64(BLOCKS)]
                s = np.int32(w << _U32(2)) >> np.int32(2)
                quadrant = _U32(w - _U32(s)) >> _U32(30)
                x = _F32(s) * _TURN
                v = x * x
                sine = x + (x * v) * ((_S2 * v + _S1) * v + _S0)
                cosine = (_ONE - _HALF * v) + (v * v) * ((_C2 * v + _C1) * v + _C0)
                odd = (quadrant & _U32(1)) != _U32(0)
                first, second = (sine, cosine) if odd else (cosine, sine)
                first_sign = ((quadrant + _U32(1)) & _U32(2)) << _U32(30)
                second_sign = (quadrant & _U32(2)) << _U32(30)
                at = (g << _U64(6)) + (half << _U64(5)) + lane
                z[at] = r * float_of(bits_of(first) ^ first_sign)
                z[at + _U64(16)] = r * float_of(bits_of(second) ^ second_sign)


@_jit
def _sign(word, left):
    """Return +1 if the bit that a shift to the left by `left` brings to the top is set, else -1."""
    return float_of(_U32(_U32(_U32(word << left) & _U32(0x80000000)) ^ _U32(0xBF800000)))


@_jit
def _rademacher(z, words, count):
    """Write the signs that the bits of `count` blocks give."""
    for block in range(count):
        w0, w1 = words[block], words[block + _U64(BLOCKS)]
        w2, w3 = words[block + _U64(2 * BLOCKS)], words[block + _U64(3 * BLOCKS)]
        # Four stores in one body: the compiler would unroll a smaller one, and then not find the vectors in it.
        for bit in range(_U64(32)):
            left, at = _U32(_U32(31) - _U32(bit)), (block << _U64(7)) + bit
            z[at] = _sign(w0, left)
            z[at + _U64(32)] = _sign(w1, left)
            z[at + _U64(64)] = _sign(w2, left)
            z[at + _U64(96)] = _sign(w3, left)


@_jit
def _dither(bits, words, count):
    """Write the 16-bit halves of the words of `count` blocks (a multiple of 16)."""
    for word in range(_U64(4)):
        for g in range(count >> _U64(4)):
            for lane in range(_U64(16)):
                w = words[word * _U64(BLOCKS) + (g << _U64(4)) + lane]
                at = (g << _U64(7)) + (word << _U64(4)) + lane
                bits[at] = _U32(w & _U32(0xFFFF))
                bits[at + _U64(64)] = _U32(w >> _U32(16))


@_jit
def _make(z, bits, words, seed, key, stream, begin, end):
    """Write what `stream` gives elements begin ... end to `z` (or `bits`); return where in it the first stands."""
    mask = _U64(63) if stream == _GAUSSIAN else _U64(127)
    groups = ((end + mask) // (mask + _U64(1))) - begin // (mask + _U64(1))
    each = _U64(1) if stream == _RADEMACHER else _U64(16)
    count = groups * each
    _philox(words, seed, key, stream, begin // (mask + _U64(1)) * each, count)
    if stream == _GAUSSIAN:
        _gaussian(z, words, count)
    elif stream == _RADEMACHER:
        _rademacher(z, words, count)
    else:
        _dither(bits, words, count)
    return begin & mask


@_jit
def _from_bfloat16(half):
    """Return the float32 of a bfloat16's bits."""
    return float_of(_U32(_U32(half) << _U32(16)))


@_jit
def _from_float16(half):
    """Return the float32 of a float16's bits."""
    word = _U32(half)
    sign, size = _U32(_U32(word & _U32(0x8000)) << _U32(16)), _U32(word & _U32(0x7FFF))
    shifted = _U32(size << _U32(13))
    normal = _U32(shifted + _U32(112 << 23))
    special = _U32(shifted + _U32(224 << 23))
    tiny = bits_of(float_of(_U32(shifted + _U32(113 << 23))) - float_of(_U32(113 << 23)))
    bits = tiny if size < _U32(0x400) else (special if size >= _U32(0x7C00) else normal)
    return float_of(_U32(bits | sign))


@_jit
def _to_bfloat16(bits, up):
    """Return the bfloat16 bits of a float32's, after adding `up` (0 ... 2^16 - 1)."""
    size = _U32(bits & _U32(0x7FFFFFFF))
    return _U32(0x7FC0) if size > _U32(0x7F800000) else _U32(_U32(bits + up) >> _U32(16))


@_jit
def _to_float16(bits, up, tiny):
    """Return the float16 bits of a float32's, after adding `up` (0 ... 2^13 - 1); below 2^-14 they are `tiny`."""
    size = _U32(bits & _U32(0x7FFFFFFF))
    finite = _U32(_U32(_U32(size + up) >> _U32(13)) - _U32(112 << 10))
    finite = finite if finite < _U32(0x7C00) else _U32(0x7C00)
    finite = tiny if size < _U32(0x38800000) else finite
    special = _U32(0x7E00) if size > _U32(0x7F800000) else _U32(0x7C00)
    finite = finite if size < _U32(0x7F800000) else special
    return _U32(finite | _U32(_U32(bits >> _U32(16)) & _U32(0x8000)))


@_jit
def _least(bits):
    """Return |x|, or 2^-14 where that is less."""
    size = _U32(bits & _U32(0x7FFFFFFF))
    return float_of(size if size < _U32(0x38800000) else _U32(0x38800000))


@_jit
def _nearest_bfloat16(bits):
    """Return the bits of the bfloat16 nearest to a float32's, ties to even."""
    return _to_bfloat16(bits, _U32(_U32(0x7FFF) + _U32(_U32(bits >> _U32(16)) & _U32(1))))


@_jit
def _nearest_float16(bits):
    """Return the bits of the float16 nearest to a float32's, ties to even."""
    tiny = _U32(bits_of(_least(bits) + _HALF) - _U32(0x3F000000))
    return _to_float16(bits, _U32(_U32(0xFFF) + _U32(_U32(bits >> _U32(13)) & _U32(1))), tiny)


def _load(totals, weight, at, count, keep, half):
    """Write keep x weight[at : at + count] to `totals`."""


def _store(outs, at, totals, offset, count, layout, bits, place):
    """Write totals[offset : offset + count] to outs[at :], rounded to the nearest or as the bits from `place` say."""


def _direct(outs, there, weight, at, coefficient, keep, z, place, count, half, same):
    """Write keep x weight + coefficient x z to outs[there :] in one loop; `same`: where the weight is."""


@overload(_direct)
def _direct_of(outs, there, weight, at, coefficient, keep, z, place, count, half, same):
    def wide(outs, there, weight, at, coefficient, keep, z, place, count, half, same):
        if same:
            for i in range(count):
                outs[there + i] = outs[there + i] * keep + coefficient * z[place + i]
        else:
            for i in range(count):
                outs[there + i] = weight[at + i] * keep + coefficient * z[place + i]

    def narrow(outs, there, weight, at, coefficient, keep, z, place, count, half, same):
        if half == BFLOAT16 and same:
            for i in range(count):
                total = _from_bfloat16(outs[there + i]) * keep + coefficient * z[place + i]
                outs[there + i] = _nearest_bfloat16(bits_of(total))
        elif half == BFLOAT16:
            for i in range(count):
                total = _from_bfloat16(weight[at + i]) * keep + coefficient * z[place + i]
                outs[there + i] = _nearest_bfloat16(bits_of(total))
        elif same:
            for i in range(count):
                total = _from_float16(outs[there + i]) * keep + coefficient * z[place + i]
                outs[there + i] = _nearest_float16(bits_of(total))
        else:
            for i in range(count):
                total = _from_float16(weight[at + i]) * keep + coefficient * z[place + i]
                outs[there + i] = _nearest_float16(bits_of(total))

    # Rounding float32 totals to half precision is never direct; `wide` is there for its types only.
    return narrow if outs.dtype == weight.dtype == types.uint16 else wide


@overload(_load)
def _load_of(totals, weight, at, count, keep, half):
    def wide(totals, weight, at, count, keep, half):
        for i in range(count):
            totals[i] = weight[at + i] * keep

    def narrow(totals, weight, at, count, keep, half):
        if half == BFLOAT16:
            for i in range(count):
                totals[i] = _from_bfloat16(weight[at + i]) * keep
        else:
            for i in range(count):
                totals[i] = _from_float16(weight[at + i]) * keep

    return narrow if weight.dtype == types.uint16 else wide


@overload(_store)
def _store_of(outs, at, totals, offset, count, layout, bits, place):
    def wide(outs, at, totals, offset, count, layout, bits, place):
        for i in range(count):
            outs[at + i] = totals[offset + i]

    def narrow(outs, at, totals, offset, count, layout, bits, place):
        if layout.half == BFLOAT16 and layout.rounded:
            for i in range(count):
                outs[at + i] = _to_bfloat16(bits_of(totals[offset + i]), bits[place + i])
        elif layout.half == BFLOAT16:
            for i in range(count):
                outs[at + i] = _nearest_bfloat16(bits_of(totals[offset + i]))
        elif layout.rounded:
            for i in range(count):
                word, up = bits_of(totals[offset + i]), bits[place + i]
                tiny = _U32(_U32(_U32(np.int32(_least(word) * _F32(2.0**40))) + up) >> _U32(16))
                outs[at + i] = _to_float16(word, _U32(up >> _U32(3)), tiny)
        else:
            for i in range(count):
                outs[at + i] = _nearest_float16(bits_of(totals[offset + i]))

    return narrow if outs.dtype == types.uint16 else wide


@_jit
def _span(start, width, tile):
    """Return the elements of a row, as places in the tensor, that lie in its `tile`-th tile (none: low >= high)."""
    begin = (start // _U64(TILE) + tile) * _U64(TILE)
    return max(start, begin), min(start + width, begin + _U64(TILE))


@_jit
def _repeat(totals, points, count):
    """Copy the first point's total to the others'."""
    for point in range(_U64(1), _U64(points)):
        for i in range(count):
            totals[point * _U64(TILE) + i] = totals[i]


@_jit
def _accumulate(totals, base, z, at, coefficient, count, fresh):
    if coefficient == 0:
        return
    if fresh:
        for i in range(count):
            totals[base + i] = coefficient * z[at + i]
    else:
        for i in range(count):
            totals[base + i] += coefficient * z[at + i]


@_kept
def combine(outs, weight, index, seeds, coefficients, packed, begin, end):
    """Write keep x weight + sum of coefficients x z of tiles begin ... end (row by row) to each point's output.

    `coefficients` [points, terms + 1] have `keep` last, the same for all points; `packed` is a Layout as a plain tuple
    (numba would name any other class in what it keeps on the disk, and a later version could no longer read that).
    """
    layout, points, terms = Layout(*packed), coefficients.shape[0], coefficients.shape[1] - 1
    z, words = np.empty(TILE, np.float32), np.empty(4 * BLOCKS, np.uint32)
    bits = np.empty(TILE if layout.rounded else 1, np.uint32)
    totals = np.empty(points * TILE, coefficients.dtype)
    width, stride, stream = _U64(layout.width), _U64(layout.stride), _U64(layout.stream)
    for job in range(_U64(begin), _U64(end)):
        row, tile = job // _U64(layout.tiles), job % _U64(layout.tiles)
        offset = _U64(index[row]) * width
        start = _U64(layout.start) + offset
        low, high = _span(start, width, tile)
        if low >= high:
            continue
        count, to = high - low, row * width + (low - start)
        if not (layout.fresh or layout.direct):
            _load(totals, weight, offset + (low - start), count, coefficients[0, terms], layout.half)
            _repeat(totals, points, count)
        at = _U64(0)
        for term in range(_U64(terms + layout.rounded)):
            last = term == _U64(terms)
            seed, what = (_U64(layout.rounding), _ROUNDING) if last else (seeds[term], stream)
            at = _make(z, bits, words, seed, _U64(layout.key), what, low, high)
            for point in range(_U64(0 if last else points)):
                c, base, there = coefficients[point, term], point * _U64(TILE), point * stride + to
                if layout.direct:
                    keep, same = coefficients[0, terms], layout.direct == 2
                    _direct(outs, there, weight, offset + (low - start), c, keep, z, at, count, layout.half, same)
                else:
                    _accumulate(totals, base, z, at, c, count, layout.fresh)
        for point in range(_U64(0 if layout.direct else points)):
            _store(outs, point * stride + to, totals, point * _U64(TILE), count, layout, bits, at)


def _combine_in_parts(outs, weight, index, seeds, coefficients, packed, jobs, parts):
    for part in numba.prange(parts):
        begin, end = np.int64(jobs * part // parts), np.int64(jobs * (part + 1) // parts)
        combine(outs, weight, index, seeds, coefficients, packed, begin, end)


combine_in_parts = _kept(_combine_in_parts, parallel=True)
"""`combine` of tiles 0 ... jobs, on numba's threads."""
