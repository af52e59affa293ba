"""The plain PyTorch backend: on every device, and the twin that the fast ones are tested against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from shoestring.zeroth.noise.base import Noise, Source, Term

_CHUNK = 1 << 18
_MASK_32 = (1 << 32) - 1
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
GAUSSIAN, RADEMACHER, ROUNDING = 0, 1, 2


class PlainNoise(Noise):
    """Philox 4x32-10 in int64 arithmetic, Box-Muller in float32."""

    name: ClassVar[str] = "torch"

    def fill(self, out: Tensor, source: Source, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] to `out` [n], float32."""
        make = _gaussian if source.distribution == "gaussian" else _rademacher
        for begin in range(0, len(out), _CHUNK):
            part = out[begin : begin + _CHUNK]
            part.copy_(make(seed, source.key, start + begin, len(part), out.device))

    def add(
        self,
        weight: Tensor,
        source: Source,
        terms: Sequence[Term],
        start: int = 0,
        keep: float = 1.0,
        rounding: int | None = None,
    ) -> None:
        """Compute weight <- round(keep * weight + sum over terms of coefficient * z(seed)) in place, `weight` [n]."""
        for begin in range(0, len(weight), _CHUNK):
            part = weight[begin : begin + _CHUNK]
            total = part.to(wide(part.dtype)) * keep
            z = torch.empty(len(part), device=part.device)
            for seed, coefficient in terms:
                self.fill(z, source, seed, start + begin)
                total += z.to(total.dtype) * coefficient
            write(part, total, source.key, start + begin, rounding)

    def points(
        self,
        outs: Tensor,
        weight: Tensor,
        source: Source,
        seeds: Sequence[int],
        coefficients: Sequence[Sequence[float]],
        start: int = 0,
    ) -> None:
        """Write outs[p] = round(weight + sum_j coefficients[p][j] * z(seeds[j])) to `outs` [P, n]; `weight` [n]."""
        for begin in range(0, len(weight), _CHUNK):
            part = weight[begin : begin + _CHUNK]
            sums = [part.to(wide(part.dtype)) for _ in coefficients]
            z = torch.empty(len(part), device=part.device)
            for place, seed in enumerate(seeds):
                self.fill(z, source, seed, start + begin)
                for point, row in enumerate(coefficients):
                    if row[place]:
                        sums[point] = sums[point] + z.to(sums[point].dtype) * row[place]
            for point, total in enumerate(sums):
                outs[point, begin : begin + len(part)] = total.to(outs.dtype)

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


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that sums of weights of `dtype` are made in."""
    return torch.promote_types(dtype, torch.float32)


def write(weight: Tensor, total: Tensor, key: int, start: int, rounding: int | None) -> None:
    """Round `total` to the dtype of `weight` and write it there."""
    if rounding is None or weight.dtype == total.dtype:
        weight.copy_(total.to(weight.dtype))
        return
    words = philox(rounding, key, ROUNDING, start // 4, (start + len(weight) + 3) // 4 - start // 4, weight.device)
    uniform = words.view(-1)[start % 4 :][: len(weight)].double() * 2.0**-32
    below = total.to(weight.dtype)
    below = torch.where(below.to(total.dtype) > total, torch.nextafter(below, torch.full_like(below, -math.inf)), below)
    above = torch.nextafter(below, torch.full_like(below, math.inf))
    share = (total.double() - below.double()) / (above.double() - below.double())
    weight.copy_(torch.where(uniform < share, above, below))


def philox(seed: int, key: int, stream: int, block: int, count: int, device: torch.device) -> Tensor:
    """Return words [count, 4] of Philox 4x32-10, as int64 in 0 ... 2^32 - 1.

    Key = seed (two words); counter = (block, stream, key (two words)).

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    blocks = torch.arange(block, block + count, dtype=torch.int64, device=device)
    c0 = blocks & _MASK_32
    c1 = (blocks >> 32) | (stream << 24)
    c2 = torch.full_like(c0, key & _MASK_32)
    c3 = torch.full_like(c0, key >> 32)
    k0, k1 = seed & _MASK_32, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK_32) ^ c1 ^ k0,
            p1 & _MASK_32,
            ((p0 >> 32) & _MASK_32) ^ c3 ^ k1,
            p0 & _MASK_32,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK_32, (k1 + _WEYL[1]) & _MASK_32
    return torch.stack([c0, c1, c2, c3], 1)


def _gaussian(seed: int, key: int, start: int, size: int, device: torch.device) -> Tensor:
    first = start // 4
    words = philox(seed, key, GAUSSIAN, first, (start + size + 3) // 4 - first, device)
    uniform = ((words.float() + 0.5) * 2.0**-32).clamp(max=1.0)
    radius = torch.sqrt(-2 * torch.log(uniform[:, 0::2]))
    angle = uniform[:, 1::2] * (2 * math.pi)
    z = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], 2).view(-1)
    return z[start - 4 * first :][:size]


def _rademacher(seed: int, key: int, start: int, size: int, device: torch.device) -> Tensor:
    first = start // 128
    words = philox(seed, key, RADEMACHER, first, (start + size + 127) // 128 - first, device)
    bits = (words[..., None] >> torch.arange(32, device=device)) & 1
    return (bits.view(-1)[start - 128 * first :][:size] * 2 - 1).float()
