"""The `shoestring` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from shoestring._version import __version__
from shoestring.cli.bench import bench
from shoestring.cli.compare import compare
from shoestring.cli.data import data
from shoestring.cli.demo import demo
from shoestring.cli.export import export
from shoestring.cli.extract import extract
from shoestring.cli.group import Commands, end_unprinted
from shoestring.cli.kernel_behaviour import kernel_behaviour
from shoestring.cli.plot import plot
from shoestring.cli.predict import predict
from shoestring.cli.prompts import prompts
from shoestring.cli.recipes import recipes
from shoestring.cli.replay import replay
from shoestring.cli.report import report
from shoestring.cli.run import run
from shoestring.cli.scaling import scaling
from shoestring.cli.sweep import sweep
from shoestring.cli.table import table
from shoestring.cli.tasks import tasks
from shoestring.memory import tune_allocators

app = typer.Typer(
    cls=Commands,
    name="shoestring",
    help="Fine-tune language models on a shoestring: a handful of labels, or no backward pass at all.",
    epilog="New here? [bold]shoestring demo[/bold] shows the whole way, offline, in a few minutes.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    # A traceback means a mistake of ours: plain, complete, fit to be pasted into a report.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shoestring {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Hold the options of the command itself."""


app.command("run")(run)
app.add_typer(sweep, name="sweep")
app.command("demo")(demo)
app.command("prompts")(prompts)
app.add_typer(tasks, name="tasks")
app.add_typer(data, name="data")
app.add_typer(recipes, name="recipes")
app.command("table")(table)
app.command("compare")(compare)
app.command("report")(report)
app.command("plot")(plot)
app.command("scaling")(scaling)
app.command("kernel-behaviour")(kernel_behaviour)
app.command("predict")(predict)
app.command("export")(export)
app.command("extract")(extract)
app.command("replay")(replay)
app.add_typer(bench, name="bench")


def main() -> None:
    """Run the command line; never returns."""
    tune_allocators()
    try:
        sys.exit(app())
    except OSError as error:
        end_unprinted(error)
