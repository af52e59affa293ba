"""Kernels the slow way: one example at a time through autograd, one inner product at a time, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from shoestring.kernels import Outputs
from shoestring.models.prompted import evaluating

Rows = list[list[dict[str, Tensor]]]
"""Gradients by example, output and parameter, float64 and flat."""


def jacobian(outputs: Outputs, items: Sequence[Any], names: Sequence[str]) -> tuple[Tensor, Rows]:
    """Return outputs [N, C] and gradients."""
    params = {name: param for name, param in outputs.model.named_parameters(remove_duplicate=False) if name in names}
    before = {name: param.requires_grad for name, param in params.items()}
    values, rows = [], []
    with torch.enable_grad(), evaluating(outputs.model):
        for param in params.values():
            param.requires_grad_(True)
        for item in items:
            scores = outputs.scores(outputs.collate([item]))[0]
            found = [scores[1] - scores[0]] if outputs.difference else list(scores)
            row = []
            for value in found:
                grads = torch.autograd.grad(value, list(params.values()), retain_graph=True, allow_unused=True)
                row.append(
                    {
                        name: (torch.zeros_like(param) if grad is None else grad).detach().double().reshape(-1)
                        for (name, param), grad in zip(params.items(), grads, strict=True)
                    }
                )
            rows.append(row)
            values.append(torch.stack(found).detach().double())
        for name, param in params.items():
            param.requires_grad_(before[name])
    return torch.stack(values), rows


def nothing(gradient: Tensor, largest: float) -> Tensor:
    """Return the gradient itself."""
    return gradient


def sign(gradient: Tensor, largest: float) -> Tensor:
    """Return signs; what is but rounding, next to the largest gradient there is, has none."""
    return gradient.sign() * (gradient.abs() > 1e-12 * largest)


MAPS: Mapping[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "sgd": (nothing, nothing),
    "signgd": (sign, sign),
    "asymmetric-signgd": (sign, nothing),
    "asymmetric-signgd-flipped": (nothing, sign),
}


def kernel(formula: str, rows: Rows, columns: Rows, masks: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return K [N, C, M, C]."""
    left, right = MAPS[formula]
    largest = max(float(grad.abs().max()) for row in (*rows, *columns) for output in row for grad in output.values())
    found = torch.zeros(len(rows), len(rows[0]), len(columns), len(columns[0]), dtype=torch.float64)
    for n, row in enumerate(rows):
        for c, one in enumerate(row):
            for m, column in enumerate(columns):
                for d, other in enumerate(column):
                    for name in one:
                        products = left(one[name], largest) * right(other[name], largest)
                        if masks and name in masks:
                            products = products * masks[name].reshape(-1)
                        found[n, c, m, d] += products.sum()
    return found


def norms(formula: str, rows: Rows, side: int) -> Tensor:
    """Return the norms of the gradients, mapped as those of rows (0) or columns (1) are, [N, C]."""
    map_ = MAPS[formula][side]
    largest = max(float(grad.abs().max()) for row in rows for output in row for grad in output.values())
    return torch.tensor(
        [[sum(float(map_(g, largest).square().sum()) for g in one.values()) ** 0.5 for one in row] for row in rows],
        dtype=torch.float64,
    )
