"""Ticks of an axis on which equal distances are equal ratios, as the page has them (report/page/3-chart.js)."""

from __future__ import annotations

import math
from collections.abc import Sequence

_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def log_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return about `count` ticks from low to high, both above 0: powers of ten; 2 and 5 times them where there are few.

    >>> log_ticks(3, 3000), log_ticks(4, 70)
    ([10.0, 100.0, 1000.0], [5.0, 10.0, 20.0, 50.0])
    """
    decades = _within((1,), low, high)
    if len(decades) > 1:
        return decades[:: math.ceil(len(decades) / count)]
    if len(more := _within((1, 2, 5), low, high)) > 1:
        return more
    from matplotlib.ticker import MaxNLocator

    return [float(value) for value in MaxNLocator(4).tick_values(low, high) if low <= value <= high]


def short(value: float) -> str:
    """Return a number as it stands below a tick.

    >>> [short(value) for value in (0, 0.05, 7.5, 1000, 1.6e5, 2.2e7)]
    ['0', '0.05', '7.5', '1k', '160k', '22M']
    """
    for unit, letter in _UNITS:
        if abs(value) >= unit:
            return f"{_digits(value / unit)}{letter}"
    return _digits(value)


def apart(places: Sequence[float], least: float) -> list[bool]:
    """Return which of the places, in order, have room for a label: those at least so far from the last that has.

    >>> apart([0.0, 0.05, 0.2], 0.1)
    [True, False, True]
    """
    found: list[bool] = []
    last = -math.inf
    for place in places:
        found.append(place - last >= least)
        last = place if found[-1] else last
    return found


def _digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):g}"


def _within(factors: Sequence[int], low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]
