"""What a model would be given: the examples, the prompt, the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoestring.cli import screen
from shoestring.config import Settings, Table, build, load_toml
from shoestring.data.example import Example
from shoestring.data.settings import DataSettings
from shoestring.errors import DataError, UnknownNameError
from shoestring.models.settings import ModelKind
from shoestring.prompts.choose import likely_kind
from shoestring.prompts.settings import PromptSettings
from shoestring.tasks.spec import Task, is_test

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from shoestring.data.example import Splits
    from shoestring.prompts.encoding import Encoder
    from shoestring.prompts.pool import Pool

GOLDEN = "golden"


class PreviewModel(Settings):
    """The model, as far as prompts depend on it."""

    name: str | None = None
    """A folder in the transformers format, or of a tokenizer alone, or a hub id."""
    kind: ModelKind | None = None
    """Family; found out from config, tokenizer and task unless given."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""


class PreviewSettings(Settings):
    """The settings of a run that decide about its prompts."""

    task: Task
    data: DataSettings | None = None
    """Where the examples come from; the task file's own examples unless given."""
    model: PreviewModel = PreviewModel()
    prompt: PromptSettings = PromptSettings()
    seed: int = 13


def is_recipe(path: Path) -> bool:
    """Return whether a path is that of a recipe: a TOML file that names a task rather than being one."""
    return path.suffix == ".toml" and path.is_file() and "task" in load_toml(path)


@dataclass(frozen=True)
class Preview:
    """Prompts of one task; `tokenizer` and `longest`, the longest input of the model, are there where one is named."""

    settings: PreviewSettings
    kind: ModelKind
    tokenizer: PreTrainedTokenizerBase | None = None
    longest: int | None = None
    hint: str = ""
    """What else could be shown, where the data cannot be read as asked."""

    @classmethod
    def of_recipe(cls, path: Path, overrides: Sequence[str], table: Table) -> Preview:
        """Preview what a recipe would run."""
        from shoestring.runs.config import load_config

        config = load_config(path, overrides, table)
        model = PreviewModel(name=config.model.name, kind=config.model.kind, revision=config.model.revision)
        return cls.of(
            PreviewSettings(task=config.task, data=config.data, model=model, prompt=config.prompt, seed=config.seed)
        )

    @classmethod
    def of_table(cls, table: Table, split: str) -> Preview:
        """Preview one split of what the sections of a config say; its `task` may be a name, a path, or a task.

        Where they do not say how the data are drawn, it shows what there is.

        Raises:
            DataError: if there are settings of data but no data.
        """
        from shoestring.tasks.load import load_task

        data = table.get("data")
        if isinstance(data, dict) and data.get("source") is None:
            raise DataError("data", f"without --data, {', '.join(f'data.{key}' for key in data)} has no effect")
        task = table["task"]
        table = {**table, "task": load_task(task) if isinstance(task, str) else task}
        settings = build(PreviewSettings, table, "command line")
        if settings.data is None:
            return cls.of(settings)
        from shoestring.cli.preview_data import has_only_test, shown_data

        trains = settings.prompt.demonstrations is not None
        shown = shown_data(settings.task, settings.data, split, trains=trains)
        found = cls.of(settings.model_copy(update={"data": shown}))
        if not trains and not is_test(split) and has_only_test(settings.task, settings.data):
            return replace(found, hint="--split test shows the test set, which is there")
        return found

    @classmethod
    def of(cls, settings: PreviewSettings) -> Preview:
        """Load the tokenizer, where a model is named, and find out the kind of model.

        Raises:
            ConfigError: if the prompt settings ask for what cannot be had.
        """
        from shoestring.errors import ConfigError, Problem
        from shoestring.prompts.problems import prompt_problems

        found = cls._with_tokenizer(settings, settings.model.name) if settings.model.name is not None else None
        if found is None:
            found = cls(settings, settings.model.kind or likely_kind(settings.task, settings.prompt.template))
        if problems := prompt_problems(settings.task, found.kind, settings.prompt):
            raise ConfigError("prompt", [Problem("", text) for text in problems])
        return found

    @classmethod
    def _with_tokenizer(cls, settings: PreviewSettings, name: str) -> Preview:
        with screen.waiting("loading the tokenizer"):
            from shoestring.models.loading import load_tokenizer, reads
            from shoestring.models.settings import MaskedModel

            # Any kind: it has no say in the tokenizer.
            place = MaskedModel(name=name, revision=settings.model.revision)
            tokenizer = load_tokenizer(place, alone=True)
            longest, decodes = reads(place)
        masks = tokenizer.mask_token_id is not None
        likely = "seq2seq" if decodes else likely_kind(settings.task, settings.prompt.template, masks=masks)
        return cls(settings, settings.model.kind or likely, tokenizer, longest)

    @cached_property
    def splits(self) -> Splits | None:
        """The examples, where data are named."""
        if self.settings.data is None:
            return None
        from shoestring.data.splits import draw

        try:
            return draw(self.settings.task, self.settings.data, self.settings.seed)
        except DataError as error:
            if self.hint:
                error.add_note(self.hint)
            raise

    @property
    def pool(self) -> Pool:
        """What demonstrations are drawn from.

        Raises:
            DataError: if demonstrations are asked for and no data are named.
        """
        from shoestring.prompts.pool import Pool

        if self.splits is None:
            if self.settings.prompt.demonstrations is not None:
                raise DataError("prompt.demonstrations", "are drawn from training examples; give --data")
            return Pool()
        return Pool(self.splits.train, self.settings.seed, self.splits.own)

    @cached_property
    def encoder(self) -> Encoder | None:
        """The encoder of a run, where a tokenizer is there."""
        if self.tokenizer is None:
            return None
        from shoestring.prompts.build import build_encoder

        settings = self.settings
        return build_encoder(settings.task, self.tokenizer, self.kind, settings.prompt, self.longest, self.pool)

    def examples(self, split: str, number: int) -> list[Example]:
        """Return the first examples of a split; where no data are named, the task file's own.

        Raises:
            DataError: if there are none, or the data cannot be read.
            UnknownNameError: if there is no such split.
        """
        task = self.settings.task
        if self.splits is None:
            from shoestring.prompts.text_check import golden_example

            default = next(iter(task.templates), None)
            wanted = self.settings.prompt.template or default
            own = [one for one in task.golden if (one.template or default) == wanted] or task.golden
            if not own:
                raise DataError(f"task {task.name}", "has no examples of its own; give --data")
            return [golden_example(task, one, f"{GOLDEN}:{at}") for at, one in enumerate(own[:number])]
        named = self.splits.named
        if split not in named:
            raise UnknownNameError("split", split, named)
        if not named[split]:
            filled = ", ".join(name for name in named if named[name]) or "none"
            raise DataError(f"split {split!r}", f"has no examples as the data are drawn; there are: {filled}")
        return list(named[split][:number])

    def as_dict(self, split: str, example: Example) -> dict[str, Any]:
        """Return everything about one prompt, for machines.

        Raises:
            DataError: if there is no tokenizer to give token ids.
        """
        from shoestring.cli.preview_json import as_dict

        if self.encoder is None or self.tokenizer is None:
            raise DataError("--json", "needs a model")
        found = as_dict(self.kind, self.encoder, self.tokenizer, example)
        golden = example.uid.startswith(GOLDEN)
        head = {"uid": example.uid, "split": None if golden else split, "kind": self.kind}
        return {**head, **found, **({"label": None, "label_id": None, "right": None} if golden else {})}

    def print(self, split: str, examples: Sequence[Example]) -> None:
        """Print prompts for people."""
        from rich.text import Text

        from shoestring.cli.paint import legend
        from shoestring.cli.preview_lines import lines

        found: list[list[Text]] = []
        for number, example in enumerate(examples, start=1):
            known = not example.uid.startswith(GOLDEN)
            found.append(list(lines(self, f"{split} {number}, " if known else "", example, known=known)))
        console = screen.out()
        model = f" for {self.settings.model.name}" if self.settings.model.name is not None else ""
        console.print(Text.assemble((self.settings.task.name, "bold"), f", {self.kind}{model}"))
        if colours := legend():
            console.print(colours)
        for shown in found:
            console.print()
            for line in shown:
                console.print(line)
