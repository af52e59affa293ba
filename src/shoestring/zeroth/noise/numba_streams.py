"""The stream of `philox` in numba: words, and the Gaussian numbers, signs and rounding bits made of them.

Written as many small loops over a tile that stays in the cache, each of which the compiler turns into vector
instructions: one loop over everything runs fifteen times slower. Indices are unsigned, or every access would first test
for a negative one. Compiled without fast-math, so sums keep their order and nothing is fused.
"""

from __future__ import annotations

import numpy as np

from shoestring.zeroth.noise import philox
from shoestring.zeroth.noise.numba_compiling import bits_of, float_of, jit, widest_vectors

TILE, BLOCKS = 2048, 512
"""Elements made at once, and the blocks that takes at most."""
_U32, _U64, _F32 = np.uint32, np.uint64, np.float32
_M0, _M1 = _U64(philox.MULTIPLIERS[0]), _U64(philox.MULTIPLIERS[1])
_W0, _W1 = _U32(philox.WEYL[0]), _U32(philox.WEYL[1])
_LOW, _T32 = _U64(0xFFFFFFFF), _U64(32)
_ROUNDS, _SHIFT = philox.ROUNDS, _U64(philox.STREAM_SHIFT)
GAUSSIAN, RADEMACHER, ROUNDING = _U64(philox.GAUSSIAN), _U64(philox.RADEMACHER), _U64(philox.ROUNDING)
_LOG_2, _LOG_BIAS = _F32(philox.LOG_2), _U32(0x3F800000 - philox.SQRT_HALF_BITS)
_L0, _L1, _L2, _L3, _L4, _L5, _L6 = (_F32(value) for value in philox.LOG)
_REDUCED = _U32(philox.FIELD & 0xFFFF)
_TURN = _F32(philox.TURN)
_S0, _S1, _S2 = (_F32(value) for value in philox.SINE)
_C0, _C1, _C2 = (_F32(value) for value in philox.COSINE)
_ONE, _TWO, _HALF, _256 = _F32(1), _F32(2), _F32(0.5), _F32(256)


@jit
def _philox(words, seed, key, stream, first, count):
    """Write words of blocks first ... first + count, which do not straddle a multiple of 2^32: four runs of BLOCKS."""
    widest_vectors()
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


@jit
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


@jit
def _gaussian(z, words, count):
    """Write the Gaussian pairs of words 0 and 1, and of 2 and 3, of `count` blocks (a multiple of 16)."""
    widest_vectors()
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


@jit
def _sign(word, left):
    """Return +1 if the bit that a shift to the left by `left` brings to the top is set, else -1."""
    return float_of(_U32(_U32(_U32(word << left) & _U32(0x80000000)) ^ _U32(0xBF800000)))


@jit
def _rademacher(z, words, count):
    """Write the signs that the bits of `count` blocks give."""
    widest_vectors()
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


@jit
def _times_x(pair):
    """Return x times both halves of a word, as elements of the field."""
    carried = _U32(_U32(pair >> _U32(15)) & _U32(0x00010001)) * _REDUCED
    return _U32(_U32(_U32(pair & _U32(0x7FFF7FFF)) << _U32(1)) ^ carried)


@jit
def _dither(bits, words, count):
    """Write the rounding bits that `count` blocks (a multiple of 16) give."""
    widest_vectors()
    for pair in range(_U64(2)):
        for g in range(count >> _U64(4)):
            # All eight powers in one body: the compiler finds vectors in the innermost loop only.
            for lane in range(_U64(16)):
                i, at = pair * _U64(2 * BLOCKS) + (g << _U64(4)) + lane, (g << _U64(9)) + (pair << _U64(8)) + lane
                a, b0 = words[i], words[i + _U64(BLOCKS)]
                b1 = _times_x(b0)
                b2 = _times_x(b1)
                b3 = _times_x(b2)
                b4 = _times_x(b3)
                b5 = _times_x(b4)
                b6 = _times_x(b5)
                b7 = _times_x(b6)
                _halves(bits, at, a ^ b0)
                _halves(bits, at + _U64(16), a ^ b1)
                _halves(bits, at + _U64(32), a ^ b2)
                _halves(bits, at + _U64(48), a ^ b3)
                _halves(bits, at + _U64(64), a ^ b4)
                _halves(bits, at + _U64(80), a ^ b5)
                _halves(bits, at + _U64(96), a ^ b6)
                _halves(bits, at + _U64(112), a ^ b7)


@jit
def _halves(bits, at, word):
    bits[at] = _U32(word & _U32(0xFFFF))
    bits[at + _U64(128)] = _U32(word >> _U32(16))


@jit
def make(z, words, seed, key, stream, begin, end):
    """Write elements begin ... end of a direction to `z`, from the start of their group; return where the first is."""
    mask = _U64(63) if stream == GAUSSIAN else _U64(127)
    first, groups = _groups(begin, end, mask)
    if stream == GAUSSIAN:
        _philox(words, seed, key, stream, first << _U64(4), groups << _U64(4))
        _gaussian(z, words, groups << _U64(4))
    else:
        _philox(words, seed, key, stream, first, groups)
        _rademacher(z, words, groups)
    return begin & mask


@jit
def make_bits(bits, words, seed, key, begin, end):
    """Write the rounding bits of elements begin ... end to `bits`, as `make` does."""
    mask = _U64(511)
    first, groups = _groups(begin, end, mask)
    _philox(words, seed, key, ROUNDING, first << _U64(4), groups << _U64(4))
    _dither(bits, words, groups << _U64(4))
    return begin & mask


@jit
def _groups(begin, end, mask):
    """Return the first group of mask + 1 elements that elements begin ... end touch, and how many they touch."""
    size = mask + _U64(1)
    return begin // size, (end + mask) // size - begin // size
