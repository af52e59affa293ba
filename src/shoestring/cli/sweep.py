"""`shoestring sweep`: every run of one or several recipes, and how far they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from shoestring.cli import options

if TYPE_CHECKING:
    from shoestring.studies.launchers.base import Launcher
    from shoestring.studies.plan import Plan, Planned, Tally
    from shoestring.studies.study import Study
    from shoestring.studies.sweep import Sweep

# Seconds between two times that the plan is written while a search adds to it.
_PLAN_EVERY = 5.0
SEARCHES = ("grid", "random", "tpe")
Recipes = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE... [KEY=VALUE...]",
        help="Recipes (TOML files or names of shoestring recipes list), and settings on top.",
    ),
]
Over = Annotated[
    list[str] | None,
    typer.Option(
        "--over", metavar="KEY=VALUE,VALUE", help="Sweep over a key, such as method.lr=1e-6,1e-7; may be repeated."
    ),
]
Seeds = Annotated[str | None, typer.Option(metavar="13,21,42", help="Seeds, instead of the study's.")]
Out = Annotated[str | None, typer.Option(metavar="FOLDER", help="Folder of all runs (output.folder).")]
Search = Annotated[
    str,
    typer.Option(
        metavar="|".join(SEARCHES),
        callback=options.one_of(SEARCHES),
        help="All combinations, or settings drawn from the ranges of study.search.",
    ),
]
Trials = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Settings that a search tries in each cell and for each seed.")
]


class Default(TyperGroup):
    """A group whose first command is meant where none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Let options of the first command stand where none is named."""
        return super().parse_args(ctx, self._named(args))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that arguments mean, the first one where they name none."""
        return super().resolve_command(ctx, self._named(args))

    def _named(self, args: list[str]) -> list[str]:
        return args if args and args[0] in self.commands else [next(iter(self.commands)), *args]


sweep = typer.Typer(cls=Default, help="Make every run of a study, and see how far they are.")


@sweep.command("run", no_args_is_help=True)
def run(  # noqa: PLR0913 - typer reads the options from here
    recipes: Recipes,
    over: Over = None,
    seeds: Seeds = None,
    jobs: Annotated[int | None, typer.Option(min=1, metavar="N", help="Runs at once (launcher.jobs).")] = None,
    launcher: Annotated[
        str, typer.Option(metavar="NAME", help="Where runs are made: local, here, ray or slurm.")
    ] = "local",
    search: Search = "grid",
    trials: Trials = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="With tpe: end runs that do worse on dev than earlier ones at the same step."),
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Make failed runs again.")] = False,
    stop_on_failure: Annotated[bool, typer.Option("--stop-on-failure", help="Begin no run once one failed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make nothing; list what would be made.")] = False,
    out: Out = None,
) -> None:
    """Make every run of a study: seeds, variants and all combinations of what is swept.

    What is done is not made again, so the same command goes on after anything. Settings of the launcher are keys too:
    launcher.jobs=2, launcher.memory=16. How far it is, from any terminal: shoestring sweep status.

        shoestring sweep recipes/mezo/roberta-large-k16.toml --over method.lr=1e-7,1e-6 --seeds 13,21
    """
    paths, keys = _told_apart(recipes)
    chosen = _launcher(launcher, jobs, [text for text in keys if text.startswith("launcher.")])
    keys = [text for text in keys if not text.startswith("launcher.")]
    made = _sweep(_studies(paths, keys, (over, seeds, out)), search, trials, prune=prune)
    from shoestring.cli import screen, sweep_screen

    for note in made.notes:
        screen.err().print(f"note: {note}", style="yellow")
    with screen.waiting("looking at what is there"):
        tally = made.tally()
    if dry_run:
        _list(made, tally, retry=retry)
        return
    tally = _make(made, tally, chosen, retry=retry, stop_on_failure=stop_on_failure)
    _print_tables(made)
    sweep_screen.print_tally(tally)
    sweep_screen.print_failures(tally)
    if tally.count("failed") or tally.count("to do"):
        raise typer.Exit(1)


@sweep.command("status", no_args_is_help=True)
def status(
    where: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...|FOLDER... [KEY=VALUE...]", help="Folders of runs, or recipes as in sweep."),
    ],
    over: Over = None,
    seeds: Seeds = None,
    out: Out = None,
) -> None:
    """Show how far a sweep is: from the plan in the folder of its runs, or from its recipes.

    shoestring sweep status runs
    """
    from shoestring.cli import sweep_screen
    from shoestring.studies.plan import Tally, read_plans

    paths, keys = _told_apart(where)
    files = [path for path in paths if not path.is_dir()]
    if not files and (keys or over or seeds or out):
        raise typer.BadParameter("a folder has its plan; settings, --over, --seeds and --out go with recipes")
    plans: list[Plan] = [plan for path in paths if path.is_dir() for plan in read_plans(path)]
    if files:
        plans += _sweep(_studies(files, keys, (over, seeds, out)), "grid", None).plans()
    for plan in plans:
        typer.echo(f"{plan.title} ({plan.recipe})")
    tally = Tally.of(plans)
    sweep_screen.print_tally(tally, tally.count("running"))
    sweep_screen.print_failures(tally)


def _told_apart(texts: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Tell recipes, the package's own by their names too, and folders from `key=value`."""
    from shoestring.studies.recipes import recipe_or_file

    keys = [text for text in texts if "=" in text and not Path(text).exists()]
    # What is there, or looks like a file, is meant as one; anything else is the name of a recipe, or a misspelt one.
    files = [text for text in texts if text not in keys and (Path(text).exists() or text.endswith(".toml"))]
    paths = [recipe_or_file(Path(text)) if text in files else _recipe(text) for text in texts if text not in keys]
    if not paths:
        raise typer.BadParameter("a recipe is needed; see shoestring sweep --help")
    return paths, keys


def _recipe(name: str) -> Path:
    from shoestring.errors import UnknownNameError
    from shoestring.studies.recipes import find_recipe

    try:
        return find_recipe(name)
    except UnknownNameError as error:
        error.add_note(f"there is no file or folder {name!r} either; shoestring sweep status says how far a sweep is")
        raise


def _launcher(name: str, jobs: int | None, keys: Sequence[str]) -> Launcher:
    options.refuse_both("--jobs", jobs, "launcher.jobs", keys)
    if any(text.partition("=")[0].strip() == "launcher.kind" for text in keys):
        raise typer.BadParameter("launcher.kind=... is for --launcher NAME to say")
    from shoestring.config import apply_overrides, build
    from shoestring.studies.launchers.base import LAUNCHERS

    table: dict[str, Any] = {"launcher": {} if jobs is None else {"jobs": jobs}}
    return build(LAUNCHERS.get(name), apply_overrides(table, keys)["launcher"] | {"kind": name}, f"launcher {name}")


def _studies(
    paths: Sequence[Path], keys: Sequence[str], given: tuple[Sequence[str] | None, str | None, str | None]
) -> list[Study]:
    over, seeds, out = given
    for option, value, key in (("--seeds", seeds, "seed"), ("--out", out, "output.folder")):
        options.refuse_both(option, value, key, keys)
    wanted = options.integers(seeds, "--seeds") if seeds is not None else ()
    from shoestring.studies.study import load_study, read_over

    swept = read_over(over or ())
    return [load_study(path, keys, swept, wanted, out) for path in paths]


def _sweep(studies: Sequence[Study], search: str, trials: int | None, *, prune: bool = False) -> Sweep:
    if prune and search != "tpe":
        raise typer.BadParameter("--prune is for --search tpe; grids and random search make every run to its end")
    if search == "grid" and trials is not None:
        raise typer.BadParameter("--trials is for --search random or tpe; a grid has all combinations")
    if search != "grid" and trials is None:
        raise typer.BadParameter(f"--search {search} needs --trials N: how many settings to try")
    from shoestring.studies.sweep import Sweep

    how: Literal["grid", "random", "tpe"] = "random" if search == "random" else "tpe" if search == "tpe" else "grid"
    return Sweep.of(studies, how, trials or 1, prune=prune)


def _make(made: Sweep, tally: Tally, launcher: Launcher, *, retry: bool, stop_on_failure: bool) -> Tally:
    """Make what is to be made; return how far everything is then."""
    from shoestring.cli import screen, sweep_screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.studies.engine import Engine
        from shoestring.studies.hopeless import refuse_hopeless
        from shoestring.studies.sweep import refuse_changed
    with screen.progress() as progress:
        refuse_changed(made, tally, progress)
    todo = made.todo(tally, retry=retry)
    refuse_hopeless(todo)
    made.write_plans()
    shown = sweep_screen.Progress(tally)
    if todo or sum(made.to_come):
        written = time.monotonic()

        def new(run: Planned) -> None:
            nonlocal written
            shown.add(run, sum(made.to_come))
            if time.monotonic() - written > _PLAN_EVERY:
                made.write_plans()
                written = time.monotonic()

        screen.err().print(sweep_screen.summary(tally))
        with sweep_screen.live(shown):
            Engine(launcher, shown, stop_on_failure=stop_on_failure).make(made.queue(todo, new, retry=retry))
        made.write_plans()
    return made.tally()


def _list(made: Sweep, tally: Tally, *, retry: bool) -> None:
    """Print every run and how far it is; what would be made is `to do`."""
    from shoestring.cli import screen, sweep_screen

    console = screen.out()
    for run, seen in zip(tally.runs, tally.seen, strict=True):
        console.print(f"{run.run_id}  {seen.state:<7}  {run.name}")
    sweep_screen.print_tally(tally)
    sweep_screen.print_failures(tally)
    count = len(made.todo(tally, retry=retry)) + sum(made.to_come)
    screen.err().print(f"{count:,} {'run' if count == 1 else 'runs'} would be made")


def _print_tables(made: Sweep) -> None:
    """Print the table of each study."""
    from shoestring.cli import screen
    from shoestring.cli.summary import print_table
    from shoestring.errors import RunFolderError
    from shoestring.tables.table import Layout, tabulate

    for study, trials in zip(made.studies, made.trials, strict=True):
        screen.out().print(study.title, style="bold")
        try:
            print_table(tabulate(made.records(trials), Layout(seeds=study.seeds)))
        except RunFolderError as error:
            screen.out().print(str(error))
        if study.settings.published:
            folder = trials[0].config.output.folder
            screen.err().print(f"shoestring table {folder} --against {study.source} puts the published numbers beside")
