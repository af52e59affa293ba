"""What a model would be given: the examples, the prompt, the tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoestring.cli import screen
from shoestring.config import Settings, Table, build, load_toml
from shoestring.data.example import Example
from shoestring.data.settings import DataSettings
from shoestring.errors import DataError, UnknownNameError
from shoestring.models.settings import ModelKind
from shoestring.prompts.codec import Codec
from shoestring.prompts.settings import PromptSettings
from shoestring.tasks.spec import Task

if TYPE_CHECKING:
    from rich.text import Text
    from transformers import PreTrainedTokenizerBase

    from shoestring.prompts.encoding import PromptEncoder
    from shoestring.prompts.template import Pieces

GOLDEN = "golden"


class PreviewModel(Settings):
    """The model, as far as prompts depend on it."""

    name: str | None = None
    """A folder in the transformers format, or a hub id."""
    kind: ModelKind | None = None
    """Family; found out from the tokenizer unless given."""
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
    """Prompts of one task; `encoder` and `tokenizer` are there where a model is named."""

    settings: PreviewSettings
    kind: ModelKind
    pieces: Pieces
    words: tuple[str, ...]
    encoder: PromptEncoder | None
    tokenizer: PreTrainedTokenizerBase | None

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
    def of_table(cls, table: Table) -> Preview:
        """Preview what the sections of a config say; its `task` may be a name, a path, or a task.

        Raises:
            DataError: if there are settings of data but no data.
        """
        from shoestring.tasks.load import load_task

        data = table.get("data")
        if isinstance(data, dict) and data.get("source") is None:
            raise DataError("data", f"without --data, {', '.join(f'data.{key}' for key in data)} has no effect")
        task = table["task"]
        return cls.of(
            build(
                PreviewSettings, {**table, "task": load_task(task) if isinstance(task, str) else task}, "command line"
            )
        )

    @classmethod
    def of(cls, settings: PreviewSettings) -> Preview:
        """Load the tokenizer, where a model is named, and choose the template."""
        from shoestring.prompts.encoding import find_template
        from shoestring.prompts.label_words import label_words
        from shoestring.prompts.rendering import head_pieces

        if settings.model.name is not None:
            return cls._with_tokenizer(settings, settings.model.name)
        task, prompt = settings.task, settings.prompt
        kind = settings.model.kind or _likely_kind(task, prompt)
        if kind == "head":
            return cls(settings, kind, head_pieces(len(task.sentences), cls_and_sep=True), (), None, None)
        pieces, template = find_template(task, kind, prompt)
        words = label_words(task, template, prompt.label_words).texts("masked" if kind == "masked" else "causal")
        return cls(settings, kind, pieces, words, None, None)

    @classmethod
    def _with_tokenizer(cls, settings: PreviewSettings, name: str) -> Preview:
        with screen.waiting("loading the tokenizer"):
            from shoestring.models.loading import load_longest_input, load_tokenizer
            from shoestring.models.settings import MaskedModel
            from shoestring.prompts.encoding import PromptEncoder

            place = MaskedModel(
                name=name, revision=settings.model.revision
            )  # Any kind: it has no say in the tokenizer.
            tokenizer, longest = load_tokenizer(place), load_longest_input(place)
        kind = settings.model.kind or ("causal" if tokenizer.mask_token_id is None else "masked")
        encoder = PromptEncoder(settings.task, tokenizer, kind, settings.prompt, longest)
        words = (
            ()
            if encoder.words is None or kind == "head"
            else encoder.words.texts("masked" if kind == "masked" else "causal")
        )
        return cls(settings, kind, encoder.pieces, words, encoder, tokenizer)

    def examples(self, split: str, number: int) -> list[Example]:
        """Return the first examples of a split; where no data are named, the task file's own.

        Raises:
            DataError: if there are none, or the data cannot be read.
            UnknownNameError: if there is no such split.
        """
        task = self.settings.task
        if self.settings.data is None:
            if not task.golden:
                raise DataError(f"task {task.name}", "has no examples of its own; give --data")
            first = task.label_names[0] if task.range is None else task.range.low
            return [Example(f"{GOLDEN}:{at}", one.sentences, first) for at, one in enumerate(task.golden[:number])]
        from shoestring.data.splits import draw

        splits = draw(task, self.settings.data, self.settings.seed).named
        if split not in splits:
            raise UnknownNameError("split", split, splits)
        return list(splits[split][:number])

    def as_dict(self, split: str, example: Example) -> dict[str, Any]:
        """Return everything about one prompt, for machines."""
        if self.encoder is None or self.tokenizer is None:
            raise DataError("--json", "needs a model")
        prompt, golden = self.encoder.encode(example), example.uid.startswith(GOLDEN)
        return {
            "uid": example.uid,
            "split": None if golden else split,
            "kind": self.kind,
            "label": None if golden else example.label,
            "label_id": None if golden else prompt.label,
            "text": self.encoder.text(example),
            "length": len(prompt.ids),
            "truncated": prompt.truncated,
            "mask_position": prompt.position,
            "option_ids": [list(option) for option in prompt.options],
            "option_lengths": [len(option) for option in prompt.options],
            "ids": list(prompt.ids),
            "segment_ids": list(prompt.segment_ids),
            "tokens": self.tokenizer.convert_ids_to_tokens(list(prompt.ids)),
        }

    def print(self, split: str, examples: Sequence[Example]) -> None:
        """Print prompts for people."""
        from rich.text import Text

        from shoestring.cli.paint import legend

        console = screen.out()
        model = f" for {self.settings.model.name}" if self.settings.model.name is not None else ""
        console.print(Text.assemble((self.settings.task.name, "bold"), f", {self.kind}{model}"))
        if colours := legend():
            console.print(colours)
        for number, example in enumerate(examples, start=1):
            console.print()
            where = "" if example.uid.startswith(GOLDEN) else f"{split} {number}, "
            for line in self._lines(where, example):
                console.print(line)

    def _lines(self, where: str, example: Example) -> Iterator[Text]:
        from rich.text import Text

        from shoestring.cli.paint import spans, tokens

        head = Text(where + example.uid, "bold")
        if self.encoder is None or self.tokenizer is None:
            yield head
            yield _line("text", spans(self.pieces, example.sentences, self.words))
        else:
            parts, cut = self.encoder.parts(example)
            count = sum(len(part.ids) for part in parts)
            lost = f", {cut} more cut off" if cut else ""
            yield Text.assemble(head, (f"  {count} of at most {self.encoder.limit} tokens{lost}", "dim"))
            yield _line("text", spans(self.pieces, example.sentences, self.words))
            yield _line("tokens", tokens(parts, Codec(self.tokenizer)))
        yield from self._answers(example)

    def _answers(self, example: Example) -> Iterator[Text]:
        """Yield the candidates, the right one marked; for a head or a value, the label."""
        from rich.text import Text

        from shoestring.cli.paint import WORD

        task = self.settings.task
        golden = example.uid.startswith(GOLDEN)
        if not golden and (task.range is not None or not self.words):
            yield _line("label" if task.range is None else "value", Text(str(example.label)))
        for at, (name, word) in enumerate(zip(task.label_names, self.words, strict=bool(self.words))):
            right = not golden and name == example.label
            ids = "" if self.encoder is None else f" {list(self.encoder.options[at])}"
            mark = (" <- label", "bold") if right else ""
            text = Text.assemble((repr(word), f"bold {WORD}" if right else WORD), (f"{ids}  {name}", "dim"), mark)
            yield _line("answers" if at == 0 else "", text)


def _line(head: str, text: Text) -> Text:
    from rich.text import Text

    return Text.assemble((f"  {head:<9}", "dim"), text)


def _likely_kind(task: Task, prompt: PromptSettings) -> ModelKind:
    """Return the form to show without a model: masked, where the template has it."""
    if prompt.template is not None and "*" in prompt.template:
        return "masked" if "*mask*" in prompt.template else "causal"
    return "masked" if task.template(prompt.template).masked is not None else "causal"
