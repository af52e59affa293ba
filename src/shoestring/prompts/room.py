"""How long an input may be, and what is said where it is longer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoestring.errors import PromptTooLongError
from shoestring.prompts.template import Sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoestring.prompts.demonstrations.templated import Templated
    from shoestring.prompts.parts import Part
    from shoestring.prompts.settings import PromptSettings, Truncate
    from shoestring.tasks.spec import Task, Template


@dataclass(frozen=True, slots=True)
class Room:
    """The limit on an input.

    Attributes:
        limit: most tokens.
        asked: most tokens by the settings and the task; the model may read fewer.
        truncate: what happens to longer inputs.
        shown: number of demonstrations.
        what: what the input is called in messages.
    """

    limit: int
    asked: int
    truncate: Truncate
    shown: int = 0
    what: str = "prompt"

    def too_long(self, where: str, parts: Sequence[Part], reason: str, sentences: int) -> PromptTooLongError:
        """Return the error of an input that cannot be made to fit.

        Args:
            where: task and example.
            parts: the input.
            reason: why it cannot be cut.
            sentences: number of sentences of one example.
        """
        count = sum(len(part.ids) for part in parts)
        fixed = sum(len(part.ids) for part in parts if not isinstance(part.piece, Sentence))
        others = (part for part in parts if isinstance(part.piece, Sentence) and part.piece.index >= sentences)
        more = f", {sum(len(part.ids) for part in others)} the demonstrations' texts" if self.shown else ""
        cause = "max_tokens" if self.limit == self.asked else "what the model can read"
        return PromptTooLongError(
            f"{where}: the {self.what} has {count} tokens ({fixed} of them the template's{more}), the limit is "
            f"{self.limit} ({cause}), {reason}; {', or '.join(self._remedies())}"
        )

    def _remedies(self) -> list[str]:
        found = ["limit the sentences (limits.first_sentence_tokens, limits.other_sentence_tokens in the task file)"]
        if self.shown:
            found.append(f"show fewer demonstrations than {self.shown} (prompt.demonstrations)")
        if self.truncate in ("tail", "head"):
            found.append("cut the longest sentence instead (prompt.truncate=sentence)")
        if self.truncate == "error":
            found.append("let it be cut (prompt.truncate=tail or sentence)")
        return [*found, "raise prompt.max_tokens" if self.limit == self.asked else "choose a model that reads more"]


def find_room(
    task: Task,
    settings: PromptSettings,
    template: Template | None,
    shown: Templated | None,
    own: int | None,
    answer: int,
) -> tuple[int, int]:
    """Return the limit on an input, and the one asked for.

    Args:
        task: the task.
        settings: `max_tokens` goes before everything but what the model reads.
        template: its `max_tokens` goes before the task's.
        shown: the demonstrations, which may ask for more.
        own: most tokens that the model reads, where that is known.
        answer: tokens to keep free behind the input.

    Raises:
        PromptTooLongError: if there is no room for any input.
    """
    most = None if own is None else own - answer
    asked = settings.max_tokens
    if asked is None:
        asked = (template.max_tokens if template is not None else None) or task.limits.max_tokens
        asked = asked if shown is None else shown.longest(asked, task, most)
    limit = asked if most is None else min(asked, most)
    if limit < 1:
        raise PromptTooLongError(
            f"task {task.name}: the longest answer has {answer} tokens, which leaves no room for a prompt in "
            f"a model of {own}; choose shorter label words"
        )
    return limit, asked
