"""Timing: contestants in turn, round after round, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import torch

from shoestring.bench.settings import Timed
from shoestring.progress import Bar


class Racer(Protocol):
    """Makes steps."""

    @property
    def cycle(self) -> int:
        """Steps of which one may do what the others put off."""
        ...

    def step(self) -> object:
        """Make one step."""
        ...

    def finish(self) -> None:
        """Do what the last step put off."""
        ...


_LONG = 1.0  # seconds
Start = Callable[[], Racer]


def race(starts: Sequence[Start], rounds: int, device: torch.device, bar: Bar, most: int = 1) -> list[Timed]:
    """Return the seconds of a step of each contestant.

    In every round each contestant starts afresh, makes one step that is not counted (it loads caches and leaves behind
    what an engine puts off), and then one that is, or up to `most` while a second has not gone by, of which the
    median counts: such a step does all that a step in a long training does, the update that the step before it put off
    included. Where an engine puts off more, it is the mean of a whole cycle of steps.
    """
    seconds: list[list[float]] = [[] for _ in starts]
    for _ in range(rounds):
        for start, found in zip(starts, seconds, strict=True):
            racer = start()
            racer.step()
            found.append(_turn(racer, device, most))
            racer.finish()
            bar.advance()
    return [timed(found) for found in seconds]


def _turn(racer: Racer, device: torch.device, most: int) -> float:
    found: list[float] = []
    while not found or (len(found) < most and sum(found) * racer.cycle < _LONG):
        found.append(lap(partial(_cycle, racer), device) / racer.cycle)
    return statistics.median(found)


def lap(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call, what it leaves running on the device included."""
    _wait(device)
    begin = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - begin


def timed(seconds: Sequence[float]) -> Timed:
    """Return median and distance of the quartiles.

    >>> timed([3.0, 1.0, 2.0]).median, timed([3.0, 1.0, 2.0]).iqr, timed([1.0]).iqr
    (2.0, 1.0, 0.0)
    """
    quartiles = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
    return Timed(seconds=tuple(seconds), median=statistics.median(seconds), iqr=quartiles[2] - quartiles[0])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use `count` processor threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cycle(racer: Racer) -> None:
    for _ in range(racer.cycle):
        racer.step()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
