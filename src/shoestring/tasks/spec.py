"""What a task file says: fields, labels in order, templates, label words, limits, metrics, sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, PositiveInt, model_validator

from shoestring.config import Settings
from shoestring.errors import UnknownNameError, suggest
from shoestring.tasks.metrics import METRICS, Kind
from shoestring.tasks.problems import checked, repeated
from shoestring.tasks.source import DEV, TEST, TRAIN, FileSource, Format, HubSource, Sources, is_test
from shoestring.tasks.wording import Golden, Label, Limits, Template, TextForm

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DEV", "TEST", "TRAIN", "FileSource", "Format", "Generation", "Golden", "HubSource", "Kind", "Label", "Limits",
    "Range", "Sources", "Task", "Template", "TextForm", "is_test",
]  # fmt: skip


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
        return checked(self, [] if ordered else ["low < threshold < high does not hold"])


class Generation(Settings):
    """How the answers of a generation task are written."""

    max_new_tokens: PositiveInt = 50
    """Longest answer."""
    stop: str | None = "\n"
    """A text whose last token ends an answer, besides the end-of-text token; an empty one: only that token."""


class Task(Settings):
    """A task: everything that does not depend on the model, the method or the split."""

    name: str
    """What records, tables and messages call the task."""
    version: PositiveInt = 1
    """Raised whenever the prompt, the split or the metric changes."""
    title: str = ""
    """The question that the task asks, for people."""
    kind: Kind = "classification"
    """`classification`: one of the labels; `regression`: a value between two poles, which are the labels;
    `multiple-choice`: one of the candidates that each example brings; `generation`: a text."""
    sentences: tuple[str, ...] = Field(min_length=1)
    """Names of the text fields; the i-th is `sent_i` in templates."""
    labels: tuple[Label, ...] = ()
    """In order of their ids; the two poles, low and high, for regression; none where examples bring their answers."""
    templates: dict[str, Template] = {}
    """The first template is the default one."""
    limits: Limits = Limits()
    metrics: tuple[str, ...] = Field(default=("accuracy",), min_length=1)
    """The first is the main one: selection on dev and tables use it."""
    range: Range | None = None
    generation: Generation | None = None
    """How answers are generated; for generation tasks."""
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

    @property
    def has_scores(self) -> bool:
        """Whether an answer is chosen among candidates, rather than written."""
        return self.kind != "generation"

    def label_words(self, template: Template) -> tuple[str, ...]:
        """Return the label words of `template`, in order of the label ids."""
        return tuple(template.label_words.get(label.name, label.word) for label in self.labels)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*repeated("label name", self.label_names), *repeated("sentence", self.sentences)]
        for key, template in self.templates.items():
            problems += self._unknown_labels(f"template {key!r} has a word for", template.label_words)
            problems += [f"template {key!r}: {text}" for text in repeated("label word", self.label_words(template))]
        problems += self._kind_problems()
        if (self.kind == "regression") != (self.range is not None):
            problems.append("a regression task, and only that, has a [range]")
        if self.kind == "regression" and len(self.labels) != 2:
            problems.append("a regression task has two labels: its low and its high pole")
        return checked(self, [*problems, *self._source_problems(), *_metric_problems(self.metrics, self.kind)])

    def _kind_problems(self) -> Iterable[str]:
        labelled = self.kind in ("classification", "regression")
        if labelled and len(self.labels) < 2:
            yield f"a {self.kind} task has two labels or more"
        if not labelled and self.labels:
            yield f"a {self.kind} task has no labels: each example brings its own answers"
        if self.generation is not None and self.kind != "generation":
            yield f"[generation] is for generation tasks, and this one is of kind {self.kind}"
        if labelled:
            return
        for name, template in self.templates.items():
            if template.text is None:
                yield f"template {name!r} has no text form, which a {self.kind} task needs"

    def _source_problems(self) -> Iterable[str]:
        count = len(self.sentences)
        for where, source in (("files", self.sources.files), ("hub", self.sources.hub)):
            if source is None:
                continue
            if len(source.sentences) != count:
                yield f"a source has {len(source.sentences)} sentences, the task {count}"
            yield from (f"sources.{where}: {text}" for text in self._answer_problems(source))
            if self.labels:
                yield from self._unknown_labels(f"sources.{where}.labels leads to", source.labels.values())
        for golden in self.golden:
            if len(golden.sentences) != count:
                yield f"a golden rendering has {len(golden.sentences)} sentences, the task {count}"
            if golden.template is not None and golden.template not in self.templates:
                yield f"a golden rendering of template {golden.template!r}{suggest(golden.template, self.templates)}"

    def _answer_problems(self, source: FileSource | HubSource) -> Iterable[str]:
        if self.labels and source.label is None:
            yield f"a {self.kind} task has a `label`"
        if self.kind == "regression" and source.labels:
            yield "`labels` says what labels are called; a regression task has values"
        if self.kind == "generation" and source.golds is None:
            yield "a generation task has `golds`, the right answers"
        if (self.kind == "multiple-choice") != (source.candidates is not None):
            yield f"a multiple-choice task, and only that, has `candidates`; this one is of kind {self.kind}"

    def _unknown_labels(self, what: str, labels: Iterable[str]) -> list[str]:
        names = self.label_names
        return [f"{what} label {label!r}{suggest(label, names)}" for label in labels if label not in names]


def _metric_problems(metrics: tuple[str, ...], kind: Kind) -> list[str]:
    known = METRICS.names()
    problems = [f"there is no metric {name!r}{suggest(name, known)}" for name in metrics if name not in known]
    for name in metrics:
        if name in known and kind not in METRICS.get(name).kinds:
            fitting = [other for other, metric in METRICS.items() if kind in metric.kinds]
            problems.append(f"metric {name!r} is not for {kind}. Allowed: {', '.join(fitting)}")
    return [*problems, *repeated("metric", metrics)]
