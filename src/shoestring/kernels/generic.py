"""Gradients example by example through autograd: slow, obvious, and for any parameter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shoestring.kernels.attention import SingleKeys
from shoestring.kernels.outputs import Items, Outputs
from shoestring.kernels.parameters import matrix_shape
from shoestring.kernels.pieces import Flat
from shoestring.models.prompted import evaluating


def written_out(outputs: Outputs, items: Items, params: Mapping[str, nn.Parameter]) -> tuple[Tensor, dict[str, Flat]]:
    """Return outputs [n, C] and the gradients of some parameters, one forward and C backward passes an example."""
    rows: dict[str, list[Tensor]] = {name: [] for name in params}
    values = []
    with torch.enable_grad(), evaluating(outputs.model), requiring(params.values()), SingleKeys():
        for item in items:
            one = outputs.values([item])
            values.append(one.detach())
            found = [
                gradients_of(one[0, output], params, more=output + 1 < one.shape[1]) for output in range(len(one[0]))
            ]
            outputs.passes.backward += len(found)
            outputs.passes.backward_examples += len(found)
            for name, param in params.items():
                rows[name].append(torch.stack([grads[name].reshape(matrix_shape(param)) for grads in found]))
    return torch.cat(values), {name: Flat(torch.stack(parts)) for name, parts in rows.items()}


def gradients_of(output: Tensor, params: Mapping[str, nn.Parameter], *, more: bool) -> dict[str, Tensor]:
    """Return the gradient of one number in each parameter; zeros where it has no part.

    Args:
        output: the number.
        params: the parameters.
        more: whether the graph is asked again.
    """
    found: tuple[Tensor | None, ...] = (None,) * len(params)
    if output.requires_grad:
        found = torch.autograd.grad(output, list(params.values()), retain_graph=more, allow_unused=True)
    return {
        name: torch.zeros_like(param) if grad is None else grad
        for (name, param), grad in zip(params.items(), found, strict=True)
    }


@contextmanager
def requiring(params: Iterable[nn.Parameter], wanted: bool = True) -> Iterator[None]:
    """Let parameters require gradients inside the block, or none of them."""
    changed = [param for param in params if param.requires_grad != wanted]
    for param in changed:
        param.requires_grad_(wanted)
    try:
        yield
    finally:
        for param in changed:
            param.requires_grad_(not wanted)
