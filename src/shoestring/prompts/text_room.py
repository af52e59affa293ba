"""How long whole texts may be, and what is said where they are longer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoestring.errors import PromptTooLongError, TemplateError
from shoestring.tasks.spec import Generation

if TYPE_CHECKING:
    from shoestring.prompts.settings import Kind, PromptSettings, Truncate
    from shoestring.tasks.spec import Task, Template


@dataclass(frozen=True, slots=True)
class TextRoom:
    """The limit on an input.

    Attributes:
        task: the task's name, for messages.
        limit: most tokens; of a causal model with the answer.
        asked: most tokens by the settings and the task; the model may read fewer.
        truncate: `head`, `tail` or `error`.
        generated: tokens of an answer that is to be written.
        own: most tokens that the model reads, by its position embeddings, where that is known.
    """

    task: str
    limit: int
    asked: int
    truncate: Truncate
    generated: int = 0
    own: int | None = None

    def too_long(self, uid: str, tokens: int, alone: int, demonstrations: int) -> PromptTooLongError:
        """Return the error of an input that must not be cut.

        Args:
            uid: the example's uid.
            tokens: tokens of the input.
            alone: tokens without its demonstrations.
            demonstrations: number of demonstrations.
        """
        limit = f"the limit is {self.limit} ({self._cause()})"
        if demonstrations:
            what = f"its {demonstrations} demonstrations leave no room for it: of {tokens} tokens {alone} are its own"
            remedy = "show fewer (prompt.demonstrations.count), or "
        else:
            what, remedy = f"the input has {tokens} tokens", ""
        return PromptTooLongError(
            f"{self._where(uid)}: {what}, {limit}, and prompt.truncate=error forbids cutting; {remedy}"
            f"let its beginning be cut (prompt.truncate=head), or {self._remedy()}"
        )

    def no_room(self, uid: str, answer: int) -> PromptTooLongError:
        """Return the error of an input whose answer, of `answer` tokens, would be cut."""
        return PromptTooLongError(
            f"{self._where(uid)}: its longest answer has {answer} tokens, the limit is {self.limit} ({self._cause()}), "
            f"which leaves no room for a prompt; {self._remedy()}"
        )

    def check_answer(self, uid: str, tokens: int) -> None:
        """Refuse an answer for which a decoder would read `tokens` tokens, if that is more than it can.

        Raises:
            PromptTooLongError: if it is.
        """
        if self.own is not None and tokens > self.own:
            raise PromptTooLongError(
                f"{self._where(uid)}: its longest answer has the decoder read {tokens} tokens, the model reads "
                f"{self.own}, and answers are never cut; shorten the answer, leave out the example or choose a model "
                "that reads more"
            )

    def _where(self, uid: str) -> str:
        return f"task {self.task}, example {uid}"

    def _cause(self) -> str:
        cause = "max_tokens" if self._by_settings else "what the model can read"
        return (
            cause if self.limit == self.asked or not self.generated else f"{cause} less {self.generated} for the answer"
        )

    def _remedy(self) -> str:
        return "raise prompt.max_tokens" if self._by_settings else "choose a model that reads more"

    @property
    def _by_settings(self) -> bool:
        return self.limit in (self.asked, self.asked - self.generated)


def find_text_room(task: Task, template: Template, kind: Kind, settings: PromptSettings, own: int | None) -> TextRoom:
    """Return the limit on the inputs of a text form.

    Args:
        task: the task.
        template: its `max_tokens` goes before the task's.
        kind: family of the model.
        settings: `max_tokens` goes before everything but what the model reads.
        own: most tokens that the model reads, where that is known.

    Differs: PET scaling's sequence-to-sequence scripts cut the tail of what the encoder reads; here its head is, unless
        `truncate` says otherwise, for the question stands at its end.

    Raises:
        TemplateError: if inputs are to be cut where text forms cannot be.
        PromptTooLongError: if there is no room for any input.
    """
    truncate: Truncate = settings.truncate or "head"
    if truncate == "sentence":
        raise TemplateError(
            f"task {task.name}: prompt.truncate=sentence cuts sentences, which a text form does not know; "
            "use head or error"
        )
    if truncate == "tail" and kind == "causal":
        raise TemplateError(
            f"task {task.name}: prompt.truncate=tail would cut off the answer, which ends a causal input; "
            "use head or error"
        )
    asked = settings.max_tokens or template.max_tokens or task.limits.max_tokens
    writes = task.kind == "generation" and kind == "causal"
    new = (task.generation or Generation()).max_new_tokens if writes else 0
    # As published: MeZO's limit is one on prompt and written answer, that of PET scaling on the prompt alone.
    generated = new if template.text is None or template.text.strip else 0
    limit = asked - generated if own is None else min(asked - generated, own - new)
    if limit < 1:
        raise PromptTooLongError(
            f"task {task.name}: generation.max_new_tokens is {new}, the limit on prompt and answer "
            f"{asked if own is None else min(asked, own)}, which leaves no room for a prompt; lower the one or raise "
            "prompt.max_tokens"
        )
    return TextRoom(task.name, limit, asked, truncate, new)
