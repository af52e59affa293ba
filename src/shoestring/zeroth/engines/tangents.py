"""Slopes by forward-mode differentiation: one pass over dual numbers, no finite difference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from shoestring.errors import OptimizerError
from shoestring.zeroth.closures import Closure
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.engines.guards import Refusal
from shoestring.zeroth.tensors import Trained


def slope(closure: Closure, tensors: Sequence[Trained], directions: Directions, seed: int) -> tuple[float, float]:
    """Return the loss and its slope along z(seed), exact up to rounding.

    Memory: the direction, as large as the weights it touches, and a tangent beside every activation that is alive.

    Raises:
        OptimizerError: if the loss has no tangent: it is a number, detached, or made by operations without one; or if
            the forward pass is random.
    """
    directions.prepare(tensors)
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):  # The only attention that has tangents.
        duals = {id(t.param): _dual(t, directions, seed) for t in tensors if directions.touches(t)}
        with Refusal(), _Substitution(duals):
            loss = closure()
        tangent = forward_ad.unpack_dual(loss).tangent if isinstance(loss, Tensor) else None
        if not isinstance(loss, Tensor) or tangent is None:
            raise OptimizerError(
                "the closure's loss has no tangent: it is a number, detached, or made by operations without a "
                "derivative, such as accuracy; a zeroth-order optimizer with finite differences takes any loss"
            )
        return float(loss.detach()), float(tangent)


def _dual(tensor: Trained, directions: Directions, seed: int) -> Tensor:
    z = torch.empty(tensor.param.numel(), dtype=torch.float32, device=tensor.param.device)
    directions.fill(z, tensor, seed)
    with warnings.catch_warnings():
        # The first dual number of a process makes torch load rules that are written with what it has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        return forward_ad.make_dual(tensor.param.detach(), z.to(tensor.param.dtype).view_as(tensor.param))


class _Substitution(TorchFunctionMode):
    """Puts other tensors in the place of some, told by identity, in every torch function that is called."""

    def __init__(self, others: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._others = others

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*self._put(args), **self._put(kwargs or {}))

    def _put(self, thing: Any) -> Any:
        if isinstance(thing, Tensor):
            return self._others.get(id(thing), thing)
        if type(thing) in (tuple, list):
            return type(thing)(self._put(part) for part in thing)
        if type(thing) is dict:
            return {name: self._put(part) for name, part in thing.items()}
        return thing
