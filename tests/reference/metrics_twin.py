"""The metrics, by hand: counts and sums in plain Python."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def accuracy(predictions: Sequence[float], targets: Sequence[float]) -> float:
    return sum(p == t for p, t in zip(predictions, targets, strict=True)) / len(targets)


def f1(predictions: Sequence[float], targets: Sequence[float]) -> float:
    both = sum(p == t == 1 for p, t in zip(predictions, targets, strict=True))
    either = sum(p == 1 for p in predictions) + sum(t == 1 for t in targets)
    return 2 * both / either if either else 0.0


def mcc(predictions: Sequence[float], targets: Sequence[float]) -> float:
    """Correlation of the one-hot rows, summed over labels."""
    labels, n = {*predictions, *targets}, len(targets)

    def covariance(a: Sequence[float], b: Sequence[float]) -> float:
        return sum(
            n * sum(x == label == y for x, y in zip(a, b, strict=True)) - a.count(label) * b.count(label)
            for label in labels
        )

    scale = math.sqrt(covariance(predictions, predictions) * covariance(targets, targets))
    return covariance(predictions, targets) / scale if scale else 0.0


def pearson(predictions: Sequence[float], targets: Sequence[float]) -> float:
    a, b = (
        [x - math.fsum(side) / len(side) for x in side] if len(set(side)) > 1 else [0.0] * len(side)
        for side in (predictions, targets)
    )
    scale = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / scale if scale else 0.0


def spearman(predictions: Sequence[float], targets: Sequence[float]) -> float:
    def ranks(side: Sequence[float]) -> list[float]:
        return [sum(y < x for y in side) + (side.count(x) + 1) / 2 for x in side]

    return pearson(ranks(predictions), ranks(targets))


TWINS = {"accuracy": accuracy, "f1": f1, "mcc": mcc, "pearson": pearson, "spearman": spearman}
