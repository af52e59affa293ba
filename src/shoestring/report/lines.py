"""Values to compare with: chance, what another row came to, a number from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from shoestring.errors import UnknownNameError
from shoestring.report.rows import labels
from shoestring.report.series import Line, scale_of
from shoestring.studies.scaling import chance_of
from shoestring.tables.table import Arrangement, Place, mean_and_spread

if TYPE_CHECKING:
    from shoestring.runs.record import Record

CHANCE = "chance"
A_NUMBER = "label=number, such as full=91.4"
_Find = Callable[[Place], Line | None]


def lines_of(
    found: Arrangement,
    texts: Sequence[str],
    metric: Callable[[Place], str] = lambda place: place.metric,
    *,
    rows: bool = True,
) -> Callable[[Place], list[Line]]:
    """Return what finds a panel's lines.

    Args:
        found: the rows.
        texts: each `chance`, the name of a row, a number as it is shown (91.4), or label=number.
        metric: the metric of a panel.
        rows: whether rows may be named.

    Raises:
        UnknownNameError: if a text is none of these.
    """
    drawn = [_line_of(found, text, metric, rows=rows) for text in texts]
    return lambda place: [line for one in drawn if (line := one(place)) is not None]


def _line_of(found: Arrangement, text: str, metric: Callable[[Place], str], *, rows: bool) -> _Find:
    if text == CHANCE:
        return lambda place: _chance(found, place, metric(place))
    names = labels(found) if rows else {}
    for mark, name in names.items():
        if text in (name, mark.name):
            return lambda place: _row(text, found.chosen.get((mark, place), {}), place)
    label, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UnknownNameError("line" if rows else "line of curves", text, [CHANCE, A_NUMBER, *names.values()])
    return lambda place: Line(label if equals else text, number / scale_of(metric(place)))


def _row(name: str, picked: Mapping[int, Record], place: Place) -> Line | None:
    if not picked:
        return None
    mean, spread, _ = mean_and_spread([run.metrics[place.test][place.metric] for run in picked.values()])
    return Line(name, mean, spread)


def _chance(found: Arrangement, place: Place, metric: str) -> Line | None:
    """Return the accuracy of a guess, where it is known: one out of so many labels."""
    runs = [run for (_, other), picked in found.chosen.items() if other == place for run in picked.values()]
    guess = chance_of(runs[0], metric)
    return None if guess is None else Line(CHANCE, guess)
