"""Noise kernels against `torch.normal` followed by `add_`, and against a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from shoestring.bench.settings import BenchSettings, KernelRow, Timed
from shoestring.bench.timing import race
from shoestring.progress import Bar
from shoestring.zeroth.noise import Distribution, noise_for
from shoestring.zeroth.noise.base import Noise, Source
from shoestring.zeroth.noise.plain import PlainNoise

NORMAL, COPY = "torch.normal", "copy"
_PLAIN_ELEMENTS = 1 << 20  # the plain backend works in chunks smaller than this, so more would only take longer
_SEED, _KEY, _ROUNDING, _EPS = 1, 2, 3, 1e-3
_ROUNDED = (torch.bfloat16, torch.float16)
_ENDS = ((_EPS,), (-_EPS,))


@dataclass(frozen=True)
class _Kernel:
    backend: str
    operation: str
    distribution: str | None
    elements: int
    traffic: int
    """Bytes read and written."""
    step: Callable[[], object]
    cycle: int = 1

    def start(self) -> _Kernel:
        return self

    def finish(self) -> None:
        """Do nothing."""


def measure_kernels(settings: BenchSettings, dtype: str, bar: Bar) -> list[KernelRow]:
    """Return how fast noise is made and added to weights of `dtype`, first what it is compared with."""
    device = torch.device(settings.device)
    weight = torch.full((settings.noise_elements,), 0.02, dtype=getattr(torch, dtype), device=device)
    kernels = list(_kernels(weight))
    race([kernel.start for kernel in kernels], 1, device, bar)  # compiles
    times = race([kernel.start for kernel in kernels], settings.rounds, device, bar)
    plain = {
        kernel.backend: _rate(kernel, time, settings.threads)
        for kernel, time in zip(kernels[:2], times[:2], strict=True)
    }
    copied = kernels[1].traffic / times[1].median
    rows = []
    for kernel, time in zip(kernels, times, strict=True):
        rate, bandwidth = _rate(kernel, time, settings.threads), kernel.traffic / time.median
        rows.append(
            KernelRow(
                backend=kernel.backend,
                operation=kernel.operation,
                distribution=kernel.distribution,
                dtype=dtype,  # pyright: ignore[reportArgumentType] - it comes from the settings
                elements=kernel.elements,
                time=time,
                rate=rate,
                bandwidth=bandwidth,
                speedup=rate / plain[NORMAL],
                of_copy=bandwidth / copied,
            )
        )
    return rows


def laps(settings: BenchSettings, dtype: str) -> int:
    """Return how often the bar advances for one dtype."""
    weight = torch.empty(1, dtype=getattr(torch, dtype), device=settings.device)
    return (settings.rounds + 1) * len(list(_kernels(weight)))


def _kernels(weight: Tensor) -> Iterator[_Kernel]:
    size, other = weight.element_size(), torch.empty_like(weight)
    generator = torch.Generator(weight.device)

    def normal() -> None:
        generator.manual_seed(_SEED)
        z = torch.normal(0.0, 1.0, size=(len(weight),), generator=generator, dtype=weight.dtype, device=weight.device)
        weight.add_(z, alpha=_EPS)

    elements = len(weight)
    yield _Kernel(NORMAL, "add", "gaussian", elements, 2 * elements * size, normal)
    yield _Kernel(COPY, "copy", None, elements, 2 * elements * size, lambda: other.copy_(weight))
    for noise in _backends(weight):
        part = weight[:_PLAIN_ELEMENTS] if isinstance(noise, PlainNoise) else weight
        for distribution in get_args(Distribution):
            yield from _operations(noise, part, distribution)


def _operations(noise: Noise, weight: Tensor, distribution: Distribution) -> Iterator[_Kernel]:
    elements, size, source = len(weight), weight.element_size(), Source(_KEY, distribution)
    floats = torch.empty(elements, device=weight.device)
    ends = torch.empty(2, elements, dtype=weight.dtype, device=weight.device)
    steps: dict[str, tuple[int, Callable[[], object]]] = {
        "fill": (4, lambda: noise.fill(floats, source, _SEED)),
        "add": (2 * size, lambda: noise.add(weight, source, ((_SEED, _EPS),))),
        "points": (3 * size, lambda: noise.points(ends, weight, source, (_SEED,), _ENDS)),
    }
    if weight.dtype in _ROUNDED:
        steps["add, rounded"] = (2 * size, lambda: noise.add(weight, source, ((_SEED, _EPS),), rounding=_ROUNDING))
    for operation, (traffic, step) in steps.items():
        yield _Kernel(noise.name, operation, distribution, elements, traffic * elements, step)


def _backends(weight: Tensor) -> list[Noise]:
    """Return the plain backend, and the fastest one for such weights where that is another."""
    known = {noise.name: noise for noise in (PlainNoise(), noise_for(weight))}
    return list(known.values())


def _rate(kernel: _Kernel, time: Timed, threads: int) -> float:
    return kernel.elements / time.median / threads / 1e6
