"""Slopes by forward-mode differentiation: one pass over dual numbers, no finite difference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from shoestring.errors import OptimizerError
from shoestring.zeroth.closures import Closure, evaluate
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.engines.audit import Audit
from shoestring.zeroth.engines.compiled import uncompiled
from shoestring.zeroth.engines.guards import Refusal, Watch
from shoestring.zeroth.tensors import Trained

_SEEN: WeakSet[Trained] = WeakSet()
"""The first of the tensors whose forward pass has been looked at; an engine made anew has others."""


def slope(closure: Closure, tensors: Sequence[Trained], directions: Directions, seed: int) -> tuple[float, float]:
    """Return the loss and its slope along z(seed), exact up to rounding.

    The first pass of an engine's tensors is watched and audited, as the paired engine's is.

    Memory: the direction, as large as the weights it touches, and a tangent beside every activation that is alive; in
    the first pass a copy of those weights too.

    Raises:
        OptimizerError: if the loss has no tangent: it is a number, detached, or made by operations without one; if it
            is no loss, or the closure calls `backward()`; if the forward pass is random, or reads trained memory past
            the tensors, which has no tangent.
    """
    directions.prepare(tensors)
    touched = [tensor for tensor in tensors if directions.touches(tensor)]
    first = any(tensor not in _SEEN for tensor in touched[:1])
    kept: list[Any] = []

    def keeping() -> Tensor | float:
        kept[:] = [closure()]
        return kept[0]

    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), uncompiled():  # The attention that has tangents.
        # A dual number shares the memory that nobody should read while this is looked at.
        duals = {id(tensor.param): _dual(tensor, directions, seed, apart=first) for tensor in touched}
        if first:
            _look(keeping, touched, duals)
        else:
            with Refusal(), _Substitution(duals):
                evaluate(keeping)
        (loss,) = kept
        tangent = forward_ad.unpack_dual(loss).tangent if isinstance(loss, Tensor) else None
        if tangent is None:
            raise OptimizerError(
                "the closure's loss has no tangent: it is a number, detached, does not depend on the weights, or is "
                "made by operations without a derivative, such as accuracy; a zeroth-order optimizer with finite "
                "differences takes any loss"
            )
        return float(loss.detach()), float(tangent)


def _look(closure: Closure, touched: Sequence[Trained], duals: Mapping[int, Tensor]) -> None:
    """Evaluate for the first time: whatever reads the tensors' memory itself would be left out of the slope."""
    audit, watch = Audit(touched), Watch(touched)
    with audit, _Substitution(duals), watch:
        evaluate(closure)
    if audit.found:
        raise OptimizerError(
            "the forward pass reads trained memory past the tensors that the optimizer was given, which has no "
            f'tangent: {audit.listed()}; finite differences can move it in place: MeZO(..., engine="fused")'
        )
    if watch.forward_seen:
        watch.report()
        _SEEN.update(touched[:1])


def _dual(tensor: Trained, directions: Directions, seed: int, *, apart: bool) -> Tensor:
    z = torch.empty(tensor.param.numel(), dtype=torch.float32, device=tensor.param.device)
    directions.fill(z, tensor, seed)
    weights = tensor.param.detach().clone() if apart else tensor.param.detach()
    with warnings.catch_warnings():
        # The first dual number of a process makes torch load rules that are written with what it has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        return forward_ad.make_dual(weights, z.to(tensor.param.dtype).view_as(tensor.param))


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
