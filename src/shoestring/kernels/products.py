"""Inner products of gradients of one parameter, for all pairs of two blocks of examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from shoestring.kernels.cost import contraction_is_cheaper, terms_of
from shoestring.kernels.formulas.base import Formula, Map
from shoestring.kernels.pieces import Gradients, Outer, contract, own_contract
from shoestring.kernels.sides import Rows

Products = Literal["auto", "written", "contracted"]

_RUN = 1 << 14
_EXACT_RUN = 1 << 24


@dataclass
class Sums:
    """Sums over parameters so far, in float64, rows and columns in the order in which they were captured.

    Attributes:
        kernels: by formula [n * C, m * C].
        row_squares: squared norms of the rows' mapped gradients, by map [n * C]; empty where they are not asked for.
        column_squares: of the columns' [m * C].
    """

    kernels: dict[str, Tensor]
    row_squares: dict[str, Tensor]
    column_squares: dict[str, Tensor]


@dataclass(frozen=True)
class How:
    """How products are made.

    Attributes:
        formulas: which ones.
        products: whether gradients are written out; "auto" follows the cost model.
        chunk: bytes of gradients that are written out at once.
        device: where sums are kept: where the model is, if that has float64.
    """

    formulas: Sequence[Formula]
    products: Products
    chunk: int
    device: torch.device

    def maps(self) -> dict[str, Map]:
        """Return all maps that are needed, by name."""
        return {map_.name: map_ for formula in self.formulas for map_ in (formula.left, formula.right)}


def add_products(rows: Gradients, columns: Gradients | None, mask: Tensor | None, sums: Sums, how: How) -> None:
    """Add one parameter's part to all sums; `columns` are None where the rows meet themselves.

    Every part of the parameter is written out once for all formulas, or, for products of the gradients themselves,
    not at all where the cost model says so. In float32, runs of at most 2^14 products are summed by the matrix
    product, and runs in float64; runs of signs are exact.
    """
    if not any(rows.batches) or (columns is not None and not any(columns.batches)):
        _lone_squares(rows, columns, mask, sums, how)
        return
    if contracts(rows, columns, mask, how):
        _add_contracted(rows, columns, sums, how)
    else:
        _add_written(rows, columns, mask, sums, how)


def contracts(rows: Gradients, columns: Gradients | None, mask: Tensor | None, how: How) -> bool:
    """Return whether one parameter's part is contracted."""
    if mask is not None or not all(formula.linear for formula in how.formulas):
        return False
    both = rows.contractible and (columns is None or columns.contractible)
    if how.products != "auto" or not both:
        return both and how.products == "contracted"
    other = None if columns is None else terms_of(columns)
    return contraction_is_cheaper(terms_of(rows), other, rows.total, (columns or rows).total)


def _add_written(rows: Gradients, columns: Gradients | None, mask: Tensor | None, sums: Sums, how: How) -> None:
    maps = how.maps()
    for left, right in _written(rows, columns, mask, how):
        lefts = {name: map_.of(left) for name, map_ in maps.items() if _needed(name, how, "left")}
        if columns is None:
            rights = {name: lefts[name] if name in lefts else map_.of(left) for name, map_ in maps.items()}
        else:
            rights = {name: map_.of(right) for name, map_ in maps.items() if _needed(name, how, "right")}
        for formula in how.formulas:
            exact = formula.left.integer and formula.right.integer
            one, other = lefts[formula.left.name], rights[formula.right.name]
            for run in _runs(one.shape[1], one.dtype, exact=exact):
                sums.kernels[formula.name] += (one[:, run] @ other[:, run].T).to(how.device, torch.float64)
        for name, square in sums.row_squares.items():
            _add_squares(square, lefts[name])
        for name, square in sums.column_squares.items():
            _add_squares(square, rights[name])


def _lone_squares(rows: Gradients, columns: Gradients | None, mask: Tensor | None, sums: Sums, how: How) -> None:
    """Add the norms where one side has no gradient at all, so that there are no products."""
    maps = how.maps()
    sides = [(rows, sums.row_squares)] + ([] if columns is None else [(columns, sums.column_squares)])
    for gradients, squares in sides:
        if squares and any(gradients.batches):
            for block, _ in _written(gradients, None, mask, how):
                for name, square in squares.items():
                    _add_squares(square, maps[name].of(block))


def _written(
    rows: Gradients, columns: Gradients | None, mask: Tensor | None, how: How
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield gradients of both blocks, some rows of the parameter at a time: [n * C, K] and [m * C, K]."""
    first = next(rows.tensors())
    device, dtype = first.device, working(rows)
    examples = rows.total + (0 if columns is None else columns.total)
    copies = 1 + sum(not map_.linear for map_ in how.maps().values())
    a_row = examples * rows.outputs * rows.shape[1] * torch.finfo(dtype).bits // 8 * copies
    for part in _parts(rows, columns, max(1, how.chunk // max(1, a_row))):
        left = rows.block(part, dtype, device)
        right = left if columns is None else columns.block(part, dtype, device)
        if mask is not None:
            chosen = mask[part].reshape(-1)
            left = left * chosen
            right = left if columns is None else right * chosen
        yield left, right


def _parts(rows: Gradients, columns: Gradients | None, tall: int) -> Iterator[Rows]:
    """Yield the rows of the parameter in which some gradient may be something, at most `tall` at a time."""
    active = rows.active
    if columns is not None and active is not None:
        other = columns.active
        active = None if other is None else torch.cat((active, other)).unique()
    if active is not None:
        yield from active.split(tall)
        return
    for start in range(0, rows.shape[0], tall):
        yield slice(start, min(start + tall, rows.shape[0]))


def _add_contracted(rows: Gradients, columns: Gradients | None, sums: Sums, how: How) -> None:
    dtype = working(rows)
    kernel = torch.zeros_like(sums.kernels[how.formulas[0].name])
    for first, start, one in _lumps(rows, rows if columns is None else columns, how.chunk):
        for second, begin, other in _batches(rows if columns is None else columns):
            if columns is None and second < first:
                continue
            found = sum(contract(p, q, dtype).to(how.device) for p in one for q in other)
            if not isinstance(found, Tensor):
                continue
            found = found.flatten(2, 3).flatten(0, 1)
            kernel[start : start + found.shape[0], begin : begin + found.shape[1]] = found
            if columns is None and second > first:
                kernel[begin : begin + found.shape[1], start : start + found.shape[0]] = found.T
    for formula in how.formulas:
        sums.kernels[formula.name] += kernel
    for gradients, squares in ((rows, sums.row_squares), (rows if columns is None else columns, sums.column_squares)):
        for square in squares.values():
            square += _own_squares(gradients, dtype, square)


def _own_squares(gradients: Gradients, dtype: torch.dtype, like: Tensor) -> Tensor:
    found = torch.zeros_like(like)
    for number, start, pieces in _batches(gradients):
        span = found[start : start + gradients.counts[number] * gradients.outputs]
        for piece in pieces:
            for other in pieces:
                span += own_contract(piece, other, dtype).flatten().to(found.device)
    return found


_Lump = tuple[int, int, tuple[Outer, ...]]


def _batches(gradients: Gradients) -> Iterator[_Lump]:
    """Yield number, first row of the kernel and pieces of each batch."""
    start = 0
    for number, (pieces, count) in enumerate(zip(gradients.batches, gradients.counts, strict=True)):
        yield number, start, tuple(piece for piece in pieces if isinstance(piece, Outer))
        start += count * gradients.outputs


def _lumps(gradients: Gradients, against: Gradients, chunk: int) -> Iterator[_Lump]:
    """Yield as `_batches` does, in parts so small that the contraction with any batch of `against` fits in `chunk`."""
    widest = max(
        (
            piece.tokens * piece.right.values.shape[0]
            for pieces in against.batches
            for piece in pieces
            if isinstance(piece, Outer)
        ),
        default=1,
    )
    for number, start, pieces in _batches(gradients):
        count = gradients.counts[number]
        tokens = max((piece.tokens for piece in pieces), default=1)
        an_example = 3 * 8 * tokens * widest * gradients.outputs**2
        step = max(1, chunk // max(1, an_example))
        for first in range(0, count, step):
            last = min(first + step, count)
            yield number, start + first * gradients.outputs, tuple(piece.part(first, last) for piece in pieces)


def working(gradients: Gradients) -> torch.dtype:
    """Return the precision of products: float64 for float64, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in gradients.tensors()) else torch.float32


def _needed(name: str, how: How, side: Literal["left", "right"]) -> bool:
    return any(getattr(formula, side).name == name for formula in how.formulas)


def _runs(length: int, dtype: torch.dtype, *, exact: bool) -> Iterator[slice]:
    run = length if dtype == torch.float64 else _EXACT_RUN if exact else _RUN
    for start in range(0, length, max(1, run)):
        yield slice(start, start + run)


def _add_squares(square: Tensor, block: Tensor) -> None:
    for run in _runs(block.shape[1], block.dtype, exact=False):
        square += torch.linalg.vecdot(block[:, run], block[:, run]).to(square.device, torch.float64)
