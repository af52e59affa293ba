"""Kernel regression: kernels where they are needed, the best of a grid on dev, and predictions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from shoestring.errors import NonFiniteScoreError, SolverError
from shoestring.kernels.compute import Request, compute_kernels
from shoestring.kernels.formulas.base import FORMULAS
from shoestring.kernels.outputs import outputs_of
from shoestring.kernels.parameters import layer_of
from shoestring.kernels.projection import Projection
from shoestring.kernels.solvers.gram import Gram, gram_of
from shoestring.kernels.solvers.targets import answers_of, targets_of
from shoestring.methods.base import Outcome
from shoestring.methods.beginning import begin_at_probe
from shoestring.methods.kernel_files import KernelFiles
from shoestring.models.combining import inputs_of
from shoestring.models.evaluation import evaluate
from shoestring.seeds import derive

if TYPE_CHECKING:
    from shoestring.kernels.solvers.fitted import Fitted
    from shoestring.methods.base import Given
    from shoestring.methods.catalog.kernel import KernelRegression
    from shoestring.models.prediction import OnScores
    from shoestring.progress import Bar, Progress
    from shoestring.prompts.encoding import EncodedPrompt

Prompts = Sequence["EncodedPrompt"]
STORE = "kernels"
"""Folder of blocks of kernels, in that of a run's checkpoints."""
_LEAST, _SHARE = 512, 8
"""Examples whose kernels are computed together: so many, or so many times the training examples, which pass through the
model once more each time."""


def fit(method: KernelRegression, given: Given) -> Outcome:
    """Return a predictor by kernels, and what it is: see `KernelRegression`."""
    begin = time.perf_counter()
    first = {} if method.begin is None else begin_at_probe(method.begin, given)
    source = source_of(method, given)
    resumed = source.resumed
    with given.memory.lap("fit"):
        train = source.gram(given.train, None, given.eval_batch_size, given.progress)
        seconds = time.perf_counter() - begin - first.get("begin", {}).get("seconds", 0.0)
        targets = targets_of(given.subject.task, given.train, train.values.shape[1])
        facts: dict[str, Any] = {"formula": method.formula, "outputs": train.values.shape[1]}
        if len(method.solvers()) > 1:
            fitted, chosen = _best(method, given, source, train, targets)
        else:
            settings, solver = method.solvers()[0]
            fitted, chosen = solver.fit(train, targets), {"selected": settings} if settings else {}
    facts |= (
        first | source.facts | chosen | {"solver": fitted.facts, "kernel_seconds": seconds, "kernel_resumed": resumed}
    )
    return Outcome(KernelPredictor(source, fitted), time.perf_counter() - begin, facts)


def _best(
    method: KernelRegression, given: Given, source: Source, train: Gram, targets: Tensor
) -> tuple[Fitted, dict[str, Any]]:
    """Return what does best on dev, the first of equals, and what all did.

    Raises:
        SolverError: if there is no dev set, or nothing could be solved.
    """
    if not given.dev:
        raise SolverError(
            "method.grid is chosen from on dev, and there are no dev examples; leave it out, or give some"
        )
    task = given.subject.task
    name = "loss" if method.select == "loss" else task.metrics[0]
    dev = source.gram(given.train, given.dev, given.eval_batch_size, given.progress)
    best: tuple[float, Fitted, dict[str, Any]] | None = None
    tried: list[dict[str, Any]] = []
    failure: SolverError | None = None
    for number, (settings, solver) in enumerate(method.solvers()):
        try:
            fitted = solver.fit(train, targets)
            found = evaluate(task, given.dev, answers_of(task, fitted.predict(dev)))
        except (SolverError, NonFiniteScoreError) as error:
            # A grid may well begin where a system is singular; that is told, and the rest of it is looked at.
            failure = SolverError(str(error))
            tried.append({"settings": settings, "error": str(error)})
            continue
        tried.append({"settings": settings, name: found[name]})
        given.log({"step": number, **settings, **{f"dev_{key}": value for key, value in found.items()}})
        gain = found[name] if method.select == "metric" else -found["loss"]
        if best is None or gain > best[0]:
            best = gain, fitted, settings
    if best is None:
        raise failure or SolverError("method.grid is empty")
    return best[1], {"selected": best[2], "grid": tried}


class Source(Protocol):
    """Where kernels come from.

    Attributes:
        given: what the method is given.
        resumed: whether some of it was there already.
        facts: for the record.
    """

    @property
    def given(self) -> Given:
        """What the method is given."""
        ...

    @property
    def resumed(self) -> bool:
        """Whether some kernels are there already."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What is to be known of it, for the record."""
        ...

    def gram(self, rows: Prompts, columns: Prompts | None, batch_size: int, progress: Progress) -> Gram:
        """Return the kernel of training examples and others, or themselves."""
        ...


def source_of(method: KernelRegression, given: Given) -> Source:
    """Return where kernels come from: files, where there are some, or the model."""
    named = given.subject.model.named_parameters()
    names = [name for name, param in named if param.requires_grad and layer_of(name) not in method.exclude]
    return KernelFiles(method, given, names) if method.files else Computing(method, given, names)


@dataclass(frozen=True)
class Computing:
    """Kernels of the model with its task, and of the weights that are looked at."""

    method: KernelRegression
    given: Given
    parameters: Sequence[str]

    @property
    def resumed(self) -> bool:
        """Whether blocks of an interrupted run are there."""
        return self.store.exists()

    @property
    def facts(self) -> dict[str, Any]:
        """Nothing: all that is computed follows from the config."""
        return {}

    @property
    def store(self) -> Path:
        """The folder of what is computed, so that a killed run goes on where it stopped."""
        return self.given.folder / STORE

    def gram(self, rows: Prompts, columns: Prompts | None, batch_size: int, progress: Progress) -> Gram:
        """Return the kernel of training examples and others, or themselves."""
        method = self.method
        formulas = [method.formula]
        if columns is not None and not FORMULAS.get(method.formula).symmetric:
            formulas.append(FORMULAS.get(method.formula).flipped)
        projection = None
        if method.projection is not None:
            projection = Projection(derive(self.given.seed, "projection"), method.projection)
        request = Request(
            outputs_of(self.given.subject), rows, columns, formulas, self.parameters, projection=projection
        )
        size = min(method.compute.batch_size, batch_size)
        settings = method.compute.model_copy(update={"batch_size": size})
        kernels = compute_kernels(request, settings, store=self.store, progress=progress)
        if method.cosine:
            kernels = {name: kernel.cosine() for name, kernel in kernels.items()}
        return gram_of(kernels, method.formula)


@dataclass(frozen=True)
class KernelPredictor:
    """Predicts from the kernel of the training examples and those asked about, some hundreds of them at once."""

    source: Source
    fitted: Fitted

    def predict(
        self, prompts: Prompts, batch_size: int, bar: Bar | None = None, on_scores: OnScores | None = None
    ) -> Tensor:
        """Return scores [N, C] of `prompts`, in their order, and tell `on_scores` each row as soon as it is there.

        Args:
            prompts: encoded prompts.
            batch_size: most examples of a pass, which `compute.batch_size` bounds too.
            bar: advanced by one for each input that prompts are made of (`inputs_of`).
            on_scores: called with the number of a prompt and its scores [C].
        """
        given, task = self.source.given, self.source.given.subject.task
        precise = next(given.subject.model.parameters()).dtype == torch.float64
        found = []
        for start, stop in pairwise(_cuts(len(prompts), max(_LEAST, _SHARE * len(given.train)))):
            share = _Share(bar, sum(len(inputs_of(prompt)) for prompt in prompts[start:stop]))
            gram = self.source.gram(given.train, prompts[start:stop], batch_size, share)
            share.finish()
            rows = answers_of(task, self.fitted.predict(gram)).to(torch.float64 if precise else torch.float32)
            for number, row in enumerate(rows, start):
                if on_scores is not None:
                    on_scores(number, row)
            found.append(rows)
        return torch.cat(found) if found else torch.empty(0, 0)


def _cuts(count: int, size: int) -> Iterator[int]:
    yield from range(0, count, size)
    if count:
        yield count


class _Share:
    """Passes on progress in another unit: all of a kernel's passes are so many inputs."""

    def __init__(self, bar: Bar | None, inputs: int) -> None:
        self._bar, self._inputs = bar, inputs
        self._total, self._done, self._told = 1, 0, 0

    def bar(self, label: str, total: int) -> AbstractContextManager[_Share]:
        """Return itself, for so many passes."""
        del label
        self._total = total
        return nullcontext(self)

    def advance(self, steps: int = 1) -> None:
        """Advance the other bar, once enough is done for an input."""
        self._done += steps
        self._tell(min(self._inputs, self._inputs * self._done // self._total))

    def note(self, text: str) -> None:
        """Pass a text on."""
        if self._bar is not None:
            self._bar.note(text)

    def finish(self) -> None:
        """Tell what is left: nothing need have been computed that was computed before."""
        self._tell(self._inputs)

    def _tell(self, done: int) -> None:
        if self._bar is not None and done > self._told:
            self._bar.advance(done - self._told)
        self._told = max(self._told, done)
