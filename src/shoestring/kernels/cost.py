"""The cost model: floating-point operations of one parameter's part of a kernel, both ways of making it.

For n examples against m, C outputs, T terms a gradient, and a parameter of A rows that may hold something times W:

    written out   C A W (2 T + 8) (n + m)  +  2 n m C^2 A W      gradients, then their inner products
    contracted    n m T^2 (2 k + 2 k' + 8 C^2)                   dot products of the terms' sides, k and k' numbers long

8 stands for passes through memory that do little else. An embedding's side counts as one number, and a side shared by
all outputs is multiplied once, not C^2 times.
"""

from __future__ import annotations

from dataclasses import dataclass

from shoestring.kernels.pieces import Flat, Gradients, Outer
from shoestring.kernels.sides import Compact, Dense, OneHot, Side

_MEMORY = 8.0


@dataclass(frozen=True)
class Terms:
    """What the cost of one parameter's gradients depends on.

    Attributes:
        rows: rows that may hold something.
        width: numbers a row.
        outputs: C.
        dense: terms of outer products that are multiplied out, an example.
        tokens: terms of each piece, an example; () where gradients are written out already.
        numbers: operations to multiply the two sides of two terms.
    """

    rows: int
    width: int
    outputs: int
    dense: int
    tokens: int
    numbers: float
    contractible: bool

    def writing(self, examples: float) -> float:
        """Return the operations to write out the gradients of some examples."""
        return examples * self.outputs * self.rows * self.width * (2.0 * self.dense + _MEMORY)

    def written(self, examples: float, others: float) -> float:
        """Return the operations of inner products of written-out gradients, without the writing."""
        return 2.0 * examples * others * self.outputs**2 * self.rows * self.width

    def contracted(self, examples: float, others: float) -> float:
        """Return the operations of contractions, infinite where that is not possible."""
        if not self.contractible:
            return float("inf")
        return examples * others * self.tokens**2 * (self.numbers + _MEMORY * self.outputs**2)


def terms_of(gradients: Gradients) -> Terms:
    """Return what the cost of these gradients depends on, taking the longest batch for all."""
    active = gradients.active
    rows = gradients.shape[0] if active is None else len(active)
    dense = tokens = 0
    numbers = 0.0
    for pieces in gradients.batches:
        outer = [piece for piece in pieces if isinstance(piece, Outer)]
        dense = max(dense, sum(piece.tokens for piece in outer if not isinstance(piece.left, OneHot)))
        tokens = max(tokens, sum(piece.tokens for piece in outer))
        numbers = max([numbers, *(_numbers(piece.left) + _numbers(piece.right) for piece in outer)])
    contractible = gradients.contractible and not any(isinstance(p, Flat) for b in gradients.batches for p in b)
    return Terms(rows, gradients.shape[1], gradients.outputs, dense, tokens, numbers, contractible)


def contraction_is_cheaper(rows: Terms, columns: Terms | None, examples: int, others: int) -> bool:
    """Return whether contracting costs less than writing out; columns are None where the rows meet themselves."""
    written = rows.writing(examples) + rows.written(examples, others)
    longest = rows
    if columns is not None:
        written += columns.writing(others)
        longest = columns if columns.tokens > rows.tokens else rows
    return longest.contractible and rows.contractible and longest.contracted(examples, others) < written


def _numbers(side: Side) -> float:
    if isinstance(side, OneHot):
        return 1.0
    size = len(side.index) if isinstance(side, Compact) else side.values.shape[3]
    shared = side.values.shape[1] if isinstance(side, Dense | Compact) else 1
    return 2.0 * size * shared**2
