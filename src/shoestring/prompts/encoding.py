"""Examples to model inputs: token ids, segment ids, the position of the answer, the candidate answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from shoestring.errors import DataError, TemplateError, suggest
from shoestring.prompts.choose import choose
from shoestring.prompts.codec import Codec
from shoestring.prompts.demonstrations.templated import label_number
from shoestring.prompts.finding import find_calibration, find_demonstrations, refuse_prompt
from shoestring.prompts.label_words import LabelWords, Options, encode_causal, encode_masked, label_words
from shoestring.prompts.parts import CannotCutError, Part, PieceEncoder, fit, mask_id
from shoestring.prompts.rendering import head_pieces, render_text, template_pieces
from shoestring.prompts.room import Room, find_room
from shoestring.prompts.settings import Kind, PromptSettings, Truncate
from shoestring.prompts.template import Form, Pieces, Sentence, Special
from shoestring.tasks.spec import Limits, Task, Template

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from shoestring.data.example import Example

CONTENT_FREE = ("N/A", "", "[MASK]")
"""What stands for every text of a question about nothing (Zhao et al. 2021, section 5)."""
_ENDS = (Special("cls"), Special("bos"), Special("eos"))


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """One example as the model reads it; L tokens.

    Attributes:
        uid: the example's uid.
        ids: token ids of the whole input, [L].
        segment_ids: segment id of each token, [L]; BERT's `token_type_ids`.
        position: the token from whose output the candidates are scored: the mask (masked), the last token (causal),
            None where the whole input is read before an answer begins (head, sequence to sequence).
        options: token ids of each candidate answer, in label order; () for a head. Of a generation task, the first gold
            answer alone.
        label: the label's id, or the value of a regression task; the number of the first right candidate.
        truncated: number of tokens cut off by sentence limits and by the limit on the whole input.
        scored: how many tokens at the end of each option are scored; () for all. An option has more tokens than those
            where candidates part before their answers begin: where the tokenizer joins the end of the prompt with the
            answer, or where a prompt is cut more for a longer answer.
        right: numbers of all right candidates, where an example brings its own (multiple choice).
        golds: all right answers as text, of a generation task.
        variants: the same example asked in other ways; scores are averaged over the prompt and these.
        taught: of a generation task, the input with its answer that is trained on, where that is not `ids` followed by
            the first option: where the prompt is cut, or the tokenizer joins its end with the answer.
        calibrations: inputs that ask about nothing, with the same number of options: what the answers score without the
            question.
    """

    uid: str
    ids: tuple[int, ...]
    segment_ids: tuple[int, ...]
    position: int | None
    options: Options
    label: int | float
    truncated: int
    scored: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    golds: tuple[str, ...] = ()
    taught: EncodedPrompt | None = None
    variants: tuple[EncodedPrompt, ...] = ()
    calibrations: tuple[EncodedPrompt, ...] = ()

    @property
    def scored_lengths(self) -> tuple[int, ...]:
        """Return how many tokens at the end of each option are scored."""
        return self.scored or tuple(len(option) for option in self.options)


class Encoder(Protocol):
    """Turns the examples of one task into model inputs, for one tokenizer and one way of asking.

    Attributes:
        task: the task.
        limit: most tokens of an input.
    """

    task: Task
    limit: int

    def encode(self, example: Example) -> EncodedPrompt:
        """Return the model input of an example."""
        ...

    def encode_all(self, examples: Iterable[Example]) -> list[EncodedPrompt]:
        """Return the model inputs of examples, in order; every mistake is named before an error is raised."""
        ...

    def text(self, example: Example) -> str:
        """Return the input as text, before anything is cut."""
        ...


@runtime_checkable
class Redraws(Protocol):
    """An encoder that asks a training example otherwise each time: with other demonstrations, or another template."""

    def redraw(self, prompt: EncodedPrompt, seed: int) -> EncodedPrompt:
        """Return a training example as it is asked in one place of one batch, a function of `seed`."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """A template ready to take sentences; `keep` is the piece that no cut may reach."""

    pieces: Pieces
    encoder: PieceEncoder
    keep: int | None


class PromptEncoder:
    """Encodes the examples of one task for one tokenizer, with one template.

    Args:
        task: the task.
        tokenizer: a transformers tokenizer.
        kind: `masked` and `causal` put the example into a template; `head` takes the bare sentences.
        settings: template, label words and limits where they differ from the task's own; where it has demonstrations,
            `encode`, `parts` and `text` are to be given them (`demonstrations/encoder.py` draws them).
        model_max_tokens: longest input of the model, where the tokenizer does not know it.

    Attributes:
        pieces: the parsed template, with its demonstrations.
        words: the label words; None for a head.
        options: token ids of each candidate answer, in label order.
        limit: most tokens of an input.

    Raises:
        TemplateError: if the template is wrong, lacks the form asked for, or is given to a head; if demonstrations do
            not suit it; if calibration is asked for and it has no calibration prompt.
        LabelWordError: if a label word does not suit the tokenizer.
        UnknownNameError: if a template or label does not exist.
        ModelError: if the template has a mask and the tokenizer none.
        PromptTooLongError: if the candidate answers alone fill the model.

    Source: princeton-nlp/LM-BFF src/dataset.py, `tokenize_multipart_input`; princeton-nlp/MeZO for causal models.

    Differs: the position is that of the template's own mask, where the published code takes the first mask id and so
        falls for a mask token inside a sentence. A causal prompt is never cut before the end of its template.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        kind: Kind,
        settings: PromptSettings | None = None,
        model_max_tokens: int | None = None,
    ) -> None:
        self.task: Task = task
        self.kind: Kind = kind
        self.settings = settings or PromptSettings()
        self._shown = find_demonstrations(task, kind, self.settings)
        codec = Codec(tokenizer)
        self.words: LabelWords | None = None
        self.options: Options = ()
        template: Template | None = None
        without: Pieces | None = None
        limits = task.limits
        if kind == "head":
            refuse_prompt(task, self.settings)
            pieces = head_pieces(len(task.sentences), cls_and_sep=codec.has_cls_and_sep)
            # The published code applies sentence limits to prompts only.
            limits = Limits(max_tokens=limits.max_tokens)
        else:
            pieces, template = find_template(task, kind, self.settings)
            without = find_calibration(task, _form(kind), self.settings, template, pieces)
            self.words = label_words(task, template, self.settings.label_words)
            if kind == "masked":
                mask_id(codec)  # Before the label words: a causal tokenizer's would be refused for the wrong reason.
            self.options = (encode_masked if kind == "masked" else encode_causal)(self.words, codec)
        shown = () if self._shown is None else pieces
        self._asked = self._made(pieces, shown, codec, limits)
        shown = shown if self.settings.calibration_demonstrations else ()
        self._without = None if without is None else self._made(without, shown, codec, limits)
        self._labels = {name: number for number, name in enumerate(task.label_names)}
        self._room = self._find_room(codec, template, model_max_tokens)
        self.pieces, self.limit = self._asked.pieces, self._room.limit

    def encode(self, example: Example, demonstrations: Sequence[Example] = ()) -> EncodedPrompt:
        """Return the model input of an example.

        Raises:
            PromptTooLongError: if it does not fit and may not be cut; names the example, its length, the limit.
            DataError: if an example has another number of sentences, or a label the task does not have; if these are
                not the demonstrations that the template has room for.
        """
        sentences = self._sentences(example, demonstrations)
        prompt = self._encoded(self._asked, example, sentences, demonstrations)
        if self._without is None:
            return prompt
        return replace(prompt, calibrations=self._calibrations(self._without, example, sentences, demonstrations))

    def parts(self, example: Example, demonstrations: Sequence[Example] = ()) -> tuple[list[Part], int]:
        """Return the tokens of each piece of the template as they go into the model, and the number of tokens cut.

        Raises:
            PromptTooLongError: as `encode`.
            DataError: as `encode`.
        """
        return self._parts(self._asked, example, self._sentences(example, demonstrations), demonstrations)

    def encode_all(self, examples: Iterable[Example]) -> list[EncodedPrompt]:
        """Return the model inputs of examples, in order.

        Raises:
            PromptTooLongError: as `encode`.
            DataError: as `encode`.
        """
        return [self.encode(example) for example in examples]

    def text(self, example: Example, demonstrations: Sequence[Example] = ()) -> str:
        """Return the prompt as text, `<cls>`, `<sep>`, `<mask>`, `<bos>`, `<eos>` standing for special tokens; uncut.

        Raises:
            DataError: as `encode`.
        """
        words = () if self.words is None else self.words.texts(_form(self.kind))
        labels = [label_number(self.task, one) for one in demonstrations]
        return render_text(self.pieces, self._sentences(example, demonstrations), words, labels)

    def _made(self, pieces: Pieces, shown: Pieces, codec: Codec, limits: Limits) -> _Asked:
        """Return a query ready to take sentences, together with demonstrations by the template `shown`, if any."""
        if shown and self._shown is not None:
            pieces = self._shown.arranged(pieces, shown, self.task, _form(self.kind))
        return _Asked(pieces, PieceEncoder(pieces, codec, limits, self.options), _to_keep(pieces, self.kind))

    def _calibrations(
        self, asked: _Asked, example: Example, sentences: tuple[str, ...], demonstrations: Sequence[Example]
    ) -> tuple[EncodedPrompt, ...]:
        shown = demonstrations if self.settings.calibration_demonstrations else ()
        size = len(self.task.sentences)
        own, others = sentences[:size], sentences[size : size * (1 + len(shown))]
        asked_about = [(text,) * size for text in CONTENT_FREE]
        if self.settings.calibration == "surface-form":
            asked_about = [own]  # Its template says nothing of them, unless it says so.
        return tuple(self._encoded(asked, example, (*about, *others), shown) for about in asked_about)

    def _encoded(
        self, asked: _Asked, example: Example, sentences: Sequence[str], demonstrations: Sequence[Example]
    ) -> EncodedPrompt:
        parts, truncated = self._parts(asked, example, sentences, demonstrations)
        ids = tuple(token for part in parts for token in part.ids)
        if not ids:
            raise DataError(f"task {self.task.name}, example {example.uid}", "has no token at all; its text is empty")
        return EncodedPrompt(
            uid=example.uid,
            ids=ids,
            segment_ids=tuple(part.segment for part in parts for _ in part.ids),
            position=self._position(parts),
            options=self.options,
            label=self._label(example),
            truncated=truncated,
        )

    def _parts(
        self, asked: _Asked, example: Example, sentences: Sequence[str], demonstrations: Sequence[Example]
    ) -> tuple[list[Part], int]:
        parts = asked.encoder.parts(sentences, [label_number(self.task, one) for one in demonstrations])
        cut_by_limits = sum(part.cut for part in parts)
        # Both ends of an input without a prompt outlive the cut: one of them is what its head reads.
        opening = [parts.pop(0)] if self.kind == "head" and parts[0].piece in _ENDS else []
        ending = [parts.pop()] if self.kind == "head" and parts[-1].piece in _ENDS else []
        try:
            room = self.limit - sum(len(part.ids) for part in (*opening, *ending))
            parts, cut = fit(parts, room, self._room.truncate, asked.keep)
        except CannotCutError as reason:
            where = f"task {self.task.name}, example {example.uid}"
            whole = [*opening, *parts, *ending]
            raise self._room.too_long(where, whole, str(reason), len(self.task.sentences)) from None
        return [*opening, *parts, *ending], cut + cut_by_limits

    def _sentences(self, example: Example, demonstrations: Sequence[Example]) -> tuple[str, ...]:
        wanted = 0 if self._shown is None else self._shown.shown(self.task)
        if len(demonstrations) != wanted:
            raise DataError(
                f"task {self.task.name}, example {example.uid}",
                f"comes with {len(demonstrations)} demonstrations, its template is made for {wanted}; "
                "shoestring.prompts.build.build_encoder returns the encoder that draws them",
            )
        for one in (example, *demonstrations):
            if len(one.sentences) != len(self.task.sentences):
                raise DataError(
                    f"task {self.task.name}, example {one.uid}",
                    f"has {len(one.sentences)} texts; the task has {len(self.task.sentences)}: "
                    f"{', '.join(self.task.sentences)}",
                )
        return tuple(text for one in (example, *demonstrations) for text in one.sentences)

    def _label(self, example: Example) -> int | float:
        where = f"task {self.task.name}, example {example.uid}"
        if self.task.kind == "regression":
            try:
                value = float(example.label)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise DataError(where, f"its value {example.label!r} is not a number")
            return value
        label = str(example.label)
        if label not in self._labels:
            raise DataError(where, f"has the unknown label {label!r}{suggest(label, self._labels)}")
        return self._labels[label]

    def _position(self, parts: list[Part]) -> int | None:
        if self.kind == "head":
            return None
        before = 0
        for part in parts:
            if part.piece == Special("mask"):
                return before
            before += len(part.ids)
        return before - 1

    def _find_room(self, codec: Codec, template: Template | None, model_max_tokens: int | None) -> Room:
        # The answers of a causal model are appended to the prompt and have to fit as well.
        answer = max(map(len, self.options)) if self.kind == "causal" else 0
        own = [longest for longest in (codec.max_tokens, model_max_tokens) if longest is not None]
        shown = self._shown
        limit, asked = find_room(self.task, self.settings, template, shown, min(own, default=None), answer)
        truncate: Truncate = "sentence" if self.kind == "causal" else "tail"
        if shown is not None:
            truncate = shown.truncate(_form(self.kind))
        count, what = 0 if shown is None else shown.shown(self.task), "input" if self.kind == "head" else "prompt"
        return Room(limit, asked, self.settings.truncate or truncate, count, what)


def find_template(task: Task, form: Kind, settings: PromptSettings) -> tuple[Pieces, Template]:
    """Return the template that the settings choose, parsed and as written.

    Raises:
        UnknownNameError: if the task has no template of that name.
        TemplateError: if the template is wrong, or has no such form.
    """
    if form not in ("masked", "causal"):
        raise TemplateError(f"task {task.name}: templates in LM-BFF's language are for masked and causal models")
    chosen = choose(task, form, settings, (form,))
    pieces = template_pieces(task, chosen.template, form, chosen.name)
    if pieces is None:
        raise TemplateError(f"task {task.name}, template {chosen.name!r} has no {form} form")
    return pieces, chosen.template


def _form(kind: Kind) -> Form:
    return "masked" if kind == "masked" else "causal"


def _to_keep(pieces: Pieces, kind: Kind) -> int | None:
    """Return the index of the piece that a cut of the tail, or of the head, must not reach."""
    if kind == "head":
        return None
    if kind == "masked":
        return pieces.index(Special("mask"))
    fixed = [number for number, piece in enumerate(pieces) if not isinstance(piece, Sentence)]
    return fixed[-1] if fixed else None
