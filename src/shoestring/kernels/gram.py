"""Kernels, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from shoestring.kernels.blocks import Block, Layout, kernel_key, squares_key
from shoestring.kernels.cost import Terms
from shoestring.kernels.outputs import Items, Outputs, batches_of
from shoestring.kernels.parameters import layer_of, matrix_shape
from shoestring.kernels.pieces import Gradients
from shoestring.kernels.plan import Plan
from shoestring.kernels.products import How, Sums, add_products
from shoestring.kernels.routes import Routes, gradients_of_items
from shoestring.kernels.settings import KernelSettings
from shoestring.kernels.sketches import Sketcher
from shoestring.kernels.spool import Holder, Kept, Spooled
from shoestring.progress import Bar


@dataclass(frozen=True)
class Work:
    """All that a block is computed from.

    Attributes:
        outputs: the function.
        rows: examples of the rows.
        columns: of the columns; None where they are the rows.
        routes: how gradients are had.
        masks: chosen elements, by parameter, as matrices.
        sketcher: what is made of gradients before they are multiplied.
        layout: blocks and what they hold.
        plan: the order of work.
        settings: how it is computed.
        scratch: a folder in which gradients wait for their products; None for memory.
    """

    outputs: Outputs
    rows: Items
    columns: Items | None
    routes: Routes
    masks: Mapping[str, Tensor]
    sketcher: Sketcher
    layout: Layout
    plan: Plan
    settings: KernelSettings
    scratch: Path | None = None

    def how(self) -> How:
        """Return how products are made."""
        device = next(self.outputs.model.parameters()).device
        sums = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        return How(self.layout.computed(), self.settings.products, self.plan.chunk, sums)

    def layer(self, name: str) -> int:
        """Return the number of a parameter's layer."""
        return 0 if self.layout.layers == ("",) else self.layout.layers.index(layer_of(name))


@dataclass
class Meter:
    """Reports progress in passes of one example through the model; products count as what they cost in passes.

    Attributes:
        bar: where it is reported.
        a_pass: operations of one pass.
    """

    bar: Bar
    a_pass: float
    _done: float = field(default=0.0, init=False)

    def did(self, passes: float) -> None:
        """Report some passes."""
        before, self._done = int(self._done), self._done + passes
        self.bar.advance(int(self._done) - before)

    def multiplied(self, terms: Sequence[Terms], rows: int, columns: int | None = None) -> None:
        """Report the products of some rows and columns, or of rows with themselves."""
        self.did(products_cost(terms, rows, columns) / self.a_pass)


def products_cost(terms: Sequence[Terms], rows: int, columns: int | None = None) -> float:
    """Return the operations of products of some rows and columns, or of rows with themselves."""
    if columns is None:
        return sum(t.writing(rows) + t.written(rows, rows) for t in terms)
    return sum(t.writing(rows + columns) + t.written(rows, columns) for t in terms)


def work_in(work: Work, number: int, done: int = 0) -> float:
    """Return what is left of a block, in passes of one example through the model."""
    first, last = work.layout.blocks[number]
    total = 0.0
    for names in work.plan.groups[done:]:
        terms = [work.routes.footprints[name].terms for name in names]
        total += last - first
        if _meets_itself(work):
            total += products_cost(terms, last - first) / work.routes.a_pass
        for begin, end in _tiles(work, last):
            total += end - begin + products_cost(terms, last - first, end - begin) / work.routes.a_pass
    return total


def compute_block(work: Work, number: int, block: Block, done: int, meter: Meter) -> Iterator[int]:
    """Add to a block what is missing, yielding the number of groups of parameters done after each.

    Args:
        work: what it is computed from.
        number: which block.
        block: what it has come to so far; changed in place.
        done: groups of parameters that are in it.
        meter: where progress is reported.
    """
    first, last = work.layout.blocks[number]
    how = work.how()
    for group in range(done, len(work.plan.groups)):
        routes = work.routes.only(work.plan.groups[group])
        terms = [work.routes.footprints[name].terms for name in routes.params]
        with closing(_collect(work, work.rows[first:last], routes, meter)) as rows:
            if group == 0:
                block["row_outputs"][:] = rows.values
            if _meets_itself(work):
                _add(work, rows, None, block, 0, _Squares(rows=True, columns=True), how)
                meter.multiplied(terms, last - first)
            fresh = True
            for begin, end in _tiles(work, last):
                source = work.rows if work.columns is None else work.columns
                others = not _meets_itself(work)
                squares = _Squares(rows=fresh and others, columns=number == 0 and others)
                with closing(_collect(work, source[begin:end], routes, meter)) as columns:
                    if squares.columns and group == 0:
                        block["column_outputs"][begin:end] = columns.values
                    _add(work, rows, columns, block, begin if others else begin - first, squares, how)
                meter.multiplied(terms, last - first, end - begin)
                fresh = False
        yield group + 1


@dataclass(frozen=True)
class _Collected:
    """Gradients of some examples, in the order of capture; `order` leads back."""

    holder: Holder
    shapes: dict[str, tuple[int, int]]
    counts: tuple[int, ...]
    values: Tensor
    order: Tensor

    def gradients(self, name: str) -> Gradients:
        """Return the gradients of one parameter."""
        return Gradients(self.holder.batches(name), self.counts, self.values.shape[1], self.shapes[name])

    def close(self) -> None:
        """Let go of the gradients."""
        self.holder.close()


@dataclass(frozen=True)
class _Squares:
    """Of which side squared norms are summed."""

    rows: bool
    columns: bool


def _meets_itself(work: Work) -> bool:
    return work.columns is None


def _tiles(work: Work, last: int) -> Iterator[tuple[int, int]]:
    """Yield the columns that come after a block's own, or all where they are other examples."""
    return work.plan.columns(work.layout.columns, last if _meets_itself(work) else 0)


def _collect(work: Work, items: Items, routes: Routes, meter: Meter) -> _Collected:
    places = batches_of(work.outputs, items, work.settings.batch_size)
    batches = [[items[place] for place in batch] for batch in places]
    values = []
    holder = Kept() if work.scratch is None else Spooled(work.scratch)
    with ExitStack() as failing:
        failing.callback(holder.close)
        found = gradients_of_items(work.outputs, batches, routes, work.sketcher)
        for batch, (outputs, pieces) in zip(batches, found, strict=True):
            values.append(outputs.to("cpu", torch.float64))
            holder.put(pieces)
            meter.did(len(batch))
        failing.pop_all()
    counts = tuple(len(batch) for batch in batches)
    shapes = {name: work.sketcher.shape(matrix_shape(param)) for name, param in routes.params.items()}
    order = torch.tensor([place for batch in places for place in batch]).argsort()
    return _Collected(holder, shapes, counts, torch.cat(values)[order], order)


def _add(
    work: Work, rows: _Collected, columns: _Collected | None, block: Block, start: int, squares: _Squares, how: How
) -> None:
    """Add the products of some rows and columns to a block, from column `start` on."""
    other = rows if columns is None else columns
    shape = (len(rows.order), work.routes.outputs, len(other.order), work.routes.outputs)
    by_layer: dict[int, list[str]] = {}
    for name in rows.shapes:
        by_layer.setdefault(work.layer(name), []).append(name)
    for layer, names in by_layer.items():
        sums = _zeros(how, shape, squares)
        for name in names:
            theirs = None if columns is None else columns.gradients(name)
            add_products(rows.gradients(name), theirs, work.masks.get(name), sums, how)
        for formula in how.formulas:
            found = sums.kernels[formula.name].cpu().view(shape)[rows.order][:, :, other.order]
            if columns is None and formula.symmetric:
                found = _symmetric(found)
            block[kernel_key(formula.name, layer)][:, :, start : start + shape[2]] += found
        for name, square in sums.row_squares.items():
            block[squares_key("row", name, layer)] += square.cpu().view(shape[:2])[rows.order]
        for name, square in sums.column_squares.items():
            whole = block[squares_key("column", name, layer)]
            place = slice(start, start + shape[2]) if columns is not None else slice(None)
            whole[place] += square.cpu().view(shape[2:])[other.order]


def _zeros(how: How, shape: tuple[int, int, int, int], squares: _Squares) -> Sums:
    def zero(*sizes: int) -> Tensor:
        return torch.zeros(sizes, dtype=torch.float64, device=how.device)

    rows, columns = shape[0] * shape[1], shape[2] * shape[3]
    return Sums(
        {formula.name: zero(rows, columns) for formula in how.formulas},
        {formula.left.name: zero(rows) for formula in how.formulas if squares.rows},
        {formula.right.name: zero(columns) for formula in how.formulas if squares.columns},
    )


def _symmetric(found: Tensor) -> Tensor:
    """Return the kernel whose lower half is the transpose of the upper, bit for bit."""
    count, outputs = found.shape[:2]
    upper = found.reshape(count * outputs, count * outputs).triu()
    return (upper + upper.triu(1).T).view_as(found)
