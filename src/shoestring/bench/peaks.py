"""Peaks of memory: bytes that torch holds, to the last one, whatever the C library keeps of what was freed."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from shoestring.bench.contestants import Contestant
from shoestring.bench.settings import REFERENCE
from shoestring.bench.work import Work
from shoestring.memory import PeakMemory

_STEPS = 2  # the second holds what the first left behind: state, and what was put off
_QUIET = "KINETO_LOG_LEVEL"
_CALL = "shoestring: what is measured"


def peak(who: Contestant, work: Work) -> int:
    """Return the peak bytes of a contestant's steps above what was held before it started, its own state included."""
    if work.model.device.type != "cpu":
        memory = PeakMemory(work.model.device)
        with memory.lap("steps"):
            _run(who, work)
        return memory.bytes["steps"]
    gc.collect()  # What contestants before left behind is not to be freed in this one's time.
    replaced = work.model.parameters() if who.step == REFERENCE else ()
    return peak_of(lambda: _run(who, work), replaced)


def forward_peak(work: Work, rows: int) -> int:
    """Return the peak bytes of a bare forward of the rows of a step, again and again until there are `rows`."""
    count = len(work.folded["input_ids"])
    batch = {name: value[torch.arange(rows, device=value.device) % count] for name, value in work.folded.items()}

    @torch.no_grad()
    def forward() -> None:
        float(work.losses(batch).mean())

    if work.model.device.type != "cpu":
        memory = PeakMemory(work.model.device)
        with memory.lap("forward"):
            forward()
        return memory.bytes["forward"]
    return peak_of(forward)


def peak_of(call: Callable[[], object], replaced: Iterable[Tensor] = ()) -> int:
    """Return the most bytes that torch's allocator for the CPU held at once during a call, above those held before.

    The resident set of the process would not do: it holds what was freed too, several times a step's own peak.

    Args:
        call: what is measured.
        replaced: tensors whose memory it frees, such as weights that are made anew. The profiler knows of no memory
            from before its time, nor that it is freed: they have copies during the call, and their own values again
            behind it.
    """
    own = [(tensor, tensor.data) for tensor in replaced]
    try:
        with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as made:
            for tensor, data in own:
                tensor.data = data.clone()
            with record_function(_CALL):
                call()
    finally:
        for tensor, data in own:
            tensor.data = data
    results: Any = made.profiler.kineto_results if made.profiler is not None else None
    events = results.events()
    begin = next(event.start_ns() for event in events if event.name() == _CALL)
    held = before = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            if event.start_ns() < begin:
                before = highest = held
            highest = max(highest, held)
    return highest - before


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
