"""What chosen weights do beside their matrix: derivatives of every kind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vmap

from shoestring.tuning.apet import ways
from shoestring.tuning.apet.ways import Chosen

# The first dual number of a process makes torch load rules that are written with what it has deprecated.
pytestmark = [
    pytest.mark.usefixtures("frozen_imports"),
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
]
COUNTS = {"fewer than inputs": 3, "more than inputs": 9}  # what is kept for the backward pass differs


def parts(count: int) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return a layer, positions, values and an input."""
    stream = torch.Generator().manual_seed(count)
    layer = nn.Linear(5, 7, dtype=torch.float64).requires_grad_(False)
    index = torch.randperm(35, generator=stream)[:count].sort().values
    values = torch.randn(count, generator=stream, dtype=torch.float64)
    return layer, index, values, torch.randn(4, 3, 5, generator=stream, dtype=torch.float64)


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
def test_first_and_second_derivatives_are_right(count: int) -> None:
    layer, index, values, x = parts(count)

    def output(x: Tensor, values: Tensor) -> Tensor:
        return ways.linear(layer, x, layer(x), Chosen(index, values, 5))

    inputs = (x[:2, :1].clone().requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(output, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(output, inputs)


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
def test_functional_transforms_give_what_the_sum_of_weights_gives(count: int) -> None:
    layer, index, values, x = parts(count)
    weight = layer.get_parameter("weight")

    def beside(values: Tensor, x: Tensor) -> Tensor:
        return ways.linear(layer, x, layer(x), Chosen(index, values, 5)).square().sum()

    def inside(values: Tensor, x: Tensor) -> Tensor:
        whole = weight.view(-1).index_add(0, index, values).view(7, 5)
        return nn.functional.linear(x, whole, layer.get_parameter("bias")).square().sum()

    one, other = (vmap(grad(loss), (None, 0))(values, x) for loss in (beside, inside))
    torch.testing.assert_close(one, other)
    tangents = (torch.ones_like(values), torch.ones_like(x))
    torch.testing.assert_close(jvp(beside, (values, x), tangents)[1], jvp(inside, (values, x), tangents)[1])


def test_only_what_torch_itself_computes_has_a_way() -> None:
    assert ways.way_of(nn.Linear(2, 2), "weight") is ways.linear
    assert ways.way_of(nn.Linear(2, 2), "bias") is None
    assert ways.way_of(nn.Embedding(2, 2), "weight") is ways.embedding
    assert ways.way_of(nn.Embedding(2, 2, max_norm=1.0), "weight") is None
    assert ways.way_of(nn.LayerNorm(2), "weight") is None
