"""The numba backend: for tensors on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numba.core.caching import NullCache
from torch import Tensor

from shoestring.zeroth.noise import numba_kernels, philox, threads
from shoestring.zeroth.noise.base import Noise, Source, Term
from shoestring.zeroth.noise.layout import Layout

_HALF = {torch.bfloat16: numba_kernels.BFLOAT16, torch.float16: numba_kernels.FLOAT16}
_WORTH_A_THREAD = 1 << 14
_FIRST_ROW = np.zeros(1, np.int64)


class NumbaNoise(Noise):
    """Staged vector loops, compiled on first use; the same numbers whatever the number of threads."""

    name: ClassVar[str] = "numba"

    def fill(self, out: Tensor, source: Source, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] to `out` [n], float32."""
        flat = _array(out)
        layout = _layout(source, out, len(out), start)._replace(fresh=1)
        _combine(flat, flat, _FIRST_ROW, (seed,), _table([[1.0, 0.0]], out.dtype), layout)

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
        layout = _layout(source, weight, len(weight), start, rounding=rounding)
        flat = _array(weight)
        seeds, factors = [seed for seed, _ in terms], [*(coefficient for _, coefficient in terms), keep]
        _combine(flat, flat, _FIRST_ROW, seeds, _table([factors], weight.dtype), layout)

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
        layout = _layout(source, weight, len(weight), start, stride=outs.stride(0))
        table = _table([[*row, 1.0] for row in coefficients], weight.dtype)
        _combine(_array(outs), _array(weight), _FIRST_ROW, seeds, table, layout)

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
        layout = _layout(source, weight, weight.shape[1], 0, stride=outs.stride(0))
        table = _table([[*row, 1.0] for row in coefficients], weight.dtype)
        _combine(_array(outs), _array(weight), index.numpy(), seeds, table, layout)

    def write(self, weight: Tensor, total: Tensor, key: int, start: int = 0, rounding: int | None = None) -> None:
        """Write round(total) to `weight` [n], the `total` [n] in the dtype sums are made in; `key` of the tensor."""
        layout = _layout(Source(key, "gaussian"), weight, len(weight), start, rounding=rounding)
        _combine(_array(weight), _array(total), _FIRST_ROW, (), _table([[1.0]], total.dtype), layout)


def _layout(
    source: Source, weight: Tensor, width: int, start: int, stride: int = 0, rounding: int | None = None
) -> Layout:
    return Layout(
        key=source.key,
        stream=philox.GAUSSIAN if source.distribution == "gaussian" else philox.RADEMACHER,
        width=width,
        start=start,
        stride=stride,
        tiles=width // numba_kernels.TILE + 2,
        half=_HALF.get(weight.dtype, 0),
        rounded=int(rounding is not None and weight.dtype in _HALF),
        rounding=rounding or 0,
    )


def _array(tensor: Tensor) -> Any:
    """Return a tensor as one axis, sharing memory; half precision as its bits."""
    tensor = tensor.detach()
    if tensor.dim() > 1:
        reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        tensor = tensor.as_strided((reach + 1 if tensor.numel() else 0,), (1,))
    return (tensor.view(torch.uint16) if tensor.dtype in _HALF else tensor).numpy()


def _table(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Any:
    with np.errstate(over="ignore"):
        return np.array(rows, np.float64 if dtype == torch.float64 else np.float32)


def _combine(outs: Any, weight: Any, index: Any, seeds: Sequence[int], table: Any, layout: Layout) -> None:
    """Run the kernel, on as many threads as torch uses where there is work for them."""
    if len(seeds) == 1 and not (layout.rounded or layout.fresh) and table[:, 0].all():
        layout = layout._replace(direct=2 if outs is weight else 1)
    jobs = layout.tiles * len(index)
    arguments = (outs, weight, index, np.array(seeds, np.uint64), table, tuple(layout))
    parts = min(torch.get_num_threads(), layout.width * len(index) // _WORTH_A_THREAD)
    if parts > 1:
        parts = min(parts, threads.most())
    if parts < 2:
        _run(numba_kernels.combine, *arguments, 0, jobs)
    else:
        with threads.limited(parts):
            _run(numba_kernels.combine_in_parts, *arguments, jobs, parts)


def _run(kernel: Any, *arguments: Any) -> None:
    """Run a kernel; if its machine code cannot be kept on the disk, or what is kept there cannot be read, without."""
    try:
        kernel(*arguments)
    except Exception:
        kernels: tuple[Any, ...] = (kernel, numba_kernels.combine)
        for each in kernels:
            each._cache = NullCache()
        kernel(*arguments)
