"""Weights at points, made from the pristine ones in scratch, a tile at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor

from shoestring.zeroth.directions.base import Target
from shoestring.zeroth.engines.sides import Side, Sides
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import Update

_LINE = 64


class Scratch:
    """Memory that is used again and again; one piece for each dtype and device."""

    def __init__(self) -> None:
        self._kept: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def take(self, like: Tensor, count: int, size: int) -> Tensor:
        """Return memory [count, size] with the dtype and device of `like`, good until the next call."""
        place = (like.dtype, like.device)
        kept = self._kept.get(place)
        if kept is None or kept.numel() < count * size:
            self._kept.pop(place, None)
            kept = self._kept[place] = torch.empty(count * size, dtype=like.dtype, device=like.device)
        return kept[: count * size].view(count, size)

    @property
    def bytes(self) -> int:
        """How much is held."""
        return sum(kept.numel() * kept.element_size() for kept in self._kept.values())


class Deferred:
    """An update on its way: every element is moved once, when it is reached, in order within each tensor."""

    def __init__(self, update: Update, tensors: Sequence[Trained]) -> None:
        self._update, self._tensors = update, tensors
        self._done = {id(tensor): 0 for tensor in tensors}

    def reach(self, tensor: Trained, stop: int) -> None:
        """Move the elements of `tensor` up to `stop` that have not been moved yet."""
        done = self._done[id(tensor)]
        if done < stop:
            self._update(tensor, done, stop)
            self._done[id(tensor)] = stop

    def rest(self) -> None:
        """Move all that is left."""
        for tensor in self._tensors:
            self.reach(tensor, tensor.param.numel())


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
        busy: whether pristine weights are being read on purpose.
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
        self._kept: dict[int, list[Tensor]] = {}
        self._sides: Sides | None = None
        self.busy = False

    def whole(self, tensor: Trained) -> list[Tensor]:
        """Return the tensor at each point."""
        size = tensor.param.numel()
        if size > self.small:
            outs = torch.empty(self.count, size, dtype=tensor.param.dtype, device=tensor.param.device)
            self._make(outs, tensor, 0, size)
            return [out.view(tensor.param.shape) for out in outs]
        if not self._kept:
            self._make_small()
        return self._kept[id(tensor)]

    def tiles(self, tensor: Trained) -> Iterator[tuple[int, int, Tensor]]:
        """Yield first row, end of rows and the rows at each point [P, rows, width]; each good until the next."""
        height, width = tensor.param.shape
        count = max(1, -(-height // max(1, self._tile // width)))
        step = -(-height // count)
        for first in range(0, height, step):
            last = min(first + step, height)
            outs = self._scratch.take(tensor.param, self.count, (last - first) * width)
            self._make(outs, tensor, first * width, last * width)
            yield first, last, outs.view(self.count, last - first, width)

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
        with self.reading():
            if self._sides is None:
                self._sides = Sides(self.points, self.table.values())
            return self._sides.of(tensor, turned=turned)

    def pristine(self, tensor: Trained) -> Tensor:
        """Return the unperturbed tensor; read it inside `reading()`."""
        self._reach(tensor, tensor.param.numel())
        return tensor.param.data

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Say that pristine weights are read on purpose; whoever else reads them has escaped being perturbed."""
        before, self.busy = self.busy, True
        try:
            yield
        finally:
            self.busy = before

    def _make_small(self) -> None:
        """Make all small tensors, in one go where the directions can: there are many, and each call takes its time."""
        groups: dict[tuple[torch.dtype, torch.device], list[Trained]] = {}
        for tensor in self.table.values():
            if tensor.param.numel() <= self.small:
                groups.setdefault((tensor.param.dtype, tensor.param.device), []).append(tensor)
        points = self.points
        with self.reading():
            targets = [target for tensors in groups.values() for target in self._rooms(tensors)]
            for target in targets:
                self._reach(target.tensor, len(target.weight))
                self._kept[id(target.tensor)] = [out.view(target.tensor.param.shape) for out in target.outs]
                self.made += len(target.weight)
            points.directions.points_all(targets, points.seeds, points.coefficients)

    def _rooms(self, tensors: Sequence[Trained]) -> Iterator[Target]:
        """Yield each tensor, of one dtype and device, with memory for it, which begins where a cache line does."""
        places = [0, *accumulate(-(-tensor.param.numel() // _LINE) * _LINE for tensor in tensors)]
        like = tensors[0].param
        room = torch.empty(self.count, places[-1], dtype=like.dtype, device=like.device)
        for tensor, place in zip(tensors, places, strict=False):
            yield Target(room[:, place : place + tensor.param.numel()], tensor.flat, tensor)

    def _make(self, outs: Tensor, tensor: Trained, start: int, stop: int) -> None:
        self.made += stop - start
        with self.reading():
            self._reach(tensor, stop)
            points = self.points
            points.directions.points(outs, tensor.flat[start:stop], tensor, points.seeds, points.coefficients, start)

    def _reach(self, tensor: Trained, stop: int) -> None:
        if self._deferred is not None:
            self._deferred.reach(tensor, stop)
