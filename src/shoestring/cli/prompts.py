"""`shoestring prompts`: what the model will see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoestring.cli import options
from shoestring.cli.own_data import OwnData

if TYPE_CHECKING:
    from shoestring.cli.preview import Preview

KINDS = ("masked", "causal", "seq2seq", "head")


def prompts(  # noqa: PLR0913 - typer reads the options from here
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="A task, a task file, or a recipe with everything in it.")
    ] = None,
    overrides: options.Overrides = None,
    model: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Show the tokens of this model's tokenizer as well.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(KINDS), callback=options.one_of(KINDS), help="What the model is; found out unless given."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="train|dev|test", help="Which examples: train unless given.")
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many examples.")] = 3,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the split.")] = None,
    k: Annotated[int | None, typer.Option("--k", "-k", min=1, help="Training examples per label.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: token ids, candidates, mask position.")] = False,
    data: options.DataFile = None,
    text_columns: options.TextColumns = None,
    label_column: options.LabelColumn = None,
    template: options.TemplateText = None,
    label_words: options.LabelWords = None,
    inputs: options.Inputs = None,
    outputs: options.Outputs = None,
    candidates: options.Candidates = None,
) -> None:
    """Print prompts as the model will see them.

    Without data, the task file's own examples; without a model, text instead of tokens.

        shoestring prompts SST-2 --model roberta-large --data original
    """
    own = OwnData(data, text_columns, label_column, template, label_words, inputs, outputs, candidates)
    given = {"model": {"name": model, "kind": kind}, "data": {"k": k}, "seed": seed}
    wanted = split or "train"
    with own.told():
        shown = _preview(task, overrides, own, given, wanted)
    if as_json and shown.tokenizer is None:
        raise typer.BadParameter("--json gives token ids, for which it needs --model")
    for option, value in (("--split", split), ("--seed", seed)):
        if value is not None and shown.settings.data is None:
            raise typer.BadParameter(f"{option} is about data; give --data as well")
    with own.told():
        examples = shown.examples(wanted, number)
    if as_json:
        import json

        lines = (json.dumps(shown.as_dict(wanted, example), ensure_ascii=False) for example in examples)
        typer.echo("[\n" + ",\n".join(lines) + "\n]")
        return
    shown.print(wanted, examples)


def _preview(
    task: str | None, overrides: Sequence[str] | None, own: OwnData, given: dict[str, Any], split: str
) -> Preview:
    from shoestring.cli.preview import Preview, is_recipe
    from shoestring.config import apply_overrides

    path, keys = options.recipe_and_overrides(task, overrides)
    for option, value, key in (
        ("--model", given["model"]["name"], "model.name"),
        ("--kind", given["model"]["kind"], "model.kind"),
        ("--seed", given["seed"], "seed"),
    ):
        options.refuse_both(option, value, key, keys)
    options.refuse_both("--k", given["data"]["k"], "data.k", keys)
    if path is None and not own.given and not options.sets_task(keys):
        raise typer.BadParameter("a task is needed, or --data and what belongs to it; see shoestring prompts --help")
    table = _merged(own.table(task=path is not None or options.sets_task(keys), overrides=keys), _given(given))
    if path is not None and is_recipe(path):
        return Preview.of_recipe(path, keys, table)
    if path is not None:
        table.setdefault("task", str(path))
    return Preview.of_table(apply_overrides(table, keys), split)


def _given(table: dict[str, Any]) -> dict[str, Any]:
    """Return what is not None, and the sections in which anything is left."""
    kept = {key: _given(value) if isinstance(value, dict) else value for key, value in table.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {key: {**one[key], **other[key]} for key in one.keys() & other.keys() if isinstance(one[key], dict)}
    return {**one, **other, **both}
