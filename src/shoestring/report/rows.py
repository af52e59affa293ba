"""The rows and columns of a table, as figures name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoestring.tables.grouping import NOTHING
from shoestring.tables.table import LOSS, Arrangement, Place

if TYPE_CHECKING:
    from shoestring.tables.grouping import Mark


def labels(found: Arrangement) -> dict[Mark, str]:
    """Return what figures call each row: its texts, but for those that all rows share."""
    columns = list(zip(*(mark.texts for mark in found.marks), strict=True))
    telling = [at for at, texts in enumerate(columns) if len(set(texts)) > 1]
    short = {mark: ", ".join(mark.texts[at] for at in telling if mark.texts[at] != NOTHING) for mark in found.marks}
    # One row has nothing to be told from; what it does is its name.
    return short if telling else {mark: mark.texts[-1] for mark in found.marks}


def panel_title(found: Arrangement, place: Place) -> str:
    """Return what a column of the table is called where its metric stands beside it."""
    several = len({(other.mark, other.test) for other in found.places}) < len(found.places)
    return place.head(metric=several)


def backward(found: Arrangement, mark: Mark) -> bool:
    """Return whether a row's runs made backward passes."""
    runs = [run for picked in found.row(mark) for run in picked.values()]
    return any(run.passes is not None and run.passes.backward > 0 for run in runs)


def metrics_of(found: Arrangement) -> tuple[str, ...]:
    """Return every metric that a run of the table has on a test set, the loss last."""
    names = {
        name
        for picked in found.chosen.values()
        for run in picked.values()
        for numbers in run.metrics.values()
        for name in numbers
    }
    return (*sorted(names - {LOSS}), LOSS)
