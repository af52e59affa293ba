"""The stream one element at a time, in Python's integers and float64, as `shoestring.zeroth.noise.philox` writes it."""

from __future__ import annotations

import math

MASK = 0xFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox 4x32-10 (Salmon et al. 2011, section 3)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def words(seed: int, key: int, stream: int, block: int) -> tuple[int, int, int, int]:
    """Four words of one block of one direction."""
    counter = (block & MASK, (block >> 32) + (stream << 24), key & MASK, key >> 32)
    return philox(counter, (seed & MASK, seed >> 32))


def gaussian(seed: int, key: int, i: int) -> float:
    """Element i, in float64."""
    group, part, lane = i // 64, i // 16 % 4, i % 16
    four = words(seed, key, 0, 16 * group + lane)
    first, second = four[:2] if part < 2 else four[2:]
    radius = math.sqrt(-2 * math.log((first | 1) / 2**32))
    angle = 2 * math.pi * second / 2**32
    return radius * (math.sin(angle) if part % 2 else math.cos(angle))


def rademacher(seed: int, key: int, i: int) -> float:
    """Element i: -1 or +1."""
    return 2.0 * (words(seed, key, 1, i // 128)[i // 32 % 4] >> i % 32 & 1) - 1


def dither(seed: int, key: int, i: int) -> int:
    """The 16 rounding bits of element i: a + x^k b in the field of 2^16 elements."""
    group, part, lane = i // 512, i // 16 % 32, i % 16
    pair, half, power = part // 16, part // 8 % 2, part % 8
    a, b = (word >> 16 * half & 0xFFFF for word in words(seed, key, 2, 16 * group + lane)[2 * pair : 2 * pair + 2])
    return a ^ times(b, 1 << power)


def times(a: int, b: int) -> int:
    """Product in the field of 2^16 elements, modulo x^16 + x^5 + x^3 + x^2 + 1."""
    total = 0
    for bit in range(16):
        total ^= (a << bit) * (b >> bit & 1)
    for bit in range(30, 15, -1):
        total ^= (0x1002D << bit - 16) * (total >> bit & 1)
    return total
