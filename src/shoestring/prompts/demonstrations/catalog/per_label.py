"""LM-BFF's demonstrations: one of each label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from shoestring.prompts.demonstrations.base import DEMONSTRATIONS
from shoestring.prompts.demonstrations.templated import Templated, demonstration, joined, opened
from shoestring.prompts.template import LabelWord, Pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoestring.prompts.settings import Kind
    from shoestring.prompts.template import Form
    from shoestring.tasks.spec import Task


@DEMONSTRATIONS.register("per-label")
class PerLabel(Templated):
    """One demonstration of each label, drawn at random, in the order of the label ids.

    They follow the query of a masked model, and stand in front of that of a causal one, whose prompt has to end where
    the answer begins (LM-BFF has none for causal models). In training each use of an example draws anew, once, without
    the example itself; in prediction scores are averaged over `samples` draws from all training examples.

    Source: Gao et al. 2021 (LM-BFF), section 6; princeton-nlp/LM-BFF run.py (`auto_demo`), src/dataset.py
        (`select_context`).

    Differs: where values are demonstrated by their poles, both poles are shown; the published template has room for the
        low one alone (`as_published`). A label without an example is an error; there it shifts the texts of the others.
    """

    kind: Literal["per-label"] = "per-label"  # pyright: ignore[reportIncompatibleVariableOverride]
    samples: PositiveInt | None = None
    """Draws for each example in prediction; the task's `limits.demonstration_samples` unless given."""
    as_published: bool = False
    """Of a regression task, show the demonstration of the low pole alone, as the published code does."""

    def repeats(self, task: Task) -> int:
        """Return `samples`, or the task's own."""
        return self.samples or task.limits.demonstration_samples

    def shown(self, task: Task) -> int:
        """Return the number of labels."""
        return len(task.labels)

    def arranged(self, query: Pieces, template: Pieces, task: Task, form: Form) -> Pieces:
        """Return query and demonstrations: behind each other if masked, the query last if causal."""
        labels = range(1 if self.as_published else len(task.labels))
        groups = [demonstration(template, label, LabelWord(label), len(task.sentences)) for label in labels]
        if form == "masked":
            return joined([query, *groups], self.between(form))
        begin, rest = opened(query)
        return (*begin, *joined([*groups, rest], self.between(form)))

    def chosen(self, labels: Sequence[int], order: Sequence[int], task: Task) -> list[int]:
        """Return the first candidate of each label that is met."""
        met: dict[int, int] = {}
        for candidate in order:
            met.setdefault(labels[candidate], candidate)
        return [met[label] for label in range(len(task.labels))]

    def lacking(self, labels: Sequence[int], task: Task) -> str:
        """Return which labels have no example."""
        having = set(labels)
        without = [name for number, name in enumerate(task.label_names) if number not in having]
        return f"there is none of label {' and '.join(map(repr, without))}; raise data.k" if without else ""

    def longest(self, limit: int, task: Task, own: int | None) -> int:
        """Return the limit, doubled where the task says so (LM-BFF: `double_demo`)."""
        return 2 * limit if task.limits.double_with_demonstrations else limit

    def problems(self, task: Task, kind: Kind) -> list[str]:
        """Return why these demonstrations do not suit a task and a family of models."""
        found = super().problems(task, kind)
        if self.as_published and task.range is None:
            found.append(f"as_published is about regression, and task {task.name} is of kind {task.kind}")
        return found
