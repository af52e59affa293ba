"""GPT-3's demonstrations: any examples, whatever their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from shoestring.prompts.demonstrations.base import DEMONSTRATIONS
from shoestring.prompts.demonstrations.templated import Templated, demonstration, joined, opened
from shoestring.prompts.template import DemonstrationWord, Pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoestring.prompts.settings import Kind, Truncate
    from shoestring.prompts.template import Form
    from shoestring.tasks.spec import Task

_LONGEST = 2048
"""Longest input where the model does not say what it reads."""


@DEMONSTRATIONS.register("gpt3")
class GPT3(Templated):
    """`count` demonstrations drawn at random, not balanced over labels; inputs are as long as the model reads.

    With d_0, d_1, ... as they are drawn: `head` is ... d_1 d_0 query, `tail` is query d_0 d_1 ...

    Source: Brown et al. 2020; Gao et al. 2021 (LM-BFF), section 6.1 and run.py (`gpt3_in_context_head`, `_tail`);
        princeton-nlp/MeZO medium_models/run.py (begin token in front, `gpt3_demo_separator`).

    Differs: with demonstrations in front, the begin token is the first of the whole; LM-BFF leaves it with the query
        (`as_published`). Fewer examples than `count` are an error; there they leave the template without its texts.
    """

    kind: Literal["gpt3"] = "gpt3"  # pyright: ignore[reportIncompatibleVariableOverride]
    count: PositiveInt = 32
    """Demonstrations in a draw."""
    place: Literal["head", "tail"] = "head"
    """Whether demonstrations stand in front of the query or follow it; causal models have them in front."""
    samples: PositiveInt = 1
    """Draws for each example in prediction; scores are averaged over them."""
    as_published: bool = False
    """Leave the begin token of a masked template in front of the query, in the middle of the input, as LM-BFF does."""

    def repeats(self, task: Task) -> int:
        """Return `samples`."""
        return self.samples

    def shown(self, task: Task) -> int:
        """Return `count`."""
        return self.count

    def arranged(self, query: Pieces, template: Pieces, task: Task, form: Form) -> Pieces:
        """Return query and demonstrations."""
        size = len(task.sentences)
        groups = [demonstration(template, number, DemonstrationWord(number), size) for number in range(self.count)]
        if self.place == "tail":
            return joined([query, *groups], self.between(form))
        begin, rest = ((), query) if self.as_published else opened(query)
        return (*begin, *joined([*reversed(groups), rest], self.between(form)))

    def chosen(self, labels: Sequence[int], order: Sequence[int], task: Task) -> list[int]:
        """Return the first candidates."""
        return list(order[: self.count])

    def lacking(self, labels: Sequence[int], task: Task) -> str:
        """Return how many there are, if these are too few."""
        having = len(labels)
        if having >= self.count:
            return ""
        return f"{self.count} are asked for and there are {having}; lower prompt.demonstrations.count, or raise data.k"

    def longest(self, limit: int, task: Task, own: int | None) -> int:
        """Return what the model reads, whatever the limit without demonstrations."""
        return own or _LONGEST

    def truncate(self, form: Form) -> Truncate:
        """Return the end that demonstrations stand at."""
        return "head" if form == "causal" else self.place

    def problems(self, task: Task, kind: Kind) -> list[str]:
        """Return why these demonstrations do not suit a task and a family of models."""
        found = super().problems(task, kind)
        if kind == "causal" and self.place == "tail":
            found.append('place="tail" is for masked models: a causal prompt ends where the answer begins')
        if self.as_published and (kind == "causal" or self.place == "tail" or self.separator is not None):
            found.append('as_published is about masked models with place="head" and without a separator')
        return found
