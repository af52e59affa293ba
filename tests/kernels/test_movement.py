"""The linearised model, and how far gradients change, against loops over written-out Jacobians."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from kernels.subjects import MODELS, Subject, subject
from reference import kernel_twin
from shoestring.errors import KernelError, UnknownNameError
from shoestring.kernels import KernelSettings, outputs_of
from shoestring.kernels.movement import Linearised, displacement, drift, linearised
from shoestring.tuning.apet.delta import positions
from shoestring.tuning.base import TUNINGS


def moved(one: Subject, size: float = 0.05) -> tuple[Any, dict[str, Tensor]]:
    """Return the outputs of a copy whose weights are somewhere else, and how far."""
    other, steps = copy.deepcopy(one.outputs.model), dict[str, Tensor]()
    stream = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, param in other.named_parameters():
            steps[name] = size * torch.randn(param.shape, generator=stream, dtype=param.dtype)
            param.add_(steps[name])
    prompted = one.outputs.scores.__self__  # type: ignore[attr-defined]
    made = outputs_of(dataclasses.replace(prompted, model=other), difference=one.outputs.difference)
    return made, steps


def products(rows: kernel_twin.Rows, steps: dict[str, Tensor]) -> Tensor:
    return torch.stack(
        [torch.stack([sum((g @ steps[n].reshape(-1) for n, g in out.items()), torch.tensor(0.0)) for out in row])
         for row in rows]
    )  # fmt: skip


@pytest.mark.parametrize("difference", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_linearised_model_is_outputs_and_jacobian_times_step(name: str, difference: bool) -> None:
    one = subject(name, difference=difference)
    other, steps = moved(one)
    assert all(torch.allclose(steps[n], s) for n, s in displacement(one.outputs.model, other.model, [*steps]).items())
    start, rows = kernel_twin.jacobian(one.outputs, one.items, list(steps))
    rtol = 1e-5 if "llama" in name else 1e-9  # whose norms are in float32, whatever its weights are
    for size in (1, 2, 8):
        found = linearised(one.outputs, one.items, steps, size)
        torch.testing.assert_close(found.start, start, rtol=rtol, atol=1e-12)
        torch.testing.assert_close(found.slope, products(rows, steps), rtol=rtol, atol=1e-10)
        assert torch.equal(found.values, found.start + found.slope)


def test_close_to_where_it_begins_a_model_is_its_linearisation() -> None:
    one = subject("roberta")
    gaps = []
    for size in (1e-3, 1e-4):
        other, steps = moved(one, size)
        values = torch.cat([other.values([item]) for item in one.items]).detach()
        found = linearised(one.outputs, one.items, steps)
        gaps.append(float((found.values - values).norm() / found.slope.norm()))
    assert gaps[1] < 0.2 * gaps[0]
    assert gaps[1] < 1e-2


@pytest.mark.parametrize("name", ["roberta", "llama-tied", "head"])
def test_the_change_of_gradients_is_that_of_written_out_jacobians(name: str) -> None:
    one = subject(name, difference=False)
    other, steps = moved(one)
    _, before = kernel_twin.jacobian(one.outputs, one.items, list(steps))
    _, after = kernel_twin.jacobian(other, one.items, list(steps))
    for size in (2, 5):
        found = drift(one.outputs, other, one.items, settings=KernelSettings(batch_size=size))
        for number, (row, later) in enumerate(zip(before, after, strict=True)):
            a, b = (torch.cat([grad for out in rows for grad in out.values()]) for rows in (row, later))
            assert float(found.relative()[number]) == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-9)
            assert float(found.cosine()[number]) == pytest.approx(float(a @ b / (a.norm() * b.norm())), rel=1e-9)


def test_the_gradients_of_an_unmoved_model_do_not_change() -> None:
    one = subject("roberta")
    found = drift(one.outputs, one.outputs, one.items, one.names("last-layer"))
    assert found.relative().tolist() == [0.0] * 5
    torch.testing.assert_close(found.cosine(), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["lora", "prefix", "bitfit"])
def test_what_a_tuning_trains_can_be_moved_alone(kind: str) -> None:
    prompted = tiny.prompted("roberta", "masked", dtype=torch.float64)
    model = TUNINGS.get(kind)().apply(prompted.model, 13).double().eval()
    outputs = outputs_of(dataclasses.replace(prompted, model=model))
    items = tiny.encoded(prompted, 3)
    stream = torch.Generator().manual_seed(1)
    params = {name: param for name, param in model.named_parameters() if param.requires_grad}
    steps = {n: 0.1 * torch.randn(p.shape, generator=stream, dtype=p.dtype) for n, p in params.items()}
    _, rows = kernel_twin.jacobian(outputs, items, list(steps))
    torch.testing.assert_close(linearised(outputs, items, steps).slope, products(rows, steps), rtol=1e-9, atol=1e-10)
    assert Linearised(torch.ones(1), torch.ones(1)).values.tolist() == [2.0]


def test_what_is_not_one_model_is_named() -> None:
    one, other = subject("roberta"), subject("bert")
    names = one.names("last-layer")
    with pytest.raises(KernelError, match=r"is not the same parameter in both models: they are not one model, tuned"):
        displacement(one.outputs.model, other.outputs.model, names)
    with pytest.raises(UnknownNameError, match="unknown parameter 'nothing'"):
        linearised(one.outputs, one.items, {"nothing": torch.zeros(1)})


class Fixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value * 2

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * 2


def test_a_model_without_a_forward_derivative_is_named() -> None:
    one = subject("roberta")
    outputs = dataclasses.replace(one.outputs, scores=lambda batch: Fixed.apply(one.outputs.scores(batch)))
    name = one.names("last-layer")[0]
    with pytest.raises(KernelError, match="this model cannot be linearised in forward mode"):
        linearised(outputs, one.items, {name: torch.zeros_like(dict(outputs.model.named_parameters())[name])})


def test_values_at_other_weights_are_not_taken_for_a_movement() -> None:
    one, other = (
        TUNINGS.get("apet")(budget=20, seed=seed).apply(tiny.build_model("roberta", "masked"), 1) for seed in (1, 2)
    )
    places, elsewhere = positions(one), positions(other)
    names = [n for n, p in one.named_parameters() if p.requires_grad]
    assert sorted(names) == sorted(places)
    assert sum(len(index) for index in places.values()) == 20
    assert displacement(one, one, names).keys() == places.keys()
    same = [n for n in names if n in elsewhere and len(places[n]) == len(elsewhere[n])]
    assert same
    with pytest.raises(KernelError, match="APET chose other weights here than in the run: measure it where it was"):
        displacement(one, other, same)
