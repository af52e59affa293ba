"""The same kernel however the work is cut up, and within the memory that is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kernels.subjects import ALL, Subject, subject
from kernels.vectors import Deep, of_points, points
from reference import kernel_twin
from shoestring.bench.peaks import peak_of
from shoestring.errors import KernelError
from shoestring.kernels import Kernel, KernelSettings, Request, compute_kernels
from shoestring.kernels import compute as compute_module
from shoestring.kernels.cost import Terms
from shoestring.kernels.plan import MIB, Plan, Sizes, make_plan
from shoestring.kernels.routes import Footprint, Routes

FORMULAS = (*ALL, "asymmetric-signgd-flipped")


def same(found: dict[str, Kernel], expected: dict[str, Kernel], order: torch.Tensor | None = None) -> None:
    for formula, kernel in expected.items():
        values = kernel.values if order is None else kernel.values[order]
        if formula == "signgd":
            assert torch.equal(found[formula].values, values)
        else:
            torch.testing.assert_close(found[formula].values, values, rtol=1e-9, atol=1e-10 * float(values.abs().max()))
        rows = kernel.row_norms if order is None else kernel.row_norms[order]
        torch.testing.assert_close(found[formula].row_norms, rows)
        torch.testing.assert_close(found[formula].column_norms, kernel.column_norms)


def kernels(one: Subject, *, own: bool = False, **settings: Any) -> dict[str, Kernel]:
    columns = None if own else one.items[3:]
    request = Request(one.outputs, one.items if own else one.items[:3], columns, FORMULAS)
    return compute_kernels(request, KernelSettings(**settings))


@pytest.mark.parametrize("own", [False, True], ids=["others", "themselves"])
@pytest.mark.parametrize(
    "changes", [{"batch_size": 1}, {"batch_size": 5}, {"block_rows": 1}, {"block_rows": 2}], ids=str
)
def test_neither_batches_nor_blocks_change_a_kernel(changes: dict[str, int], own: bool) -> None:
    one = subject("roberta", difference=False)
    same(kernels(one, own=own, batch_size=2), kernels(one, own=own, **changes))


@pytest.mark.parametrize("own", [False, True], ids=["others", "themselves"])
@pytest.mark.parametrize("block_rows", [2, 3])
def test_neither_tiles_nor_groups_of_parameters_change_a_kernel(
    block_rows: int, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = subject("llama")
    expected = kernels(one, own=own)
    made: list[Plan] = []

    def small(routes: Routes, sizes: Sizes, settings: KernelSettings, **_: Any) -> Plan:
        names = tuple(routes.params)
        rows = tuple((n, min(n + block_rows, sizes.rows)) for n in range(0, sizes.rows, block_rows))
        made.append(Plan(rows, 1, (names[:2], names[2:9], names[9:]), chunk=2000))
        return made[-1]

    monkeypatch.setattr(compute_module, "make_plan", small)
    same(kernels(one, own=own), expected)
    assert made


def test_the_order_of_examples_is_that_of_the_kernel() -> None:
    one = subject("bert")
    order = torch.tensor([3, 0, 4, 1, 2])
    forward = compute_kernels(Request(one.outputs, one.items, one.items[:2], FORMULAS))
    shuffled = [one.items[place] for place in order.tolist()]
    backward = compute_kernels(Request(one.outputs, shuffled, one.items[:2], FORMULAS), KernelSettings(batch_size=2))
    same(backward, forward, order)
    assert backward["sgd"].rows == tuple(item.uid for item in shuffled)


@pytest.mark.parametrize("model", ["roberta", "llama-tied", "gpt2", "albert"])
def test_writing_gradients_out_and_contracting_them_give_the_same(model: str) -> None:
    one = subject(model, difference=False)
    for columns in (None, one.items[3:]):
        found = [
            compute_kernels(Request(one.outputs, one.items[:3], columns), KernelSettings(products=how, batch_size=2))
            for how in ("written", "contracted", "auto")
        ]
        same(found[1], found[0])
        same(found[2], found[0])


def test_symmetric_formulas_give_symmetric_matrices_without_negative_eigenvalues() -> None:
    one = subject("opt", difference=False)
    for block_rows in (None, 2):
        found = compute_kernels(Request(one.outputs, one.items, None, ALL), KernelSettings(block_rows=block_rows))
        for formula in ("sgd", "signgd"):
            matrix = found[formula].flat()
            assert torch.equal(matrix, matrix.T)
            assert torch.linalg.eigvalsh(matrix).min() > -1e-9 * matrix.diag().max()
            torch.testing.assert_close(matrix.diag().sqrt(), found[formula].row_norms.flatten())
        lopsided = found["asymmetric-signgd"].flat()
        assert not torch.allclose(lopsided, lopsided.T)


def test_the_kernel_of_a_linear_model_is_x_x_transposed() -> None:
    items = points(6, 1, 7)
    found = compute_kernels(Request(of_points(nn.Linear(7, 1, bias=False).double()), items))["sgd"].flat()
    inputs = torch.cat([item.values for item in items])
    torch.testing.assert_close(found, inputs @ inputs.T)


def test_cosines_are_of_length_one_and_nothing_has_no_direction() -> None:
    one = subject("roberta")
    found = compute_kernels(Request(one.outputs, one.items, None, ALL))
    for formula in ("sgd", "signgd"):
        cosine = found[formula].cosine()
        torch.testing.assert_close(cosine.flat().diag(), torch.ones(5, dtype=torch.float64))
        assert cosine.values.abs().max() <= 1 + 1e-12
    _, rows = kernel_twin.jacobian(one.outputs, one.items, one.names())
    lengths = (
        kernel_twin.norms("asymmetric-signgd", rows, 0)
        .flatten()
        .outer(kernel_twin.norms("asymmetric-signgd", rows, 1).flatten())
    )
    lopsided = found["asymmetric-signgd"]
    torch.testing.assert_close(lopsided.cosine().flat(), lopsided.flat() / lengths)
    items = points(2, 1, 3)
    items[0].values.zero_()
    empty = compute_kernels(Request(of_points(nn.Linear(3, 1, bias=False).double()), items))["sgd"].cosine()
    assert empty.flat().tolist() == [[0.0, 0.0], [0.0, pytest.approx(1.0)]]


@pytest.mark.parametrize("own", [False, True], ids=["others", "themselves"])
def test_the_parts_of_layers_sum_to_the_whole(own: bool) -> None:
    one = subject("roberta")
    columns = None if own else one.items[2:]
    request = Request(one.outputs, one.items, columns, ALL, layerwise=True)
    found = compute_kernels(request, KernelSettings(block_rows=3))
    whole = compute_kernels(Request(one.outputs, one.items, columns, ALL))
    for formula, kernel in found.items():
        torch.testing.assert_close(kernel.values, whole[formula].values)
        torch.testing.assert_close(kernel.row_norms, whole[formula].row_norms)
        torch.testing.assert_close(sum(part.values for part in kernel.layers.values()), kernel.values)
        assert list(kernel.layers) == ["embeddings", "roberta.encoder.layer.0", "roberta.encoder.layer.1", "head"]
    names = [name for name in one.names() if name.startswith("roberta.encoder.layer.1.")]
    alone = compute_kernels(Request(one.outputs, one.items, columns, ALL, names))
    for formula, kernel in alone.items():
        torch.testing.assert_close(found[formula].layers["roberta.encoder.layer.1"].values, kernel.values)
        cosine = found[formula].cosine().layers["roberta.encoder.layer.1"]
        torch.testing.assert_close(cosine.values, kernel.cosine().values)


@pytest.mark.parametrize("products", ["auto", "contracted"])
def test_masks_leave_elements_out(products: Any) -> None:
    one = subject("llama-tied")
    stream = torch.Generator().manual_seed(3)
    params = dict(one.outputs.model.named_parameters())
    chosen = [name for name in one.names() if "embed" in name or "down_proj" in name or "norm" in name]
    masks = {name: torch.rand(params[name].shape, generator=stream) < 0.3 for name in chosen}
    request = Request(one.outputs, one.items[:2], one.items[2:], ALL, masks=masks)
    found = compute_kernels(request, KernelSettings(products=products))
    _, left = kernel_twin.jacobian(one.outputs, one.items[:2], one.names())
    _, right = kernel_twin.jacobian(one.outputs, one.items[2:], one.names())
    for formula in ALL:
        torch.testing.assert_close(found[formula].values, kernel_twin.kernel(formula, left, right, masks))


def test_what_is_held_stays_within_memory_however_many_examples_and_weights() -> None:
    model = Deep(64, 12)
    items = points(48, 16, 64, dtype=torch.float32)  # 48 * 12 * 2 * 16 * 64 numbers are captured: 4.5 MiB
    request = Request(of_points(model), items[:24], items[24:], ("sgd", "signgd"))
    found = list[dict[str, Kernel]]()
    free = peak_of(lambda: found.append(compute_kernels(request, KernelSettings(memory=512, batch_size=2))))
    tight = peak_of(lambda: found.append(compute_kernels(request, KernelSettings(memory=1, batch_size=2))))
    # One batch's passes keep 2 * 12 * 16 * 64 numbers a few times over: 0.1 MiB.
    assert tight < 1.5 * MIB
    assert free > 4 * tight
    for formula in ("sgd", "signgd"):
        torch.testing.assert_close(found[1][formula].values, found[0][formula].values, rtol=1e-4, atol=1e-4)


def footprints(sizes: list[int], *, shared: bool = False) -> Routes:
    params = {str(place): nn.Parameter(torch.empty(1)) for place in range(len(sizes))}
    terms = Terms(rows=10, width=10, outputs=1, dense=4, tokens=4, numbers=40.0, contractible=True)
    held = {name: {(0, 0 if shared else place): float(sizes[place])} for place, name in enumerate(params)}
    prints = {name: Footprint(held[name], terms) for name in params}
    return Routes(params, (), frozenset(params), (), (), prints, 1, a_pass=1e4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=8), st.integers(1, 70), st.integers(1, 70), st.booleans())
def test_a_plan_holds_no_more_than_memory_and_leaves_nothing_out(
    sizes: list[int], rows: int, columns: int, symmetric: bool
) -> None:
    routes = footprints(sizes)
    columns = rows if symmetric else columns
    plan = make_plan(routes, Sizes(rows, columns, symmetric, sums=2), KernelSettings(memory=2))
    assert [name for group in plan.groups for name in group] == list(routes.params)
    assert [n for first, last in plan.rows for n in range(first, last)] == list(range(rows))
    assert [m for first, last in plan.columns(columns) for m in range(first, last)] == list(range(columns))
    most = plan.rows[0][1]
    for group in plan.groups:
        held = (most + plan.tile) * sum(sizes[int(name)] for name in group)
        assert held + plan.chunk + 16 * most * (columns + plan.tile) <= 2 * MIB


def test_a_plan_counts_what_layers_share_once_and_takes_everything_at_once_where_it_fits() -> None:
    sizes = Sizes(8, 8, symmetric=False, sums=1)
    together = make_plan(footprints([100_000] * 4, shared=True), sizes, KernelSettings(memory=4))
    assert (len(together.groups), len(together.rows), together.tile) == (1, 1, 8)
    apart = make_plan(footprints([100_000] * 4), sizes, KernelSettings(memory=4))
    assert len(apart.groups) > 1


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(
        KernelError, match=r"memory=1 MiB is too little: a block of 1 and a tile of 1 example take about 3 MiB"
    ):
        make_plan(footprints([1 << 20]), Sizes(4, 4, symmetric=False, sums=1), KernelSettings(memory=1))
