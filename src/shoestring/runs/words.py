"""How metrics are written for people: in tables, on the screen, in model cards."""

from __future__ import annotations

from shoestring.tasks.metrics import METRICS

LOSS = "loss"


def shown(metric: str, value: float) -> str:
    """Return a metric's value as tables print it: times 100, one decimal; a loss as it is, three decimals."""
    return f"{value:.3f}" if metric == LOSS else f"{100 * value:.1f}"


def title(metric: str) -> str:
    """Return how tables call a metric."""
    return LOSS if metric == LOSS else METRICS.get(metric).title
