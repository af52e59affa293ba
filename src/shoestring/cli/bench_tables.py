"""The tables of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import typer

from shoestring.bench.settings import KernelRow, Report, StepRow, Timed
from shoestring.cli.summary import print_table
from shoestring.tables.formats import FORMATS
from shoestring.tables.table import MIB, Cell, Column, TableData, Value

_NONE = Cell("–", (None,))  # noqa: RUF001 - the dash that stands for a missing number


def print_report(report: Report, format_: str) -> None:
    """Print what was measured: a table of steps, one of noise kernels, and what they rest on."""
    print_tables((steps_table(report), kernels_table(report)), format_)


def print_tables(tables: Iterable[TableData], format_: str) -> None:
    """Print tables, with a blank line between them."""
    for place, table in enumerate(tables):
        if place:
            typer.echo()
        if format_ == "text":
            print_table(table)
        else:
            typer.echo(FORMATS.get(format_)(table), nl=False)


def steps_table(report: Report) -> TableData:
    """Return the table of steps, goals beside the figures they are about."""
    cuda = report.settings.device == "cuda"
    left = [Column(name, "left", (name,)) for name in ("model", "dtype", "step", "directions", "engine", "closure")]
    right = [
        Column("forwards", "right", ("forwards",)),
        Column("ms (iqr)", "right", ("seconds", "iqr")),
        Column("/ 2 forwards", "right", ("of_floor",)),
        Column("/ own forwards", "right", ("of_forwards",)),
        Column("reference / step", "right", ("speedup",)),
        Column("peak MiB", "right", ("peak",)),
        Column("extra % of weights", "right", ("peak_share",)),
        Column("same rows", "right", ("own_share",)),
    ]
    if cuda:
        right.append(Column("% outside products", "right", ("outside_matrix",)))
    rows = tuple(tuple(_step_cells(row, cuda=cuda)) for row in report.steps)
    work = report.settings.workload
    lengths = work.tokens if work.shortest is None or work.batch_size == 1 else f"{work.shortest} to {work.tokens}"
    caption = (
        f"steps: batch {work.batch_size}, {lengths} tokens, {work.candidates} candidates, "
        f"medians of {report.settings.rounds} rounds; goals in parentheses"
    )
    return TableData((*left, *right), rows, caption, tuple(_step_notes(report)))


def kernels_table(report: Report) -> TableData:
    """Return the table of noise kernels."""
    left = [Column(name, "left", (name,)) for name in ("backend", "operation", "distribution", "dtype")]
    right = [
        Column("elements", "right", ("elements",)),
        Column("ms (iqr)", "right", ("seconds", "iqr")),
        Column("M/s per thread", "right", ("rate",)),
        Column("GB/s", "right", ("bandwidth",)),
        Column("/ torch.normal + add", "right", ("speedup",)),
        Column("/ copy", "right", ("of_copy",)),
    ]
    rows = tuple(tuple(_kernel_cells(row)) for row in report.kernels)
    return TableData(
        (*left, *right),
        rows,
        "noise kernels; goals in parentheses",
        tuple(machine(report.environment, report.settings.threads, report.seconds, report.command)),
    )


def _step_cells(row: StepRow, *, cuda: bool) -> Iterator[Cell]:
    names = (row.model, row.dtype, row.step, row.directions, row.engine, row.closure)
    yield from (_text(name) for name in names)
    if row.time is None:
        yield from [Cell("refused", (None,)), Cell(_NONE.text, (None, None)), *[_NONE] * (7 if cuda else 6)]
        return
    goals = {goal.what: f" ({goal.text})" for goal in row.goals}
    yield _number(row.forwards, "g")
    yield _time(row.time)
    yield _number(row.of_floor, ".2f", goals.get("of_floor", ""))
    yield _number(row.of_forwards, ".2f")
    yield _number(row.speedup, ".2f", goals.get("speedup", ""))
    yield _NONE if row.peak is None else Cell(f"{row.peak / MIB:,.1f}", (row.peak,))
    yield _percent(row.peak_share)
    yield _percent(row.own_share, goals.get("own_share", ""))
    if cuda:
        yield _percent(row.outside_matrix)


def _kernel_cells(row: KernelRow) -> Iterator[Cell]:
    yield from (_text(name) for name in (row.backend, row.operation, row.distribution, row.dtype))
    goal = "".join(f" ({goal.text})" for goal in row.goals)
    yield Cell(f"{row.elements:,}", (row.elements,))
    yield _time(row.time)
    yield _number(row.rate, ",.0f")
    yield Cell(f"{row.bandwidth / 1e9:,.2f}", (row.bandwidth,))
    yield _number(row.speedup, ".2f", goal)
    yield _number(row.of_copy, ".2f")


def _step_notes(report: Report) -> Iterator[str]:
    yield "floor: two bare forwards of the deduplicated batch; reference: four out-of-place passes with torch.normal"
    yield "quick floor: the floor as our steps make their passes: prompts share rows where that saves padding, behind"
    yield "the last attention only what is read is computed, float32 products are oneDNN's where these are faster"
    yield f"memory by {report.memory_by}; extra: above the peak of one bare forward of the batch"
    yield "same rows: above the peak of one bare forward of as many rows as a pass of the step has"
    said: dict[str, list[str]] = {}
    for row in report.steps:
        refused = [] if row.refused is None else [f"refused: {row.refused}"]
        for text in [*refused, *(f"warning: {text}" for text in row.warned)]:
            names = (row.model, row.dtype, row.step, row.directions, row.engine, row.closure)
            said.setdefault(text, []).append(" ".join(name for name in names if name is not None))
    yield from (f"{text} [{'; '.join(which)}]" for text, which in said.items())


def machine(found: Mapping[str, Any], count: int, seconds: float, command: str) -> Iterator[str]:
    """Yield what a benchmark rests on: device and threads, versions, and the command."""
    packages: dict[str, str] = found["packages"]
    others = {"shoestring": found["shoestring"], "python": found["python"], "torch": packages["torch"]}
    others |= {"transformers": packages["transformers"], "numba": found.get("numba"), "triton": found.get("triton")}
    threads = "1 thread" if count == 1 else f"{count} threads"
    yield f"{found['device']}, {threads}; {found['platform']}; measured in {seconds:,.0f} s"
    yield ", ".join(f"{name} {version}" for name, version in others.items() if version is not None)
    yield command


def _text(name: str | None) -> Cell:
    return _NONE if name is None else Cell(name, (name,))


def _time(time: Timed) -> Cell:
    return Cell(f"{time.median * 1e3:,.2f} ({time.iqr * 1e3:,.2f})", (time.median, time.iqr))


def _number(value: Value, spec: str, goal: str = "") -> Cell:
    return _NONE if value is None else Cell(f"{value:{spec}}{goal}", (value,))


def _percent(value: float | None, goal: str = "") -> Cell:
    return _NONE if value is None else Cell(f"{100 * value:.1f}{goal}", (value,))
