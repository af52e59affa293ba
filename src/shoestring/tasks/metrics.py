"""Metrics: what a list of predictions is worth, given the true labels or values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from shoestring.errors import DataError
from shoestring.registry import Registry
from shoestring.tasks.text_metrics import exact_match, rouge_l, string_match, token_f1

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["classification", "regression", "multiple-choice", "generation"]
Numbers = Sequence[int] | Sequence[float]
CLASSIFICATION: frozenset[Kind] = frozenset({"classification"})
CHOICE: frozenset[Kind] = frozenset({"classification", "multiple-choice"})
REGRESSION: frozenset[Kind] = frozenset({"regression"})
GENERATION: frozenset[Kind] = frozenset({"generation"})


@dataclass(frozen=True)
class Metric:
    """A metric and what it is good for.

    Attributes:
        function: maps predictions [N] and targets [N] (label ids, or values) to one number.
        kinds: the kinds of task it makes sense for.
        title: how tables call it.
        higher_is_better: the direction of selection on dev.
        worth: of generation tasks, what one written answer is worth, given all right ones; `function` is the mean.
    """

    function: Callable[[NDArray[np.float64], NDArray[np.float64]], float]
    kinds: frozenset[Kind]
    title: str
    higher_is_better: bool = True
    worth: Callable[[str, Sequence[str]], float] | None = None

    def compute(self, predictions: Numbers, targets: Numbers) -> float:
        """Return the metric of predictions [N] against targets [N].

        Raises:
            DataError: if there is nothing to score, the lengths differ, or a number is not finite.
        """
        import numpy as np

        given, true = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
        if given.shape != true.shape:
            raise DataError(self.title, f"{given.size} predictions for {true.size} targets")
        if given.size == 0:
            raise DataError(self.title, "there are no examples to score")
        for name, numbers in (("predictions", given), ("targets", true)):
            if not np.isfinite(numbers).all():
                raise DataError(
                    self.title, f"of the {name}, number {int(np.argmin(np.isfinite(numbers)))} is not finite"
                )
        return float(self.function(given, true))

    def worths(self, answers: Sequence[str], golds: Sequence[Sequence[str]]) -> list[float]:
        """Return what each of the written answers [N] is worth, given all right answers to each question.

        Raises:
            DataError: if the metric is not for written answers, the lengths differ, or a question has no right answer.
        """
        if self.worth is None:
            raise DataError(self.title, "is not for written answers")
        if len(answers) != len(golds):
            raise DataError(self.title, f"{len(answers)} answers for {len(golds)} questions")
        if not all(golds):
            raise DataError(self.title, f"question {[*map(bool, golds)].index(False)} has no right answer")
        return [self.worth(answer, right) for answer, right in zip(answers, golds, strict=True)]


METRICS: Registry[Metric] = Registry("metric", package=None)


def compute(names: Iterable[str], predictions: Numbers, targets: Numbers) -> dict[str, float]:
    """Return the metrics called `names`, in that order.

    >>> compute(["accuracy", "mcc"], [0, 1, 1, 1], [0, 1, 1, 0])
    {'accuracy': 0.75, 'mcc': 0.5773502691896258}

    Raises:
        UnknownNameError: if a metric has another name.
        DataError: if there is nothing to score, the lengths differ, or a number is not finite.
    """
    return {name: METRICS.get(name).compute(predictions, targets) for name in names}


def compute_texts(names: Iterable[str], answers: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the metrics called `names` of written answers [N], given all right answers to each question.

    >>> compute_texts(["token-f1", "exact-match"], ["the Tiber", "in 5 BC"], [["Tiber"], ["5"]])
    {'token-f1': 0.75, 'exact-match': 0.5}

    Raises:
        UnknownNameError: if a metric has another name.
        DataError: if there is nothing to score, the lengths differ, or a metric is not for written answers.
    """
    found: dict[str, float] = {}
    for name in names:
        worths = METRICS.get(name).worths(answers, golds)
        found[name] = METRICS.get(name).compute(worths, worths)
    return found


def _accuracy(predictions: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Share of equal label ids."""
    return float((predictions == targets).mean())


def _f1(predictions: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """F1 of label id 1: 2 TP / (2 TP + FP + FN); 0 where neither side holds that label."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets == 1, predictions == 1, zero_division=0.0))  # pyright: ignore[reportArgumentType]


def _mcc(predictions: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Matthews correlation, any number of labels; 0 where all predictions, or all targets, are one label."""
    if _constant(predictions) or _constant(targets):
        return 0.0
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(targets, predictions))


def _pearson(predictions: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Pearson correlation; 0 where either side is constant (the quotient would be 0 / 0)."""
    if _constant(predictions) or _constant(targets):
        return 0.0
    from scipy.stats import pearsonr

    # Centred and scaled first: close to constant, scipy warns of lost digits although these numbers are exact enough.
    return cast("float", pearsonr(_standard(predictions), _standard(targets))[0])


def _spearman(predictions: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Pearson correlation of the ranks, ties at their mean rank; 0 where either side is constant."""
    if _constant(predictions) or _constant(targets):
        return 0.0
    from scipy.stats import spearmanr

    return cast("float", spearmanr(predictions, targets)[0])


def _mean(worths: NDArray[np.float64], _: NDArray[np.float64]) -> float:
    """Mean of what the answers are worth."""
    return float(worths.mean())


def _constant(numbers: NDArray[np.float64]) -> bool:
    return bool((numbers == numbers[0]).all())


def _standard(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = numbers - numbers.mean()
    return centred / abs(centred).max()


METRICS.register("accuracy")(Metric(_accuracy, CHOICE, "accuracy"))
METRICS.register("f1")(Metric(_f1, CLASSIFICATION, "F1"))
METRICS.register("mcc")(Metric(_mcc, CLASSIFICATION, "Matthews correlation"))
METRICS.register("pearson")(Metric(_pearson, REGRESSION, "Pearson correlation"))
METRICS.register("spearman")(Metric(_spearman, REGRESSION, "Spearman correlation"))
METRICS.register("token-f1")(Metric(_mean, GENERATION, "F1", worth=token_f1))
METRICS.register("exact-match")(Metric(_mean, GENERATION, "EM", worth=exact_match))
METRICS.register("rouge-l")(Metric(_mean, GENERATION, "ROUGE-L", worth=rouge_l))
METRICS.register("string-match")(Metric(_mean, GENERATION, "same text", worth=string_match))
