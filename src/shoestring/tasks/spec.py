"""What a task file says: fields, labels in order, templates, label words, limits, metrics, sources."""

from __future__ import annotations

from collections import Counter
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from shoestring.config import Settings
from shoestring.errors import UnknownNameError, suggest

Kind = Literal["classification", "regression"]
Format = Literal["tsv", "csv", "jsonl"]
TRAIN, DEV, TEST = "train", "dev", "test"


class Label(Settings):
    """One label; its position in the task file is its id."""

    name: str
    """The label's value in the data files, as text."""
    word: str
    """The label word: what the model is asked to say for this label."""
    title: str = ""
    """What the label means, for people."""


class Template(Settings):
    """One way to ask, in the LM-BFF template language, for each family of models."""

    masked: str | None = None
    """Template for masked models: the label word stands at `*mask*`."""
    causal: str | None = None
    """Template for causal models: it ends where the answer begins."""
    answer: str = " {word}"
    """How the label word continues the causal template."""
    label_words: dict[str, str] = {}
    """Label words of this template where they differ from the task's own, by label name."""


class Limits(Settings):
    """Token limits of the published experiments."""

    max_tokens: PositiveInt = 128
    """Longest whole input, special tokens included."""
    first_sentence_tokens: PositiveInt | None = None
    """Longest first sentence (LM-BFF: `first_sent_limit`)."""
    other_sentence_tokens: PositiveInt | None = None
    """Longest sentence of any other index (LM-BFF: `other_sent_limit`)."""


class Range(Settings):
    """The interval of a regression task's values, and where the two polarity labels part."""

    low: float
    high: float
    threshold: float
    """Values below it count as the first label, when k examples per label are drawn."""


class FileSource(Settings):
    """The task's original files: one folder, one file a split."""

    folder: str
    """Folder name under the data root."""
    format: Format
    header: bool
    """Whether the first line names the columns."""
    sentences: tuple[int | str, ...]
    """Column of each sentence: a 0-based position (negative counts from the end), or a name (jsonl, or with a header)."""
    label: int | str
    """Column of the label."""
    files: dict[str, str]
    """File of each split: `train`, `test` and any further test set such as `test-mismatched`."""
    skip_short_rows: bool = False
    """Rows with too few columns are skipped, as the published reader of QQP does; otherwise they are an error."""


class HubSource(Settings):
    """The task on the Hugging Face hub."""

    id: str
    config: str | None = None
    revision: str | None = None
    sentences: tuple[str, ...]
    label: str
    labels: dict[str, str] = {}
    """The hub's label name (or number, as text) -> this task's label name; labels are mapped by name, never by number."""
    splits: dict[str, str] = {"train": "train", "test": "validation"}
    """This task's split -> the hub's split."""


class Sources(Settings):
    """Where the task's examples come from."""

    files: FileSource | None = None
    hub: HubSource | None = None


class Golden(Settings):
    """An example and the text its prompt must become, with `<cls>`, `<sep>`, `<mask>`, `<bos>` for special tokens."""

    sentences: tuple[str, ...]
    masked: str | None = None
    causal: str | None = None
    template: str | None = None


class Task(Settings):
    """A task: everything that does not depend on the model, the method or the split."""

    name: str
    version: PositiveInt = 1
    """Raised whenever the prompt, the split or the metric changes."""
    title: str = ""
    kind: Kind = "classification"
    sentences: tuple[str, ...] = Field(min_length=1)
    """Names of the text fields; the i-th is `sent_i` in templates."""
    labels: tuple[Label, ...] = Field(min_length=2)
    templates: dict[str, Template] = {}
    """The first template is the default one."""
    limits: Limits = Limits()
    metrics: tuple[str, ...] = ("accuracy",)
    """The first is the main one: selection on dev and tables use it."""
    range: Range | None = None
    sources: Sources = Sources()
    golden: tuple[Golden, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names in order of their ids."""
        return tuple(label.name for label in self.labels)

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.metrics[0]

    def template(self, name: str | None = None) -> Template:
        """Return the template called `name`, or the default one.

        Raises:
            UnknownNameError: if the task has no such template.
        """
        if not self.templates:
            raise UnknownNameError("template", name or "default", (), where=f"task {self.name}")
        key = next(iter(self.templates)) if name is None else name
        if key not in self.templates:
            raise UnknownNameError("template", key, self.templates, where=f"task {self.name}")
        return self.templates[key]

    def label_words(self, template: Template) -> tuple[str, ...]:
        """Return the label words of `template`, in order of the label ids."""
        return tuple(template.label_words.get(label.name, label.word) for label in self.labels)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*_repeated("label name", self.label_names), *_repeated("sentence", self.sentences)]
        names = set(self.label_names)
        for key, template in self.templates.items():
            if template.masked is None and template.causal is None:
                problems.append(f"template {key!r} has neither a masked nor a causal form")
            for label in template.label_words.keys() - names:
                problems.append(f"template {key!r} has a word for label {label!r}{suggest(label, names)}")
            problems += [f"template {key!r}: {text}" for text in _repeated("label word", self.label_words(template))]
        if (self.kind == "regression") != (self.range is not None):
            problems.append("a regression task, and only that, has a [range]")
        if self.kind == "regression" and len(self.labels) != 2:
            problems.append("a regression task has two labels: its low and its high pole")
        for source in (self.sources.files, self.sources.hub):
            if source is not None and len(source.sentences) != len(self.sentences):
                problems.append(f"a source has {len(source.sentences)} sentences, the task {len(self.sentences)}")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _repeated(what: str, names: tuple[str, ...]) -> list[str]:
    return [f"{what} {name!r} stands twice" for name, count in Counter(names).items() if count > 1]
