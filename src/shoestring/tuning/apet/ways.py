"""What chosen weights do to the output of a module that computes with its pristine matrix: k numbers a token.

For each chosen element e with value d_e, in row r_e and column c_e of the matrix W:

    linear       y[..., r_e] += x[..., c_e] d_e          y = x W' + b
    Conv1D       y[..., c_e] += x[..., r_e] d_e          y = x W + b
    embedding    y[n, c_e]   += d_e                      for every token n with ids[n] = r_e
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SPARSE = 256
"""Matrices of which at most one weight in so many is chosen are left as they are; embeddings, up to half the rows.

With 640 tokens on one core, gathering k numbers a token and adding them takes as long as the product of matrices that
the gradient of a whole weight needs at k = numel / 270 (768 x 768) to numel / 530 (3072 x 768).
"""


@dataclass(frozen=True)
class Chosen:
    """Chosen elements of a matrix: their positions in it, flattened, and what is added to them; its width."""

    index: Tensor
    values: Tensor
    width: int


Way = Callable[[nn.Module, Tensor, Tensor, Chosen], Tensor]
"""Returns the output of a module, given its input, its output with the pristine matrix, and the chosen elements."""


def way_of(module: nn.Module, name: str) -> Way | None:
    """Return how chosen elements of a tensor act beside it; None where there is no way.

    Only a module that computes as torch's own class does has one: a subclass may scale or shift what it returns.
    """
    from transformers.pytorch_utils import Conv1D

    if name != "weight":
        return None
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        return None
    ways: dict[object, Way] = {nn.Linear.forward: linear, Conv1D.forward: conv1d, nn.Embedding.forward: embedding}
    return ways.get(type(module).forward)


def pays(module: nn.Module, weight: Tensor, index: Tensor) -> bool:
    """Return whether so few elements are chosen that they cost less beside the matrix than in it."""
    if isinstance(module, nn.Embedding):
        return 2 * len(torch.unique_consecutive(index // weight.shape[1])) <= len(weight)
    return len(index) * SPARSE <= weight.numel()


def linear(module: nn.Module, x: Tensor, out: Tensor, chosen: Chosen) -> Tensor:
    """Return the output of `nn.Linear`."""
    return _added(x, chosen.values, chosen.index % chosen.width, chosen.index // chosen.width, out)


def conv1d(module: nn.Module, x: Tensor, out: Tensor, chosen: Chosen) -> Tensor:
    """Return the output of transformers' `Conv1D`."""
    return _added(x, chosen.values, chosen.index // chosen.width, chosen.index % chosen.width, out)


def embedding(module: nn.Module, x: Tensor, out: Tensor, chosen: Chosen) -> Tensor:
    """Return the output of `nn.Embedding`: a table of the rows that have chosen elements is looked up beside it.

    The row of padding has no gradient here, as in torch, though a tied output layer may give it one.
    """
    rows, place = torch.unique_consecutive(chosen.index // chosen.width, return_inverse=True)
    flat = torch.zeros(len(rows) * chosen.width, dtype=chosen.values.dtype, device=rows.device)
    table = flat.index_add(0, place * chosen.width + chosen.index % chosen.width, chosen.values)
    slot = torch.searchsorted(rows, x.contiguous()).clamp(max=len(rows) - 1)
    pad = getattr(module, "padding_idx", None)
    padding = [] if pad is None else (rows == pad).nonzero().view(-1).tolist()
    added = functional.embedding(slot, table.view(-1, chosen.width), padding[0] if padding else None)
    return out + (added * (rows[slot] == x).unsqueeze(-1)).to(out.dtype)


def _added(x: Tensor, values: Tensor, ins: Tensor, outs: Tensor, out: Tensor) -> Tensor:
    """Return out[..., outs_e] + sum over e of x[..., ins_e] values_e.

    For its gradient torch keeps the k numbers a token that are read of the input; where these are more than the input,
    it is kept instead. Forward passes alone are made of torch's own functions, which an engine can take apart.
    """
    if torch.is_grad_enabled() and len(ins) > x.shape[-1]:
        return _Added.apply(x, values, ins, outs, out)
    return _sum(x, values, ins, outs, out)


def _sum(x: Tensor, values: Tensor, ins: Tensor, outs: Tensor, out: Tensor) -> Tensor:
    return out.index_add(-1, outs, (x.index_select(-1, ins) * values).to(out.dtype))


class _Added(torch.autograd.Function):
    """As `_sum`, keeping the input, and reading it again in the backward pass.

    With g the gradient of the output: d/dx[..., i] = sum over e with ins_e = i of g[..., outs_e] values_e, and
    d/dvalues_e = sum over tokens of g[..., outs_e] x[..., ins_e].
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, values: Tensor, ins: Tensor, outs: Tensor, out: Tensor) -> Tensor:
        """Return the sum."""
        return _sum(x, values, ins, outs, out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep all inputs but the last."""
        ctx.save_for_backward(*inputs[:-1])
        ctx.save_for_forward(*inputs[:-1])
        ctx.shape, ctx.dtype = output.shape, output.dtype

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of input, values and output."""
        (grad,) = grads
        x, values, ins, outs = ctx.saved_tensors
        found = grad.index_select(-1, outs).to(values.dtype)
        grad_x = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.zeros_like(x).index_add(-1, ins, (found * values).to(x.dtype))
        if ctx.needs_input_grad[1]:
            grad_values = (found * x.index_select(-1, ins)).flatten(0, -2).sum(0)
        return grad_x, grad_values, None, None, grad

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        """Return the tangent of the sum."""
        x, values, ins, outs = ctx.saved_tensors
        x_tangent, values_tangent, _, _, tangent = tangents
        if tangent is None:
            tangent = torch.zeros(ctx.shape, dtype=ctx.dtype, device=x.device)
        if x_tangent is not None:
            tangent = _sum(x_tangent, values, ins, outs, tangent)
        return tangent if values_tangent is None else _sum(x, values_tangent, ins, outs, tangent)
