"""Metrics: what a list of predictions is worth, given the true labels or values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from shoestring.errors import DataError
from shoestring.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["classification", "regression", "multiple-choice", "generation"]
Numbers = Sequence[int] | Sequence[float]
CLASSIFICATION: frozenset[Kind] = frozenset({"classification"})
CHOICE: frozenset[Kind] = frozenset({"classification", "multiple-choice"})
REGRESSION: frozenset[Kind] = frozenset({"regression"})


@dataclass(frozen=True)
class Metric:
    """A metric and what it is good for.

    Attributes:
        function: maps predictions [N] and targets [N] (label ids, or values) to one number.
        kinds: the kinds of task it makes sense for.
        title: how tables call it.
        higher_is_better: the direction of selection on dev.
    """

    function: Callable[[NDArray[np.float64], NDArray[np.float64]], float]
    kinds: frozenset[Kind]
    title: str
    higher_is_better: bool = True

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
