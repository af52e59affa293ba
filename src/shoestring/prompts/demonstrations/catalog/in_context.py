"""In-context learning: examples with their answers, then the question, all as one text."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator

from shoestring.errors import DataError
from shoestring.prompts.demonstrations.base import DEMONSTRATIONS, Demonstrations, FormName, but
from shoestring.seeds import numpy_stream
from shoestring.tasks.problems import checked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shoestring.data.example import Example
    from shoestring.prompts.pool import Pool
    from shoestring.prompts.settings import Kind
    from shoestring.tasks.spec import Task

COUNT = 32
"""Demonstrations unless a count is given, as in MeZO's experiments."""
WHERE = "prompt.demonstrations"


class InContext(Demonstrations):
    """Demonstrations in front of the question, for templates with a text form.

    An example that has a training set of its own is shown that, in its order. Nobody is shown the example that is asked
    about.

    Source: Brown et al. 2020; princeton-nlp/MeZO large_models/utils.py, `encode_prompt`; for `sampling="python"`,
        yushengsu-thu/PET_Scaling examples_seq2seq/data_processors/tasks.py.
    """

    forms: ClassVar[frozenset[FormName]] = frozenset({"text"})

    kind: Literal["in-context"] = "in-context"  # pyright: ignore[reportIncompatibleVariableOverride]
    count: PositiveInt | None = None
    """Demonstrations, or of each label with `per_label`: 32 unless given, or all of an example's own training set."""
    per_label: bool = False
    """Whether `count` is that of each label; for classification."""
    shared: bool = True
    """Whether all examples are shown the same demonstrations, which lets them be computed once; else a draw each."""
    order: Literal["drawn", "given"] = "drawn"
    """`drawn`: as they are drawn; `given`: as they stand in the training set."""
    sampling: Literal["stream", "python"] = "stream"
    """`stream`: a named random stream of the run's seed. `python`: `random.sample` of Python's generator with that
    seed, as in PET scaling; not with `per_label`, nor without `shared`."""
    samples: PositiveInt = 1
    """Draws for each example; scores are averaged over them."""
    separator: str | None = None
    """Between demonstrations, and between them and the question; the template's own unless given."""
    max_characters: PositiveInt | None = None
    """Longest text of a demonstration; its end is cut off."""

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        problems: list[str] = []
        if self.sampling == "python" and (self.per_label or not self.shared or self.samples > 1):
            problems.append('sampling="python" draws once for all examples, whatever their labels')
        return checked(self, problems)

    def problems(self, task: Task, kind: Kind) -> list[str]:
        """Return why these demonstrations do not suit a task and a family of models."""
        found = super().problems(task, kind)
        if self.per_label and task.kind != "classification":
            found.append(f"are counted per label, and task {task.name} is of kind {task.kind}")
        return found

    def draws(self, task: Task, pool: Pool, query: Example) -> list[tuple[Example, ...]]:
        """Return the demonstrations of each draw for `query`, in the order they are shown in.

        Raises:
            DataError: if there are not enough examples.
        """
        own = pool.own.get(query.uid)
        if own is not None:
            return [self._shortened(but(own, query)[: self.count])]
        if not pool.examples:
            raise DataError(WHERE, f"task {task.name} has no training examples to draw them from")
        return [self._shortened(self._draw(task, pool, query, sample)) for sample in range(self.samples)]

    def _draw(self, task: Task, pool: Pool, query: Example, sample: int) -> tuple[Example, ...]:
        wanted = COUNT if self.count is None else self.count
        labels: tuple[str | None, ...] = task.label_names if self.per_label else (None,)
        groups = dict.fromkeys(labels, wanted)
        _check_counts(groups, pool.examples, task)
        taken: list[int] = []
        for row in self._order(pool, query, sample, wanted):
            example = pool.examples[row]
            group = str(example.label) if self.per_label else None
            if groups.get(group, 0) and example.uid != query.uid:
                groups[group] -= 1
                taken.append(row)
        return tuple(pool.examples[row] for row in (sorted(taken) if self.order == "given" else taken))

    def _order(self, pool: Pool, query: Example, sample: int, wanted: int) -> Sequence[int]:
        total = len(pool.examples)
        if self.sampling == "python":
            return random.Random(pool.seed).sample(range(total), wanted)
        path = (sample,) if self.shared else (sample, query.uid)
        return numpy_stream(pool.seed, "in-context", *path).permutation(total).tolist()

    def _shortened(self, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        if self.max_characters is None:
            return examples
        cut = slice(self.max_characters)
        return tuple(replace(one, sentences=tuple(text[cut] for text in one.sentences)) for one in examples)


DEMONSTRATIONS.register("in-context")(InContext)


def _check_counts(groups: Mapping[str | None, int], examples: Sequence[Example], task: Task) -> None:
    for label, wanted in groups.items():
        having = sum(label is None or example.label == label for example in examples)
        if having < wanted:
            of = "" if label is None else f" of label {label!r}"
            remedy = f"; prompt.demonstrations.count={having} would fit" if having else ""
            raise DataError(
                WHERE,
                f"{wanted} demonstrations{of} are asked for, but task {task.name} has {having} training "
                f"examples{of}{remedy}",
            )
