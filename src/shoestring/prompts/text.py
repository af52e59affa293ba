"""Whole texts to model inputs: prompts and answers written in Jinja, for causal and sequence-to-sequence models."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from shoestring.errors import ShoestringError, TemplateError
from shoestring.prompts.choose import choose
from shoestring.prompts.codec import Codec
from shoestring.prompts.demonstrations.catalog.in_context import InContext
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.prompts.label_words import label_words
from shoestring.prompts.pool import Pool
from shoestring.prompts.text_answers import Answers
from shoestring.prompts.text_room import find_text_room
from shoestring.prompts.text_sequences import Asked, Sequences
from shoestring.prompts.text_template import TextTemplate
from shoestring.prompts.text_tokens import TextTokens
from shoestring.prompts.text_writing import Way, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from transformers import PreTrainedTokenizerBase

    from shoestring.data.example import Example
    from shoestring.prompts.settings import Kind, PromptSettings
    from shoestring.prompts.text_sequences import Made
    from shoestring.prompts.text_tokens import Ids
    from shoestring.tasks.spec import Task

_LOG = logging.getLogger(__name__)
_SHOWN = 8
JOINED = (
    "the tokenizer joins the end of the prompt with an answer; as published, the answer's tokens are the last ones, as "
    "many as it adds to the prompt"
)
BARE = (
    "the limit leaves no room for demonstrations, and nothing of them is shown; raise prompt.max_tokens or show fewer"
)


class TextEncoder:
    """Encodes the examples of one task for one tokenizer, with the text form of one template.

    A candidate's tokens are those at the end of the whole text, as many as it adds to the question alone. So what is
    scored is what the model reads, and a tokenizer that joins the end of the question with the answer does so.

    Args:
        task: the task.
        tokenizer: a transformers tokenizer.
        kind: `causal`, or `seq2seq`: there the encoder reads the question, and candidates are the decoder's.
        settings: template, label words, limits, demonstrations, calibration.
        model_max_tokens: longest input of the model, where the tokenizer does not know it.
        pool: what demonstrations are drawn from.

    Attributes:
        template: the compiled template.
        limit: most tokens of an input, with its answer for causal models.

    Raises:
        TemplateError: if the template is wrong or has no text form, or the settings do not go with it.
        LabelWordError: if a label word is empty or repeated.
        UnknownNameError: if a template or label does not exist.
        ModelError: if the tokenizer lacks a token that is needed.
        PromptTooLongError: if generated answers alone fill the model.

    Source: princeton-nlp/MeZO large_models/utils.py, `encode_prompt`.

    Differs: inputs begin with what the tokenizer puts in front (`</s>` for OPT), where MeZO sets `<s>`;
        `prompt.begin="<s>"` does the same. An answer that adds no token is an error, and so are two candidates of the
        same tokens.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        kind: Kind,
        settings: PromptSettings,
        model_max_tokens: int | None = None,
        pool: Pool | None = None,
    ) -> None:
        self.task, self.kind = task, kind
        _check_demonstrations(task, kind, settings)
        chosen = choose(task, kind, settings, ("text",))
        self.template = TextTemplate(task, chosen.name, chosen.text)
        self.words = label_words(task, chosen.template, settings.label_words).words if task.labels else ()
        self.answers = Answers(task, self.words)
        self.tokens = TextTokens(Codec(tokenizer), closed=kind == "seq2seq", begin=settings.begin)
        own = [longest for longest in (self.tokens.codec.max_tokens, model_max_tokens) if longest is not None]
        room = find_text_room(task, chosen.template, kind, settings, min(own, default=None))
        room = replace(room, own=model_max_tokens)  # No tokenizer limits what a decoder reads.
        self.sequences = Sequences(chosen.text, self.tokens, room, writes=not task.has_scores)
        self.limit = room.limit
        self._told: set[str] = set()
        self._writer = Writer(self.template, self.answers, settings, pool or Pool())

    def encode(self, example: Example) -> EncodedPrompt:
        """Return the model input of an example; with several draws of demonstrations, the others are its variants.

        Raises:
            DataError: if the example is wrong; names it.
            PromptTooLongError: if it does not fit and may not be cut.
            TemplateError: if the template fails on it.
        """
        return self.encode_all([example])[0]

    def encode_all(self, examples: Iterable[Example]) -> list[EncodedPrompt]:
        """Return the model inputs of examples, in order.

        Raises:
            DataError: as `encode`; the first mistake, with the names of all examples that have one.
            PromptTooLongError: as `encode`.
            TemplateError: as `encode`.
        """
        mistakes: list[tuple[str, ShoestringError]] = []
        written: list[tuple[Example, list[Way]]] = []
        for example in examples:
            try:
                written.append((example, self._writer.ways(example)))
            except ShoestringError as error:
                mistakes.append((example.uid, error))
        texts = (text for _, ways in written for way in ways for text in self._texts(way))
        tokens, found = self.tokens.encode(texts), list[EncodedPrompt]()
        for example, ways in written:
            try:
                found.append(self._encoded(example, ways, tokens))
            except ShoestringError as error:
                mistakes.append((example.uid, error))
        _raise(mistakes)
        return found

    def text(self, example: Example) -> str:
        """Return what is read before an answer, demonstrations included, before anything is cut."""
        return self._writer.ways(example)[0].question.asked

    def ways(self, example: Example) -> list[Way]:
        """Return an example as it is asked with each draw of demonstrations, as text."""
        return self._writer.ways(example)

    def _texts(self, way: Way) -> Iterator[str]:
        for written in (way.question, *way.calibrations):
            yield from self.sequences.texts(written)

    def _encoded(self, example: Example, ways: list[Way], tokens: Mapping[str, Ids]) -> EncodedPrompt:
        make = self._generated if self.task.kind == "generation" else self._scored
        first, *others = [make(example, way, tokens) for way in ways]
        return replace(first, variants=tuple(others)) if others else first

    def _scored(self, example: Example, way: Way, tokens: Mapping[str, Ids]) -> EncodedPrompt:
        asked = Asked(example.uid, way.demonstrations)
        right = self.answers.right(example)
        prompt, *calibrations = (
            self._prompt(example, self.sequences.candidates(written, tokens, asked), right)
            for written in (way.question, *way.calibrations)
        )
        return replace(prompt, calibrations=tuple(calibrations))

    def _generated(self, example: Example, way: Way, tokens: Mapping[str, Ids]) -> EncodedPrompt:
        asked = Asked(example.uid, way.demonstrations)
        taught = self._prompt(example, self.sequences.candidates(way.question, tokens, asked), ())
        ids, cut = self.sequences.question(way.question, tokens, asked)
        golds = example.golds or (self.answers.shown(example),)
        if ids == taught.ids:
            return replace(taught, truncated=cut, golds=golds)
        own = replace(taught, ids=ids, segment_ids=(0,) * len(ids), truncated=cut, golds=golds, taught=taught)
        return own if own.position is None else replace(own, position=len(ids) - 1)

    def _prompt(self, example: Example, made: Made, right: tuple[int, ...]) -> EncodedPrompt:
        if made.joined and self.template.form.strip:
            self._tell(JOINED, example.uid)
        if made.bare:
            self._tell(BARE, example.uid)
        found = made.split
        return EncodedPrompt(
            uid=example.uid,
            ids=found.ids,
            segment_ids=(0,) * len(found.ids),
            position=None if self.kind == "seq2seq" else len(found.ids) - 1,
            options=found.options,
            label=right[0] if right else 0,
            truncated=made.cut,
            scored=found.scored,
            right=right if self.task.kind == "multiple-choice" else (),
        )

    def _tell(self, what: str, uid: str) -> None:
        """Say once what may surprise, with the first example of it."""
        if what not in self._told:
            self._told.add(what)
            _LOG.warning("task %s, first in example %s: %s", self.task.name, uid, what)


def _check_demonstrations(task: Task, kind: Kind, settings: PromptSettings) -> None:
    shown = settings.demonstrations
    if shown is None:
        return
    problems = shown.problems(task, kind)
    if not problems and not isinstance(shown, InContext):
        problems = [f"of kind {shown.kind!r} are not for templates with a text form"]
    if problems:
        raise TemplateError(f"task {task.name}: prompt.demonstrations {'; '.join(problems)}")


def _raise(mistakes: list[tuple[str, ShoestringError]]) -> None:
    """Raise the first mistake; it says which other examples have one."""
    if not mistakes:
        return
    (_, first), *others = mistakes
    if others:
        names = ", ".join(dict.fromkeys(uid for uid, _ in others[:_SHOWN])) + (", ..." if len(others) > _SHOWN else "")
        more = f"{len(others)} more examples have" if len(others) > 1 else "one more example has"
        first.add_note(f"{more} such a mistake: {names}")
    raise first
