"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from shoestring.errors import suggest

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings on top, such as [bold]method.lr=1e-6[/bold]."),
]
DataFile = Annotated[
    str | None,
    typer.Option("--data", metavar="PATH", help="Your csv, tsv or jsonl file, or a folder of data (data.source)."),
]
TextColumns = Annotated[
    str | None, typer.Option(metavar="NAME[,NAME]", help="Columns of the texts in your file: sent_0, sent_1, ...")
]
LabelColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Column of the label in your file.")]
TemplateText = Annotated[
    str | None,
    typer.Option(
        "--template",
        metavar="TEXT",
        help="A template, such as '*cls**sent_0*_It_was*mask*.*sep+*' or '{{ text }} It was', or its name.",
    ),
]
LabelWords = Annotated[
    str | None, typer.Option(metavar="LABEL=WORD,...", help="What the model says for each label: neg=bad,pos=great")
]

Inputs = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[,NAME]", help="Columns of the texts, where answers are texts too; 0,1,... without a header."
    ),
]
Outputs = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of the right answer; in jsonl also of a list of right answers."),
]
Candidates = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[,NAME]", help="Columns of candidates to choose from, or the one that lists them in jsonl."
    ),
]


def one_of(names: Iterable[str]) -> Callable[[str | None], str | None]:
    """Return a callback that takes only `names` for an option, and names the nearest of them otherwise."""
    allowed = tuple(names)

    def check(value: str | None) -> str | None:
        if value is not None and value not in allowed:
            raise typer.BadParameter(f"there is no {value!r}{suggest(value, allowed)}")
        return value

    return check


def integers(text: str, option: str) -> tuple[int, ...]:
    """Return the seeds in `13,21,42`.

    Raises:
        typer.BadParameter: if it is something else, or names one twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{option}: {text!r} is not of the form 13,21,42")
    numbers = tuple(map(int, parts))
    if len(set(numbers)) < len(numbers):
        raise typer.BadParameter(f"{option}: a seed stands twice in {text!r}")
    return numbers


def names(text: str) -> tuple[str, ...]:
    """Return the names in `a,b`."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def chosen(text: str, option: str, allowed: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names in `a,b`: at least one, none twice, and of `allowed` where that is known here.

    Raises:
        typer.BadParameter: if they are not.
    """
    found = names(text)
    if not found:
        raise typer.BadParameter(f"{option}: {text!r} names nothing")
    for name in found:
        if found.count(name) > 1:
            raise typer.BadParameter(f"{option}: {name!r} stands twice in {text!r}")
        if allowed and name not in allowed:
            raise typer.BadParameter(f"{option}: there is no {name!r}{suggest(name, allowed)}")
    return found


def recipe_and_overrides(recipe: str | None, overrides: Sequence[str] | None) -> tuple[Path | None, list[str]]:
    """Tell a recipe from the first `key=value`: the recipe may be left out, or named as the package names its own."""
    rest = list(overrides or ())
    if recipe is None:
        return None, rest
    if "=" in recipe and not Path(recipe).exists():
        return None, [recipe, *rest]
    if Path(recipe).exists():
        return Path(recipe), rest
    from shoestring.studies.recipes import recipe_or_file

    return recipe_or_file(Path(recipe)), rest


def sets_task(overrides: Sequence[str]) -> bool:
    """Return whether one of the overrides is `task=...`."""
    return any(text.partition("=")[0].strip() == "task" for text in overrides)


def refuse_both(option: str, given: object, key: str, overrides: Sequence[str]) -> None:
    """Refuse an option and an override that say the same thing.

    Raises:
        typer.BadParameter: if both are given.
    """
    if given is not None and any(text.partition("=")[0].strip() == key for text in overrides):
        raise typer.BadParameter(f"{option} and {key}=... say the same thing; give one of them")
