"""Columns of results, and the trials of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shoestring.runs.record import Record
from shoestring.runs.words import title
from shoestring.tables.grouping import Mark, Order
from shoestring.tasks.spec import TEST


@dataclass(frozen=True)
class Place:
    """A column of results: what the layout spreads over columns, the test set, the metric."""

    mark: Mark
    test: str
    metric: str

    @property
    def order(self) -> Order:
        """Its place among the others."""
        return (self.mark.order, self.test != TEST, self.test, self.metric)

    def head(self, *, metric: bool) -> str:
        """What heads the column, with the metric's name or without."""
        words = (self.mark.name, "" if self.test == TEST else self.test, title(self.metric) if metric else "")
        return " ".join(word for word in words if word)


# A row and column -> seed -> the trials there.
Trials = dict[tuple[Mark, Place], dict[int, list[Record]]]


def heads_of(places: Sequence[Place]) -> dict[Place, str]:
    """Return what heads each column: with the metric's name where there are several."""
    several = len({place.metric for place in places}) > 1
    return {place: place.head(metric=several) for place in places}


def seed_of(record: Record) -> int:
    """Return the seed of a run."""
    return int(record.config["seed"])
