"""The Triton backend: for tensors on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from shoestring.zeroth.noise import philox, triton_kernels
from shoestring.zeroth.noise.base import Addition, Noise, Products, Source, Spread
from shoestring.zeroth.noise.plain import PlainNoise, rounded, wide

_PLAIN = PlainNoise()


class TritonNoise(Noise):
    """One program a tile; the integers of `philox`, and its float32 operations one by one."""

    name: ClassVar[str] = "triton"

    def fill(self, out: Tensor, source: Source, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] to `out` [n], float32."""
        _combine(out[None], out[None], None, source, _Moves((seed,), ((1.0, 0.0),), start, fresh=True))

    def add_all(self, additions: Iterable[Addition], rounding: int | None = None) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z(seed)) in place, for each stretch."""
        for weight, source, terms, start, keep in additions:
            seeds, row = tuple(seed for seed, _ in terms), (*(coefficient for _, coefficient in terms), keep)
            _combine(weight[None], weight[None], None, source, _Moves(seeds, (row,), start, rounding))

    def points_all(self, spreads: Iterable[Spread], seeds: Sequence[int]) -> None:
        """Write outs[p] = round(weight + sum_j coefficients[p][j] * z(seeds[j])) for each stretch of weights."""
        for outs, weight, source, coefficients, start in spreads:
            table = tuple((*row, 1.0) for row in coefficients)
            _combine(outs, weight[None], None, source, _Moves(tuple(seeds), table, start))

    def add_products(self, products: Iterable[Products], rounding: int | None = None) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z) in place, z = left right', for each."""
        _PLAIN.add_products(products, rounding)  # Torch's own kernels are as fast as memory.

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
        table = tuple((*row, 1.0) for row in coefficients)
        _combine(outs, weight, index, source, _Moves(tuple(seeds), table))

    def write(self, weight: Tensor, total: Tensor, key: int, start: int = 0, rounding: int | None = None) -> None:
        """Write round(total) to `weight` [n], the `total` [n] in the dtype sums are made in; `key` of the tensor."""
        source = Source(key, "gaussian")
        _combine(weight[None], total[None], None, source, _Moves((), ((1.0,),), start, rounding))


class _Moves(NamedTuple):
    """What is added.

    Attributes:
        seeds: of the directions.
        table: for each point, its coefficients and, last, what the weight is multiplied by.
        start: place of the first element in the whole tensor.
        rounding: seed of stochastic rounding, or None.
        fresh: whether the weight is taken as nothing.
    """

    seeds: tuple[int, ...]
    table: tuple[tuple[float, ...], ...]
    start: int = 0
    rounding: int | None = None
    fresh: bool = False


def _combine(outs: Tensor, weight: Tensor, index: Tensor | None, source: Source, moves: _Moves) -> None:
    """Start the kernel on rows `index` (None: the only one) of `weight` [V, D]."""
    seeds, table, start, rounding, fresh = moves
    width, points = weight.shape[1], len(table)
    if index is None:
        index = _device(((0,),), torch.int64, str(weight.device))[0]
    if not (width and len(index) and points):
        return
    widest = 1 << (points - 1).bit_length()
    tile = max(triton_kernels.LEAST, triton_kernels.TILE // widest)
    tiles = width // tile + 2
    kernel: Any = triton_kernels.combine
    with torch.cuda.device_of(weight):
        kernel[(tiles * len(index),)](
            outs,
            weight,
            index,
            _device((seeds or (0,),), torch.int64, str(weight.device)),
            _device(table, wide(weight.dtype), str(weight.device)),
            points,
            len(seeds),
            width,
            start,
            outs.stride(0),
            source.key,
            rounding or 0,
            tiles,
            STREAM=philox.GAUSSIAN if source.distribution == "gaussian" else philox.RADEMACHER,
            FRESH=fresh,
            ROUNDED=rounding is not None and outs.dtype in (torch.bfloat16, torch.float16),
            POINTS=widest,
            TILE=tile,
            enable_fp_fusion=False,
        )


@lru_cache(maxsize=16)
def _device(table: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: str) -> Tensor:
    """Return a table on the device; kept, since all tensors of a step need the same one."""
    if dtype.is_floating_point:
        table = tuple(tuple(rounded(value, dtype) for value in row) for row in table)
    return torch.tensor(table, dtype=dtype, device=device)
