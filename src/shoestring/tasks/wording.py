"""How a task is put into words: labels, templates, limits, golden renderings."""

from __future__ import annotations

from typing import Self

from pydantic import PositiveInt, model_validator

from shoestring.config import Settings
from shoestring.tasks.problems import checked


class Label(Settings):
    """One label; its position in the task file is its id."""

    name: str
    """The label's value in the data files, as text."""
    word: str
    """The label word: what the model is asked to say for this label."""
    title: str = ""
    """What the label means, for people."""


class TextForm(Settings):
    """A prompt and its answer as whole texts, written in Jinja (https://jinja.palletsprojects.com).

    A template sees the texts of the example by their names in `sentences`; where an answer is written, `candidate` is
    the candidate answer: a label word, one of the example's own candidates, or a gold answer. `{{ candidate }}`.
    """

    prompt: str
    """The question, without the answer."""
    answer: str = " {{ candidate }}"
    """The answer, as it continues the prompt."""
    calibration: str | None = None
    """What the prompt is when it asks about nothing: the answer's own probability is measured behind it."""
    calibration_answer: str | None = None
    """The answer behind the calibration prompt; `answer` unless given."""
    demonstration: str | None = None
    """An example with its answer, as it is shown to the model together with a question; prompt and answer unless given.
    """
    separator: str = "\n\n"
    """Between demonstrations, and between them and the query."""
    strip: bool = True
    """Whether prompt, answer and demonstrations lose spaces at their ends as in MeZO's experiments; with `false`, every
    character counts."""
    end: bool = False
    """Whether the answer ends with the end-of-text token."""


class Template(Settings):
    """One way to ask, for each family of models: in the LM-BFF template language, or as whole texts."""

    masked: str | None = None
    """Template for masked models: the label word stands at `*mask*`."""
    causal: str | None = None
    """Template for causal models: it ends where the answer begins, and never in a space."""
    answer: str = " {word}"
    """How the label word continues the causal template."""
    text: TextForm | None = None
    """Prompt and answer as whole texts, for causal models (before `causal`, where both are given) and
    sequence-to-sequence ones."""
    calibration: str | None = None
    """What `masked` or `causal` is when it asks about nothing, in the same language."""
    label_words: dict[str, str] = {}
    """Label words of this template where they differ from the task's own, by label name."""
    max_tokens: PositiveInt | None = None
    """Longest whole input of this template, where that is not the task's `limits.max_tokens`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems: list[str] = []
        if self.masked is None and self.causal is None and self.text is None:
            problems.append("has neither a masked nor a causal nor a text form")
        if self.causal is not None and self.causal.endswith(("_", " ")):
            problems.append("the causal form ends in a space; the space belongs to the answer: answer = ' {word}'")
        if "{word}" not in self.answer:
            problems.append(f"the answer {self.answer!r} lacks {{word}}")
        return checked(self, problems)


class Limits(Settings):
    """Token limits of the published experiments."""

    max_tokens: PositiveInt = 128
    """Longest whole input, special tokens included."""
    first_sentence_tokens: PositiveInt | None = None
    """Longest first sentence (LM-BFF: `first_sent_limit`)."""
    other_sentence_tokens: PositiveInt | None = None
    """Longest sentence of any other index, those of demonstrations included (LM-BFF: `other_sent_limit`)."""
    demonstration_samples: PositiveInt = 16
    """Draws of per-label demonstrations for each example in prediction (LM-BFF: `num_sample`)."""
    double_with_demonstrations: bool = False
    """Whether `max_tokens` is twice as large with per-label demonstrations (LM-BFF: `double_demo`)."""


class Golden(Settings):
    """An example and the text its prompt must become, with `<cls>`, `<sep>`, `<mask>`, `<bos>` for special tokens."""

    sentences: tuple[str, ...]
    """The texts of the example."""
    masked: str | None = None
    """What the masked form becomes."""
    causal: str | None = None
    """What the causal form becomes, without the answer."""
    text: str | None = None
    """What the text form becomes, without the answer."""
    candidates: tuple[str, ...] = ()
    """The example's own candidates, or its gold answers, where it has such."""
    answers: tuple[str, ...] = ()
    """What each candidate becomes behind the text form's prompt."""
    calibration: str | None = None
    """What the text form's calibration prompt becomes."""
    template: str | None = None
    """Name of the template; the first one unless given."""
