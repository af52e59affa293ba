"""Objectives the slow way: one example at a time, in plain floats, from single-example scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def log_softmax(row: Sequence[float]) -> list[float]:
    total = math.log(sum(math.exp(value - max(row)) for value in row)) + max(row)
    return [value - total for value in row]


def cross_entropy(scores: Rows, labels: Sequence[int]) -> float:
    return -sum(log_softmax(row)[label] for row, label in zip(scores, labels, strict=True)) / len(labels)


def accuracy(scores: Rows, labels: Sequence[int]) -> float:
    right = [max(range(len(row)), key=lambda c: row[c]) == label for row, label in zip(scores, labels, strict=True)]
    return -sum(right) / len(right)


def language_model(log_probs: Rows) -> float:
    """Return minus the mean over all answer tokens; one row of log-probabilities an example."""
    tokens = [value for row in log_probs for value in row]
    return -sum(tokens) / len(tokens)


def two_poles(scores: Rows, values: Sequence[float], low: float, high: float) -> float:
    """Return the mean of KL((1 - p, p) || softmax of the scores), 0 log 0 = 0."""
    total = 0.0
    for row, value in zip(scores, values, strict=True):
        share = (value - low) / (high - low)
        for target, found in zip((1 - share, share), log_softmax(row), strict=True):
            total += target * (math.log(target) - found) if target > 0 else 0.0
    return total / len(values)


def squared_error(scores: Rows, values: Sequence[float]) -> float:
    return sum((row[0] - value) ** 2 for row, value in zip(scores, values, strict=True)) / len(values)
