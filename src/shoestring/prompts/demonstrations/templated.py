"""Demonstrations in the template language: the template once more for each, with the answer written in."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from shoestring.config import Settings
from shoestring.errors import DataError, suggest
from shoestring.prompts.demonstrations.base import Demonstrations, FormName
from shoestring.prompts.template import Piece, Pieces, Sentence, Special, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoestring.data.example import Example
    from shoestring.prompts.settings import Kind, Truncate
    from shoestring.prompts.template import Form
    from shoestring.tasks.spec import Task

LINES = "\n\n\n"
"""Between the demonstrations of a causal model, unless something else is asked for (MeZO: `gpt3_demo_separator`)."""
_BEGIN = (Special("cls"), Special("bos"))


class Filter(Settings):
    """Which examples may demonstrate: those most like the one that is asked about.

    Of n candidates and C labels, the floor(floor(n / C) * rate) nearest of each label are kept, by the cosine of the
    texts' embeddings; the texts of a pair are joined by a space.

    Source: Gao et al. 2021 (LM-BFF), section 6.2; princeton-nlp/LM-BFF src/dataset.py, tools/get_sbert_embedding.py.
    """

    model: str
    """An encoder, such as `sentence-transformers/all-MiniLM-L6-v2`: a folder in the transformers format, or a hub id.
    The embedding of a text is the mean of its last hidden states."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; a folder has none."""
    rate: float = Field(default=0.5, gt=0, le=1)
    """Share of the candidates of each label that is kept."""


class Templated(Demonstrations):
    """Demonstrations for templates in the language of LM-BFF, masked or causal.

    Each is the template of the query without its begin token, with the texts of a training example, and with that
    example's label word at the mask, or at the end of a causal template.
    """

    forms: ClassVar[frozenset[FormName]] = frozenset({"masked", "causal"})

    separator: str | None = None
    """Between demonstrations, and between them and the query. Without it, nothing for masked models, as in LM-BFF, and
    three line breaks for causal ones, as in MeZO."""
    filter: Filter | None = None
    """Draw from the examples most like the query only."""

    @abstractmethod
    def repeats(self, task: Task) -> int:
        """Return the number of draws for each example in prediction."""

    @abstractmethod
    def shown(self, task: Task) -> int:
        """Return the number of demonstrations in a draw."""

    @abstractmethod
    def arranged(self, query: Pieces, template: Pieces, task: Task, form: Form) -> Pieces:
        """Return the query and demonstrations of it together.

        Args:
            query: what is asked: the template, or what stands in its place when nothing is asked.
            template: the template.
            task: the task.
            form: its form.
        """

    @abstractmethod
    def chosen(self, labels: Sequence[int], order: Sequence[int], task: Task) -> list[int]:
        """Return the candidates shown, in the order that `arranged` numbers them.

        Args:
            labels: label id of each candidate.
            order: a permutation of the candidates.
            task: the task.
        """

    @abstractmethod
    def lacking(self, labels: Sequence[int], task: Task) -> str:
        """Return what is missing among candidates of these label ids, and what to do about it; empty if nothing is."""

    def longest(self, limit: int, task: Task, own: int | None) -> int:
        """Return the limit on the whole input, given that without demonstrations and the model's own."""
        return limit

    def truncate(self, form: Form) -> Truncate:
        """Return how longer inputs are cut unless that is said."""
        return "head" if form == "causal" else "tail"

    def problems(self, task: Task, kind: Kind) -> list[str]:
        """Return why these demonstrations do not suit a task and a family of models."""
        found = super().problems(task, kind)
        if not found and not task.labels:
            found.append(f"are for tasks with labels, and {task.name} is of kind {task.kind}")
        return found

    def between(self, form: Form) -> str:
        """Return what stands between demonstrations."""
        if self.separator is not None:
            return self.separator
        return LINES if form == "causal" else ""


def demonstration(query: Pieces, number: int, word: Piece, sentences: int) -> Pieces:
    """Return a template as its demonstration `number`: other sentences, the answer `word`, no begin token.

    >>> from shoestring.prompts.template import LabelWord
    >>> demonstration((Special("cls"), Sentence(0), Text(" It was"), Special("mask")), 1, LabelWord(1), sentences=1)
    (Sentence(index=2, space=False, case='', drop_last=False), Text(text=' It was'), LabelWord(index=1))
    """
    shown: list[Piece] = []
    for piece in query:
        if isinstance(piece, Sentence):
            shown.append(replace(piece, index=sentences * (1 + number) + piece.index))
        elif piece == Special("mask"):
            shown.append(word)
        elif piece not in _BEGIN:
            shown.append(piece)
    # A causal template ends where the answer begins.
    return tuple(shown) if Special("mask") in query else (*shown, word)


def opened(query: Pieces) -> tuple[Pieces, Pieces]:
    """Return the begin tokens of a template, and the rest."""
    return tuple(piece for piece in query if piece in _BEGIN), tuple(piece for piece in query if piece not in _BEGIN)


def joined(groups: Sequence[Pieces], separator: str) -> Pieces:
    """Return templates put together; texts that meet are one text, as if all had been written as one template.

    >>> joined([(Sentence(0), Text(".")), (Text("So"), Sentence(1))], separator=" ")[1]
    Text(text='. So')
    """
    between: Pieces = (Text(separator),) if separator else ()
    found: list[Piece] = []
    for number, group in enumerate(groups):
        for piece in (*between, *group) if number else group:
            if isinstance(piece, Text) and found and isinstance(found[-1], Text):
                found[-1] = Text(found[-1].text + piece.text)
            else:
                found.append(piece)
    return tuple(found)


def label_number(task: Task, example: Example) -> int:
    """Return the label id under which an example demonstrates a task: of a value, that of the nearer pole.

    Source: princeton-nlp/LM-BFF src/dataset.py, `median_mapping`: a value at the threshold counts as the low pole here,
        although it counts as the high one when k examples are drawn.

    Raises:
        DataError: if the task does not have the label.
    """
    where = f"task {task.name}, example {example.uid}"
    if task.range is not None:
        try:
            return int(float(example.label) > task.range.threshold)
        except ValueError:
            raise DataError(where, f"its value {example.label!r} is not a number") from None
    label = str(example.label)
    if label not in task.label_names:
        raise DataError(where, f"has the unknown label {label!r}{suggest(label, task.label_names)}")
    return task.label_names.index(label)
