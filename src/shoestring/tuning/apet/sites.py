"""Where weights can be chosen: the tensors of a model, and the modules that own them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import nn

from shoestring.errors import ModelError
from shoestring.tuning.names import nearest


@dataclass(frozen=True, eq=False)
class Site:
    """A tensor of a model.

    Attributes:
        name: its name among the model's parameters.
        param: the tensor.
        owners: the modules that have it, with its name there; several for tied weights, the first is that of `name`.
        aliases: its names, one an owner.
    """

    name: str
    param: nn.Parameter
    owners: tuple[tuple[nn.Module, str], ...]
    aliases: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.param.numel()

    @property
    def rows(self) -> int:
        """Number of rows of a matrix (slices along the first axis of any tensor); a tensor of one axis is one row."""
        return len(self.param) if self.param.ndim > 1 else 1


def sites_of(model: nn.Module, leave_out: Collection[str] = ()) -> list[Site]:
    """Return the tensors of floating numbers, in the order of `named_parameters`, but those named in `leave_out`."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    aliases: dict[int, list[str]] = {}
    for place, module in model.named_modules():
        for attribute, param in module._parameters.items():
            if param is not None:
                owners.setdefault(id(param), []).append((module, attribute))
                aliases.setdefault(id(param), []).append(f"{place}.{attribute}" if place else attribute)
    return [
        Site(name, param, tuple(owners[id(param)]), tuple(aliases[id(param)]))
        for name, param in model.named_parameters()
        if name not in leave_out and param.is_floating_point() and param.numel()
    ]


def within(sites: Sequence[Site], scope: str | None) -> list[Site]:
    """Return the tensors of which a name matches `scope`, a regular expression found anywhere in it; None: all.

    Raises:
        ModelError: if none does; shows the nearest names.
    """
    if scope is None:
        return list(sites)
    found = [site for site in sites if any(re.search(scope, name) for name in site.aliases)]
    if not found:
        near = ", ".join(nearest(scope, (name for site in sites for name in site.aliases)))
        raise ModelError(f"tuning.scope={scope!r} matches no weights to choose from; the nearest are {near}")
    return found
