"""The numba backend: for tensors on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shoestring.zeroth.noise import philox, threads
from shoestring.zeroth.noise.base import Addition, Noise, Products, Source, Spread
from shoestring.zeroth.noise.layout import FIELDS, HEAD, Layout
from shoestring.zeroth.noise.numba_compiling import compiled
from shoestring.zeroth.noise.numba_halves import BFLOAT16, FLOAT16
from shoestring.zeroth.noise.numba_kernels import entry
from shoestring.zeroth.noise.numba_sides import SideLayout, side_entry
from shoestring.zeroth.noise.numba_streams import TILE
from shoestring.zeroth.noise.sides import Side

_HALF = {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}
_NUMPY: dict[torch.dtype, type] = {torch.float32: np.float32, torch.float64: np.float64} | dict.fromkeys(
    _HALF, np.uint16
)
_STREAM = {"gaussian": philox.GAUSSIAN, "rademacher": philox.RADEMACHER}
_WORTH_A_THREAD = 1 << 14
_TICKETS = 8  # to a thread
_COLUMNS = {torch.float32: 8, torch.bfloat16: 2, torch.float16: 2}
"""More columns than that are left to torch's matrix products, which are fast in half precision."""
_NO_FACTORS = np.empty(0, np.int64)
_FIRST_ROW = np.zeros(1, np.int64)
_FIRST_ROWS_PLACE: int = _FIRST_ROW.ctypes.data


class NumbaNoise(Noise):
    """Staged vector loops, compiled on first use; the same numbers whatever the number of threads."""

    name: ClassVar[str] = "numba"

    def fill(self, out: Tensor, source: Source, seed: int, start: int = 0) -> None:
        """Write z[start : start + n] to `out` [n], float32."""
        _run([_Job(out, out, source, _sums((seed,), ((1.0,),), out.dtype), start, fresh=1)])

    def add_all(self, additions: Iterable[Addition], rounding: int | None = None) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z(seed)) in place, for each stretch."""
        jobs = []
        for weight, source, terms, start, keep in additions:
            seeds, row = [seed for seed, _ in terms], [coefficient for _, coefficient in terms]
            jobs.append(_Job(weight, weight, source, _sums(seeds, [row], weight.dtype, keep), start, rounding=rounding))
        _run(jobs)

    def points_all(self, spreads: Iterable[Spread], seeds: Sequence[int]) -> None:
        """Write outs[p] = round(weight + sum_j coefficients[p][j] * z(seeds[j])) for each stretch of weights."""
        _run(
            [
                _Job(outs, weight, source, _sums(seeds, coefficients, weight.dtype), start)
                for outs, weight, source, coefficients, start in spreads
            ]
        )

    def add_products(self, products: Iterable[Products], rounding: int | None = None) -> None:
        """Compute weight <- round(keep * weight + sum of coefficient * z) in place, z = left right', for each."""
        jobs = []
        for weight, key, terms, start, keep in products:
            # The kernel is given addresses, and reads what lies there as float32 rows.
            factors = [(left.float().contiguous(), right.float().T.contiguous()) for (left, right), _ in terms]
            sums = _sums(range(len(terms)), [[coefficient for _, coefficient in terms]], weight.dtype, keep)
            source = Source(key, "gaussian")
            jobs.append(_Job(weight, weight, source, sums, start, rounding=rounding, products=factors))
        _run(jobs)

    def add_side(self, out: Tensor, x: Tensor, biases: Sequence[Tensor | None], side: Side) -> None:
        """Add b_p + (x V) U_p' to `out` [P, N, m]; `x` [P N, n], b_p [m]."""
        alike = [out, x, side.rights, *(bias for bias in biases if bias is not None)]
        lefts = side.lefts
        fit = all(one.dtype == x.dtype and one.is_contiguous() for one in alike) and lefts[0].is_contiguous()
        if not out.numel() or not fit or len(side.rights) > _COLUMNS.get(x.dtype, 0):
            super().add_side(out, x, biases, side)
            return
        addresses = np.array([0 if bias is None else bias.data_ptr() for bias in biases], np.int64)
        where = out.data_ptr(), x.data_ptr(), lefts.data_ptr(), side.rights.data_ptr(), addresses.ctypes.data
        shape = lefts.stride(0), len(x), out.shape[1], x.shape[1], out.shape[2], len(side.rights)
        table = np.array(SideLayout(0, *where, *shape, _HALF.get(x.dtype, 0)), np.int64)
        threads.share(compiled(side_entry, _NUMPY[x.dtype]), table.ctypes.data, _threads(out.numel()))

    def ready(self, spread: Spread, seeds: Sequence[int]) -> Callable[[], None]:
        """Return a call that writes one stretch as `points_all` does: between matrix products Python is slow."""
        outs, weight, source, coefficients, start = spread
        job = _Job(outs, weight, source, _sums(seeds, coefficients, weight.dtype), start)
        return _Shared([job], _dtypes(job))

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
        # The kernel is given addresses, and reads what lies there as 64-bit integers, one after the other.
        lines = index.to(torch.int64).contiguous()
        _run([_Job(outs, weight, source, _sums(seeds, coefficients, weight.dtype), lines=lines)])

    def write(self, weight: Tensor, total: Tensor, key: int, start: int = 0, rounding: int | None = None) -> None:
        """Write round(total) to `weight` [n], the `total` [n] in the dtype sums are made in; `key` of the tensor."""
        source, sums = Source(key, "gaussian"), _sums((), ((),), total.dtype)
        _run([_Job(weight, total, source, sums, start, rounding=rounding)])


class _Sums(NamedTuple):
    """What is summed, as the kernel reads it.

    Attributes:
        arrays: the seeds, and the table of coefficients with `keep` last; held for their memory's sake.
        seeds: address of the seeds.
        table: address of the table.
        points: its rows.
        terms: how many seeds.
        wide: dtype of the sums.
        single: whether there is one direction, with no coefficient of 0.
        both: whether there are two points besides, opposite to each other, and the weight is kept whole.
    """

    arrays: tuple[Any, Any]
    seeds: int
    table: int
    points: int
    terms: int
    wide: type
    single: bool
    both: bool


class _Job(NamedTuple):
    """A stretch of weights, its outputs and what is added.

    Attributes:
        lines: rows that are read; None for the one that there is.
        rounding: seed of stochastic rounding.
        fresh: 1 to take the weight as nothing.
        products: of each term left [m, r] and right' [r, n], where z = left right'.
    """

    outs: Tensor
    weight: Tensor
    source: Source
    sums: _Sums
    start: int = 0
    lines: Tensor | None = None
    rounding: int | None = None
    fresh: int = 0
    products: Sequence[tuple[Tensor, Tensor]] = ()


def _sums(
    seeds: Sequence[int], coefficients: Sequence[Sequence[float]], dtype: torch.dtype, keep: float = 1.0
) -> _Sums:
    return _kept_sums(tuple(seeds), tuple(map(tuple, coefficients)), dtype, keep)


@lru_cache(maxsize=64)
def _kept_sums(
    seeds: tuple[int, ...], coefficients: tuple[tuple[float, ...], ...], dtype: torch.dtype, keep: float
) -> _Sums:
    """Return what the kernel reads; kept, since all tensors of a step need the same."""
    wide = np.float64 if dtype == torch.float64 else np.float32
    with np.errstate(over="ignore"):
        table = np.array([[*row, keep] for row in coefficients], wide)
    numbers = np.array(seeds, np.uint64)
    single = len(seeds) == 1 and bool(table[:, 0].all())
    both = single and len(table) == 2 and table[0, 0] == -table[1, 0] and bool((table[:, 1] == 1).all())
    addresses = numbers.ctypes.data, table.ctypes.data
    return _Sums((numbers, table), *addresses, len(table), len(seeds), wide, single, both)


def _run(jobs: Sequence[_Job]) -> None:
    """Do all jobs, those of the same dtypes in one go."""
    groups: dict[tuple[type, ...], list[_Job]] = {}
    for job in jobs:
        groups.setdefault(_dtypes(job), []).append(job)
    for dtypes, members in groups.items():
        _Shared(members, dtypes)()


def _dtypes(job: _Job) -> tuple[type, ...]:
    return _NUMPY[job.outs.dtype], _NUMPY[job.weight.dtype], job.sums.wide


class _Shared:
    """Jobs of the same dtypes that threads will share, as many as torch uses where there is work for them."""

    __slots__ = ("_address", "_held", "_kernel", "_table", "_threads")

    def __init__(self, jobs: Sequence[_Job], dtypes: tuple[type, ...]) -> None:
        table: list[int] = [0] * HEAD
        until = size = points = 0
        self._held: list[Any] = [jobs]  # The kernel is given addresses: what lies there must stay until it is done.
        for job in jobs:
            if not job.outs.numel():
                continue
            addresses = [part.data_ptr() for pair in job.products for part in pair]
            self._held.append(factors := np.array(addresses, np.int64) if addresses else _NO_FACTORS)
            layout = _layout(job, until, factors)
            table += layout
            until, size, points = layout.until, size + job.outs.numel() // layout.points, max(points, layout.points)
        self._threads = _threads(size)
        # Long runs of memory are read faster, short ones leave no thread without work for long.
        unit = min(64, max(4, until // (_TICKETS * max(1, self._threads))))
        table[1:HEAD] = (len(table) - HEAD) // FIELDS, until, points, unit
        self._table = np.array(table, np.int64)
        self._address: int = self._table.ctypes.data
        self._kernel = compiled(entry, *dtypes)

    def __call__(self) -> None:
        """Do them."""
        self._table[0] = 0
        threads.share(self._kernel, self._address, self._threads)


def _threads(size: int) -> int:
    """Return how many threads so many numbers are worth."""
    return min(torch.get_num_threads(), size // _WORTH_A_THREAD)


def _layout(job: _Job, before: int, factors: Any) -> Layout:
    """Return what the kernel is told of a job; the jobs before it have `before` tiles."""
    outs, weight, source, sums, start, lines, rounding, fresh, products = job
    width, rows = weight.shape[-1], 1 if lines is None else lines.numel()
    tiles = width // TILE + 2
    half = _HALF.get(outs.dtype, 0)
    rounded = int(rounding is not None and half > 0)
    same = outs is weight
    direct = sums.single and not fresh and (not rounded or (same and half == BFLOAT16))
    rank, inner = products[0][1].shape if products else (0, 0)
    where = outs.data_ptr(), weight.data_ptr(), _FIRST_ROWS_PLACE if lines is None else lines.data_ptr()
    what = sums.seeds, sums.table, sums.points, sums.terms, rank, factors.ctypes.data if rank else 0, inner
    stride = 0 if same else outs.stride(0)
    how = half, fresh, (3 if sums.both else 1 + same) if direct else 0, rounded, rounding or 0
    # In the order of its attributes: there are hundreds in a step, and names would take as long as all the rest.
    return Layout(
        before + tiles * rows,
        *where,
        *what,
        source.key,
        _STREAM[source.distribution],
        width,
        start,
        stride,
        tiles,
        *how,
    )
