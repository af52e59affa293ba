"""What is held when: blocks of rows, tiles of columns, groups of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shoestring.errors import KernelError
from shoestring.kernels.routes import Routes
from shoestring.kernels.settings import KernelSettings

MIB = 1 << 20
_CHUNK = 32 * MIB
_PARTS = 4


@dataclass(frozen=True)
class Plan:
    """The order of work.

    For each block of rows, for each group of parameters: the rows go through the model, then the columns, a tile at a
    time. A block's examples pass through the model once for each group, the columns once for each block and group.
    Gradients that wait in a file take memory one parameter at a time, and for one batch; there is one group then,
    unless not even a batch fits.

    Attributes:
        rows: first and last row of each block.
        tile: columns of a tile.
        groups: names of parameters whose gradients are held together.
        chunk: bytes of gradients that are written out at once.
    """

    rows: tuple[tuple[int, int], ...]
    tile: int
    groups: tuple[tuple[str, ...], ...]
    chunk: int

    def columns(self, count: int, start: int = 0) -> Iterator[tuple[int, int]]:
        """Yield first and last column of each tile, from column `start` on."""
        for first in range(start, count, self.tile):
            yield first, min(first + self.tile, count)


@dataclass(frozen=True)
class Sizes:
    """What a kernel is large in.

    Attributes:
        rows: N.
        columns: M.
        symmetric: whether rows and columns are the same examples.
        sums: numbers kept for a row of examples and column of examples, over formulas and layers.
    """

    rows: int
    columns: int
    symmetric: bool
    sums: int


def make_plan(routes: Routes, sizes: Sizes, settings: KernelSettings, *, spooled: bool = False) -> Plan:
    """Return the plan of least cost that fits in memory.

    Tried are blocks of N, N/2, N/4, ... rows against tiles of M, M/2, ... columns: fewer groups of parameters mean
    fewer passes through the model, and larger tiles mean that the rows' gradients are written out less often.

    Args:
        routes: how gradients are had, and what they take.
        sizes: what the kernel is large in.
        settings: memory, batches, and rows of a block where they are given.
        spooled: whether gradients wait in a file.

    Raises:
        KernelError: if not even single examples and parameters fit.
    """
    memory = settings.memory * MIB
    chunk = min(_CHUNK, memory // _PARTS)
    best: tuple[float, Plan] | None = None
    for rows in _halves(sizes.rows) if settings.block_rows is None else (min(settings.block_rows, sizes.rows),):
        # One block's sums, which are whole rows of the kernel, and one tile's.
        kept = 8 * sizes.sums * rows
        for tile in _halves(sizes.columns):
            room = memory - chunk - kept * (sizes.columns + tile)
            if spooled and (rows + tile) * _largest(routes) > room:
                continue
            groups = _groups(routes, settings.batch_size if spooled else rows + tile, room)
            if groups is None:
                continue
            cost = _cost(routes, sizes, rows, tile, len(groups))
            if best is None or cost < best[0]:
                blocks = tuple((first, min(first + rows, sizes.rows)) for first in range(0, sizes.rows, rows))
                best = cost, Plan(blocks, tile, groups, chunk)
    if best is None:
        rows = settings.block_rows or 1
        need = int(((rows + 1) * _largest(routes) + 8 * sizes.sums * rows * (sizes.columns + 1) + chunk) / MIB) + 1
        raise KernelError(
            f"memory={settings.memory} MiB is too little: a block of {rows} and a tile of 1 example take about {need} "
            "MiB for the largest parameter alone; give more memory, or fewer block_rows"
        )
    return best[1]


def _largest(routes: Routes) -> float:
    """Return the bytes an example of the parameter that takes most."""
    return max(sum(routes.footprints[name].held.values()) for name in routes.params)


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        yield count
        count = (count + 1) // 2
    yield 1


def _groups(routes: Routes, examples: int, room: int) -> tuple[tuple[str, ...], ...] | None:
    """Return parameters in groups whose gradients fit in `room` for so many examples; None if one alone does not."""
    found: list[tuple[str, ...]] = []
    group: tuple[str, ...] = ()
    held: dict[tuple[int, int], float] = {}
    for name in routes.params:
        grown = held | dict(routes.footprints[name].held)
        if group and examples * sum(grown.values()) > room:
            found.append(group)
            group, grown = (), dict(routes.footprints[name].held)
        if examples * sum(grown.values()) > room:
            return None
        group, held = (*group, name), grown
    return (*found, group)


def _cost(routes: Routes, sizes: Sizes, rows: int, tile: int, groups: int) -> float:
    """Return estimated operations: passes through the model, writing gradients out, and products."""
    blocks, tiles = -(-sizes.rows // rows), -(-sizes.columns // tile)
    # Of a kernel of examples with themselves, the columns of a block begin at its own rows.
    share = (blocks + 1) / (2 * blocks) if sizes.symmetric else 1.0
    fresh = share - 1.0 / blocks if sizes.symmetric else 1.0
    passed = sizes.rows + blocks * sizes.columns * fresh
    terms = [footprint.terms for footprint in routes.footprints.values()]
    written = sum(t.writing(sizes.rows * tiles * share + blocks * sizes.columns * fresh) for t in terms)
    return groups * passed * routes.a_pass + written
