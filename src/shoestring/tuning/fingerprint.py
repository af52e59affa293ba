"""Fingerprints: whether a model is the one that something was tuned on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shoestring.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch
    from torch import Tensor, nn

_TENSORS = 100
_PLACES = (1, 2)
_SHARE = 3  # Numbers are taken a third and two thirds of the way through a tensor.


def fingerprint(model: nn.Module, without: Iterable[str]) -> dict[str, Any]:
    """Return two numbers each of up to a hundred tensors of a model, evenly chosen, but of those called `without`.

    Numbers rather than a hash of them, so that a base model may be loaded in another precision than the one that was
    tuned.
    """
    left_out = set(without)
    held = [(name, param) for name, param in model.named_parameters() if name not in left_out and param.numel()]
    held = [(name, param) for name, param in held if param.is_floating_point()]
    table: dict[str, Any] = {}
    for name, param in held[:: -(-len(held) // _TENSORS) or 1]:
        numbers = _sample(param.detach()).tolist()
        table[_plain(name)] = [str(param.dtype).removeprefix("torch."), list(param.shape), *numbers]
    return table


def check_fingerprint(known: Mapping[str, Any], model: nn.Module, place: str) -> None:
    """Compare a base model with a fingerprint, each number in the coarser of both precisions.

    Raises:
        ModelError: if a tensor is missing, has another shape, or other numbers.
    """
    import torch

    params = {_plain(name): param for name, param in model.named_parameters(remove_duplicate=False)}
    for name, (_, shape, *_numbers) in known.items():
        if name not in params:
            raise ModelError(f"{place} was tuned on another model: {type(model).__name__} has no {name}")
        if list(params[name].shape) != shape:
            raise ModelError(
                f"{place} was tuned on another model: {name} is {list(params[name].shape)} here and was {shape} there"
            )
    for name, (dtype, _, *numbers) in known.items():
        if params[name].is_floating_point() and not _alike(params[name], numbers, getattr(torch, dtype)):
            raise ModelError(
                f"{place} was tuned on other weights: {name} differs from those here; load the model that it was "
                "tuned on"
            )


def _plain(name: str) -> str:
    return name.replace(".base_layer.", ".")  # peft's name for a layer that it has wrapped


def _sample(tensor: Tensor) -> Tensor:
    import torch

    flat, count = tensor.reshape(-1), tensor.numel()
    return torch.stack([flat[count * place // _SHARE] for place in _PLACES]).to("cpu", torch.float64)


def _alike(param: Tensor, numbers: list[float], dtype: torch.dtype) -> bool:
    """Return whether numbers agree to twice the unit in the last place of the coarser dtype."""
    import torch

    coarse = max(map(torch.finfo, (dtype, param.dtype)), key=lambda info: info.eps)
    wanted = torch.tensor(numbers, dtype=torch.float64)
    return torch.allclose(_sample(param.detach()), wanted, rtol=2 * coarse.eps, atol=coarse.tiny * coarse.eps)
