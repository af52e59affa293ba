"""Linear models of features, and the choice of how much their weights are held back."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from shoestring.errors import DataError
from shoestring.models.combining import inputs_of
from shoestring.models.evaluation import evaluate
from shoestring.models.features import states
from shoestring.seeds import MASK_32, derive

if TYPE_CHECKING:
    from shoestring.methods.base import Given
    from shoestring.methods.catalog.linear_probe import LinearProbe
    from shoestring.models.features import Place
    from shoestring.models.prediction import OnScores
    from shoestring.models.prompted import PromptedModel
    from shoestring.progress import Bar
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.tasks.spec import Task


@cache
def scikit_learn() -> Any:
    """Return scikit-learn, whose import draws from Python's global generator; what was drawn is put back."""
    state = random.getstate()
    try:
        import sklearn.exceptions
        import sklearn.linear_model
        import sklearn.model_selection
    finally:
        random.setstate(state)
    return sklearn


@dataclass(frozen=True)
class Linear:
    """A linear model of features x [D].

        z = W x + b,      scores = log_softmax(z) of classes, z of a value

    Attributes:
        weight: W [C, D]; [1, D] for values.
        bias: b [C].
        classes: whether it tells classes apart.
        converged: whether the search for the weights ended by itself.
    """

    weight: np.ndarray
    bias: np.ndarray
    classes: bool
    converged: bool = True

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return scores [N, C] of features [N, D]."""
        z = features @ self.weight.T + self.bias
        if not self.classes:
            return z
        z = z - z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))


@dataclass(frozen=True)
class Data:
    """Features [N, D] of prompts."""

    prompts: Sequence[EncodedPrompt]
    features: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Labels or values [N]."""
        return np.array([prompt.label for prompt in self.prompts])

    def part(self, rows: np.ndarray) -> Data:
        """Return some rows of it."""
        return Data([self.prompts[row] for row in rows], self.features[rows])


@dataclass(frozen=True)
class Chosen:
    """The strength that was chosen, and what was measured at it.

    Attributes:
        c: the strength.
        measured: the task's metrics and `loss`, on examples that were not fitted.
        folds: parts of the cross-validation; None where dev was looked at.
    """

    c: float
    measured: dict[str, float]
    folds: int | None


def fit_linear(settings: LinearProbe, data: Data, c: float, *, classes: bool) -> Linear:
    """Return the linear model of least loss and penalty.

    Over W and b it minimises

        C sum_i -log softmax(W x_i + b)[y_i]  +  |W|^2 / 2          classes
        C sum_i (w x_i + b - y_i)^2           +  |w|^2              values

    b is free, or 0 without `intercept`. Of two classes there is one row w of weights, for z_1 - z_0, which is given
    back as rows -w/2 and w/2. With `standardise`, x has mean 0 (as it is without `intercept`) and variance 1 over
    `data` while it is fitted; W and b take that into themselves.
    """
    x, y = data.features, data.labels
    centre, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
    if settings.standardise:
        centre, spread = x.mean(0) if settings.intercept else centre, x.std(0)
        scale = np.where(spread > 0, spread, 1.0)
    weight, bias, converged = (_classes if classes else _values)(settings, (x - centre) / scale, y, c)
    weight = weight / scale
    return Linear(weight, bias - weight @ centre, classes, converged)


def _classes(settings: LinearProbe, x: np.ndarray, y: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray, bool]:
    learn = scikit_learn()
    model = learn.linear_model.LogisticRegression(
        C=c, fit_intercept=settings.intercept, max_iter=settings.max_iterations, tol=settings.tolerance
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", learn.exceptions.ConvergenceWarning)  # It is a fact of the record.
        model.fit(x, y)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias, int(model.n_iter_.max()) < settings.max_iterations


def _values(settings: LinearProbe, x: np.ndarray, y: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray, bool]:
    # The SVD is exact whatever the numbers of examples and features are.
    model = scikit_learn().linear_model.Ridge(alpha=1 / c, fit_intercept=settings.intercept, solver="svd").fit(x, y)
    return model.coef_[None], np.array([float(model.intercept_)]), True


def fit_probe(settings: LinearProbe, given: Given, where: str = "method") -> tuple[Linear, dict[str, Any]]:
    """Return the linear model of all of train at the strength that does best, and facts about both.

    Args:
        settings: how.
        given: the model, its training and dev prompts; what is measured at each strength is logged.
        where: the key of `settings` in a recipe, for messages.

    Raises:
        DataError: if the training set does not allow it.
    """
    scikit_learn()
    task, on_dev = given.subject.task, settings.choose_on == "dev"
    sets: list[Data] = []
    for prompts in (given.train, given.dev) if on_dev else (given.train,):
        with given.progress.bar(f"{task.name}: features", inputs_in(prompts)) as bar:
            found = features_of(given.subject, settings.features, prompts, given.eval_batch_size, bar)
        sets.append(Data(prompts, found.double().numpy()))
    measured = []
    with given.progress.bar(f"{task.name}: choose C", len(settings.strengths)) as bar:
        for one in choose(settings, task, sets[0], sets[1] if on_dev else None, given.seed, where):
            measured.append(one)
            # Of a training, a log has steps.
            if where == "method":
                given.log({"step": len(measured), "c": one.c, **one.measured})
            bar.advance()
    chosen = best(settings, task, measured)
    linear = fit_linear(settings, sets[0], chosen.c, classes=task.range is None)
    facts = {"features": linear.weight.shape[1], "c": chosen.c, "converged": linear.converged}
    place = "dev" if on_dev else "cross_validated"
    facts |= {f"{place}_{name}": value for name, value in chosen.measured.items()}
    if chosen.folds is not None:
        facts["folds"] = chosen.folds
    return linear, facts


def choose(
    settings: LinearProbe, task: Task, train: Data, dev: Data | None, seed: int, where: str = "method"
) -> Iterator[Chosen]:
    """Yield what is measured at every strength in `settings.strengths`; `best` of them is chosen.

    Each example of `train` is scored by a model of the other folds, and all scores are measured together; with `dev`,
    that is measured under models of all of train. Messages call the settings `where`.

    Raises:
        DataError: if the training set does not allow it.
    """
    classes = task.range is None
    _check(task, train, where)
    if dev is not None and not dev.prompts:
        raise DataError("dev", f"{_what(where)}: there are no dev examples to choose on; use {where}.choose_on='train'")
    parts = [] if dev is not None else _folds(settings, train, seed, where, classes=classes)
    for c in settings.strengths:
        if dev is not None:
            scores, prompts = fit_linear(settings, train, c, classes=classes).scores(dev.features), dev.prompts
        else:
            scores = np.empty((len(train.prompts), len(task.labels) if classes else 1))
            prompts = train.prompts
            for rest, held in parts:
                model = fit_linear(settings, train.part(rest), c, classes=classes)
                scores[held] = model.scores(train.features[held])
        yield Chosen(c, evaluate(task, prompts, torch.from_numpy(scores)), len(parts) or None)


def best(settings: LinearProbe, task: Task, measured: Sequence[Chosen]) -> Chosen:
    """Return the strength that does best, the smallest of equals; what is not a number is worst."""
    key = "loss" if settings.select == "loss" else task.metric
    sign = -1 if key == "loss" else 1

    def value(one: Chosen) -> tuple[float, float]:
        found = sign * one.measured[key]
        return (-math.inf if math.isnan(found) else found, -one.c)

    return max(measured, key=value)


def _what(where: str) -> str:
    return "method.kind='linear-probe'" if where == "method" else f"{where}='linear-probe'"


def _check(task: Task, train: Data, where: str) -> None:
    if len(train.prompts) < 2:
        count = len(train.prompts)
        raise DataError(
            "train", f"{_what(where)} needs two training examples at least, and there are {count}; raise data.k"
        )
    if task.range is None:
        there = {int(prompt.label) for prompt in train.prompts}
        lacking = [label.name for number, label in enumerate(task.labels) if number not in there]
        if lacking:
            raise DataError(
                "train", f"{_what(where)}: no training example is of label {', '.join(lacking)}, which it could not "
                "learn; draw more, or with data.mode='k-shot' as many of each",
            )  # fmt: skip


def _folds(
    settings: LinearProbe, train: Data, seed: int, where: str, *, classes: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    y = train.labels
    most = int(np.unique(y, return_counts=True)[1].min()) if classes else len(y)
    if most < 2:
        raise DataError(
            "train", f"{_what(where)}: a label has one training example, and cross-validation needs two of each; "
            f"use {where}.choose_on='dev'",
        )  # fmt: skip
    splitting = scikit_learn().model_selection
    folds = (splitting.StratifiedKFold if classes else splitting.KFold)(
        min(settings.folds, most), shuffle=True, random_state=derive(seed, "folds") & MASK_32
    )
    return [(rest, held) for rest, held in folds.split(train.features, y)]


def features_of(
    subject: PromptedModel,
    kind: str,
    prompts: Sequence[EncodedPrompt],
    batch_size: int,
    bar: Bar | None = None,
    on_row: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Return the features [N, D] of prompts; of one that is asked in several ways, the mean of hidden states over them.

    Args:
        subject: the model with its task.
        kind: as `LinearProbe.features`.
        prompts: encoded prompts.
        batch_size: most inputs of a forward pass.
        bar: advanced by one for each input.
        on_row: called with the number of a prompt and its features [D] as soon as they are there.
    """
    if kind in ("scores", "log-probabilities", "probabilities"):
        make = {"scores": _same, "log-probabilities": _log_softmax, "probabilities": _softmax}[kind]

        def made(number: int, row: Tensor) -> None:
            if on_row is not None:
                on_row(number, make(row))

        return make(subject.predict(prompts, batch_size, bar, made))
    ways = [(number, way) for number, prompt in enumerate(prompts) for way in (prompt, *prompt.variants)]
    waiting = [1 + len(prompt.variants) for prompt in prompts]
    sums: list[Tensor] = [torch.zeros(())] * len(prompts)
    for index, row in states(subject, [way for _, way in ways], cast("Place", kind), batch_size):
        number = ways[index][0]
        sums[number], waiting[number] = sums[number] + row, waiting[number] - 1
        if waiting[number] == 0:
            sums[number] = sums[number] / (1 + len(prompts[number].variants))
            if on_row is not None:
                on_row(number, sums[number])
        if bar is not None:
            bar.advance()
    return torch.stack(sums) if sums else torch.empty(0, 0)


def _same(row: Tensor) -> Tensor:
    return row


def _log_softmax(row: Tensor) -> Tensor:
    return row.log_softmax(-1)


def _softmax(row: Tensor) -> Tensor:
    return row.softmax(-1)


@dataclass(frozen=True)
class Probe:
    """A frozen model whose features a linear model reads; a `Predictor`."""

    subject: PromptedModel
    features: str
    linear: Linear

    def predict(
        self,
        prompts: Sequence[EncodedPrompt],
        batch_size: int,
        bar: Bar | None = None,
        on_scores: OnScores | None = None,
    ) -> Tensor:
        """Return log-probabilities of the labels [N, C], or predicted values [N, 1], in the order of `prompts`."""
        rows: list[Tensor] = [torch.empty(0)] * len(prompts)

        def take(number: int, row: Tensor) -> None:
            rows[number] = torch.from_numpy(self.linear.scores(row[None].double().numpy())).to(row.dtype)[0]
            if on_scores is not None:
                on_scores(number, rows[number])

        features_of(self.subject, self.features, prompts, batch_size, bar, take)
        return torch.stack(rows) if rows else torch.empty(0, 0)


def inputs_in(prompts: Sequence[EncodedPrompt]) -> int:
    """Return the number of inputs of prompts, as bars count them."""
    return sum(len(inputs_of(prompt)) for prompt in prompts)
