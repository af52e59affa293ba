"""What a task file says: fields, labels in order, templates, label words, limits, metrics, sources."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from pydantic import Field, PositiveInt, model_validator

from shoestring.config import Settings
from shoestring.errors import UnknownNameError, suggest
from shoestring.tasks.metrics import METRICS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

Format = Literal["tsv", "csv", "jsonl"]
TRAIN, DEV, TEST = "train", "dev", "test"


def is_test(split: str) -> bool:
    """Return whether `split` names a test set: `test`, or a further one such as `test-mismatched`."""
    return split == TEST or split.startswith(f"{TEST}-")


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
    """Template for causal models: it ends where the answer begins, and never in a space."""
    answer: str = " {word}"
    """How the label word continues the causal template."""
    label_words: dict[str, str] = {}
    """Label words of this template where they differ from the task's own, by label name."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems: list[str] = []
        if self.masked is None and self.causal is None:
            problems.append("has neither a masked nor a causal form")
        if self.causal is not None and self.causal.endswith(("_", " ")):
            problems.append("the causal form ends in a space; the space belongs to the answer: answer = ' {word}'")
        if "{word}" not in self.answer:
            problems.append(f"the answer {self.answer!r} lacks {{word}}")
        return _checked(self, problems)


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
    """The value of the first label, the low pole."""
    high: float
    """The value of the second label, the high pole."""
    threshold: float
    """Values below it count as the first label, when k examples per label are drawn."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ordered = self.low < self.threshold < self.high
        return _checked(self, [] if ordered else ["low < threshold < high does not hold"])


class FileSource(Settings):
    """The task's original files: one folder, one file a split."""

    folder: str
    """Folder name under the data root."""
    format: Format
    """How the files are written: tsv has no quoting, csv has, jsonl holds one JSON object a line."""
    header: bool
    """Whether the first line names the columns."""
    sentences: tuple[int | str, ...]
    """Column of each sentence: a 0-based position (negative: from the end), or a name (jsonl, or with a header)."""
    label: int | str
    """Column of the label."""
    files: dict[str, str]
    """File of each split: `train`, `test`, any further test set such as `test-mismatched`; `dev` if there is one."""
    drawn_files: dict[str, str] = {}
    """File of a split in a k-shot folder, where it is not `<split>.<format>` (MNLI: `dev_matched.tsv`)."""
    drawn_by: int | None = None
    """Column the k-shot draw groups rows by, where that is not `label` (QQP: the last one, even in short rows)."""
    cumulative_shuffle: bool = False
    """Each published seed shuffles the rows as the seed before left them, as the published script does with CoLA."""
    glue_last_row: bool = False
    """A last row without final newline is read as one with the row that follows it in a shuffled file, as in CoLA's
    published 1,000-example test sets."""
    skip_short_rows: bool = False
    """Rows with too few columns are skipped, as the published reader of QQP does; otherwise they are an error."""
    ragged: bool = False
    """Rows may differ in length, as in SNLI; otherwise a row longer or shorter than the first line is an error."""
    allow_empty: bool = False
    """A text may be empty; in csv, the texts that pandas reads as missing (`NA`, `null`, ...) become empty."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = _split_problems(self.files, required=(TRAIN,))
        problems += _split_problems(self.drawn_files)
        named = [column for column in (*self.sentences, self.label) if isinstance(column, str)]
        if named and not self.header and self.format != "jsonl":
            problems.append(f"columns are named ({', '.join(named)}), but the file has no header")
        if self.format == "jsonl" and len(named) != len(self.sentences) + 1:
            problems.append("columns of a jsonl file are names, not positions")
        return _checked(self, problems)

    @property
    def drawn(self) -> dict[str, str]:
        """Names of the files in a k-shot folder, by split."""
        splits = (TRAIN, DEV, *(split for split in self.files if is_test(split)))
        return {split: f"{split.replace('-', '_')}.{self.format}" for split in splits} | self.drawn_files


class HubSource(Settings):
    """The task on the Hugging Face hub."""

    id: str
    """Name of the data set, such as `nyu-mll/glue`; in a local mirror, the folder of that name."""
    config: str | None = None
    """Its configuration, such as `sst2`, where it has several."""
    revision: str | None = None
    """Branch, tag or commit; the main branch unless given."""
    sentences: tuple[str, ...]
    """Column of each sentence."""
    label: str
    """Column of the label."""
    labels: dict[str, str] = {}
    """The hub's label name -> this task's: all of them, or none where the names are the same. A number (as text) is a
    name only for a data set whose labels have no others."""
    splits: dict[str, str] = {"train": "train", "test": "validation"}
    """This task's split -> the hub's split."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return _checked(self, _split_problems(self.splits, required=(TRAIN,)))


class Sources(Settings):
    """Where the task's examples come from."""

    files: FileSource | None = None
    hub: HubSource | None = None


class Golden(Settings):
    """An example and the text its prompt must become, with `<cls>`, `<sep>`, `<mask>`, `<bos>` for special tokens."""

    sentences: tuple[str, ...]
    """The texts of the example."""
    masked: str | None = None
    """What the masked form becomes."""
    causal: str | None = None
    """What the causal form becomes, without the answer."""
    template: str | None = None
    """Name of the template; the first one unless given."""


class Task(Settings):
    """A task: everything that does not depend on the model, the method or the split."""

    name: str
    """What records, tables and messages call the task."""
    version: PositiveInt = 1
    """Raised whenever the prompt, the split or the metric changes."""
    title: str = ""
    """The question that the task asks, for people."""
    kind: Kind = "classification"
    """Whether labels are classes, or the two poles of a value."""
    sentences: tuple[str, ...] = Field(min_length=1)
    """Names of the text fields; the i-th is `sent_i` in templates."""
    labels: tuple[Label, ...] = Field(min_length=2)
    """In order of their ids; the two poles, low and high, for regression."""
    templates: dict[str, Template] = {}
    """The first template is the default one."""
    limits: Limits = Limits()
    metrics: tuple[str, ...] = Field(default=("accuracy",), min_length=1)
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
        for key, template in self.templates.items():
            problems += self._unknown_labels(f"template {key!r} has a word for", template.label_words)
            problems += [f"template {key!r}: {text}" for text in _repeated("label word", self.label_words(template))]
        if (self.kind == "regression") != (self.range is not None):
            problems.append("a regression task, and only that, has a [range]")
        if self.kind == "regression" and len(self.labels) != 2:
            problems.append("a regression task has two labels: its low and its high pole")
        return _checked(self, [*problems, *self._source_problems(), *_metric_problems(self.metrics, self.kind)])

    def _source_problems(self) -> Iterable[str]:
        count = len(self.sentences)
        for source in (self.sources.files, self.sources.hub):
            if source is not None and len(source.sentences) != count:
                yield f"a source has {len(source.sentences)} sentences, the task {count}"
        if self.sources.hub is not None:
            yield from self._unknown_labels("sources.hub.labels leads to", self.sources.hub.labels.values())
        for golden in self.golden:
            if len(golden.sentences) != count:
                yield f"a golden rendering has {len(golden.sentences)} sentences, the task {count}"
            if golden.template is not None and golden.template not in self.templates:
                yield f"a golden rendering of template {golden.template!r}{suggest(golden.template, self.templates)}"

    def _unknown_labels(self, what: str, labels: Iterable[str]) -> list[str]:
        names = self.label_names
        return [f"{what} label {label!r}{suggest(label, names)}" for label in labels if label not in names]


T = TypeVar("T", bound=Settings)


def _checked(settings: T, problems: Iterable[str]) -> T:
    if text := "; ".join(problems):
        raise ValueError(text)
    return settings


def _split_problems(splits: dict[str, str], required: tuple[str, ...] = ()) -> list[str]:
    allowed = (TRAIN, DEV, TEST, f"{TEST}-...")
    wrong = [split for split in splits if split not in (TRAIN, DEV) and not is_test(split)]
    problems = [f"there is no split {split!r}{suggest(split, allowed)}" for split in wrong]
    return problems + [f"split {split!r} is missing" for split in required if split not in splits]


def _metric_problems(metrics: tuple[str, ...], kind: Kind) -> list[str]:
    known = METRICS.names()
    problems = [f"there is no metric {name!r}{suggest(name, known)}" for name in metrics if name not in known]
    for name in metrics:
        if name in known and kind not in METRICS.get(name).kinds:
            fitting = [other for other, metric in METRICS.items() if kind in metric.kinds]
            problems.append(f"metric {name!r} is not for {kind}. Allowed: {', '.join(fitting)}")
    return [*problems, *_repeated("metric", metrics)]


def _repeated(what: str, names: tuple[str, ...]) -> list[str]:
    return [f"{what} {name!r} stands twice" for name, count in Counter(names).items() if count > 1]
