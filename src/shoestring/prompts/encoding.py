"""Examples to model inputs: token ids, segment ids, the position of the answer, the candidate answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shoestring.errors import DataError, PromptTooLongError, TemplateError, suggest
from shoestring.prompts.choose import choose
from shoestring.prompts.codec import Codec
from shoestring.prompts.label_words import LabelWords, Options, encode_causal, encode_masked, label_words
from shoestring.prompts.parts import CannotCutError, Part, PieceEncoder, fit, mask_id
from shoestring.prompts.rendering import head_pieces, render_text, template_pieces
from shoestring.prompts.settings import Kind, PromptSettings, Truncate
from shoestring.prompts.template import Pieces, Sentence, Special
from shoestring.tasks.spec import Limits, Task, Template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

    from shoestring.data.example import Example


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


class PromptEncoder:
    """Encodes the examples of one task for one tokenizer.

    Args:
        task: the task.
        tokenizer: a transformers tokenizer.
        kind: `masked` and `causal` put the example into a template; `head` takes the bare sentences.
        settings: template, label words and limits where they differ from the task's own.
        model_max_tokens: longest input of the model, where the tokenizer does not know it.

    Attributes:
        pieces: the parsed template.
        words: the label words; None for a head.
        options: token ids of each candidate answer, in label order.
        limit: most tokens of an input.

    Raises:
        TemplateError: if the template is wrong, lacks the form asked for, or is given to a head.
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
        self.task, self.kind = task, kind
        self.settings = settings or PromptSettings()
        codec = Codec(tokenizer)
        self.words: LabelWords | None = None
        self.options: Options = ()
        limits = task.limits
        if kind == "head":
            _refuse_prompt(task, self.settings)
            self.pieces = head_pieces(len(task.sentences), cls_and_sep=codec.has_cls_and_sep)
            # The published code applies sentence limits to prompts only.
            limits = Limits(max_tokens=limits.max_tokens)
        else:
            self.pieces, template = find_template(task, kind, self.settings)
            self.words = label_words(task, template, self.settings.label_words)
            if kind == "masked":
                mask_id(codec)  # Before the label words: a causal tokenizer's would be refused for the wrong reason.
            self.options = (encode_masked if kind == "masked" else encode_causal)(self.words, codec)
        self._encoder = PieceEncoder(self.pieces, codec, limits, self.options)
        self._labels = {name: number for number, name in enumerate(task.label_names)}
        self._truncate: Truncate = self.settings.truncate or ("sentence" if kind == "causal" else "tail")
        self._keep = _last_to_keep(self.pieces, kind)
        self.limit = self._find_limit(codec, model_max_tokens)

    def encode(self, example: Example) -> EncodedPrompt:
        """Return the model input of an example.

        Raises:
            PromptTooLongError: if it does not fit and may not be cut; names the example, its length, the limit.
            DataError: if the example has another number of sentences, or a label the task does not have.
        """
        parts, truncated = self.parts(example)
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

    def parts(self, example: Example) -> tuple[list[Part], int]:
        """Return the tokens of each piece of the template as they go into the model, and the number of tokens cut.

        Raises:
            PromptTooLongError: as `encode`.
            DataError: if the example has another number of sentences.
        """
        parts = self._encoder.parts(self._sentences(example))
        cut_by_limits = sum(part.cut for part in parts)
        ending = [parts.pop()] if parts[-1].piece == Special("eos") and self.kind == "head" else []
        try:
            # The end token of a causal-style input without a prompt is what its head reads, so it outlives the cut.
            room = self.limit - sum(len(part.ids) for part in ending)
            parts, cut = fit(parts, room, self._truncate, self._keep)
        except CannotCutError as reason:
            raise PromptTooLongError(self._too_long(example, [*parts, *ending], str(reason))) from None
        return [*parts, *ending], cut + cut_by_limits

    def encode_all(self, examples: Iterable[Example]) -> list[EncodedPrompt]:
        """Return the model inputs of examples, in order.

        Raises:
            PromptTooLongError: as `encode`.
            DataError: as `encode`.
        """
        return [self.encode(example) for example in examples]

    def text(self, example: Example) -> str:
        """Return the prompt as text, `<cls>`, `<sep>`, `<mask>`, `<bos>`, `<eos>` standing for special tokens; uncut.

        Raises:
            DataError: if the example has another number of sentences.
        """
        words = () if self.words is None else self.words.texts("masked" if self.kind == "masked" else "causal")
        return render_text(self.pieces, self._sentences(example), words)

    def _sentences(self, example: Example) -> tuple[str, ...]:
        if len(example.sentences) != len(self.task.sentences):
            raise DataError(
                f"task {self.task.name}, example {example.uid}",
                f"has {len(example.sentences)} texts; the task has {len(self.task.sentences)}: "
                f"{', '.join(self.task.sentences)}",
            )
        return example.sentences

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

    def _find_limit(self, codec: Codec, model_max_tokens: int | None) -> int:
        # The answers of a causal model are appended to the prompt and have to fit as well.
        answer = max(map(len, self.options)) if self.kind == "causal" else 0
        own = [longest for longest in (codec.max_tokens, model_max_tokens) if longest is not None]
        limit = min([self.settings.max_tokens or self.task.limits.max_tokens, *(longest - answer for longest in own)])
        if limit < 1:
            raise PromptTooLongError(
                f"task {self.task.name}: the longest answer has {answer} tokens, which leaves no room for a prompt in "
                f"a model of {min(own)}; choose shorter label words"
            )
        return limit

    def _too_long(self, example: Example, parts: list[Part], reason: str) -> str:
        count = sum(len(part.ids) for part in parts)
        asked = self.settings.max_tokens or self.task.limits.max_tokens
        cause = "max_tokens" if self.limit == asked else "what the model can read"
        fixed = sum(len(part.ids) for part in parts if not isinstance(part.piece, Sentence))
        remedies = [
            "limit the sentences (limits.first_sentence_tokens, limits.other_sentence_tokens in the task file)",
            *(["cut the longest sentence instead (prompt.truncate=sentence)"] if self._truncate == "tail" else []),
            *(["let it be cut (prompt.truncate=tail or sentence)"] if self._truncate == "error" else []),
            *(["raise prompt.max_tokens"] if self.limit == asked else ["choose a model that reads more"]),
        ]
        return (
            f"task {self.task.name}, example {example.uid}: the {'input' if self.kind == 'head' else 'prompt'} has "
            f"{count} tokens ({fixed} of them the template's), the limit is {self.limit} ({cause}), {reason}; "
            f"{', or '.join(remedies)}"
        )


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


def _refuse_prompt(task: Task, settings: PromptSettings) -> None:
    given = [name for name in ("template", "answer", "label_words") if getattr(settings, name)]
    if given:
        raise TemplateError(
            f"task {task.name}: a classification head reads the bare sentences, so {' and '.join(given)} would have no "
            "effect; leave them out, or use a masked or causal model with prompts"
        )


def _last_to_keep(pieces: Pieces, kind: Kind) -> int | None:
    """Return the index of the last piece that a tail cut must leave whole."""
    if kind == "head":
        return None
    if kind == "masked":
        return pieces.index(Special("mask"))
    fixed = [number for number, piece in enumerate(pieces) if not isinstance(piece, Sentence)]
    return fixed[-1] if fixed else None
