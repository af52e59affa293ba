"""Who races: two bare forwards, as they are and made our way, the reference's step, and our steps."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from shoestring.bench.reference import ReferenceStep
from shoestring.bench.settings import FLOOR, QUICK_FLOOR, REFERENCE, BenchSettings, Closure
from shoestring.bench.work import Work
from shoestring.errors import OptimizerError
from shoestring.models.batch import Batch
from shoestring.models.folding import examples_in
from shoestring.models.tail import Tail, tails_read
from shoestring.products import quick_products
from shoestring.zeroth.base import OPTIMIZERS
from shoestring.zeroth.closures import PerExample

OWN = "own"  # of optimizers whose directions are part of the method
LR, EPS = 1e-6, 1e-3


@dataclass(frozen=True)
class Contestant:
    """One way to make a step; small enough to be sent to another process."""

    step: str
    directions: str | None = None
    engine: str | None = None
    closure: Closure | None = None

    def start(self, work: Work) -> FloorStep | ReferenceStep | OurStep:
        """Return it at the start of a training.

        Raises:
            ShoestringError: if the optimizer refuses these directions or this engine.
        """
        if self.step in (FLOOR, QUICK_FLOOR):
            return FloorStep(work, quick=self.step == QUICK_FLOOR)
        if self.step == REFERENCE:
            return ReferenceStep(work, LR, EPS)
        return OurStep(work, self)


def contestants(settings: BenchSettings) -> Iterable[Contestant]:
    """Yield the floor, the reference, the floor made our way, and all that is asked for."""
    yield Contestant(FLOOR)
    yield Contestant(REFERENCE)
    yield Contestant(QUICK_FLOOR)
    for step in settings.optimizers:
        families = settings.directions if takes_directions(step) else (OWN,)
        yield from (Contestant(step, *names) for names in product(families, settings.engines, settings.closures))


def takes_directions(step: str) -> bool:
    """Return whether an optimizer can be told its directions; of those that have their own there is one row."""
    try:
        OPTIMIZERS.get(step)([torch.nn.Parameter(torch.zeros(2, 2))], lr=LR, directions="gaussian")
    except OptimizerError:
        return False
    return True


class FloorStep:
    """Two bare forward passes of the batch; `quick`, with our products, folded, and tails only where they are read."""

    cycle = 1

    def __init__(self, work: Work, *, quick: bool) -> None:
        self.work = work
        self.forwards = 0.0
        self.rows = len(work.batch["input_ids"])
        self._batch = work.folded if quick else work.batch
        self._products = quick_products() if quick else nullcontext()
        self._tail = work.tail if quick else Tail()

    @torch.no_grad()
    def step(self) -> None:
        """Make both."""
        for _ in range(2):
            with self._products, tails_read(self.work.model, self._tail):
                float(self.work.losses(self._batch).mean())
            self.forwards += 1

    def finish(self) -> None:
        """Do nothing."""


class OurStep:
    """A step of one of our optimizers, called as a user calls it.

    Attributes:
        forwards: forward passes of the batch so far, in examples over the batch's examples.
        rows: most rows of a pass so far.
        cycle: steps of which one may do what the others put off.
    """

    def __init__(self, work: Work, who: Contestant) -> None:
        self.work = work
        self.forwards = 0.0
        self.rows = 0
        per_example = PerExample(self._losses, [work.folded])
        self._closure = per_example if who.closure == "per-example" else self._loss
        named = list(work.model.named_parameters())
        directions = {} if who.directions == OWN else {"directions": who.directions}
        self._optimizer = OPTIMIZERS.get(who.step)(named, lr=LR, engine=who.engine, **directions)
        self.cycle = self._optimizer.engine.cycle

    def step(self) -> None:
        """Make one step."""
        with tails_read(self.work.model, self.work.tail):
            self._optimizer.step(self._closure)

    def finish(self) -> None:
        """Apply what the engine put off, and leave the model as it was found, but for the updates."""
        self._optimizer.finalize()

    def _losses(self, batch: Batch) -> Tensor:
        self.forwards += examples_in(batch) / len(self.work.batch["input_ids"])
        self.rows = max(self.rows, len(batch["input_ids"]))
        return self.work.losses(batch)

    def _loss(self) -> Tensor:
        return self._losses(self.work.folded).mean()
