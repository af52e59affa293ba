"""`shoestring compare`: what differs between two runs, or two groups of runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from shoestring.tables.cells import TableData
    from shoestring.tables.comparing import Comparison, Flips, Result

_WIDEST = 48

Side = typer.Argument(metavar="RUNS[@KEY=VALUE,...]", help="A run folder, or a folder of runs and which of them.")


def compare(
    a: Annotated[str, Side],
    b: Annotated[str, Side],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what differs between A and B: settings, results with paired tests, costs, machines, answers one by one.

    Of two groups, runs of one task and seed are a pair; in each the trial best on dev counts.

        shoestring compare runs@method=mezo runs@method=adam
    """
    from shoestring.tables.comparing import compare_runs
    from shoestring.tables.selecting import select

    sides = select(a), select(b)
    found = compare_runs(*sides)
    if as_json:
        typer.echo(json.dumps(_plain(found), indent=2, ensure_ascii=False))
        return
    from shoestring.cli import screen
    from shoestring.cli.summary import print_table
    from shoestring.tables.describing import describe

    console = screen.out()
    for name, side in zip("AB", sides, strict=True):
        alone = len(side.records) == 1
        told = describe(side.records[0]) if alone else f"{len(side.records)} runs"
        console.print(f"{name}  {side.name}: {told}", style="bold")
    for table in _tables(found):
        console.print()
        print_table(table)
    console.print()
    for flips in found.flips:
        for line in _flip_lines(flips):
            console.print(line)
    for note in found.notes:
        console.print(note, style="dim")


def _tables(found: Comparison) -> list[TableData]:
    from shoestring.tables.cells import Cell, Column, TableData

    heads = tuple(Column(head, "left", (head,)) for head in ("", "A", "B"))
    tables: list[TableData] = []
    for caption, differences in (("settings that differ", found.differences), ("machines", found.environments)):
        rows = [(one.key, _values(one.a), _values(one.b)) for one in differences]
        if rows:
            cells = tuple(tuple(Cell(text, (text,)) for text in row) for row in rows)
            tables.append(TableData(heads, cells, caption))
    groups = any(one.seeds for one in found.results)
    tests = ("p t", "p flips") if groups else ()
    numbers = tuple(Column(head, "right", (head,)) for head in ("A", "B", "B - A", *tests))
    results = [tuple(Cell(text, (text,)) for text in _result(one)[: 1 + len(numbers)]) for one in found.results]
    told = ": mean (sd, seeds), p of the paired t test and of the exact one by flips of signs" if groups else ""
    made = TableData((heads[0], *numbers), tuple(results), f"results x 100 (losses as they are){told}")
    tables.insert(1 if found.differences else 0, made)
    costs = tuple(
        tuple(Cell(text, (text,)) for text in (name, *(f"{value:,.1f}".removesuffix(".0") for value in (one, other))))
        for name, one, other in found.costs
    )
    if costs:
        tables.append(TableData((heads[0], *numbers[:2]), costs, "costs: means"))
    return tables


def _result(one: Result) -> tuple[str, ...]:
    from shoestring.runs.words import shown, title
    from shoestring.tables.views import mean_and_spread, p_shown

    texts = []
    for side in (one.a, one.b):
        mean, sd, count = mean_and_spread(side)
        texts.append(shown(one.metric, mean) + (f" ({shown(one.metric, sd)}, {count})" if sd is not None else ""))
    test = one.test
    sign = "+" if test.mean >= 0 else "-"
    ps = ["" if p is None else p_shown(p) for p in (test.t, test.flips)]
    name = f"{one.task} {one.split} {title(one.metric)}"
    return (name, *texts, sign + shown(one.metric, abs(test.mean)), *ps)


def _flip_lines(flips: Flips) -> list[str]:
    from shoestring.tables.views import p_shown

    p = "" if flips.p is None else f"; p = {p_shown(flips.p)} (McNemar, exact)"
    lines = [
        f"{flips.total:,} answers on {flips.split}: {flips.both:,} right in both, {flips.only_a:,} in A alone, "
        f"{flips.only_b:,} in B alone, {flips.neither:,} in neither; {flips.changed:,} differ{p}"
    ]
    for name, uids, count in (("A", flips.lost, flips.only_a), ("B", flips.gained, flips.only_b)):
        if uids:
            lines.append(f"  right in {name} alone: {', '.join(uids)}{', ...' if count > len(uids) else ''}")
    return lines


def _values(values: tuple[Any, ...]) -> str:
    from shoestring.tables.commands import toml_value
    from shoestring.tables.grouping import NOTHING

    text = ", ".join(NOTHING if value is None else toml_value(value) for value in values)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _plain(found: Comparison) -> dict[str, Any]:
    table = asdict(found)
    for row, one in zip(table["results"], found.results, strict=True):
        row["test"] = asdict(one.test)
    return table
