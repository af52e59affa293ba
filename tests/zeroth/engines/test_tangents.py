"""Forward gradients of forward passes that no tangent reaches."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.errors import OptimizerError
from shoestring.zeroth import ForwardGradient
from shoestring.zeroth.tensors import trained_tensors

pytestmark = pytest.mark.usefixtures("frozen_imports")
X = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)


class Viewed(nn.Linear):
    """Multiplies by a view that was made before."""

    def __init__(self) -> None:
        super().__init__(4, 4, dtype=torch.float64)
        self.view = self.weight.data.t()

    def forward(self, input: Tensor) -> Tensor:
        return input @ self.view + self.bias


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(nn.Linear(4, 4).double(), X)  # pyright: ignore[reportReturnType]


def network(first: nn.Module) -> nn.Sequential:
    model = nn.Sequential(first, nn.Tanh(), nn.Linear(4, 1)).double()
    stream = torch.Generator().manual_seed(0)
    for param in model.parameters():
        param.data.copy_(torch.randn(param.shape, generator=stream, dtype=torch.float64))
    return model.eval()


PAST: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "traced code": (traced, r"0\.weight \(aten\..* in \w+ '0'\)"),
    "an older view": (Viewed, r"0\.weight \(aten\.mm\.default in Viewed '0'\)"),
}


@pytest.mark.parametrize("case", PAST)
def test_what_reads_past_the_tensors_is_refused_with_tensor_and_module(case: str) -> None:
    make, what = PAST[case]
    model = network(make())
    before = [param.detach().clone() for param in model.parameters()]
    optimizer = ForwardGradient(model.named_parameters(), lr=0.1)
    for _ in range(2):
        with pytest.raises(OptimizerError, match=rf"past the tensors.*no tangent: {what}.*engine=\"fused\""):
            optimizer.step(lambda: model(X).square().mean())
    for param, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(param, old)


def test_slopes_of_the_first_pass_and_of_later_ones_are_those_of_the_gradient() -> None:
    model = network(nn.Linear(4, 4))
    optimizer = ForwardGradient(model.named_parameters(), lr=0.1)

    def loss() -> Tensor:
        return model(X).square().mean()

    for _ in range(3):
        tensors = trained_tensors(optimizer.param_groups)
        wanted = 0.0
        for tensor, grad in zip(tensors, torch.autograd.grad(loss(), list(model.parameters())), strict=True):
            z = torch.empty(tensor.param.numel(), dtype=torch.float64)
            optimizer.directions.fill(z, tensor, optimizer.direction_seed(0))
            wanted += float(grad.view(-1) @ z)
        optimizer.step(loss)
        assert optimizer.last_projected_grads == pytest.approx((wanted,), rel=1e-6)


def test_tensors_that_are_never_read_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model = network(nn.Linear(4, 4))
    optimizer = ForwardGradient(model.named_parameters(), lr=0.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            optimizer.step(lambda: model[0](X).square().mean())
    assert [record.getMessage() for record in caplog.records] == [
        "the forward pass never reads 2.weight, 2.bias; directions move them at random"
    ]


def backward(model: nn.Module) -> Tensor:
    loss = model(X).square().mean()
    loss.backward()
    return loss


MISTAKES: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "backward": (backward, r"must not call backward\(\)"),
    "backward with gradients": (torch.enable_grad()(backward), r"must not call backward\(\)"),
    "losses": (lambda model: model(X), r"the closure returned a tensor of shape \[3, 1\]; it must return the loss"),
    "no return": (lambda model: None, "the closure returned NoneType; it must return the loss"),
    "no weights": (lambda model: X.sum(), "the closure's loss has no tangent: .* does not depend on the weights"),
    "a number": (lambda model: 1.0, "the closure's loss has no tangent: it is a number"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_in_the_closure_are_named(case: str) -> None:
    closure, message = MISTAKES[case]
    model = network(nn.Linear(4, 4))
    optimizer = ForwardGradient(model.named_parameters(), lr=0.1)
    with pytest.raises(OptimizerError, match=message):
        optimizer.step(lambda: closure(model))
    optimizer.step(lambda: model(X).square().mean())
    with pytest.raises(OptimizerError, match=message):
        optimizer.step(lambda: closure(model))
