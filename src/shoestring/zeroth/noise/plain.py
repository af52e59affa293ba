"""The plain PyTorch backend: on every device, and the twin that the fast ones are tested against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from shoestring.zeroth.noise import philox
from shoestring.zeroth.noise.base import Addition, Factors, Noise, Products, Source, Spread, Term

CHUNK = 1 << 16
Fill = Callable[[Tensor, int, int], None]
"""Writes z(seed) from an element on to a tensor [n], float32: called with the tensor, the seed and the element."""
_MASK_32 = (1 << 32) - 1


class PlainNoise(Noise):
    """The stream of `philox` in tensor operations: integers as int64, float32 operations one by one."""

    name: ClassVar[str] = "torch"

    def fill(self, out: Tensor, source: Source, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] to `out` [n], float32."""
        make = _gaussian if source.distribution == "gaussian" else _rademacher
        for begin in range(0, len(out), CHUNK):
            part = out[begin : begin + CHUNK]
            part.copy_(make(seed, source.key, start + begin, len(part), out.device))

    def add_all(self, additions: Iterable[Addition], rounding: int | None = None) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z(seed)) in place, for each stretch."""
        for weight, source, terms, start, keep in additions:
            fill = self._filling(source)
            for begin in range(0, len(weight), CHUNK):
                part = weight[begin : begin + CHUNK]
                write(part, summed(fill, part, terms, start + begin, keep), source.key, start + begin, rounding)

    def points_all(self, spreads: Iterable[Spread], seeds: Sequence[int]) -> None:
        """Write outs[p] = round(weight + sum_j coefficients[p][j] * z(seeds[j])) for each stretch of weights."""
        for outs, weight, source, coefficients, start in spreads:
            make_points(self._filling(source), outs, weight, seeds, coefficients, start)

    def add_products(self, products: Iterable[Products], rounding: int | None = None) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z) in place, z = left right', for each."""
        for weight, key, terms, start, keep in products:
            fill = _multiplying([factors for factors, _ in terms])
            numbered = [(number, coefficient) for number, (_, coefficient) in enumerate(terms)]
            for begin in range(0, len(weight), CHUNK):
                part = weight[begin : begin + CHUNK]
                write(part, summed(fill, part, numbered, start + begin, keep), key, start + begin, rounding)

    def rows(
        self,
        outs: Tensor,
        weight: Tensor,
        index: Tensor,
        source: Source,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
    ) -> None:
        """Like `points` for some rows of a matrix: `weight` [V, D], `index` [R] int64, `outs` [P, R, D]."""
        width = weight.shape[1]
        for place, row in enumerate(index.tolist()):
            self.points(outs[:, place], weight[row], source, seeds, coefficients, row * width)

    def write(self, weight: Tensor, total: Tensor, key: int, start: int = 0, rounding: int | None = None) -> None:
        """Write round(total) to `weight` [n], the `total` [n] in the dtype sums are made in; `key` of the tensor."""
        write(weight, total, key, start, rounding)

    def _filling(self, source: Source) -> Fill:
        return lambda z, seed, start: self.fill(z, source, seed, start)


def summed(fill: Fill, weight: Tensor, terms: Sequence[Term], start: int, keep: float = 1.0) -> Tensor:
    """Return keep * weight + sum over terms of coefficient * z(seed) [n], unrounded; `weight` [n] from `start`."""
    total = weight.to(wide(weight.dtype)) * rounded(keep, weight.dtype)
    z = torch.empty(len(weight), dtype=torch.float32, device=weight.device)
    for seed, coefficient in terms:
        if factor := rounded(coefficient, weight.dtype):
            fill(z, seed, start)
            total = total + z.to(total.dtype) * factor
    return total


def outer_sum(left: Tensor, right: Tensor) -> Tensor:
    """Return left right' [m, n] of left [m, r] and right [n, r], the r products of each element summed in order."""
    total = left[:, :1] * right[:, 0]
    for column in range(1, left.shape[1]):
        total = total + left[:, column : column + 1] * right[:, column]
    return total


def _multiplying(factors: Sequence[Factors]) -> Fill:
    """Return what writes the direction of a number."""
    return lambda z, number, start: _outer(z, *factors[number], start)


def _outer(z: Tensor, left: Tensor, right: Tensor, start: int) -> None:
    """Write elements start ... start + n of left right', seen as one axis, to `z` [n]."""
    width = len(right)
    first, last = start // width, -(-(start + len(z)) // width)
    z.copy_(outer_sum(left[first:last], right).view(-1)[start - first * width :][: len(z)])


def make_points(
    fill: Fill,
    outs: Tensor,
    weight: Tensor,
    seeds: Sequence[int],
    coefficients: Sequence[Sequence[float]],
    start: int,
) -> None:
    """Write outs[p] = round(weight + sum_j coefficients[p][j] z(seeds[j])) to `outs` [P, n]; `weight` [n]."""
    for begin in range(0, len(weight), CHUNK):
        part = weight[begin : begin + CHUNK]
        sums = [part.to(wide(part.dtype)) for _ in coefficients]
        z = torch.empty(len(part), dtype=torch.float32, device=part.device)
        for place, seed in enumerate(seeds):
            fill(z, seed, start + begin)
            for point, row in enumerate(coefficients):
                if factor := rounded(row[place], part.dtype):
                    sums[point] = sums[point] + z.to(sums[point].dtype) * factor
        for point, total in enumerate(sums):
            outs[point, begin : begin + len(part)] = total.to(outs.dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that sums of weights of `dtype` are made in."""
    return torch.promote_types(dtype, torch.float32)


def rounded(value: float, dtype: torch.dtype) -> float:
    """Return a coefficient as sums of weights of `dtype` take it: rounded to float32, for float64 as it is."""
    with np.errstate(over="ignore"):
        return float(np.float32(value)) if wide(dtype) == torch.float32 else value


def write(weight: Tensor, total: Tensor, key: int, start: int, rounding: int | None) -> None:
    """Round `total` to the dtype of `weight` and write it there: to the nearest, or at random with seed `rounding`."""
    if rounding is None or weight.dtype not in (torch.bfloat16, torch.float16):
        weight.copy_(total.to(weight.dtype))
        return
    dither = _dither(rounding, key, start, len(weight), weight.device)
    bits = total.contiguous().view(torch.int32).long() & _MASK_32
    size, sign = bits & 0x7FFFFFFF, bits >> 31 << 15
    if weight.dtype == torch.bfloat16:
        near, infinity = (size + dither) >> 16, 0x7F80
    else:
        tiny = (total.abs().clamp(max=2.0**-14) * 2.0**40).nan_to_num().long() + dither >> 16
        near = torch.where(size < 0x38800000, tiny, (size + (dither >> 3) >> 13) - (112 << 10))
        infinity = 0x7C00
    near = torch.where(size < 0x7F800000, near.clamp(max=infinity), infinity)
    near = torch.where(size > 0x7F800000, infinity | infinity >> 1, near) | sign
    weight.copy_((near - (near >> 15 << 16)).to(torch.int16).view(weight.dtype))


def words(seed: int, key: int, stream: int, block: int, count: int, device: torch.device) -> list[Tensor]:
    """Return the four words of blocks `block` ... `block + count`, each [count] int64 in 0 ... 2^32 - 1."""
    blocks = torch.arange(block, block + count, dtype=torch.int64, device=device)
    c0 = blocks & _MASK_32
    c1 = (blocks >> 32) | (stream << philox.STREAM_SHIFT)
    c2 = torch.full_like(c0, key & _MASK_32)
    c3 = torch.full_like(c0, key >> 32)
    k0, k1 = seed & _MASK_32, seed >> 32
    for _ in range(philox.ROUNDS):
        p0, p1 = c0 * philox.MULTIPLIERS[0], c2 * philox.MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK_32) ^ c1 ^ k0,
            p1 & _MASK_32,
            ((p0 >> 32) & _MASK_32) ^ c3 ^ k1,
            p0 & _MASK_32,
        )
        k0, k1 = (k0 + philox.WEYL[0]) & _MASK_32, (k1 + philox.WEYL[1]) & _MASK_32
    return [c0, c1, c2, c3]


def box_muller(radius_word: Tensor, angle_word: Tensor) -> tuple[Tensor, Tensor]:
    """Return float32 sqrt(-2 ln u) cos a and sqrt(-2 ln u) sin a of words [n], as `philox` says."""
    odd = radius_word | 1
    high, low = (odd >> 8).float() * 256.0, (odd & 255).float()
    exponent = ((high + low).view(torch.int32) + (0x3F800000 - philox.SQRT_HALF_BITS) & 0x7FFFFFFF) >> 23
    exponent = exponent - 127
    unit = (127 - exponent << 23).view(torch.float32)
    t = (high * unit - 1.0) + low * unit
    log = _horner(philox.LOG, t)
    squared = (32 - exponent).float() * philox.LOG_2 + ((t * t) * (t * log + 1.0) - t * 2.0)
    # On the CPU torch's float32 sqrt is off by one bit at times; the float64 one, rounded, never is.
    radius = squared.double().sqrt().float() if squared.device.type == "cpu" else squared.sqrt()

    turned = (angle_word & 0x3FFFFFFF) - ((angle_word & 0x20000000) << 1)
    quadrant = (angle_word - turned) >> 30 & 3
    x = turned.float() * philox.TURN
    v = x * x
    sine = x + (x * v) * _horner(philox.SINE, v)
    cosine = (1.0 - v * 0.5) + (v * v) * _horner(philox.COSINE, v)
    swapped = quadrant % 2 == 1
    first, second = torch.where(swapped, sine, cosine), torch.where(swapped, cosine, sine)
    return (
        radius * torch.where((quadrant == 1) | (quadrant == 2), -first, first),
        radius * torch.where(quadrant >= 2, -second, second),
    )


def _horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """Return sum of coefficients[i] x^i; two operations a coefficient, each rounded."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x
        total = total + coefficient
    return total


def _gaussian(seed: int, key: int, start: int, size: int, device: torch.device) -> Tensor:
    group, end = start // 64, (start + size + 63) // 64
    w0, w1, w2, w3 = words(seed, key, philox.GAUSSIAN, 16 * group, 16 * (end - group), device)
    parts = [part.view(-1, 16) for part in (*box_muller(w0, w1), *box_muller(w2, w3))]
    return torch.stack(parts, 1).view(-1)[start - 64 * group :][:size]


def _rademacher(seed: int, key: int, start: int, size: int, device: torch.device) -> Tensor:
    block, end = start // 128, (start + size + 127) // 128
    both = torch.stack(words(seed, key, philox.RADEMACHER, block, end - block, device), 1)
    bits = (both[..., None] >> torch.arange(32, device=device)) & 1
    return (bits.view(-1)[start - 128 * block :][:size] * 2 - 1).float()


def _dither(seed: int, key: int, start: int, size: int, device: torch.device) -> Tensor:
    """Return the 16 rounding bits of elements start ... start + size, int64."""
    group, end = start // 512, (start + size + 511) // 512
    drawn = words(seed, key, philox.ROUNDING, 16 * group, 16 * (end - group), device)
    parts = []
    for a, b in (drawn[:2], drawn[2:]):
        for shift in (0, 16):
            one, other = a >> shift & 0xFFFF, b >> shift & 0xFFFF
            for _ in range(8):
                parts.append((one ^ other).view(-1, 16))
                other = (other << 1) ^ (other >> 15) * philox.FIELD
    return torch.stack(parts, 1).view(-1)[start - 512 * group :][:size]
