"""Deltas: what is added to a few chosen weights, kept as positions and values; the weights stay as they are.

A module with chosen weights gets a child, `delta`. A tensor w of it then counts as

    w + scatter(values, index)        values: the trained tensor [k], zero at first

in one of two ways, which are each other's twin: *dense*, where whoever reads the tensor from the module gets that sum,
and *sparse* (`ways`), where the module itself computes with w, and what the values do is added to its output. Others
that read the tensor get the sum there too: DeBERTa has tables that it never calls, and some that it calls and reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, cast

import torch
from torch import Tensor, nn

from shoestring.errors import ModelError
from shoestring.tuning.apet.sites import Site
from shoestring.tuning.apet.ways import Chosen, Way, pays, way_of

NAME = "delta"
_INDEX = "_index"


@dataclass(frozen=True)
class Elsewhere:
    """Where the values of a tied tensor are: with the module that has it first."""

    delta: Delta
    name: str


class Delta(nn.Module):
    """The chosen weights of one module: for each of its tensors the parameter `<tensor>` and buffer `<tensor>_index`.

    The parameters of the module itself, their names and its state dict stay as they are; a deep copy of it has a delta
    of its own. A module with a delta cannot be pickled, as one that torch has parametrised.
    """

    def __init__(self) -> None:
        super().__init__()
        self._elsewhere: dict[str, Elsewhere] = {}
        self._sparse: dict[str, Way] = {}
        self._inside = False

    def hold(self, name: str, base: Tensor, index: Tensor) -> None:
        """Keep values and positions of a tensor of the module; values are at least of single precision."""
        dtype = torch.promote_types(base.dtype, torch.float32)
        self.register_parameter(name, nn.Parameter(torch.zeros(len(index), dtype=dtype, device=base.device)))
        self.register_buffer(name + _INDEX, index.to(base.device))

    def share(self, name: str, delta: Delta, there: str) -> None:
        """Take values and positions of a tied tensor from another module's delta."""
        self._elsewhere[name] = Elsewhere(delta, there)

    def values(self, name: str) -> nn.Parameter:
        """Return what is added to the chosen weights of a tensor [k]."""
        other = self._elsewhere.get(name)
        # Read as it stands: torch.func puts dual numbers in its place, which are no `nn.Parameter`.
        return own(self, name) if other is None else other.delta.values(other.name)

    def index(self, name: str) -> Tensor:
        """Return the positions of the chosen weights in the flattened tensor [k], ascending."""
        other = self._elsewhere.get(name)
        return self.get_buffer(name + _INDEX) if other is None else other.delta.index(other.name)

    def held(self) -> Iterator[str]:
        """Yield the names of tensors whose values are here, not elsewhere."""
        yield from self._parameters

    def whole(self, name: str, base: Tensor) -> Tensor:
        """Return a tensor with what is added to its chosen weights, in the dtype of `base`."""
        values = self.values(name)
        flat = base.detach().reshape(-1).to(values.dtype)
        return flat.index_add(0, self.index(name), values).view(base.shape).to(base.dtype)

    def join(self, module: nn.Module, places: Mapping[str, Tensor], dense: bool | None) -> None:
        """Take part in what the module computes from now on.

        Args:
            module: the module that this is the delta of.
            places: positions of all its tensors that have chosen weights, those elsewhere included.
            dense: the way to take; None: whichever costs less.
        """
        for name, index in places.items():
            way = way_of(module, name)
            if way is not None and not dense and (dense is False or pays(module, own(module, name), index)):
                self._sparse[name] = way
        module.add_module(NAME, self)
        module.__class__ = _summed(type(module), tuple(places), bool(self._sparse))

    def leave(self, module: nn.Module) -> None:
        """Take no part any more, and leave the module as it was."""
        module.__class__ = type(module).__base__ or nn.Module
        delattr(module, NAME)

    def read(self, module: nn.Module, name: str) -> Tensor:
        """Return what reading a tensor of the module gives: the sum; the tensor itself in a pass with it beside."""
        base = own(module, name)
        return base if self._inside and name in self._sparse else self.whole(name, base)

    def beside(self, module: nn.Module, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the output of the module, given its own forward and what it is called with."""
        self._inside = True
        try:
            out = forward(module, *args, **kwargs)
        finally:
            self._inside = False
        x = args[0] if args else next(iter(kwargs.values()))
        for name, way in self._sparse.items():
            width = own(module, name).shape[1]
            out = way(module, x, out, Chosen(self.index(name), self.values(name), width))
        return out


def attach(sites: Sequence[Site], chosen: Mapping[str, Tensor], *, dense: bool | None = None) -> None:
    """Make values for the chosen positions of some tensors, zero at first, and freeze the tensors themselves.

    Args:
        sites: the tensors.
        chosen: positions, ascending, by name of the tensor.
        dense: the way that all take where there are two; by default the cheaper one for each.

    Raises:
        ModelError: if a module has a delta already.
    """
    fresh: dict[int, tuple[nn.Module, Delta, dict[str, Tensor]]] = {}
    for site in sites:
        index = chosen.get(site.name)
        if index is None:
            continue
        for place, (module, name) in enumerate(site.owners):
            if id(module) not in fresh:
                if hasattr(module, NAME):
                    what = f"{site.name}: its module has a {NAME!r} already"
                    raise ModelError(f"{what}; merge what was tuned before, or load the model anew")
                fresh[id(module)] = module, Delta(), {}
            _, delta, places = fresh[id(module)]
            places[name] = index
            if place == 0:
                delta.hold(name, site.param, index)
            else:
                first, there = site.owners[0]
                delta.share(name, fresh[id(first)][1], there)
    for module, delta, places in fresh.values():
        for name in places:
            own(module, name).requires_grad_(False)
        delta.join(module, places, dense)


def deltas(model: nn.Module) -> list[tuple[str, nn.Module, Delta]]:
    """Return the name of every module that has a delta, the module and the delta."""
    found = [(name, module, module._modules.get(NAME)) for name, module in model.named_modules()]
    return [(name, module, delta) for name, module, delta in found if isinstance(delta, Delta)]


def positions(model: nn.Module) -> dict[str, Tensor]:
    """Return the positions of the chosen weights by the name that their values have as a parameter of the model."""
    return {
        ".".join(part for part in (place, NAME, name) if part): delta.index(name)
        for place, _, delta in deltas(model)
        for name in delta.held()
    }


@torch.no_grad()
def fold(model: nn.Module) -> None:
    """Add what was trained to the weights, and leave plain modules behind."""
    found = deltas(model)
    for _, module, delta in found:
        for name in delta.held():
            base = own(module, name)
            base.data.copy_(delta.whole(name, base))
    for _, module, delta in found:
        delta.leave(module)


def own(module: nn.Module, name: str) -> nn.Parameter:
    """Return a parameter of a module, as it is kept."""
    return cast("nn.Parameter", module._parameters[name])


@cache
def _summed(kind: type[nn.Module], names: tuple[str, ...], sparse: bool) -> type[nn.Module]:
    """Return a class of modules that differs from `kind` in what reading some of its parameters gives: the sum.

    So it does not matter who reads them: the module itself, or another that it is a container for. `get_parameter`
    gives the parameter, as it is kept. Where some are `sparse`, the forward pass has its delta beside it.
    """

    def reading(name: str) -> property:
        return property(lambda module: module._modules[NAME].read(module, name))

    def get_parameter(module: nn.Module, target: str) -> nn.Parameter:
        return own(module, target) if target in names else kind.get_parameter(module, target)

    @wraps(kind.forward)
    def forward(module: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        return cast("Delta", module._modules[NAME]).beside(module, kind.forward, *args, **kwargs)

    fields: dict[str, Any] = {name: reading(name) for name in names}
    fields |= {"get_parameter": get_parameter} | ({"forward": forward} if sparse else {})
    return type(kind.__name__, (kind,), fields | {"__module__": kind.__module__, "__doc__": kind.__doc__})
