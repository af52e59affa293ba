"""`shoestring recipes`: the recipes that come with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoestring.cli.group import Commands

if TYPE_CHECKING:
    from shoestring.studies.recipes import Recipe

recipes = typer.Typer(cls=Commands, help="List, show and copy the published recipes.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Such as mezo/roberta-large-k16; see shoestring recipes list.")
]


@recipes.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the recipes: title, model, how many runs, how many published numbers stand beside them."""
    from shoestring.cli import screen
    from shoestring.studies.recipes import load_recipes

    rows = [_row(recipe) for recipe in load_recipes()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    console = screen.out()
    if not console.is_terminal:
        for row in rows:
            typer.echo("\t".join([row["name"], ",".join(row["models"]), str(row["runs"]), _told(row), row["title"]]))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in ("name", "title", "model", "runs", "published"):
        shown.add_column(head, no_wrap=head in ("name", "runs"), justify="right" if head == "runs" else "left")
    for row in rows:
        cells = (row["title"], ", ".join(row["models"]), f"{row['runs']:,}", _told(row))
        shown.add_row(Text(row["name"], "bold"), *map(Text, cells))
    console.print(shown)


@recipes.command("show")
def show(
    name: Name,
    toml: Annotated[bool, typer.Option("--toml", help="Print the file itself.")] = False,
) -> None:
    """Show a recipe: what it is, its variants and what they are swept over, and the published numbers."""
    from shoestring.cli import screen
    from shoestring.studies.recipe_table import published_table
    from shoestring.studies.recipes import load_recipe
    from shoestring.tables.formats import as_text

    recipe = load_recipe(name)
    if toml:
        typer.echo(recipe.path.read_text(encoding="utf-8"), nl=False)
        return
    console, study = screen.out(), recipe.study
    console.print(f"{recipe.name}: {recipe.title}", style="bold")
    console.print()
    console.print(recipe.about)
    console.print()
    seeds = ", ".join(map(str, study.seeds))
    console.print(f"{study.count:,} runs on {', '.join(recipe.models)}, seeds {seeds}")
    for arm in study.arms:
        swept = "; ".join(f"{key} {', '.join(map(_plain, values))}" for key, values in arm.over.items())
        console.print(f"  {arm.name or 'one variant'}: {swept or 'one setting'}")
    if (table := published_table(study)) is not None:
        console.print()
        console.print(as_text(table), end="")


@recipes.command("copy")
def copy(
    name: Name,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Folder or .toml file; the current folder unless given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Copy a recipe, to change it."""
    from shoestring.cli import screen
    from shoestring.studies.recipes import copy_recipe

    target = copy_recipe(name, out, force=force)
    screen.out().print(f"{target}: run it with shoestring sweep {target}", style="green")


def _row(recipe: Recipe) -> dict[str, Any]:
    row = {"name": recipe.name, "title": recipe.title, "models": list(recipe.models)}
    return {**row, "runs": recipe.study.count, "published": recipe.published}


def _told(row: dict[str, Any]) -> str:
    count = row["published"]
    return f"{count} number{'s' if count > 1 else ''}" if count else "no numbers"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
