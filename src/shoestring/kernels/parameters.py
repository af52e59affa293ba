"""Which weights a Jacobian is taken with respect to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from shoestring.errors import KernelError, UnknownNameError

Named = dict[str, nn.Parameter]


def chosen(model: nn.Module, names: Iterable[str] | None = None) -> Named:
    """Return parameters by name, in the model's order, a tied one once, under the first of its names.

    Args:
        model: the model.
        names: the chosen ones, which may be frozen; unless given, those that require gradients.

    Raises:
        UnknownNameError: if the model has no such parameter.
        KernelError: if nothing is chosen.
    """
    params = dict(model.named_parameters())
    if names is None:
        found = {name: param for name, param in params.items() if param.requires_grad}
    else:
        every = dict(model.named_parameters(remove_duplicate=False))
        wanted = set()
        for name in names:
            if name not in every:
                raise UnknownNameError("parameter", name, every)
            wanted.add(id(every[name]))
        found = {name: param for name, param in params.items() if id(param) in wanted}
    if not found:
        raise KernelError("no parameter is chosen, so there is no Jacobian: name some, or let some require gradients")
    return found


def matrix_shape(param: Tensor) -> tuple[int, int]:
    """Return a parameter's first axis, and the others as one.

    >>> matrix_shape(torch.empty(4, 3, 2)), matrix_shape(torch.empty(4)), matrix_shape(torch.empty(()))
    ((4, 6), (4, 1), (1, 1))
    """
    if param.ndim == 0:
        return 1, 1
    return param.shape[0], param.numel() // max(1, param.shape[0])


def layer_of(name: str) -> str:
    """Return the layer of a parameter's name: up to the first number, or "embeddings", "head" or "rest".

    >>> layer_of("roberta.encoder.layer.11.attention.self.query.weight"), layer_of("lm_head.bias")
    ('roberta.encoder.layer.11', 'head')
    """
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), None)
    if number is not None:
        return ".".join(parts[: number + 1])
    if any("embed" in part or part in ("wte", "wpe", "shared") for part in parts):
        return "embeddings"
    return "head" if any("head" in part or part in ("classifier", "score", "cls") for part in parts) else "rest"


def checked_masks(masks: Mapping[str, Tensor], params: Named) -> dict[str, Tensor]:
    """Return masks as matrices, bool [rows, width].

    Raises:
        KernelError: if a mask is of no chosen parameter, not boolean, or of another shape.
    """
    found = {}
    for name, mask in masks.items():
        if name not in params:
            raise KernelError(f"there is a mask for {name}, which is not among the chosen parameters")
        if mask.dtype != torch.bool or mask.shape != params[name].shape:
            raise KernelError(
                f"the mask of {name} is {mask.dtype} of shape {list(mask.shape)}; it must be boolean of the weight's "
                f"shape {list(params[name].shape)}"
            )
        found[name] = mask.reshape(matrix_shape(params[name])).to(params[name].device)
    return found
