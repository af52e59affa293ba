"""What a trajectory begins with: all that is needed to make its optimizer again, and to know its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shoestring.config import Settings
from shoestring.errors import TrajectoryError
from shoestring.zeroth.base import OPTIMIZERS, ZerothOrder
from shoestring.zeroth.tensors import trained_tensors
from shoestring.zeroth.trajectory.codec import DIGEST_BYTES
from shoestring.zeroth.trajectory.plain import is_plain, plain

FORMAT = 2
_SHORT = 8
"""Hexadecimal digits of a tensor's digest; the digest of all together has 64."""
_NO_OPTIONS = ("params", "param_names", "optimizer")


class TensorFacts(Settings):
    """A tensor of a parameter group."""

    name: str | None
    shape: tuple[int, ...]
    dtype: str
    trained: bool
    digest: str
    """Of its values when the log began, if it is trained."""


class GroupFacts(Settings):
    """A parameter group: its tensors, and its options when the log began."""

    tensors: tuple[TensorFacts, ...]
    options: dict[str, Any]


class Header(Settings):
    """Which optimizer, with which settings, on which weights."""

    format: int = FORMAT
    optimizer: str
    """Name in the registry."""
    settings: dict[str, Any]
    """What its constructor was given."""
    common: dict[str, Any]
    """Directions, engine, rounding and what a loss that is not finite does, as they are in effect."""
    groups: tuple[GroupFacts, ...]
    start: int
    """Steps it had made when the log began."""
    fresh: bool
    """Whether it had no state of its own then; else a replay begins with a snapshot."""
    weights: str
    """Digest of the trained weights then."""
    frozen: str | None
    """Digest of the model's other weights, where the model was given."""
    device: str
    about: dict[str, Any]
    """What whoever wrote the log says of it: model, tuning, run, ..."""

    def tensors(self) -> list[TensorFacts]:
        """Return the tensors of all groups, in order."""
        return [tensor for group in self.groups for tensor in group.tensors]


def header_of(optimizer: ZerothOrder, model: nn.Module | None, about: dict[str, Any]) -> Header:
    """Return the header of a log that begins now; `finalize()` has been called.

    Raises:
        TrajectoryError: if the optimizer is not registered, so that no replay could make it again.
    """
    trained = {id(tensor.param): tensor for tensor in trained_tensors(optimizer.param_groups)}
    groups = []
    for group in optimizer.param_groups:
        names = group.get("param_names") or [None] * len(group["params"])
        facts = tuple(
            TensorFacts(
                name=name,
                shape=tuple(param.shape),
                dtype=str(param.dtype).removeprefix("torch."),
                trained=id(param) in trained,
                digest=short_digest(param) if id(param) in trained else "",
            )
            for name, param in zip(names, group["params"], strict=True)
        )
        groups.append(GroupFacts(tensors=facts, options=options_of(group)))
    params = [tensor.param for tensor in trained.values()]
    return Header(
        optimizer=name_of(optimizer),
        settings={name: plain(value) for name, value in optimizer.given.items()},
        common=common_of(optimizer),
        groups=tuple(groups),
        start=optimizer.shared["steps"],
        fresh=not optimizer.state,
        weights=digest(params),
        frozen=frozen_digest(model, params) if model is not None else None,
        device=params[0].device.type if params else "cpu",
        about=about,
    )


def name_of(optimizer: ZerothOrder) -> str:
    """Return the registered name of an optimizer.

    Raises:
        TrajectoryError: if it has none.
    """
    for name, entry in OPTIMIZERS.items():
        if type(optimizer) is entry:
            return name
    raise TrajectoryError(
        f"{type(optimizer).__name__} is not registered, so no log of it could be replayed; register it: "
        '@OPTIMIZERS.register("name")'
    )


def common_of(optimizer: ZerothOrder) -> dict[str, Any]:
    """Return what decides the steps of any optimizer beside the options of its groups."""
    return {
        "directions": plain(optimizer.directions),
        "engine": kind_of(optimizer.engine_name),
        "rounding": optimizer.rounding,
        "nonfinite": optimizer.nonfinite,
    }


def kind_of(engine: str | Mapping[str, Any]) -> str:
    """Return the name of an engine, whatever its options: these change no weights."""
    return engine if isinstance(engine, str) else str(engine.get("kind"))


def options_of(group: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the options of a parameter group, as plain values; those that are none are left out."""
    return {name: plain(value) for name, value in group.items() if name not in _NO_OPTIONS and is_plain(value)}


def digest(tensors: Iterable[Tensor]) -> str:
    """Return the SHA-256 of dtypes, shapes and bytes of tensors, in order."""
    sha = hashlib.sha256()
    for tensor in tensors:
        values = tensor.detach()
        sha.update(f"{values.dtype}{list(values.shape)}".encode())
        sha.update(values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def short_digest(tensor: Tensor) -> str:
    """Return a digest that tells which of some tensors changed, short enough to be kept for each."""
    return digest([tensor])[:_SHORT]


def mark_of(optimizer: ZerothOrder) -> bytes:
    """Return a digest of the trained weights as they are."""
    found = digest(tensor.param for tensor in trained_tensors(optimizer.param_groups))
    return bytes.fromhex(found)[:DIGEST_BYTES]


def frozen_digest(model: nn.Module, trained: Iterable[Tensor]) -> str:
    """Return the digest of all that a model's state holds beside its trained weights, tied weights once."""
    seen = {tensor.data_ptr() for tensor in trained}
    rest = []
    for _, tensor in sorted(model.state_dict(keep_vars=True).items()):
        if isinstance(tensor, Tensor) and tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            rest.append(tensor)
    return digest(rest)
