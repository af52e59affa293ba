"""Half precision in numba, as integers: numba has no bfloat16, and its float16 no vector instructions."""

from __future__ import annotations

import numpy as np

from shoestring.zeroth.noise.numba_compiling import bits_of, float_of, jit

BFLOAT16, FLOAT16 = 1, 2
_U32, _F32 = np.uint32, np.float32
_HALF = _F32(0.5)


@jit
def from_bfloat16(half):
    """Return the float32 of a bfloat16's bits."""
    return float_of(_U32(_U32(half) << _U32(16)))


@jit
def from_float16(half):
    """Return the float32 of a float16's bits."""
    word = _U32(half)
    sign, size = _U32(_U32(word & _U32(0x8000)) << _U32(16)), _U32(word & _U32(0x7FFF))
    shifted = _U32(size << _U32(13))
    normal = _U32(shifted + _U32(112 << 23))
    special = _U32(shifted + _U32(224 << 23))
    tiny = bits_of(float_of(_U32(shifted + _U32(113 << 23))) - float_of(_U32(113 << 23)))
    bits = tiny if size < _U32(0x400) else (special if size >= _U32(0x7C00) else normal)
    return float_of(_U32(bits | sign))


@jit
def to_bfloat16(value, up):
    """Return the bits of a float32 as bfloat16, `up` (0 ... 2^16 - 1) added to them before they are cut."""
    return _U32(0x7FC0) if value != value else _U32(_U32(bits_of(value) + up) >> _U32(16))


@jit
def round_bfloat16(value, up):
    """Return what `to_bfloat16` does for sums with a bfloat16: what is not a number there has no low bits to carry."""
    return _U32(_U32(bits_of(value) + up) >> _U32(16))


@jit
def to_float16(bits, up, tiny):
    """Return the float16 bits of a float32's, after adding `up` (0 ... 2^13 - 1); below 2^-14 they are `tiny`."""
    size = _U32(bits & _U32(0x7FFFFFFF))
    finite = _U32(_U32(_U32(size + up) >> _U32(13)) - _U32(112 << 10))
    finite = finite if finite < _U32(0x7C00) else _U32(0x7C00)
    finite = tiny if size < _U32(0x38800000) else finite
    special = _U32(0x7E00) if size > _U32(0x7F800000) else _U32(0x7C00)
    finite = finite if size < _U32(0x7F800000) else special
    return _U32(finite | _U32(_U32(bits >> _U32(16)) & _U32(0x8000)))


@jit
def least(bits):
    """Return |x|, or 2^-14 where that is less."""
    size = _U32(bits & _U32(0x7FFFFFFF))
    return float_of(size if size < _U32(0x38800000) else _U32(0x38800000))


@jit
def nearest_bfloat16(value):
    """Return the bits of the bfloat16 nearest to a float32, ties to even."""
    return to_bfloat16(value, _U32(_U32(0x7FFF) + _U32(_U32(bits_of(value) >> _U32(16)) & _U32(1))))


@jit
def even_bfloat16(value):
    """Return what `nearest_bfloat16` does for sums with a bfloat16."""
    return round_bfloat16(value, _U32(_U32(0x7FFF) + _U32(_U32(bits_of(value) >> _U32(16)) & _U32(1))))


@jit
def nearest_float16(bits):
    """Return the bits of the float16 nearest to a float32's, ties to even."""
    tiny = _U32(bits_of(least(bits) + _HALF) - _U32(0x3F000000))
    return to_float16(bits, _U32(_U32(0xFFF) + _U32(_U32(bits >> _U32(13)) & _U32(1))), tiny)
