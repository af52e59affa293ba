"""Tables as text, Markdown, LaTeX and csv."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from textwrap import fill
from typing import TYPE_CHECKING

from shoestring.registry import Registry
from shoestring.tables.grouping import NOTHING

if TYPE_CHECKING:
    from rich.table import Table

    from shoestring.tables.table import TableData

_AROUND = 3
"""Columns of a terminal between two texts of a table."""
FORMATS: Registry[Callable[[TableData], str]] = Registry("format", package=None)


@FORMATS.register("text")
def as_text(table: TableData) -> str:
    """Return the table in aligned columns, for people, without colour."""
    heads = [column.head for column in table.columns]
    rows = [[cell.text for cell in row] for row in table.rows]
    widths = [max(map(len, texts)) for texts in zip(heads, *rows, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    lines = [_aligned(heads, widths, table), rule, *(_aligned(row, widths, table) for row in rows)]
    return "\n".join([table.caption, "", *lines, *_notes(table)]) + "\n"


@FORMATS.register("markdown")
def as_markdown(table: TableData) -> str:
    """Return a GitHub-flavoured Markdown table, its notes as a list below."""
    heads = [_markdown(column.head) for column in table.columns]
    rows = [[_markdown(cell.text) for cell in row] for row in table.rows]
    widths = [max(3, *map(len, texts)) for texts in zip(heads, *rows, strict=True)]
    rule = [
        "-" * (width - 1) + ":" if column.align == "right" else "-" * width
        for width, column in zip(widths, table.columns, strict=True)
    ]
    lines = [f"| {_aligned(row, widths, table, end=True, gap=' | ')} |" for row in (heads, rule, *rows)]
    notes = ["", *(_bullet(note) for note in table.notes)] if table.notes else []
    return "\n".join([_markdown(table.caption), "", *lines, *notes]) + "\n"


@FORMATS.register("latex")
def as_latex(table: TableData) -> str:
    """Return a LaTeX `table` for the package booktabs; the notes are in the caption's small print."""
    spec = "".join("r" if column.align == "right" else "l" for column in table.columns)
    rows = [[cell.text for cell in row] for row in table.rows]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.caption[:1].upper() + table.caption[1:])}.}}",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        _latex_row([column.head for column in table.columns]),
        r"\midrule",
        *(_latex_row(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *([r"\par\smallskip\footnotesize"] if table.notes else []),
        *(rf"{_latex(note.strip())}{'' if note.endswith(':') else '.'}\par" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


@FORMATS.register("csv")
def as_csv(table: TableData) -> str:
    """Return csv for machines (RFC 4180): mean, sd and n in columns of their own, metrics and bytes unscaled, no notes.

    What is not known or not there (the sd of one run, a missing result, a label that tells nothing apart) is an empty
    field.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([name for column in table.columns for name in column.csv])
    writer.writerows(
        [["" if value == NOTHING else value for cell in row for value in cell.values] for row in table.rows]
    )
    return out.getvalue()


def as_rich(table: TableData, width: int) -> Iterator[Table]:
    """Yield rich tables for a terminal of `width` columns, as many as it takes; caption and notes are the caller's."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for part in fitting(table, width):
        shown = Table(box=box.SIMPLE_HEAD)
        for at, column in enumerate(part.columns):
            label = column.align == "left"
            wide = _narrowest(column.head, [row[at].text for row in part.rows]) - _AROUND
            lines = column.head if label else fill(column.head, wide, break_on_hyphens=False)
            head = Text(lines, justify=column.align)
            # A label that is wider than its column goes on below: cut, two of them may look the same.
            shown.add_column(head, justify=column.align, no_wrap=not label, overflow="fold", vertical="top")
        for row in part.rows:
            shown.add_row(*(Text(cell.text) for cell in row))
        yield shown


def fitting(table: TableData, width: int) -> list[TableData]:
    """Return the table in parts no wider than `width` where that is possible, each with all the label columns."""
    labels = sum(1 for _ in itertools.takewhile(lambda column: column.align == "left", table.columns))
    widths = [_narrowest(column.head, [row[at].text for row in table.rows]) for at, column in enumerate(table.columns)]
    free = range(labels, len(table.columns))
    room = width - 1 - sum(widths[:labels])
    # Results and costs part first, where they do not fit side by side.
    blocks = [[at for at in free if (len(table.columns[at].csv) > 1) == results] for results in (True, False)]
    if sum(widths[at] for at in free) <= room:
        blocks = [[*free]]
    parts: list[list[int]] = []
    for block in blocks:
        for at in block:
            if at == block[0] or sum(widths[other] for other in [*parts[-1], at]) > room:
                parts.append([])
            parts[-1].append(at)
    chosen = [[*range(labels), *part] for part in parts or [[]]]
    return [
        replace(
            table,
            columns=tuple(table.columns[at] for at in part),
            rows=tuple(tuple(row[at] for at in part) for row in table.rows),
        )
        for part in chosen
    ]


def _narrowest(head: str, texts: Sequence[str]) -> int:
    """Return the width of a column whose head stands in as many lines as it has words, with the space around it."""
    return max(map(len, ["-", *head.split(), *texts])) + _AROUND


def _aligned(
    texts: Sequence[str], widths: Sequence[int], table: TableData, *, end: bool = False, gap: str = "  "
) -> str:
    cells = [
        text.rjust(width) if column.align == "right" else text.ljust(width)
        for text, width, column in zip(texts, widths, table.columns, strict=True)
    ]
    line = gap.join(cells)
    return line if end else line.rstrip()


def _notes(table: TableData) -> list[str]:
    return ["", *table.notes] if table.notes else []


def _bullet(note: str) -> str:
    text = note.lstrip()
    return " " * (len(note) - len(text)) + f"- {_markdown(text)}"


def _markdown(text: str) -> str:
    for char in "\\|*_`<":
        text = text.replace(char, f"\\{char}")
    return text.replace("\n", " ")


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",  # noqa: RUF001 - the dash that stands for a missing number
    "…": r"\dots{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}


def _latex(text: str) -> str:
    # Two hyphens, as of an option in a command, would be set as a dash.
    parts = ("".join(_LATEX.get(char, char) for char in part) for part in text.split("--"))
    return "-{}-".join(parts).replace(" x 100", r" $\times$ 100")


def _latex_row(texts: Sequence[str]) -> str:
    line = " & ".join(map(_latex, texts)) + r" \\"
    # The end of the row before takes these for an argument of its own.
    return "{}" + line if line.startswith(("*", "[")) else line
