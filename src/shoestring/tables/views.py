"""What a cell of a table shows of the runs that count there: means, medians, differences."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from shoestring.errors import UnknownNameError
from shoestring.runs.record import Record
from shoestring.runs.words import shown
from shoestring.tables.arranging import Arrangement, Layout
from shoestring.tables.cells import Cell
from shoestring.tables.grouping import NOTHING, Mark
from shoestring.tables.places import Place
from shoestring.tables.significance import paired


class View(ABC):
    """A way to show what stands in a cell.

    Attributes:
        parts: what the numbers behind a cell are, for csv.
        told: what they are, for the caption.
    """

    parts: ClassVar[tuple[str, ...]]
    told: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say below the table, once all cells are made."""
        return ()

    @abstractmethod
    def cell(self, mark: Mark, place: Place) -> Cell:
        """Return the cell of a row and a column."""


class Means(View):
    """Mean (population standard deviation, number of seeds)."""

    parts: ClassVar[tuple[str, ...]] = ("mean", "sd", "n")

    def __init__(self, found: Arrangement, layout: Layout) -> None:
        self._found, self._alone = found, "" if layout.tells_seeds else f" ({NOTHING}, 1)"
        self.told = "" if layout.tells_seeds else ": mean (population standard deviation, number of seeds)"

    def cell(self, mark: Mark, place: Place) -> Cell:
        """Return the cell of a row and a column."""
        if not (numbers := numbers_of(self._found, mark, place)):
            return Cell(NOTHING, (None, None, 0))
        mean, spread, count = mean_and_spread(numbers)
        if spread is None:  # 0.0 would claim that there is none.
            return Cell(shown(place.metric, mean) + self._alone, (mean, None, 1))
        return Cell(f"{shown(place.metric, mean)} ({shown(place.metric, spread)}, {count})", (mean, spread, count))


class Medians(View):
    """Median (lowest to highest, number of seeds)."""

    parts: ClassVar[tuple[str, ...]] = ("median", "lowest", "highest", "n")

    def __init__(self, found: Arrangement, layout: Layout) -> None:
        self._found, self._alone = found, layout.tells_seeds
        self.told = "" if layout.tells_seeds else ": median (lowest to highest, number of seeds)"

    def cell(self, mark: Mark, place: Place) -> Cell:
        """Return the cell of a row and a column."""
        if not (numbers := numbers_of(self._found, mark, place)):
            return Cell(NOTHING, (None, None, None, 0))
        low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
        texts = [shown(place.metric, value) for value in (middle, low, high)]
        ends = "" if self._alone and len(numbers) == 1 else f" ({texts[1]} to {texts[2]}, {len(numbers)})"
        return Cell(texts[0] + ends, (middle, low, high, len(numbers)))


class Versus(View):
    """How rows differ from one of them on the same splits: mean (sd, pairs), p of two paired tests.

    A pair is two runs of one seed, whose data are the same. See `significance.paired`.
    """

    parts: ClassVar[tuple[str, ...]] = ("difference", "sd", "pairs", "p t", "p flips")

    def __init__(self, found: Arrangement, name: str) -> None:
        self._found, self._base = found, _row_named(found, name)
        self._other_data: set[int] = set()
        self.told = (
            f": difference to {self._base.name} on the same splits: mean (population standard deviation, number of "
            "pairs), p of the paired t test, p of the exact test by flips of signs"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what the numbers do not take into account, and which seeds are no pairs."""
        lines = (
            "p is two-sided, and not corrected for the number of comparisons; n pairs give no p by flips below 2 / 2^n",
        )
        if not self._other_data:
            return lines
        seeds = ", ".join(map(str, sorted(self._other_data)))
        return (*lines, f"not paired, the data being others: seeds {seeds}")

    def cell(self, mark: Mark, place: Place) -> Cell:
        """Return the cell of a row and a column; of the row compared with, its mean."""
        mine, base = ({**self._found.chosen.get((row, place), {})} for row in (mark, self._base))
        if mark == self._base:
            numbers = numbers_of(self._found, mark, place)
            return Cell(
                shown(place.metric, statistics.fmean(numbers)) if numbers else NOTHING, (None, None, None, None, None)
            )
        seeds = [seed for seed in sorted(mine.keys() & base.keys()) if self._same_data(seed, mine[seed], base[seed])]
        if not seeds:
            return Cell(NOTHING, (None, None, 0, None, None))
        a, b = ([_number(runs[seed], place) for seed in seeds] for runs in (mine, base))
        found = paired(a, b)
        sign = "+" if found.mean >= 0 else "-"
        text = sign + shown(place.metric, abs(found.mean))
        text += f" ({NOTHING if found.sd is None else shown(place.metric, found.sd)}, {found.count})"
        text += f" {p_shown(found.t)} {p_shown(found.flips)}" if found.count > 1 else ""
        return Cell(text, (found.mean, found.sd, found.count, found.t, found.flips))

    def _same_data(self, seed: int, mine: Record, base: Record) -> bool:
        same = mine.split is None or base.split is None or mine.split.digest == base.split.digest
        if not same:
            self._other_data.add(seed)
        return same


def numbers_of(found: Arrangement, mark: Mark, place: Place) -> list[float]:
    """Return the numbers of the runs that count in a cell."""
    return [_number(run, place) for run in found.chosen.get((mark, place), {}).values()]


def mean_and_spread(numbers: Sequence[float]) -> tuple[float, float | None, int]:
    """Return mean, population standard deviation and number; one number has no spread to speak of."""
    return statistics.fmean(numbers), statistics.pstdev(numbers) if len(numbers) > 1 else None, len(numbers)


def _number(run: Record, place: Place) -> float:
    return run.metrics[place.test][place.metric]


def p_shown(value: float | None) -> str:
    """Return a p as tables have it: three decimals, of a smaller one its order.

    >>> p_shown(0.0625), p_shown(0.0004)
    ('0.062', '4e-04')
    """
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _row_named(found: Arrangement, name: str) -> Mark:
    fitting = [mark for mark in found.marks if name == mark.name] or [
        mark for mark in found.marks if name in mark.texts
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UnknownNameError("single row", name, [repr(mark.name) for mark in fitting])
    parts = [text for mark in found.marks for text in mark.texts]
    # A part that is one row's alone names it; names of whole rows have commas in them, which a list hides.
    alone = {text for text in parts if parts.count(text) == 1}
    raise UnknownNameError("row", name, alone or [repr(mark.name) for mark in found.marks])
