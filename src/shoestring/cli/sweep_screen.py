"""What `shoestring sweep` shows: how far each row and column is, while runs are made and afterwards."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shoestring.cli import screen
from shoestring.studies.plan import STATES, Planned, Seen, State, Tally, error_line, look

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

    from shoestring.runs.config import RunConfig
    from shoestring.studies.launchers.base import Ended

# Seconds between two lines where there is no terminal to draw on.
_LINE_EVERY = 30.0
_SHOWN = 10


def spell(seconds: float) -> str:
    """Return a time as people say it.

    >>> spell(42), spell(150), spell(7260), spell(200000)
    ('42 s', '2 min', '2 h 1 min', '2 d 7 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def summary(tally: Tally, left: str = "") -> str:
    """Return one line: how many runs are in each state."""
    parts = [f"{count:,} {state}" for state in STATES if (count := tally.count(state))]
    count = len(tally.runs) + tally.coming
    return (
        ", ".join([f"{count:,} {'run' if count == 1 else 'runs'}: {parts[0] if parts else 'none'}", *parts[1:]]) + left
    )


def remaining(tally: Tally, at_once: int) -> str:
    """Return what is known of the time that is left, as the end of a sentence."""
    if not tally.count("to do") and not tally.count("running"):
        return ""
    work = tally.work_left()
    if work is None:
        return "; how long they take is not known before one has ended"
    unknown = tally.unknown
    how = "perhaps" if unknown else "about"
    why = f" (no run of {', '.join(unknown)} has ended yet)" if unknown else ""
    if not at_once:
        return f"; {how} {spell(work)} of work, one run at a time{why}"
    return f"; {how} {spell(work / at_once)} left with {at_once} at a time{why}"


def drawn(tally: Tally) -> Table:
    """Return how far each row and column is, as a table."""
    from rich.table import Table
    from rich.text import Text

    counts: Counter[tuple[str, str, State]] = Counter()
    for run, seen in zip(tally.runs, tally.seen, strict=True):
        counts[run.row, run.column, seen.state] += 1
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for column in tally.columns:
        table.add_column(column, justify="right")
    for row in tally.rows:
        cells = []
        for column in tally.columns:
            here: dict[State, int] = {state: counts[row, column, state] for state in STATES}
            cells.append(_cell(here))
        table.add_row(Text(row), *cells)
    return table


def _cell(here: dict[State, int]) -> object:
    from rich.text import Text

    whole = sum(here.values())
    if not whole:
        return Text("")
    style = "green" if here["done"] == whole else "default"
    text = Text(f"{here['done']}/{whole}", style)
    if here["running"]:
        text.append(f" {here['running']} running", "yellow")
    if here["pruned"]:
        text.append(f" {here['pruned']} pruned", "cyan")
    if here["failed"]:
        text.append(f" {here['failed']} failed", "red")
    return text


def print_tally(tally: Tally, at_once: int = 0) -> None:
    """Print how far everything is."""
    console = screen.out()
    console.print(drawn(tally))
    console.print(summary(tally, remaining(tally, at_once)))


def print_failures(tally: Tally) -> None:
    """Print the runs that failed and what they said, those with the same error together."""
    console = screen.err()
    groups: dict[str, list[str]] = {}
    for run, error in tally.failures:
        groups.setdefault(error_line(error), []).append(f"{run.name} ({run.place})")
    for error, names in list(groups.items())[:_SHOWN]:
        console.print(f"failed: {error}", style="red")
        for name in names[:3]:
            console.print(f"  {name}")
        if len(names) > 3:
            console.print(f"  and {len(names) - 3} more")
    if len(groups) > _SHOWN:
        console.print(f"and {len(groups) - _SHOWN} further errors")
    if any(seen.state == "failed" and not seen.damaged for seen in tally.seen):
        console.print("--retry makes the failed runs again")


class Progress:
    """Counts what goes on and shows it: drawn over and over on a terminal, a line now and then elsewhere.

    Attributes:
        tally: how far each run is; others than this process's are not looked at again.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._places = {run.place: number for number, run in enumerate(tally.runs)}
        self._running: set[Path] = set()
        self._last = time.monotonic()

    def began(self, config: RunConfig) -> None:
        """Count a run as running."""
        self._running.add(place := config.folder.absolute())
        self._set(place, Seen("running"))

    def ended(self, ended: Ended) -> None:
        """Count how a run ended."""
        self._running.discard(place := ended.place.absolute())
        error = str(ended.error) if ended.error is not None else ""
        if ended.how == "ok":
            self._set(place, Seen("done", seconds=ended.seconds or None))
        elif ended.how == "failed":
            self._set(place, Seen("failed", error))
        elif ended.how == "pruned":
            self._set(place, Seen("pruned"))
        else:
            self._set(place, Seen("to do"))

    def tick(self) -> None:
        """Print a line now and then where nothing is drawn."""
        if not sys.stderr.isatty() and time.monotonic() - self._last >= _LINE_EVERY:
            self._last = time.monotonic()
            screen.err().print(self._line())

    def add(self, run: Planned, coming: int) -> None:
        """Take in a run that a search has asked for, and how many it will still ask for."""
        self.tally.coming = coming
        self._places[run.place] = len(self.tally.runs)
        self.tally.runs.append(run)
        self.tally.seen.append(look(run))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table and the line under it."""
        yield drawn(self.tally)
        yield self._line()

    def _line(self) -> str:
        return summary(self.tally, remaining(self.tally, len(self._running)))

    def _set(self, place: Path, seen: Seen) -> None:
        number = self._places[place]
        old = self.tally.seen[number]
        self.tally.seen[number] = replace(seen, seconds=seen.seconds or old.seconds)


@contextmanager
def live(progress: Progress) -> Iterator[None]:
    """Draw the progress on stderr while the block lasts, where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.live import Live

    with Live(progress, console=screen.err(), refresh_per_second=2, transient=True, redirect_stdout=False):
        yield
