"""Guards: what makes a zeroth-order estimate meaningless is refused, or said, at the first evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from shoestring.errors import OptimizerError
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.update import TermsUpdate, Update

_LOG = logging.getLogger(__name__)
GETTER = type(Tensor.shape.__get__)  # pyright: ignore[reportAttributeAccessIssue]


def _argument(args: Sequence[Any], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return kwargs[name] if name in kwargs else args[place] if place < len(args) else None


def _dropout(args: Sequence[Any], kwargs: dict[str, Any]) -> str | None:
    share, active = _argument(args, kwargs, 1, "p"), _argument(args, kwargs, 2, "training")
    active = kwargs.get("train", active)
    return f"dropout with p={share}" if active and (share is None or share > 0) else None


def _attention(args: Sequence[Any], kwargs: dict[str, Any]) -> str | None:
    share = _argument(args, kwargs, 4, "dropout_p")
    return f"attention with dropout_p={share}" if share else None


def _batch_norm(args: Sequence[Any], kwargs: dict[str, Any]) -> str | None:
    return "batch_norm in training mode" if _argument(args, kwargs, 5, "training") else None


_NAMES = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
RANDOM: dict[Any, Callable[[Sequence[Any], dict[str, Any]], str | None]] = {
    **{getattr(functional, name): _dropout for name in _NAMES},
    **{getattr(torch, name): _dropout for name in ("dropout", "alpha_dropout", "feature_dropout", "native_dropout")},
    functional.scaled_dot_product_attention: _attention,
    functional.batch_norm: _batch_norm,
    torch.batch_norm: _batch_norm,
}
"""Functions that may be random or depend on other examples, and what says whether a call is."""


def refuse_randomness(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Refuse a call that differs from evaluation to evaluation, or from batch to batch.

    Raises:
        OptimizerError: if `func`, one of `RANDOM`, is called so.
    """
    what = RANDOM[func](args, kwargs)
    if what is not None:
        raise OptimizerError(
            f"the forward pass uses {what}: losses at two points would differ for other reasons than the weights; "
            "call model.eval() before the step"
        )


class Refusal(TorchFunctionMode):
    """Refuses randomness in a forward pass."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Look at one call."""
        kwargs = kwargs or {}
        if type(func) is not GETTER and func in RANDOM:
            refuse_randomness(func, args, kwargs)
        return func(*args, **kwargs)


class Watch(TorchFunctionMode):
    """Refuses randomness in a forward pass, and notes which trained tensors it reads.

    Attributes:
        precision: the least precise floating dtype seen.
    """

    def __init__(self, tensors: Iterable[Trained]) -> None:
        super().__init__()
        self._unread = {id(tensor.param): tensor for tensor in tensors}
        self._trained = len(self._unread)
        self._parameters = 0
        self.precision = torch.float64

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Look at one call."""
        kwargs = kwargs or {}
        if type(func) is not GETTER or func in TENSOR_GETTERS:
            if func in RANDOM:
                refuse_randomness(func, args, kwargs)
            self._note(args)
            self._note(kwargs.values())
        return func(*args, **kwargs)

    def _note(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, Tensor):
                self._unread.pop(id(value), None)
                self._parameters += isinstance(value, nn.Parameter)
                if value.is_floating_point() and value.dtype.itemsize < self.precision.itemsize:
                    self.precision = value.dtype
            elif type(value) in (list, tuple):
                self._note(value)

    @property
    def forward_seen(self) -> bool:
        """Whether there was a forward pass at all, not a replayed loss."""
        return self._parameters > 0 or len(self._unread) < self._trained

    def report(self) -> None:
        """Say which trained tensors were never read.

        Raises:
            OptimizerError: if a LoRA factor is among them: merged, or of an adapter that is not active.
        """
        names = [tensor.name for tensor in self._unread.values()]
        factors = [name for name in names if "lora_" in name]
        if factors:
            raise OptimizerError(
                f"the forward pass never reads {listed(factors)}: a merged LoRA adapter, or one that is not active? "
                "Unmerge it (model.unmerge_adapter()) or choose it (model.set_adapter(...)) before training"
            )
        if names:
            _LOG.warning("the forward pass never reads %s; directions move them at random", listed(names))


TENSOR_GETTERS = frozenset(getattr(Tensor, name).__get__ for name in ("data", "T", "mT", "H", "mH", "real", "imag"))
"""Properties of a tensor that are tensors made of its values."""


def warn_of_resolution(tensors: Iterable[Trained], points: Points) -> None:
    """Say where perturbations are smaller than half a unit in the last place of half-precision weights."""
    size = max((abs(number) for row in points.coefficients for number in row), default=0.0)
    lost = [found for found in map(_half_unit, tensors) if size and found[1] > size]
    if lost:
        tensor, unit, median = max(lost, key=lambda found: found[1])
        _LOG.warning(
            "perturbations of size %.3g are below half a unit in the last place (%.2g at median |w| = %.2g) of %s in "
            "%d tensors, such as %s: most of their weights do not move; a larger eps or float32 weights help",
            size, unit, median, tensor.param.dtype, len(lost), tensor.name,
        )  # fmt: skip


def warn_of_lost_updates(tensors: Iterable[Trained], update: Update) -> None:
    """Say where updates, rounded to the nearest, are too small to move half-precision weights."""
    if not isinstance(update, TermsUpdate) or update.rounding is not None:
        return
    largest = max((abs(coefficient) for _, coefficient in update.terms), default=0.0)
    lost = []
    for tensor in tensors:
        move = update.rates[tensor.group].lr * largest
        found = _half_unit(tensor)
        if 0 < move < found[1]:
            lost.append((*found, move))
    if lost:
        tensor, unit, median, move = max(lost, key=lambda found: found[1])
        _LOG.warning(
            "updates of size %.3g (lr times projected gradient) are below half a unit in the last place (%.2g at "
            'median |w| = %.2g) of %s in %d tensors, such as %s: most are lost; rounding="stochastic" keeps their mean',
            move, unit, median, tensor.param.dtype, len(lost), tensor.name,
        )  # fmt: skip


def _half_unit(tensor: Trained) -> tuple[Trained, float, float]:
    """Return a tensor with half a unit in the last place at its median |w|, and that; 0 where precision is full."""
    dtype = tensor.param.dtype
    if torch.finfo(dtype).bits > 16 or not tensor.param.numel():
        return tensor, 0.0, 0.0
    flat = tensor.flat
    some = flat[:: max(1, len(flat) // 4096)].float().abs()
    median = some.median()
    return tensor, float(torch.exp2(median.log2().floor())) * torch.finfo(dtype).eps / 2, float(median)


def listed(names: Sequence[str], shown: int = 4) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
