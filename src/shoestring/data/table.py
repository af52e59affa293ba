"""A table: the rows of one split, each as an example and as what the k-shot draw sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoestring.errors import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shoestring.data.example import Example
    from shoestring.data.place import Place
    from shoestring.tasks.spec import Task


@dataclass(frozen=True)
class Table:
    """The rows of one split.

    Attributes:
        where: the file or data set, for messages.
        keys: what the k-shot draw groups each row by: the label name; for regression, the pole its value is nearer to;
            "" where the task has no labels.
        examples: the example of each row; None for a row that the published reader skips.
        unended: the row that lacks a final newline, where it is to be glued as in the published files.
        glue: reads that row and another that follows it in a shuffled file as the one line they become there.
    """

    where: str
    keys: tuple[str, ...]
    examples: tuple[Example | None, ...]
    unended: int | None = None
    glue: Callable[[int, int], Example | None] | None = None

    def take(self, rows: Sequence[int]) -> tuple[Example, ...]:
        """Return the examples that a file of these rows, in this order, holds for the published reader."""
        taken: list[Example | None] = []
        skip = -1
        for place, row in enumerate(rows):
            if place == skip:
                continue
            if self.glue is not None and row == self.unended and place + 1 < len(rows):
                taken.append(self.glue(row, rows[place + 1]))
                skip = place + 1
            else:
                taken.append(self.examples[row])
        return tuple(example for example in taken if example is not None)

    def all(self) -> tuple[Example, ...]:
        """Return every example, in the order of the rows."""
        return self.take(range(len(self.examples)))


def read_label(task: Task, text: str, place: Place) -> str | float:
    """Return the label name, or for regression the value, that `text` stands for.

    Raises:
        DataError: if it is no label of the task, or no number in the task's range.
    """
    if task.range is None:
        if text not in task.label_names:
            raise place.error(f"{text!r} is not a label of {task.name}{suggest(text, task.label_names)}")
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not task.range.low <= value <= task.range.high:
        allowed = f"a number from {task.range.low:g} to {task.range.high:g}"
        raise place.error(f"got {text!r} as the value. Allowed: {allowed}")
    return value


def draw_key(task: Task, label: str | float) -> str:
    """Return what the k-shot draw groups an example of this label by: nothing, where the task has no labels."""
    if not task.labels:
        return ""
    if task.range is None or isinstance(label, str):
        return str(label)
    return task.label_names[0 if label < task.range.threshold else 1]
