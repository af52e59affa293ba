"""Peaks of memory: bytes that torch holds, to the last one, whatever the C library keeps of what was freed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from shoestring.bench.contestants import Contestant
from shoestring.bench.work import Work
from shoestring.memory import PeakMemory

_STEPS = 2  # the second holds what the first left behind: state, and what was put off
_QUIET = "KINETO_LOG_LEVEL"


def peak(who: Contestant, work: Work) -> int:
    """Return the peak bytes of a contestant's steps above what was held before it started, its own state included."""
    if work.model.device.type != "cpu":
        memory = PeakMemory(work.model.device)
        with memory.lap("steps"):
            _run(who, work)
        return memory.bytes["steps"]
    return peak_of(lambda: _run(who, work))


def peak_of(call: Callable[[], object]) -> int:
    """Return the most bytes that torch's allocator for the CPU held at once during a call, above those held before.

    The resident set of the process would not do: it holds what was freed too, several times a step's own peak.
    """
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as made:
        call()
    results: Any = made.profiler.kineto_results if made.profiler is not None else None
    events = [event for event in results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def measured_by(device: torch.device) -> str:
    """Return how peaks are measured on a device."""
    return "torch's allocations" if device.type == "cpu" else PeakMemory(device).how


def _run(who: Contestant, work: Work) -> None:
    racer = who.start(work)
    for _ in range(_STEPS):
        racer.step()
    racer.finish()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the profiler from writing that it starts and stops, which it does past Python's own streams."""
    before = os.environ.get(_QUIET)
    os.environ.setdefault(_QUIET, "99")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_QUIET]
