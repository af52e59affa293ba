"""What `shoestring run` says of a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shoestring.cli import screen
from shoestring.runs.record import Record
from shoestring.tables.formats import as_rich, as_text
from shoestring.tables.table import MIB, TableData, shown, tabulate, title

_SHARES = {"accuracy", "f1"}  # in percent; correlations, times 100 like them, are no shares of anything


def print_one(record: Record, folder: Path, *, reused: bool) -> None:
    """Print a record in a few lines."""
    from rich.text import Text

    console = screen.out()
    method, model = record.config["method"]["kind"], record.config["model"]
    name = f"{record.task}, {model['kind']} {Path(model['name']).name}, {method}, seed {record.config['seed']}"
    console.print(
        Text.assemble((name, "bold"), ("  already done (use --force to run again)" if reused else "", "yellow"))
    )
    for label, text in _lines(record, folder):
        console.print(Text.assemble((f"  {label:<9}", "dim"), text))


def print_many(records: Sequence[Record]) -> None:
    """Print the mean over the seeds."""
    print_table(tabulate(records))


def print_table(table: TableData) -> None:
    """Print a table as people read it: drawn to the terminal's width, or plain where that is none."""
    console = screen.out()
    if not console.is_terminal:
        console.print(as_text(table), end="")
        return
    console.print(table.caption, style="bold")
    console.print(*as_rich(table, console.width), sep="\n")
    for note in table.notes:
        console.print(note, style="dim")


def _lines(record: Record, folder: Path) -> list[tuple[str, str]]:
    lines = [(name, _numbers(numbers)) for name, numbers in reversed(record.metrics.items())]
    if record.split is not None:
        sizes = record.split
        tests = ", ".join(f"{count:,} {name}" for name, count in sizes.tests.items())
        cut = f"; {sizes.truncated:,} lost tokens to a limit" if sizes.truncated else ""
        lines.append(("examples", f"{sizes.train:,} train, {sizes.dev:,} dev, {tests}{cut}"))
    if record.passes is not None:
        lines.append(("passes", f"{record.passes.forward:,} forward, {record.passes.backward:,} backward"))
    if record.seconds:
        lines.append(("seconds", ", ".join(f"{value:,.1f} to {name}" for name, value in record.seconds.items())))
    if record.memory is not None:
        peak = record.memory.peak / MIB
        lines.append(("memory", f"{peak:,.1f} MiB at most above {record.memory.weights / MIB:,.1f} MiB of weights"))
    if record.weights is not None:
        lines.append(("trained", f"{record.trained_weights:,} of {record.weights.total:,} weights"))
    return [*lines, ("folder", str(folder))]


def _numbers(numbers: dict[str, float]) -> str:
    """Return a split's metrics: the main one first, times 100 as in tables, the loss last."""
    return ", ".join(
        f"{title(name)} {shown(name, value)}{'%' if name in _SHARES else ''}" for name, value in numbers.items()
    )
