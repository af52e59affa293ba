"""Weights at points, made from the pristine ones in scratch, a tile at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shoestring.zeroth.directions.base import Directions, Target
from shoestring.zeroth.engines.sides import Side, Sides
from shoestring.zeroth.engines.versions import Versions
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update

_LINE = 64


class Tile(NamedTuple):
    """Rows of a matrix at P points, ready to be made.

    Attributes:
        first: of the rows.
        last: the end of them.
        outs: memory for them [P, rows, width].
        write: makes them.
    """

    first: int
    last: int
    outs: Tensor
    write: Callable[[], None]


class Scratch:
    """Memory that is used again and again; one piece for each dtype and device.

    Attributes:
        tiled: tensors that have been made in it, in order.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self.tiled: dict[Trained, None] = {}

    def holds(self, like: Tensor, size: int) -> bool:
        """Return whether so many elements with the dtype and device of `like` are there."""
        kept = self._kept.get((like.dtype, like.device))
        return kept is not None and kept.numel() >= size

    def take(self, like: Tensor, count: int, size: int) -> Tensor:
        """Return memory [count, size] with the dtype and device of `like`, the same at each call."""
        place = (like.dtype, like.device)
        if not self.holds(like, count * size):
            self._kept.pop(place, None)
            self._kept[place] = torch.empty(count * size, dtype=like.dtype, device=like.device)
        return self._kept[place][: count * size].view(count, size)

    @property
    def bytes(self) -> int:
        """How much is held."""
        return sum(kept.numel() * kept.element_size() for kept in self._kept.values())


class Deferred:
    """An update on its way: every element is moved once, when it is reached, in order within each tensor."""

    def __init__(self, update: Update, tensors: Sequence[Trained]) -> None:
        self._update, self._tensors = update, tensors
        self._done = {id(tensor): 0 for tensor in tensors}
        self._versions = Versions(tensors)

    def reach(self, tensor: Trained, stop: int) -> None:
        """Move the elements of `tensor` up to `stop` that have not been moved yet."""
        done = self._done[id(tensor)]
        if done < stop:
            # First, since Ctrl-C is raised behind the kernel; to hold it back would take longer than small parts do.
            self._done[id(tensor)] = stop
            self._update(tensor, done, stop)

    def spare_changed(self) -> list[Trained]:
        """Return the tensors that others have written into since: they are left as they are."""
        changed = self._versions.changed()
        self._done |= {id(tensor): tensor.param.numel() for tensor in changed}
        return changed

    def rest(self) -> None:
        """Move all that is left."""
        for tensor in self._tensors:
            self.reach(tensor, tensor.param.numel())


class _Reading:
    """A context that says so; not a generator, for each product opens it."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


class PointWeights:
    """The weights of P points during one evaluation; the tensors themselves are read and never written.

    Args:
        tensors: all that are trained; those that the directions do not touch are left to be used as they are.
        points: P of them.
        scratch: where tiles are made.
        tile: elements of a tile, at most (but a whole row).
        small: up to so many elements a tensor is made whole, once, and kept while the evaluation lasts.
        deferred: an update to apply to each part before it is read.

    Attributes:
        table: the tensors that are perturbed, by the id of their parameter.
        made: elements made so far, at all points at once.
    """

    def __init__(
        self, tensors: Sequence[Trained], points: Points, scratch: Scratch, tile: int, small: int,
        deferred: Deferred | None = None,
    ) -> None:  # fmt: skip
        self.points = points
        self.count = len(points.coefficients)
        self.table = {id(tensor.param): tensor for tensor in tensors if points.directions.touches(tensor)}
        self.made = 0
        self._scratch, self._tile, self._deferred = scratch, tile, deferred
        self.small = small
        self._kept: dict[int, tuple[Tensor, list[Tensor]]] = {}
        self._tiles: dict[Trained, list[Tile]] = {}
        self._sides: Sides | None = None
        self._factored = type(points.directions).factors is not Directions.factors
        self._reading = _Reading()

    def whole(self, tensor: Trained) -> list[Tensor]:
        """Return the tensor at each point."""
        size = tensor.param.numel()
        if size > self.small:
            outs = torch.empty(self.count, size, dtype=tensor.param.dtype, device=tensor.param.device)
            self._make(outs, tensor, 0, size)
            return [out.view(tensor.param.shape) for out in outs]
        return self._small_ones()[id(tensor)][1]

    def stacked(self, tensor: Trained) -> Tensor:
        """Return the tensor at all points [P, ...]."""
        if tensor.param.numel() > self.small:
            return torch.stack(self.whole(tensor))
        return self._small_ones()[id(tensor)][0]

    def tiles(self, tensor: Trained) -> Sequence[Tile]:
        """Return the rows of a matrix at each point, in tiles; each is to be made before it is read."""
        self._scratch.tiled[tensor] = None
        while tensor not in self._tiles:
            self._plan()  # Twice, where it was made ready before a tensor that took more memory.
        return self._tiles[tensor]

    def make(self, tensor: Trained, tile: Tile) -> Tensor:
        """Return a tile of a matrix at each point [P, rows, width], made where the last one was."""
        self.made += tile.outs[0].numel()
        with self._reading:
            self._reach(tensor, tile.last * tensor.param.shape[1])
            tile.write()
        return tile.outs

    def rows(self, tensor: Trained, index: Tensor) -> Tensor:
        """Return the rows `index` [R] at each point [P, R, width]."""
        with self.reading():
            weight = tensor.param.data
            outs = torch.empty(self.count, len(index), weight.shape[1], dtype=weight.dtype, device=weight.device)
            self.made += outs.numel() // self.count
            self._reach(tensor, weight.numel())
            points = self.points
            points.directions.rows(outs, weight, index, tensor, points.seeds, points.coefficients)
        return outs

    def side(self, tensor: Trained, *, turned: bool = False) -> Side | None:
        """Return what W [m, n] differs by at the points; `turned`: W'. None where directions have no factors."""
        if not self._factored:
            return None
        with self._reading:
            if self._sides is None:
                self._sides = Sides(self.points, self.table.values())
            return self._sides.of(tensor, turned=turned)

    @property
    def busy(self) -> bool:
        """Whether pristine weights are being read on purpose."""
        return self._reading.depth > 0

    def pristine(self, tensor: Trained) -> Tensor:
        """Return the unperturbed tensor; read it inside `reading()`."""
        self._reach(tensor, tensor.param.numel())
        return tensor.param.data

    def reading(self) -> _Reading:
        """Say that pristine weights are read on purpose; whoever else reads them has escaped being perturbed."""
        return self._reading

    def _small_ones(self) -> dict[int, tuple[Tensor, list[Tensor]]]:
        """Return all small tensors, [P, ...] and in P parts, made in one go: each call takes its time."""
        if self._kept:
            return self._kept
        groups: dict[tuple[torch.dtype, torch.device], list[Trained]] = {}
        for tensor in self.table.values():
            if tensor.param.numel() <= self.small:
                groups.setdefault((tensor.param.dtype, tensor.param.device), []).append(tensor)
        points = self.points
        with self.reading():
            targets = [target for tensors in groups.values() for target in self._rooms(tensors)]
            for target in targets:
                self._reach(target.tensor, len(target.weight))
                outs = target.outs.view(self.count, *target.tensor.param.shape)
                self._kept[id(target.tensor)] = outs, list(outs.unbind(0))
                self.made += len(target.weight)
            points.directions.points_all(targets, points.seeds, points.coefficients)
        return self._kept

    def _rooms(self, tensors: Sequence[Trained]) -> Iterator[Target]:
        """Yield each tensor, of one dtype and device, with memory for it, which begins where a cache line does."""
        sizes = [tensor.param.numel() for tensor in tensors]
        padded = [-(-size // _LINE) * _LINE for size in sizes]
        like = tensors[0].param
        room = torch.empty(self.count, sum(padded), dtype=like.dtype, device=like.device)
        for tensor, size, length, part in zip(tensors, sizes, padded, room.split(padded, 1), strict=True):
            yield Target(part if size == length else part[:, :size], tensor.flat, tensor)

    def _plan(self) -> None:
        """Make ready the tiles of all matrices that have been asked for, in this evaluation or an earlier one.

        Between two matrix products, which leave little of it in the cache, Python takes ten times as long as here.
        """
        with self.reading():
            for tensor in self._scratch.tiled:
                if tensor not in self._tiles and id(tensor.param) in self.table:
                    self._tiles[tensor] = [self._ready(tensor, *rows) for rows in self._cuts(tensor)]

    def _cuts(self, tensor: Trained) -> list[tuple[int, int]]:
        height, width = tensor.param.shape
        count = max(1, -(-height // max(1, self._tile // width)))
        step = -(-height // count)
        return [(first, min(first + step, height)) for first in range(0, height, step)]

    def _ready(self, tensor: Trained, first: int, last: int) -> Tile:
        width = tensor.param.shape[1]
        start, stop = first * width, last * width
        if not self._scratch.holds(tensor.param, self.count * (stop - start)):
            self._tiles.clear()  # They would keep the memory that is given up for more.
        outs = self._scratch.take(tensor.param, self.count, stop - start)
        points = self.points
        target = Target(outs, tensor.flat[start:stop], tensor, start)
        write = points.directions.ready(target, points.seeds, points.coefficients)
        return Tile(first, last, outs.view(self.count, last - first, width), write)

    def _make(self, outs: Tensor, tensor: Trained, start: int, stop: int) -> None:
        self.made += stop - start
        with self.reading():
            self._reach(tensor, stop)
            points = self.points
            points.directions.points(outs, tensor.flat[start:stop], tensor, points.seeds, points.coefficients, start)

    def _reach(self, tensor: Trained, stop: int) -> None:
        if self._deferred is not None:
            self._deferred.reach(tensor, stop)
