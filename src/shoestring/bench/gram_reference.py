"""Kernels as the reference computes them: what ours are compared with."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, jacrev, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from shoestring.models.batch import Batch

Jacobian = dict[str, Tensor]
"""df / dtheta by parameter [n, C, *shape]."""
FORMULAS = ("sgd", "asymmetric-signgd", "signgd")


class ReferenceKernel:
    """LM-Kernel-FT's kernels with the operations of its published code, in our own words.

    For each block of rows: their Jacobian in reverse mode. For each block of columns: for sgd and asymmetric-signgd a
    forward-mode product for every row, output and column, along the row's gradient or its sign; for signgd the Jacobian
    of the columns too, and products of signs in float64.

    Source: princeton-nlp/LM-Kernel-FT src/kernel_trainer.py `compute_kernel_outer`, `compute_kernel_inner`.

    Args:
        model: a masked or causal model.
        logits: from the output of the model and a batch to outputs [n, C].
    """

    def __init__(self, model: Any, logits: Any) -> None:
        self._model, self._logits = model, logits
        self._params = {name: param.detach() for name, param in model.named_parameters()}
        with warnings.catch_warnings(), forward_ad.dual_level():
            # The first dual number of a process makes torch load rules that are written with what it has deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            forward_ad.make_dual(torch.zeros(()), torch.zeros(()))

    def outputs(self, params: dict[str, Tensor], batch: Batch) -> Tensor:
        """Return f [n, C] at some weights."""
        with sdpa_kernel(SDPBackend.MATH):  # the only attention that has tangents
            return self._logits(lambda inputs: functional_call(self._model, params, (), inputs), batch)

    def jacobian(self, batch: Batch) -> Jacobian:
        """Return the Jacobian of a block."""
        found: Any = jacrev(lambda params: self.outputs(params, batch))(self._params)
        return found

    def rows(self, formula: str, batch: Batch) -> Jacobian:
        """Return what the rows of a block are multiplied by."""
        found = self.jacobian(batch)
        return {n: grad.sign() for n, grad in found.items()} if formula == "asymmetric-signgd" else found

    def block(self, formula: str, rows: Jacobian, batch: Batch) -> Tensor:
        """Return the kernel of a block of rows and one of columns, [n, C, m, C] in float64."""
        if formula == "signgd":
            columns = self.jacobian(batch)
            parts = (torch.einsum("ncw,mdw->ncmd", _signs(grad), _signs(columns[name])) for name, grad in rows.items())
            return torch.stack([part.cpu() for part in parts]).sum(0)

        def product(tangents: dict[str, Tensor]) -> Tensor:
            found: Any = jvp(lambda params: self.outputs(params, batch), (self._params,), (tangents,))
            return found[1]

        return vmap(vmap(product))(rows).double().cpu()


def _signs(grad: Tensor) -> Tensor:
    return grad.sign().flatten(2).double()


def blocks(count: int, size: int) -> Iterator[Sequence[int]]:
    """Yield the numbers of each block."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
