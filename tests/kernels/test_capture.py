"""What is seen of a model, what is not trusted, and what is left on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tiny
from kernels.subjects import ALL, Subject, subject
from kernels.vectors import of_points, points
from reference import kernel_twin
from shoestring.errors import KernelError, NonFiniteScoreError, UnknownNameError
from shoestring.kernels import Kernel, KernelSettings, Outputs, Request, compute_kernels, jacobians, outputs_of
from shoestring.kernels.capture import capture, uses_of
from shoestring.kernels.parameters import chosen


def marks(model: nn.Module) -> list[Any]:
    """Return all that a computation might leave on a model."""
    modules = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), sorted(m.__dict__))
        for m in model.modules()
    ]
    params = [(p.requires_grad, p.grad, len(p._backward_hooks or {})) for p in model.parameters()]
    return [modules, params, {name: id(param) for name, param in model.named_parameters()}]


@pytest.mark.parametrize("route", ["auto", "autograd"])
def test_nothing_is_left_on_a_model(route: Any) -> None:
    prompted = tiny.prompted("opt", "causal")
    prompted.model.train()
    for number, param in enumerate(prompted.model.parameters()):
        param.requires_grad_(number % 2 == 0)
    items, before, weights = tiny.encoded(prompted, 3), marks(prompted.model), tiny.weights(prompted.model)
    names = [name for name, _ in prompted.model.named_parameters()]
    with torch.no_grad():
        compute_kernels(Request(outputs_of(prompted), items, None, ALL, names), KernelSettings(route=route))
    assert marks(prompted.model) == before
    assert tiny.equal(tiny.weights(prompted.model), weights)


def test_nothing_is_left_on_a_model_that_fails() -> None:
    prompted = tiny.prompted("opt", "causal")
    items, before, calls = tiny.encoded(prompted, 3), marks(prompted.model), [0]
    layer = prompted.model.model.decoder.layers[1].fc1

    def fail(*_: Any) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyError("no")

    handle = layer.register_forward_hook(fail)
    with pytest.raises(KeyError):
        compute_kernels(Request(outputs_of(prompted), items))
    handle.remove()
    assert marks(prompted.model) == before
    assert calls[0] == 2


def test_passes_are_counted_and_grow_with_the_number_of_examples_not_of_pairs() -> None:
    prompted = tiny.prompted("roberta", "masked")
    items = tiny.encoded(prompted, 12)

    def passes(count: int) -> tuple[int, int]:
        outputs = outputs_of(prompted, difference=False)
        before = (outputs.passes.forward_examples, outputs.passes.backward_examples)
        compute_kernels(Request(outputs, items[:count], items[6 : 6 + count]))
        after = (outputs.passes.forward_examples, outputs.passes.backward_examples)
        return after[0] - before[0], after[1] - before[1]

    # Two examples of the check, and two outputs: forward 2 and each one once; backward thrice, and each one twice.
    assert passes(2) == (2 + 4, 6 + 8)
    assert passes(6) == (2 + 12, 6 + 24)


class Odd(nn.Module):
    """Reads a weight past its layer, a parameter of no layer, and what layers do not expect."""

    def __init__(self, read: Callable[[Odd, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.alone = nn.Parameter(torch.empty(4))
        self.norm = nn.LayerNorm(4)
        self.read = read
        stream = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for param in self.parameters():
                param.copy_(torch.randn(param.shape, generator=stream))
        self.double()

    def forward(self, values: Tensor) -> Tensor:
        return self.read(self, values).tanh().sum((1, 2))[:, None]


class Scaled(nn.Linear):
    """A linear layer in name."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def inplace(model: Odd, values: Tensor) -> Tensor:
    hidden = model.first(values)
    hidden += values
    hidden.mul_(2)
    return model.norm(model.second(hidden.relu_())).mul_(model.alone)


def past(model: Odd, values: Tensor) -> Tensor:
    return functional.linear(model.first(values), model.first.weight) + model.second(values) + model.norm(values)


def tied(model: Odd, values: Tensor) -> Tensor:
    return model.second(model.first(values).sin()) + model.alone


def across(model: Odd, values: Tensor) -> Tensor:
    """The second layer sees the tokens of all examples as one row, the norm with tokens in front."""
    mixed = model.second(model.first(values).reshape(1, -1, 4)).view_as(values)
    return model.norm(mixed.transpose(0, 1)).transpose(0, 1) + model.alone


def twice(model: Odd, values: Tensor) -> Tensor:
    return model.first(model.first(values).cos()) + model.norm(model.second(values)) + model.second(values)


def by_name(model: Odd, values: Tensor) -> Tensor:
    return model.first(input=values) + model.norm(input=model.second(values))


ODD: dict[str, tuple[Callable[[Odd, Tensor], Tensor], set[str]]] = {
    "in place": (inplace, {"alone", "first.weight", "first.bias"}),
    "past its layer": (past, {"first.weight"}),
    "tied": (tied, {"alone"}),
    "across examples": (across, {"alone", "second.weight", "second.bias", "norm.weight", "norm.bias"}),
    "twice": (twice, set()),
    "by name": (by_name, {"first.weight", "first.bias", "norm.weight", "norm.bias"}),
}


@pytest.mark.parametrize("case", ODD)
def test_what_layers_do_not_give_goes_through_autograd(case: str) -> None:
    read, single = ODD[case]
    model = Odd(read)
    if case == "tied":
        model.second.weight = model.first.weight
    check(Subject(of_points(model, lambda model, values: model(values)), points(5, 3, 4)), single)


def check(one: Subject, single: set[str]) -> None:
    request = Request(one.outputs, one.items[:3], one.items[3:], ALL)
    found = compute_kernels(request, KernelSettings(batch_size=2))
    _, left = kernel_twin.jacobian(one.outputs, one.items[:3], one.names())
    _, right = kernel_twin.jacobian(one.outputs, one.items[3:], one.names())
    for formula, kernel in found.items():
        torch.testing.assert_close(kernel.values, kernel_twin.kernel(formula, left, right))
    assert set(found["sgd"].description["autograd"]) == single


def test_a_layer_with_a_forward_of_its_own_goes_through_autograd() -> None:
    model = nn.Sequential(Scaled(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    check(Subject(of_points(model), points(5, 3, 4)), {"0.weight", "0.bias"})


def test_frozen_layers_have_gradients_too() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 1)).double().requires_grad_(False)
    one = Subject(of_points(model), points(4, 2, 4))
    uses = uses_of(model, chosen(model, one.names()))
    found = capture(one.outputs, one.items, uses)
    assert set(found.pieces) == set(one.names())
    kernel = compute_kernels(Request(one.outputs, one.items, None, parameters=one.names()))["sgd"]
    _, rows = kernel_twin.jacobian(one.outputs, one.items, one.names())
    torch.testing.assert_close(kernel.values, kernel_twin.kernel("sgd", rows, rows))


class Routed(nn.Module):
    """Sends examples with a large first number through a layer of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.usual, self.rare = nn.Linear(2, 1).double(), nn.Linear(2, 1).double()

    def forward(self, values: Tensor) -> Tensor:
        found = self.usual(values)
        large = values[:, 0, 0] > 5
        return found.masked_scatter(large[:, None, None], self.rare(values[large])) if large.any() else found


def test_a_layer_that_wakes_up_later_is_refused_and_autograd_takes_it() -> None:
    items = points(6, 1, 2)
    items[3].values[0, 0] = 9.0
    one = Subject(of_points(Routed()), items)
    with pytest.raises(KernelError, match=r'rare.bias is used for these examples in another way .*route="autograd"'):
        compute_kernels(Request(one.outputs, one.items))
    found = compute_kernels(Request(one.outputs, one.items), KernelSettings(route="autograd"))["sgd"]
    _, rows = kernel_twin.jacobian(one.outputs, one.items, one.names())
    torch.testing.assert_close(found.values, kernel_twin.kernel("sgd", rows, rows))


def test_gradients_that_cancel_have_no_sign() -> None:
    """Attention's keys may be moved by anything: their bias has no gradient, whatever rounding says."""
    one = subject("roberta", dtype=torch.float32)
    names = [name for name in one.names() if name.endswith("key.bias")]
    found = compute_kernels(Request(one.outputs, one.items, None, ("sgd", "signgd"), names))
    assert not found["signgd"].values.any()
    assert not found["sgd"].values.any()


def test_jacobians_are_those_of_autograd() -> None:
    one = subject("llama-tied", difference=False)
    found = dict(jacobians(one.outputs, one.items, None, KernelSettings(batch_size=2)))
    assert tuple(found) == one.names()
    params = dict(one.outputs.model.named_parameters())
    _, rows = kernel_twin.jacobian(one.outputs, one.items, one.names())
    for name, value in found.items():
        assert value.shape == (5, 2, *params[name].shape)
        for n, row in enumerate(rows):
            for c, grads in enumerate(row):
                torch.testing.assert_close(value[n, c].flatten(), grads[name], rtol=1e-9, atol=1e-12)


def test_a_kernel_of_half_precision_weights_is_near_that_of_the_same_weights_in_full() -> None:
    prompted = tiny.prompted("roberta", "masked", dtype=torch.bfloat16)
    items = tiny.encoded(prompted, 4)
    rough = compute_kernels(Request(outputs_of(prompted), items))["sgd"]
    assert rough.description["autograd"] == []
    prompted.model.double()
    fine = compute_kernels(Request(outputs_of(prompted), items))["sgd"]
    assert (rough.values - fine.values).norm() < 0.05 * fine.values.norm()


def mistakes() -> dict[str, tuple[Callable[[Subject], Request], type[Exception], str]]:
    def outputs(one: Subject, **changes: Any) -> Outputs:
        import dataclasses

        return dataclasses.replace(one.outputs, **changes)

    def overflowing(one: Subject) -> Request:
        return Request(outputs(one, scores=lambda batch: one.outputs.scores(batch) * float("inf")), one.items)

    def detached(one: Subject) -> Request:
        return Request(outputs(one, scores=lambda batch: one.outputs.scores(batch).detach()), one.items)

    mask = torch.ones(3, dtype=torch.bool)
    name = "lm_head.bias"
    return {
        "formula": (lambda one: Request(one.outputs, one.items, None, ("sgdd",)), UnknownNameError, "unknown formula"),
        "no formula": (lambda one: Request(one.outputs, one.items, None, ()), KernelError, "no formula is asked for"),
        "parameter": (
            lambda one: Request(one.outputs, one.items, None, parameters=["lm_head.biass"]),
            UnknownNameError,
            "unknown parameter 'lm_head.biass'; did you mean 'lm_head.bias'",
        ),
        "no parameter": (lambda one: Request(one.outputs, one.items, parameters=[]), KernelError, "no parameter is ch"),
        "no example": (lambda one: Request(one.outputs, []), KernelError, "there is no example"),
        "no column": (lambda one: Request(one.outputs, one.items, []), KernelError, "at least one row and one column"),
        "mask of nothing": (
            lambda one: Request(one.outputs, one.items, masks={"x": mask}), KernelError, "a mask for x, which is not",
        ),
        "mask's shape": (
            lambda one: Request(one.outputs, one.items, masks={name: mask}), KernelError,
            r"the mask of lm_head.bias is torch.bool of shape \[3\]; it must be boolean of the weight's shape \[400\]",
        ),
        "infinite": (overflowing, NonFiniteScoreError, r"the scores of 2 examples are not finite \(train:"),
        "detached": (detached, KernelError, "the scores have no gradient"),
        "unrelated": (
            lambda one: Request(outputs(one, scores=lambda batch: batch["input_ids"][:, :2] * spare(one)), one.items),
            KernelError, "the scores depend on none of the chosen parameters: roberta.embeddings",
        ),
        "difference of three": (
            lambda one: Request(outputs(one, scores=lambda batch: one.outputs.scores(batch)[:, [0, 1, 1]]), one.items),
            KernelError, "difference=True is f_1 - f_0 of two scores, but the model gives 3",
        ),
    }  # fmt: skip


def test_examples_that_are_asked_in_other_numbers_of_ways_or_have_other_candidates_are_refused() -> None:
    import dataclasses

    one = subject("opt", difference=False)
    twice = dataclasses.replace(one.items[0], variants=(one.items[1],))
    with pytest.raises(
        KernelError, match="examples are asked in different numbers of ways, or calibrated by different"
    ):
        compute_kernels(Request(one.outputs, [twice, *one.items[1:]]))
    more = dataclasses.replace(one.items[2], options=(*one.items[2].options, (9,)))
    for batch_size in (1, 5):
        with pytest.raises(KernelError, match="examples have different numbers of candidates"):
            compute_kernels(
                Request(one.outputs, [*one.items[:2], more, *one.items[3:]]), KernelSettings(batch_size=batch_size)
            )


def spare(_: Subject) -> Tensor:
    return torch.ones((), dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("case", mistakes())
def test_a_mistake_is_named(case: str) -> None:
    make, error, message = mistakes()[case]
    with pytest.raises(error, match=message):
        compute_kernels(make(subject("roberta")))


def test_kernels_are_equal_in_repetition() -> None:
    one = subject("bert", dtype=torch.float32)
    request = Request(one.outputs, one.items[:3], one.items[3:], ALL)
    first: dict[str, Kernel] = compute_kernels(request)
    for formula, kernel in compute_kernels(request).items():
        assert torch.equal(kernel.values, first[formula].values)
