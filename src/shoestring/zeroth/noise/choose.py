"""Which backend works for a tensor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from shoestring.errors import OptimizerError
from shoestring.zeroth.noise.base import Noise, Source
from shoestring.zeroth.noise.plain import PlainNoise

_LOG = logging.getLogger("shoestring.zeroth.noise")
_PLAIN = PlainNoise()
_FAST = {"cpu": "numba", "cuda": "triton"}
_LOST = {"numba": "thirty times slower", "triton": "many times slower and with more memory"}
_forced: list[Noise] = []


def noise_for(tensor: Tensor) -> Noise:
    """Return the fastest backend for tensors like `tensor`, or the one that `using` forces."""
    return _forced[-1] if _forced else _best(tensor.device.type)


@contextmanager
def using(name: str) -> Iterator[Noise]:
    """Make `noise_for` return one backend, whatever the tensor: "torch", "numba" or "triton" (for tests, benchmarks).

    Raises:
        OptimizerError: if there is no backend of this name, or it cannot be used here.
    """
    if name not in _MAKERS:
        raise OptimizerError(f"there is no noise backend {name!r}; choose from: {', '.join(_MAKERS)}")
    try:
        backend = _made(name)
    except Exception as error:
        raise OptimizerError(f"the noise backend {name!r} cannot be used here: {_reason(error)}") from error
    _forced.append(backend)
    try:
        yield backend
    finally:
        _forced.remove(backend)


@cache
def _best(device: str) -> Noise:
    """Return the backend for a kind of device; if it is not the fast one, say so, once in a process."""
    name = _FAST.get(device)
    if name is None:
        return _PLAIN
    try:
        backend = _made(name)
        # Compile now, or load what an earlier process compiled: what would fail later fails here.
        backend.add(torch.zeros(1, dtype=torch.float32, device=device), Source(0, "gaussian"), [(0, 1.0)])
        return backend
    except Exception as error:
        _LOG.warning(
            "random directions on %s are made by plain torch operations, %s: %s cannot be used (%s)",
            device,
            _LOST[name],
            name,
            _reason(error),
        )
        return _PLAIN


@cache
def _made(name: str) -> Noise:
    return _MAKERS[name]()


def _numba() -> Noise:
    from shoestring.zeroth.noise.numba_backend import NumbaNoise

    return NumbaNoise()


def _triton() -> Noise:
    from shoestring.zeroth.noise.triton_backend import TritonNoise

    return TritonNoise()


_MAKERS: dict[str, Callable[[], Noise]] = {"torch": PlainNoise, "numba": _numba, "triton": _triton}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
