"""Products of gradients: precision, and the two ways of making them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from shoestring.kernels.cost import contraction_is_cheaper, terms_of
from shoestring.kernels.formulas.base import FORMULAS
from shoestring.kernels.pieces import Flat, Gradients, Outer, Piece, merged, thinned
from shoestring.kernels.products import How, Sums, add_products
from shoestring.kernels.sides import Compact, Dense, OneHot, compact

ROWS, WIDTH = 300, 256


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outer(count: int, tokens: int, seed: int, outputs: int = 1, rows: int = ROWS, width: int = WIDTH) -> Outer:
    left = torch.randn(count, outputs, tokens, rows, generator=stream(seed))
    # As activations are: not of mean zero, so that sums grow.
    right = torch.randn(count, 1, tokens, width, generator=stream(seed + 1)) + 0.3
    return Outer(Dense(left), Dense(right))


def gradients(*pieces: Piece, outputs: int = 1, shape: tuple[int, int] = (ROWS, WIDTH)) -> Gradients:
    count = next(iter(pieces[0].tensors())).shape[0]
    return Gradients((pieces,), (count,), outputs, shape)


def doubled(piece: Piece) -> Piece:
    if isinstance(piece, Flat):
        return Flat(piece.values.double())
    left = piece.left
    if isinstance(left, Dense):
        left = Dense(left.values.double())
    elif isinstance(left, Compact):
        left = Compact(left.values.double(), left.index)
    return Outer(left, Dense(piece.right.values.double()))


def product(rows: Gradients, columns: Gradients | None, formula: str, **changes: Any) -> Sums:
    other = columns or rows
    one = FORMULAS.get(formula)
    sizes = rows.total * rows.outputs, other.total * other.outputs
    sums = Sums(
        {formula: torch.zeros(sizes, dtype=torch.float64)},
        {one.left.name: torch.zeros(sizes[0], dtype=torch.float64)},
        {one.right.name: torch.zeros(sizes[1], dtype=torch.float64)},
    )
    how = How(**{"formulas": [one], "products": "auto", "chunk": 1 << 22, "device": torch.device("cpu")} | changes)
    add_products(rows, columns, None, sums, how)
    return sums


def written(gradients: Gradients) -> Tensor:
    """Return gradients written out by loops, [n * C, numel], in float64."""
    found = []
    for pieces, count in zip(gradients.batches, gradients.counts, strict=True):
        for n in range(count):
            for c in range(gradients.outputs):
                total = torch.zeros(gradients.shape, dtype=torch.float64)
                for piece in pieces:
                    if isinstance(piece, Flat):
                        total += piece.values[n, c].double()
                        continue
                    right = piece.right.values[n, c if piece.right.values.shape[1] > 1 else 0].double()
                    for t, vector in enumerate(right):
                        if isinstance(piece.left, OneHot):
                            total[piece.left.ids[n, t]] += vector
                            continue
                        values = piece.left.values[n, c if piece.left.values.shape[1] > 1 else 0, t].double()
                        if isinstance(piece.left, Compact):
                            total[piece.left.index] += values.outer(vector)
                        else:
                            total += values.outer(vector)
                found.append(total.flatten())
    return torch.stack(found)


@pytest.mark.parametrize("products", ["written", "contracted"])
@pytest.mark.parametrize("formula", ["sgd", "asymmetric-signgd"])
def test_products_of_float32_are_within_1e_6_of_those_in_float64(formula: str, products: str) -> None:
    rows, columns = outer(5, 40, 0), outer(4, 40, 7)
    found = product(gradients(rows), gradients(columns), formula, products=products).kernels[formula]
    left, right = written(gradients(rows)), written(gradients(columns))
    left = left.sign() if formula != "sgd" else left
    lengths = left.norm(dim=1)[:, None] * right.norm(dim=1)
    assert ((found - left @ right.T).abs() / lengths).max() < 1e-6


def test_products_of_signs_are_exact() -> None:
    rows, columns = outer(5, 3, 0), outer(4, 3, 7)
    sums = product(gradients(rows), gradients(columns), "signgd")
    signs = written(gradients(rows)).sign(), written(gradients(columns)).sign()
    assert torch.equal(sums.kernels["signgd"], signs[0] @ signs[1].T)
    assert torch.equal(sums.row_squares["sign"], signs[0].square().sum(1))


def pieces(kind: str, count: int, tokens: int, seed: int) -> Piece:
    piece = outer(count, tokens, seed, 2, 30, 8)
    if kind == "one-hot":
        ids = torch.randint(0, 30, (count, tokens), generator=stream(seed))
        return Outer(OneHot(ids), Dense(torch.randn(count, 2, tokens, 8, generator=stream(seed))))
    if kind == "compact":
        assert isinstance(piece.left, Dense)
        values = piece.left.values.clone()
        values[..., torch.randperm(30, generator=stream(seed))[: 20 + seed % 5]] = 0
        found = compact(values)
        assert isinstance(found, Compact)
        return Outer(found, piece.right)
    if kind == "turned":  # the weight stored the other way round: outputs share the left side
        assert isinstance(piece.left, Dense)
        return Outer(Dense(piece.left.values[:, :1]), Dense(torch.randn(count, 2, tokens, 8, generator=stream(seed))))
    return piece


KINDS = ("dense", "compact", "one-hot", "turned")


@pytest.mark.parametrize("other", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_sides_of_all_kinds_meet_as_if_they_were_written_out(kind: str, other: str) -> None:
    mixed = [doubled(pieces(kind, 3, 4, 1)), doubled(pieces(other, 3, 2, 2))]
    more = [doubled(pieces(other, 2, 5, 3)), doubled(pieces("one-hot", 2, 3, 4))]
    rows = Gradients((tuple(mixed), tuple(more)), (3, 2), 2, (30, 8))
    columns = gradients(doubled(pieces(other, 4, 3, 5)), outputs=2, shape=(30, 8))
    left, right = written(rows), written(columns)
    for products in ("written", "contracted"):
        for chunk in (1, 1 << 20):
            sums = product(rows, columns, "sgd", products=products, chunk=chunk)
            torch.testing.assert_close(sums.kernels["sgd"], left @ right.T)
            torch.testing.assert_close(sums.row_squares["identity"], left.square().sum(1))
            torch.testing.assert_close(sums.column_squares["identity"], right.square().sum(1))
            own = product(rows, None, "sgd", products=products, chunk=chunk)
            torch.testing.assert_close(own.kernels["sgd"], left @ left.T)
            torch.testing.assert_close(own.column_squares["identity"], left.square().sum(1))
    signs = product(rows, columns, "signgd").kernels["signgd"]
    assert torch.equal(signs, left.sign() @ right.sign().T)


def test_a_batch_without_a_part_in_a_parameter_adds_nothing() -> None:
    there = outer(2, 3, 0, rows=6, width=5)
    rows = Gradients(((), (there,), ()), (1, 2, 1), 1, (6, 5))
    nowhere = Gradients(((),), (2,), 1, (6, 5))
    for products in ("written", "contracted"):
        sums = product(rows, None, "sgd", products=products)
        torch.testing.assert_close(sums.kernels["sgd"], written(rows) @ written(rows).T, rtol=1e-5, atol=1e-5)
        for one, other in ((rows, nowhere), (nowhere, rows)):
            lone = product(one, other, "sgd", products=products)
            assert not lone.kernels["sgd"].any()
            torch.testing.assert_close(lone.row_squares["identity"].float(), written(one).square().sum(1).float())
            torch.testing.assert_close(lone.column_squares["identity"].float(), written(other).square().sum(1).float())


@pytest.mark.parametrize("kind", ["dense", "one-hot", "turned"])
def test_terms_that_are_zero_are_left_out_where_they_are_many(kind: str) -> None:
    piece = doubled(pieces(kind, 3, 8, 1))
    assert isinstance(piece, Outer)
    right = piece.right.values.clone()
    right[0, :, 1:] = 0
    right[1] = 0
    right[2, :, [0, 1, 3, 5, 6]] = 0
    few = Outer(piece.left, Dense(right))
    assert thinned(few).tokens == 3
    expected = written(gradients(few, outputs=2, shape=(30, 8)))
    torch.testing.assert_close(written(gradients(thinned(few), outputs=2, shape=(30, 8))), expected)
    assert thinned(piece) is piece


def test_calls_of_one_layer_become_one_piece() -> None:
    several = [
        pieces("dense", 2, 3, 1),
        pieces("one-hot", 2, 3, 2),
        pieces("dense", 2, 4, 3),
        pieces("one-hot", 2, 1, 4),
    ]
    several += [Flat(torch.ones(2, 2, 30, 8)), Flat(torch.ones(2, 2, 30, 8))]
    joined = merged(several)
    assert [type(piece).__name__ for piece in joined] == ["Outer", "Outer", "Flat"]
    expected = written(gradients(*several, outputs=2, shape=(30, 8)))
    torch.testing.assert_close(written(gradients(*joined, outputs=2, shape=(30, 8))), expected)


def test_the_cost_model_contracts_few_terms_and_writes_out_many() -> None:
    for tokens, cheaper in ((1, True), (128, False)):
        piece = Outer(Dense(torch.empty(2, 1, tokens, 768)), Dense(torch.empty(2, 1, tokens, 768)))
        terms = terms_of(gradients(piece, shape=(768, 768)))
        assert contraction_is_cheaper(terms, terms, 32, 32) is cheaper
        assert contraction_is_cheaper(terms, None, 32, 32) is cheaper
    flat = terms_of(gradients(Flat(torch.empty(2, 1, 768, 1)), shape=(768, 1)))
    assert not contraction_is_cheaper(flat, flat, 32, 32)
