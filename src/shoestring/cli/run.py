"""`shoestring run`: one config, or one for each of several seeds, to its record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoestring.cli import options
from shoestring.cli.own_data import OwnData

if TYPE_CHECKING:
    from shoestring.runs.config import RunConfig
    from shoestring.runs.record import Record


def run(  # noqa: PLR0913 - typer reads the options from here
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="A recipe: a TOML file.")] = None,
    overrides: options.Overrides = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="13,21,42", help="Run once for each seed, one after the other.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run again what is already done, from the start.")] = False,
    out: Annotated[str | None, typer.Option(metavar="FOLDER", help="Folder of all runs (output.folder).")] = None,
    data: options.DataFile = None,
    text_columns: options.TextColumns = None,
    label_column: options.LabelColumn = None,
    template: options.TemplateText = None,
    label_words: options.LabelWords = None,
    inputs: options.Inputs = None,
    outputs: options.Outputs = None,
    candidates: options.Candidates = None,
) -> None:
    """Run a recipe, or your own data without one: train, select on dev, test, and keep a record.

    A run that is already done is not made again; an interrupted one goes on from its last checkpoint.

        shoestring run recipes/mezo/roberta-large-k16.toml method.lr=1e-6 --seeds 13,21,42
    """
    own = OwnData(data, text_columns, label_column, template, label_words, inputs, outputs, candidates)
    configs = _configs(recipe, overrides, own, (seeds, out))
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.cli.summary import print_many, print_one
        from shoestring.runs.run import finished
        from shoestring.runs.run import run as run_config
    records: list[Record] = []
    for config in configs:
        done = not force and finished(config) is not None
        with own.told(), screen.progress() as progress:
            record = run_config(config, force=force, progress=progress)
        print_one(record, config.folder, reused=done)
        records.append(record)
    if len(records) > 1:
        print_many(records)


def _configs(
    recipe: str | None, overrides: Sequence[str] | None, own: OwnData, seeds_and_out: tuple[str | None, str | None]
) -> list[RunConfig]:
    """Build every config before anything runs: mistakes show at once."""
    seeds, out = seeds_and_out
    path, keys = options.recipe_and_overrides(recipe, overrides)
    if path is None and not keys and not own.given:
        raise typer.BadParameter("a recipe is needed, or --data and what belongs to it; see shoestring run --help")
    for option, given, key in (("--seeds", seeds, "seed"), ("--out", out, "output.folder")):
        options.refuse_both(option, given, key, keys)
    wanted = options.integers(seeds, "--seeds") if seeds is not None else ()
    if path is not None:
        _refuse_no_recipe(path)
    from shoestring.cli import screen
    from shoestring.config import load_toml
    from shoestring.runs.config import STUDY, load_config

    notes: dict[str, None] = {}  # The same for every seed.
    if path is not None and STUDY in load_toml(path):
        from shoestring.studies.study import load_study

        count = load_study(path).count
        notes[f"{path} is a study of {count:,} runs; shoestring sweep {path} makes them all, run makes its base"] = None
    named = options.sets_task(keys) or (path is not None and (not own.given or "task" in load_toml(path)))
    table: dict[str, Any] = own.table(task=named, overrides=keys)
    if out is not None:
        table["output"] = {"folder": out}
    configs = [
        load_config(path, keys, {**table, **seed}, notes.setdefault)
        for seed in ([{"seed": seed} for seed in wanted] or [{}])
    ]
    for note in notes:
        screen.err().print(f"note: {note}", style="yellow")
    return configs


def _refuse_no_recipe(path: Path) -> None:
    """Refuse a task, or data, where a recipe is meant."""
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".json"):
        raise typer.BadParameter(f"{path} is data, no recipe; give it as --data {path}")
    from shoestring.config import load_toml
    from shoestring.tasks.load import catalog_name

    if path.exists():
        keys = load_toml(path).keys()
        is_task = "sentences" in keys and "task" not in keys
    else:
        is_task = catalog_name(str(path)) is not None
    if is_task:
        raise typer.BadParameter(f"{path} is a task, no recipe; give it as task={path}, with model.* and method.*")
