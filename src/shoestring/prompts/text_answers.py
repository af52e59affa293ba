"""Which candidates an example has, which of them are right, and what answers it as a demonstration."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from shoestring.errors import DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoestring.data.example import Example
    from shoestring.tasks.spec import Task


class Answers:
    """The answers of a task's examples.

    Args:
        task: a classification, multiple-choice or generation task.
        words: label words in order of the label ids, of a classification task.
    """

    def __init__(self, task: Task, words: Sequence[str] = ()) -> None:
        self.task, self.words = task, tuple(words)
        self._labels = {name: number for number, name in enumerate(task.label_names)}

    def candidates(self, example: Example) -> tuple[str, ...]:
        """Return the candidates: label words, the example's own, or the first right answer of a generation task.

        Raises:
            DataError: if a multiple-choice example has none, or one twice.
        """
        match self.task.kind:
            case "multiple-choice":
                return self._own(example)
            case "generation":
                return (self.shown(example),)
            case _:
                return self.words

    def right(self, example: Example) -> tuple[int, ...]:
        """Return the numbers of the right candidates.

        Raises:
            DataError: if the label is unknown, or a right answer is not among the candidates.
        """
        match self.task.kind:
            case "multiple-choice":
                return self._gold(example)
            case "generation":
                return (0,)
            case _:
                return (self._label(example),)

    def shown(self, example: Example) -> str:
        """Return the answer that stands behind an example as a demonstration: the first of the right ones.

        Raises:
            DataError: if there is none.
        """
        if self.task.labels:
            return self.words[self._label(example)]
        golds = example.golds or ((example.label,) if isinstance(example.label, str) else ())
        if not golds:
            raise DataError(self._where(example), "has no right answer")
        return golds[0]

    def _own(self, example: Example) -> tuple[str, ...]:
        if not example.candidates:
            raise DataError(self._where(example), "has no candidates to choose from")
        twice = [text for text, count in Counter(example.candidates).items() if count > 1]
        if twice:
            raise DataError(self._where(example), f"has the candidate {twice[0]!r} twice")
        return example.candidates

    def _gold(self, example: Example) -> tuple[int, ...]:
        own = self._own(example)
        for text in example.golds or (str(example.label),):
            if text not in own:
                raise DataError(
                    self._where(example), f"the right answer {text!r} is not among its candidates{suggest(text, own)}"
                )
        return tuple(dict.fromkeys(own.index(text) for text in example.golds or (str(example.label),)))

    def _label(self, example: Example) -> int:
        label = str(example.label)
        if label not in self._labels:
            raise DataError(self._where(example), f"has the unknown label {label!r}{suggest(label, self._labels)}")
        return self._labels[label]

    def _where(self, example: Example) -> str:
        return f"task {self.task.name}, example {example.uid}"
