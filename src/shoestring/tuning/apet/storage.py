"""Deltas on disk: one small file of positions and values, whose header says what they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shoestring.errors import ModelError
from shoestring.tuning.apet.delta import attach, deltas
from shoestring.tuning.apet.sites import sites_of

FILE = "delta.safetensors"
_FORMAT = "delta-1"
_HEADER = "shoestring"
_INDEX, _VALUES, _WHOLE = "index", "values", "whole."


@dataclass(frozen=True)
class Stored:
    """What a file holds.

    Attributes:
        chosen: by the name of a tensor, positions in it and what is added there.
        whole: tensors that were trained whole.
        about: what the header says of the tuning and its base.
    """

    chosen: Mapping[str, tuple[Tensor, Tensor]]
    whole: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)


def collect(model: nn.Module, about: Mapping[str, Any] | None = None) -> Stored:
    """Return what was tuned in a model: the deltas of its modules, and the tensors that require gradients."""
    chosen: dict[str, tuple[Tensor, Tensor]] = {}
    inside = set()
    for place, _, delta in deltas(model):
        for name in delta.held():
            full = f"{place}.{name}" if place else name
            chosen[full] = delta.index(name), delta.values(name).detach()
            inside.add(id(delta.values(name)))
    trained = ((name, param) for name, param in model.named_parameters() if param.requires_grad)
    whole = {name: param.detach() for name, param in trained if id(param) not in inside}
    return Stored(chosen, whole, about or {})


def write(stored: Stored, folder: Path) -> None:
    """Write `delta.safetensors`: all positions in one tensor, all values in another, names and counts in the header."""
    from safetensors.torch import save_file

    index, values = zip(*stored.chosen.values(), strict=True) if stored.chosen else ((), ())
    tensors = {f"{_WHOLE}{name}": tensor.cpu().contiguous() for name, tensor in stored.whole.items()}
    if index:
        places = torch.cat([one.cpu() for one in index])
        tensors[_INDEX] = places.to(torch.int32) if int(places.max()) < 2**31 else places
        tensors[_VALUES] = torch.cat([one.cpu() for one in values])
    counts = {name: len(one) for name, one in zip(stored.chosen, index, strict=True)}
    header = {"format": _FORMAT, "counts": counts, "about": dict(stored.about)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / FILE, {_HEADER: json.dumps(header)})  # One entry: several have no order of their own.


def read(folder: Path) -> Stored:
    """Read `delta.safetensors`.

    Raises:
        ModelError: if it is not there, is damaged, or is something else.
    """
    from safetensors import SafetensorError, safe_open

    place = folder / FILE
    try:
        with safe_open(place, "pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if header.get("format") != _FORMAT:
            raise ModelError(f"{place} is of format {header.get('format')!r}, and this version reads {_FORMAT!r}")
        counts, about = header["counts"], header["about"]
        empty = torch.empty(0)
        index = tensors.pop(_INDEX, empty).to(torch.int64).split(list(counts.values()))
        values = tensors.pop(_VALUES, empty).split(list(counts.values()))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelError(f"{place} cannot be read: {error}") from error
    chosen = dict(zip(counts, zip(index, values, strict=True), strict=True))
    return Stored(chosen, {name.removeprefix(_WHOLE): value for name, value in tensors.items()}, about)


def put(stored: Stored, model: nn.Module, place: str) -> None:
    """Put what a file holds onto a model, and let exactly that be trained.

    Raises:
        ModelError: if the model lacks a tensor, has it in another shape, or has been tuned already.
    """
    sites = {site.name: site for site in sites_of(model)}
    sizes = {name: int(index.max()) + 1 for name, (index, _) in stored.chosen.items() if len(index)}
    for name in [*stored.chosen, *stored.whole]:
        site = sites.get(name)
        if site is None:
            raise ModelError(f"{place} holds weights of {name}, which {type(model).__name__} has not")
        wrong = name in stored.whole and stored.whole[name].shape != site.param.shape
        if wrong or sizes.get(name, 0) > site.size:
            raise ModelError(f"{place} holds weights of {name} that do not fit into its {list(site.param.shape)} here")
    model.requires_grad_(False)
    attach([sites[name] for name in stored.chosen], {name: index for name, (index, _) in stored.chosen.items()})
    for name, _, delta in deltas(model):
        for held in delta.held():
            delta.values(held).data.copy_(stored.chosen[f"{name}.{held}" if name else held][1])
    for name, value in stored.whole.items():
        sites[name].param.data.copy_(value)
        sites[name].param.requires_grad_(True)
