"""Peaks of memory, each measured afresh."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

from shoestring.bench.contestants import Contestant
from shoestring.bench.settings import Workload
from shoestring.bench.shapes import shape_named
from shoestring.bench.timing import threads
from shoestring.bench.work import Work, prepare
from shoestring.memory import PeakMemory

_STEPS = 2  # the second holds what the first left behind: state, and what was put off
RESETS = ("VmHWM", "torch.cuda.max_memory_allocated")


def peak(who: Contestant, work: Work) -> tuple[int, str]:
    """Return the peak bytes of a contestant's steps above what was held before it started, and how it was measured.

    The optimizer's own state counts; the caller has made a step before, so that compiling kernels does not.
    """
    memory = PeakMemory(work.model.device)
    with memory.lap("steps"):
        racer = who.start(work)
        for _ in range(_STEPS):
            racer.step()
        racer.finish()
    return memory.bytes["steps"], memory.how


def peak_alone(who: Contestant, shape: str, dtype: str, workload: Workload, cores: int) -> tuple[int, str]:
    """Return `peak` on the CPU with a model of its own; for a process in which nothing has been measured yet."""
    with threads(cores):
        return peak(who, prepare(shape_named(shape), dtype, workload, torch.device("cpu")))


def peaks_apart(
    who: Sequence[Contestant], shape: str, dtype: str, workload: Workload, cores: int
) -> list[tuple[int, str]]:
    """Return the peaks of contestants, each in a process of its own: where a process's peak cannot be reset.

    There the highest resident set ever is all that is known, kernels' compilation and building the model included.
    """
    found = []
    for one in who:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(peak_alone, one, shape, dtype, workload, cores).result())
    return found


def resets(device: torch.device) -> bool:
    """Return whether a process can forget its peak, so that one can serve all measurements."""
    return PeakMemory(device).how in RESETS
