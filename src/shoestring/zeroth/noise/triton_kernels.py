"""The Triton kernel: imported only when a weight on a GPU is first moved.

A program makes one tile of one row. All is unsigned 32-bit and float32, in the order that `philox` writes down; the
kernel must be started with `enable_fp_fusion=False`, or products and sums would be fused.
"""

# pyright: reportInvalidTypeForm=false
# Triton comes with torch's CUDA builds and is imported by name, so that types can be checked without it.

from __future__ import annotations

from importlib import import_module
from typing import Any

from shoestring.zeroth.noise import philox

triton: Any = import_module("triton")
tl: Any = import_module("triton.language")

TILE, LEAST = 1024, 512
"""Elements of a tile for one point; never fewer than LEAST, the longest group of the stream."""
_SQRT_BIAS = tl.constexpr(0x3F800000 - philox.SQRT_HALF_BITS)
_M0, _M1 = tl.constexpr(philox.MULTIPLIERS[0]), tl.constexpr(philox.MULTIPLIERS[1])
_W0, _W1 = tl.constexpr(philox.WEYL[0]), tl.constexpr(philox.WEYL[1])
_ROUNDS = tl.constexpr(philox.ROUNDS)
_GAUSSIAN, _ROUNDING = tl.constexpr(philox.GAUSSIAN), tl.constexpr(philox.ROUNDING)
_FIELD = tl.constexpr(philox.FIELD)
_LOG_2, _TURN = tl.constexpr(philox.LOG_2), tl.constexpr(philox.TURN)
_L0, _L1, _L2, _L3, _L4, _L5, _L6 = (tl.constexpr(value) for value in philox.LOG)
_S0, _S1, _S2 = (tl.constexpr(value) for value in philox.SINE)
_C0, _C1, _C2 = (tl.constexpr(value) for value in philox.COSINE)


@triton.jit
def _philox(seed, key, STREAM: tl.constexpr, first, COUNT: tl.constexpr):
    """Return the four words of blocks first ... first + COUNT, which do not straddle a multiple of 2^32."""
    zero = tl.zeros([COUNT], tl.uint32)
    c0 = zero + (first & 0xFFFFFFFF).to(tl.uint32) + tl.arange(0, COUNT).to(tl.uint32)
    c1 = zero + ((first >> 32) | (STREAM << 24)).to(tl.uint32)
    c2 = zero + (key & 0xFFFFFFFF).to(tl.uint32)
    c3 = zero + (key >> 32).to(tl.uint32)
    k0 = zero + (seed & 0xFFFFFFFF).to(tl.uint32)
    k1 = zero + (seed >> 32).to(tl.uint32)
    m0, m1 = zero + _M0, zero + _M1
    for _ in tl.static_range(_ROUNDS):
        high0, low0, high1, low1 = tl.umulhi(m0, c0), m0 * c0, tl.umulhi(m1, c2), m1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _W0, k1 + _W1
    return c0, c1, c2, c3


@triton.jit
def _box_muller(a, b):
    """Return sqrt(-2 ln u) cos and sqrt(-2 ln u) sin of words a and b."""
    s = a | 1
    high, low = (s >> 8).to(tl.float32) * 256.0, (s & 255).to(tl.float32)
    k = (((high + low).to(tl.int32, bitcast=True) + _SQRT_BIAS).to(tl.uint32, bitcast=True) >> 23).to(tl.int32) - 127
    unit = ((127 - k) << 23).to(tl.float32, bitcast=True)
    t = (high * unit - 1.0) + low * unit
    q = t * _L6 + _L5
    q = q * t + _L4
    q = q * t + _L3
    q = q * t + _L2
    q = q * t + _L1
    q = q * t + _L0
    r = tl.sqrt_rn((32 - k).to(tl.float32) * _LOG_2 + ((t * t) * (t * q + 1.0) - t * 2.0))
    turned = (b << 2).to(tl.int32, bitcast=True) >> 2
    quadrant = (b - turned.to(tl.uint32, bitcast=True)) >> 30
    x = turned.to(tl.float32) * _TURN
    v = x * x
    sine = x + (x * v) * ((v * _S2 + _S1) * v + _S0)
    cosine = (1.0 - v * 0.5) + (v * v) * ((v * _C2 + _C1) * v + _C0)
    odd = (quadrant & 1) != 0
    first, second = tl.where(odd, sine, cosine), tl.where(odd, cosine, sine)
    first = tl.where(((quadrant + 1) & 2) != 0, -first, first)
    second = tl.where((quadrant & 2) != 0, -second, second)
    return r * first, r * second


@triton.jit
def _in_order(p0, p1, p2, p3, GROUPS: tl.constexpr):
    """Return [GROUPS, 4, 16] of four parts, each [GROUPS x 16]."""
    even, odd = tl.join(p0, p2), tl.join(p1, p3)
    four = tl.reshape(tl.join(even, odd), [GROUPS, 16, 2, 2])
    return tl.reshape(tl.permute(four, [0, 2, 3, 1]), [GROUPS, 4, 16])


@triton.jit
def _two_in_order(p0, p1, GROUPS: tl.constexpr):
    """Return [GROUPS, 2, 16] of two parts, each [GROUPS x 16]."""
    return tl.permute(tl.reshape(tl.join(p0, p1), [GROUPS, 16, 2]), [0, 2, 1])


@triton.jit
def _make(seed, key, begin, STREAM: tl.constexpr, TILE: tl.constexpr):
    """Return z of elements begin ... begin + TILE, or their rounding bits."""
    if STREAM == _GAUSSIAN:
        w0, w1, w2, w3 = _philox(seed, key, STREAM, begin // 4, TILE // 4)
        p0, p1 = _box_muller(w0, w1)
        p2, p3 = _box_muller(w2, w3)
        made = tl.reshape(_in_order(p0, p1, p2, p3, TILE // 64), [TILE])
    elif STREAM == _ROUNDING:
        w0, w1, w2, w3 = _philox(seed, key, STREAM, begin // 32, TILE // 32)
        # Of every block the words 0 and 2, and 1 and 3: [groups, pair, half, power, lane].
        one = tl.reshape(_two_in_order(w0, w2, TILE // 512), [TILE // 512, 2, 1, 1, 16])
        other = tl.reshape(_two_in_order(w1, w3, TILE // 512), [TILE // 512, 2, 1, 1, 16])
        half = tl.reshape(tl.arange(0, 2) * 16, [1, 1, 2, 1, 1]).to(tl.uint32)
        one, other = (one >> half) & 0xFFFF, (other >> half) & 0xFFFF
        power = tl.reshape(tl.arange(0, 8), [1, 1, 1, 8, 1]).to(tl.uint32)
        # x^k b without the reduction has bits up to 22; each bit from 16 on stands for x^16 and more of the field.
        grown = other << power
        for above in tl.static_range(6, -1, -1):
            grown = grown ^ (((grown >> (above + 16)) & 1) * (_FIELD << above))
        made = tl.reshape(one ^ grown, [TILE])
    else:
        w0, w1, w2, w3 = _philox(seed, key, STREAM, begin // 128, TILE // 128)
        words = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), [TILE // 128, 4, 1])
        shift = tl.reshape(tl.arange(0, 32), [1, 1, 32]).to(tl.uint32)
        made = tl.reshape(((words >> shift) & 1).to(tl.float32) * 2.0 - 1.0, [TILE])
    return made


@triton.jit
def _dithered(total, dither, HALF: tl.constexpr):
    """Return the bits, int16, of `total` rounded to bfloat16 or float16 as `dither` says."""
    bits = total.to(tl.uint32, bitcast=True)
    size = bits & 0x7FFFFFFF
    infinity: tl.constexpr = 0x7F80 if tl.bfloat16 == HALF else 0x7C00
    if tl.bfloat16 == HALF:
        near = (size + dither) >> 16
    else:
        least = tl.where(size < 0x38800000, size, 0x38800000).to(tl.uint32).to(tl.float32, bitcast=True)
        tiny = ((least * 1099511627776.0).to(tl.int32).to(tl.uint32) + dither) >> 16
        near = tl.where(size < 0x38800000, tiny, ((size + (dither >> 3)) >> 13) - 114688)
    near = tl.where((size < 0x7F800000) & (near < infinity), near, infinity)
    near = tl.where(size > 0x7F800000, infinity | (infinity >> 1), near).to(tl.uint32)
    return (near | ((bits >> 16) & 0x8000)).to(tl.uint16).to(tl.int16, bitcast=True)


@triton.jit
def _nearest_bfloat16(total):
    """Return the bits, int16, of the nearest bfloat16, ties to even (Triton's interpreter would cut off instead)."""
    bits = total.to(tl.uint32, bitcast=True)
    near = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    near = tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FC0, near).to(tl.uint32)
    return near.to(tl.uint16).to(tl.int16, bitcast=True)


@triton.jit(do_not_specialize=["start", "key", "rounding"])
def combine(
    outs,
    weight,
    index,
    seeds,
    coefficients,
    points,
    terms,
    width,
    start,
    stride,
    key,
    rounding,
    tiles,
    STREAM: tl.constexpr,
    FRESH: tl.constexpr,
    ROUNDED: tl.constexpr,
    POINTS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Write keep x weight + sum of coefficients x z of one tile of one row to each point's output.

    `coefficients` [points, terms + 1] have `keep` last; POINTS is the power of two from `points` on.
    """
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    offset = tl.load(index + row) * width
    begin = start + offset
    first = (begin // TILE + tile) * TILE
    place = first - begin + tl.arange(0, TILE).to(tl.int64)
    inside = (place >= 0) & (place < width)
    point = tl.arange(0, POINTS)
    column = coefficients + point * (terms + 1)
    there = point < points
    keep = tl.load(column + terms, mask=there, other=0.0)
    key64 = key + tl.zeros([], tl.int64)
    if FRESH:
        total = tl.zeros([POINTS, TILE], keep.dtype)
    else:
        total = keep[:, None] * tl.load(weight + offset + place, mask=inside, other=0.0).to(keep.dtype)[None, :]
    for term in range(terms):
        z = _make(tl.load(seeds + term), key64, first, STREAM, TILE).to(keep.dtype)
        factor = tl.load(column + term, mask=there, other=0.0)[:, None]
        moved = factor * z[None, :]
        total = moved if FRESH else tl.where(factor != 0, total + moved, total)
    to = outs + point[:, None] * stride + row.to(tl.int64) * width + place[None, :]
    mask = there[:, None] & inside[None, :]
    if ROUNDED:
        dither = _make(rounding + tl.zeros([], tl.int64), key64, first, _ROUNDING, TILE)
        bits = _dithered(total, tl.broadcast_to(dither[None, :], [POINTS, TILE]), outs.dtype.element_ty)
        tl.store(to, bits.to(outs.dtype.element_ty, bitcast=True), mask=mask)
    elif outs.dtype.element_ty == tl.bfloat16:
        tl.store(to, _nearest_bfloat16(total).to(tl.bfloat16, bitcast=True), mask=mask)
    else:
        tl.store(to, total.to(outs.dtype.element_ty), mask=mask)
