"""`shoestring tasks`: the catalogue, one task, and what is wrong with a task file."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoestring.cli import options
from shoestring.cli.group import Commands

if TYPE_CHECKING:
    from shoestring.tasks.spec import Task

KINDS = ("masked", "causal", "seq2seq")

tasks = typer.Typer(cls=Commands, help="List, show and check tasks.", no_args_is_help=True)


@tasks.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the tasks of the catalogue, suite by suite."""
    from shoestring.tasks.load import load_task, suites

    found = {suite: [load_task(name) for name in names] for suite, names in suites().items()}
    if as_json:
        rows = [{**_row(task), "suite": suite} for suite, listed in found.items() for task in listed]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from shoestring.cli import screen

    console = screen.out()
    if not console.is_terminal:
        for row in map(_row, itertools.chain.from_iterable(found.values())):
            typer.echo("\t".join([row["name"], row["kind"], ",".join(row["labels"]), row["metric"], row["title"]]))
        return
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head, most in (("name", None), ("title", None), ("label words", 17), ("metric", None)):
        shown.add_column(head, no_wrap=head in ("name", "metric"), max_width=most)
    for listed in found.values():
        for task in listed:
            words = " ".join(label.word for label in task.labels)
            words = Text(words, "green") if words else Text(task.kind, "dim")
            shown.add_row(Text(task.name, "bold"), Text(task.title.partition(" (")[0]), words, task.metric)
        shown.add_section()
    console.print(shown)


@tasks.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A task of the catalogue, or a task file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a task: labels and their words, templates with an example, limits, metrics, sources."""
    from shoestring.tasks.load import load_task

    task = load_task(name)
    if as_json:
        typer.echo(json.dumps(task.model_dump(mode="json"), indent=2, ensure_ascii=False))
        return
    from shoestring.cli.task_view import print_task

    print_task(task)


@tasks.command("check")
def check(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Task files, or tasks of the catalogue.")],
    model: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Check label words and limits against this model's tokenizer.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(KINDS), callback=options.one_of(KINDS), help="What the model is; found out unless given."
        ),
    ] = None,
) -> None:
    """Check task files: templates, label words, limits, examples; exit with 1 if anything is wrong.

    A limit beyond what the model reads is no mistake: it is noted on stderr.
    """
    if kind is not None and model is None:
        raise typer.BadParameter("--kind is about a model; give --model as well")
    from shoestring.cli import screen
    from shoestring.errors import ShoestringError
    from shoestring.prompts.check import check_task, limit_notes
    from shoestring.prompts.choose import likely_kind
    from shoestring.tasks.load import load_task

    tokenizer, decodes = _tokenizer(model) if model is not None else (None, False)
    console, wrong = screen.out(), 0
    found_kind: Any = None
    for name in names:
        try:
            task = load_task(name)
            if tokenizer is not None:
                found_kind = kind or (
                    "seq2seq" if decodes else likely_kind(task, masks=tokenizer.mask_token_id is not None)
                )
            problems = check_task(task, tokenizer, found_kind)
            for note in limit_notes(task, tokenizer, found_kind) if tokenizer is not None else ():
                screen.err().print(f"note: {note}", style="yellow")
        except ShoestringError as error:
            problems = [str(error)]
        wrong += bool(problems)
        for problem in problems:
            console.print(problem)
        if not problems:
            against = f" with the tokenizer of {model} ({found_kind})" if model is not None else ""
            console.print(f"{name}: ok{against}", style="green")
    if wrong:
        raise typer.Exit(1)


@tasks.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="A task of the lm-evaluation-harness.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Where to write the task file; printed unless given.")
    ] = None,
) -> None:
    """Turn a multiple-choice or generate-until task of the lm-evaluation-harness into a task file.

    What is left out, or done otherwise than there, is noted on stderr; what cannot be imported is an error.
    """
    from shoestring.cli import screen
    from shoestring.errors import OutputError
    from shoestring.files import passes_on, write_text
    from shoestring.tasks.harness import import_task

    found = import_task(file)
    if out is None:
        typer.echo(found.text, nl=False)
    elif out.exists() and not passes_on(out):
        raise OutputError(f"{out} is there already; give another --out, or delete it")
    else:
        write_text(out, found.text)
    for note in found.notes:
        screen.err().print(f"note: {note}", style="yellow")
    if out is not None:
        screen.out().print(f"{out}: look at it with shoestring tasks show {out}", style="green")


def _tokenizer(model: str) -> tuple[Any, bool]:
    """Return a tokenizer, and whether its model has a decoder of its own for answers."""
    from shoestring.cli import screen

    with screen.waiting("loading the tokenizer"):
        from shoestring.models.loading import load_tokenizer, reads
        from shoestring.models.settings import MaskedModel

        place = MaskedModel(name=model)  # Any kind: it has no say in the tokenizer.
        tokenizer = load_tokenizer(place, alone=True)
        longest, decodes = reads(place)
    if longest is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return tokenizer, decodes


def _row(task: Task) -> dict[str, Any]:
    row: dict[str, Any] = {"name": task.name, "title": task.title, "kind": task.kind, "sentences": len(task.sentences)}
    row |= {"labels": [label.name for label in task.labels], "words": [label.word for label in task.labels]}
    return {**row, "templates": list(task.templates), "metric": task.metric, "metrics": list(task.metrics)}
