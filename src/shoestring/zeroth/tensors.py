"""A tensor that is trained: its weights, and the key its directions are made from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from shoestring.errors import OptimizerError
from shoestring.seeds import derive


@dataclass(frozen=True, eq=False)
class Trained:
    """A tensor that requires a gradient.

    Attributes:
        key: of its directions; a hash of its name, or its place where the optimizer was given tensors without names.
        name: its name, or `#place`.
        param: the tensor itself.
        group: place of its parameter group.
    """

    key: int
    name: str
    param: Tensor
    group: int

    @property
    def flat(self) -> Tensor:
        """The weights as one axis, sharing memory."""
        return self.param.data.view(-1)


def trained_tensors(param_groups: list[dict[str, Any]]) -> list[Trained]:
    """Return the tensors of an optimizer's groups that require a gradient, in order.

    With names (`model.named_parameters()`), a tensor's directions do not depend on which others are trained, or how
    they are grouped.

    Raises:
        OptimizerError: if one has no memory (it is on the meta device), or none that can be seen as one axis, or a
            dtype that directions are not made for; if two have the same name, or share memory.
    """
    found, place = [], 0
    for number, group in enumerate(param_groups):
        names = group.get("param_names")
        for offset, param in enumerate(group["params"]):
            if param.requires_grad:
                name = names[offset] if names is not None else f"#{place}"
                _check(name, param)
                found.append(Trained(key_of(name) if names is not None else place, name, param, number))
            place += 1
    _check_names(found)
    _check_memory(found)
    return found


@cache
def key_of(name: str) -> int:
    """Return the key of a tensor's directions: 63 bits of a hash of its name."""
    return derive(0, "tensor", name)


def _check(name: str, param: Tensor) -> None:
    if param.is_meta:
        raise OptimizerError(
            f"tensor {name} is on the meta device: it has no values to perturb; load the weights first"
        )
    if param.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise OptimizerError(
            f"tensor {name} is {param.dtype}; weights must be float16, bfloat16, float32 or float64: freeze it, or "
            "convert it before training"
        )
    if not param.is_contiguous():
        raise OptimizerError(
            f"tensor {name} of shape {list(param.shape)} is not contiguous; make it so before training: "
            "param.data = param.data.contiguous()"
        )


def _check_names(tensors: list[Trained]) -> None:
    counts = Counter(tensor.name for tensor in tensors)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise OptimizerError(
            f"{counts[twice]} tensors are named {twice}: they would be moved along the same direction; name those of "
            f'several models apart, as in [("first.{twice}", ...), ("second.{twice}", ...)]'
        )


def _check_memory(tensors: list[Trained]) -> None:
    """Refuse tensors that overlap: each would be perturbed without the other, or both in place, one after the other."""
    spans = sorted(
        (tensor.param.data_ptr(), tensor.param.data_ptr() + tensor.param.nbytes, tensor.name)
        for tensor in tensors
        if tensor.param.numel() and tensor.param.data_ptr()
    )
    for (_, end, name), (start, _, other) in pairwise(spans):
        if start < end:
            raise OptimizerError(
                f"tensors {name} and {other} share memory: make them one parameter (module.weight = other.weight), or "
                "freeze one of them"
            )
