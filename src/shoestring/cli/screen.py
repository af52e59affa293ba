"""The screen: what is printed where, and progress that is shown on terminals only."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from shoestring.progress import Bar, Progress


def out() -> Console:
    """Return the console of stdout: colours on a terminal, lines of any length elsewhere."""
    return _console(stderr=False)


def err() -> Console:
    """Return the console of stderr."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="replace")  # Where there is no dash a table has a question mark, not a traceback.
    terminal = stream.isatty()
    # Elsewhere than on a terminal nothing is folded: what reads it wants lines whole.
    return Console(
        stderr=stderr, highlight=False, markup=False, soft_wrap=not terminal, width=None if terminal else 10_000
    )


@contextmanager
def progress() -> Iterator[Progress]:
    """Give a progress that draws bars on stderr, or none where that is no terminal; gone when the block ends."""
    from shoestring.progress import Silent

    if not sys.stderr.isatty():
        yield Silent()
        return
    with _bars() as bars:
        yield Drawn(bars)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show a spinner on stderr, on a terminal, while something of unknown length is done."""
    if not sys.stderr.isatty():
        yield
        return
    with err().status(text):
        yield


class Drawn:
    """Draws a bar for each piece of long work; several may be open at once."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Bar]:
        """Draw a bar of `total` steps."""
        task = self._bars.add_task(label, total=total, note="")
        try:
            yield _DrawnBar(self._bars, task)
        finally:
            self._bars.remove_task(task)


class _DrawnBar:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, steps: int = 1) -> None:
        """Report that `steps` more are done."""
        self._bars.advance(self._task, steps)

    def note(self, text: str) -> None:
        """Show a short text beside the bar."""
        self._bars.update(self._task, note=text)


def _bars() -> RichProgress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=err(),
        transient=True,
        redirect_stdout=False,  # Results go to stdout, which may be a file while stderr is a terminal.
    )
