from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from runs.records import record
from shoestring.errors import UnknownNameError
from shoestring.tables.formats import FORMATS, as_csv, as_latex, as_markdown, as_rich, as_text, fitting
from shoestring.tables.grouping import NOTHING
from shoestring.tables.table import Cell, Column, Layout, TableData, tabulate

ODD = TableData(
    columns=(Column("a_b", "left", ("a_b",)), Column("x|y", "right", ("x mean", "x sd"))),
    rows=((Cell('50% of "R&D", #1', ('50% of "R&D", #1',)), Cell("1.0 (–, 1)", (0.1 + 0.2, None))),),  # noqa: RUF001
    caption="accuracy x 100",
    notes=("a note_here", "failed:", "  one"),
)


def test_text_is_aligned_and_ends_no_line_in_spaces() -> None:
    lines = as_text(tabulate([record(0.5), record(0.25, method="adam")], Layout(costs=False))).splitlines()
    assert lines[2:] == [
        "model       method        SST-2",
        "----------  ------  -----------",
        "minilm-mlm  mezo    50.0 (–, 1)",  # noqa: RUF001
        "minilm-mlm  adam    25.0 (–, 1)",  # noqa: RUF001
    ]


def test_markdown_escapes_what_it_would_read_as_markup() -> None:
    lines = as_markdown(ODD).splitlines()
    assert lines[2].count(" | ") == 1
    assert r"a\_b" in lines[2]
    assert r"x\|y" in lines[2]
    assert lines[3].endswith("-: |")
    assert lines[-3:] == [r"- a note\_here", "- failed:", "  - one"]


def test_latex_escapes_and_uses_booktabs() -> None:
    text = as_latex(ODD)
    assert r"50\% of " in text
    assert r"R\&D" in text
    assert r"\#1" in text
    assert r"a\_b" in text
    assert r"x\textbar{}y" in text
    assert r"1.0 (--, 1)" in text
    assert r"\caption{Accuracy $\times$ 100.}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"failed:\par" in text


@pytest.mark.parametrize("label", ["*cls**sent_0*", '["a", "b"]'])
def test_no_row_of_latex_begins_with_what_the_end_of_a_row_takes_as_its_argument(label: str) -> None:
    row = as_latex(replace(ODD, rows=((Cell(label, (label,)), ODD.rows[0][1]),))).splitlines()[7]
    assert row.startswith("{}" + label[0])


def test_options_of_a_command_keep_their_hyphens_in_latex() -> None:
    text = as_latex(replace(ODD, notes=("shoestring run --seeds 13",)))
    assert "run -{}-seeds 13" in text
    assert "1.0 (--, 1)" in text


def test_csv_reads_back_to_the_very_numbers() -> None:
    text = as_csv(ODD)
    assert text.endswith("\r\n")
    heads, row = csv.reader(io.StringIO(text, newline=""))
    assert heads == ["a_b", "x mean", "x sd"]
    assert row == ['50% of "R&D", #1', "0.30000000000000004", ""]
    assert float(row[1]) == 0.1 + 0.2


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_shows_every_row(name: str) -> None:
    runs = [record(0.5, method=method) for method in ("zero-shot", "mezo", "adam")]
    text = FORMATS.get(name)(tabulate(runs))
    assert all(method in text for method in ("zero-shot", "mezo", "adam"))
    assert text.endswith("\n")


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown format 'latx'; did you mean 'latex'"):
        FORMATS.get("latx")


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_on_a_terminal_no_number_is_cut_and_costs_go_below_where_they_do_not_fit(width: int) -> None:
    table = tabulate([record(0.5, task=task) for task in ("SST-2", "trec", "CoLA", "subj")])
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*as_rich(table, width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("50.0 (–, 1)") == 4  # noqa: RUF001
    parts = fitting(table, width)
    assert (len(parts) == 1) == (width == 200)
    assert all(part.columns[:2] == table.columns[:2] for part in parts)
    assert [one for part in parts for one in part.columns[2:]] == [*table.columns[2:]]


def shown(table: TableData, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*as_rich(table, width))
    return console.export_text()


def test_on_a_narrow_terminal_labels_are_folded_and_never_cut() -> None:
    text = shown(tabulate([record(0.5, method=method) for method in ("zero-shot", "mezo")], Layout(costs=False)), 34)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 34
    lines = text.splitlines()
    (at,) = (at for at, line in enumerate(lines) if "zero" in line)
    assert "".join(line.split()[1] for line in lines[at : at + 2]) == "zero-shot"


def test_a_table_of_labels_alone_is_shown() -> None:
    cells = ((Cell("method.lr", ("method.lr",)), Cell("0.1", ("0.1",))),)
    table = TableData((Column("", "left", ("",)), Column("A", "left", ("A",))), cells, "settings that differ")
    assert "method.lr   0.1" in shown(table, 80)


def test_a_head_breaks_only_where_it_is_wider_than_its_column() -> None:
    columns = (Column("B - A", "right", ("a",)), Column("p flips", "right", ("b",)))
    table = TableData(columns, ((Cell("+10.0", (1,)), Cell("0.2", (1,))),), "")
    assert [line.split() for line in shown(table, 80).splitlines()[1:3]] == [["p"], ["B", "-", "A", "flips"]]


def test_csv_has_an_empty_field_where_a_label_tells_nothing_apart() -> None:
    table = replace(ODD, rows=((Cell(NOTHING, (NOTHING,)), ODD.rows[0][1]),))
    assert list(csv.reader(io.StringIO(as_csv(table), newline="")))[1][0] == ""
