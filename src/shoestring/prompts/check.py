"""What is wrong with a task's prompts: for `shoestring tasks check`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from shoestring.errors import ShoestringError
from shoestring.prompts.codec import Codec
from shoestring.prompts.finding import calibration_pieces
from shoestring.prompts.label_words import encode_causal, encode_masked, label_words
from shoestring.prompts.parts import Part, PieceEncoder, mask_id
from shoestring.prompts.rendering import prompt_text, template_pieces
from shoestring.prompts.template import Form, Pieces, Sentence, Special, Text
from shoestring.prompts.text_check import text_golden_problems, text_problems, text_tokenizer_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerBase

    from shoestring.prompts.settings import Kind
    from shoestring.tasks.spec import Task, Template

FORMS: tuple[Form, ...] = ("masked", "causal")


def check_task(task: Task, tokenizer: PreTrainedTokenizerBase | None = None, kind: Kind | None = None) -> list[str]:
    """Return everything that is wrong with a task's prompts, each problem with its place; empty if nothing is.

    Every template is parsed and every golden rendering compared. With a tokenizer, the templates of `kind` are encoded,
    their label words looked up, and the limits compared with them.

    Args:
        task: the task.
        tokenizer: a transformers tokenizer, or None to check the file alone.
        kind: what the model does; None checks `masked` and `causal` forms alike.
    """
    problems = list(_file_problems(task))
    if tokenizer is not None and kind != "head":
        codec = Codec(tokenizer)
        texts = any(template.text is not None for template in task.templates.values())
        for form in _forms(kind):
            required = kind == "masked" or (kind == "causal" and not texts)
            problems += _tokenizer_problems(task, codec, form, required=required)
        if texts and kind != "masked" and task.kind != "regression":
            problems += text_tokenizer_problems(task, tokenizer, kind or "causal")
        elif kind == "seq2seq":
            problems.append(f"task {task.name}: no template has a text form")
    return list(dict.fromkeys(problems))


def limit_notes(task: Task, tokenizer: PreTrainedTokenizerBase, kind: Kind | None = None) -> list[str]:
    """Return where `limits.max_tokens` is beyond what the model reads: no mistake, the model's own limit then holds.

    Args:
        task: the task.
        tokenizer: a transformers tokenizer whose `model_max_length` is what the model reads.
        kind: what the model does; None looks at `masked` and `causal` forms alike.
    """
    if kind == "head":
        return []
    codec = Codec(tokenizer)
    notes: list[str] = []
    for form in _forms(kind):
        longest = [room for template in task.templates.values() if (room := _room(task, template, codec, form))]
        if longest and task.limits.max_tokens > min(longest):
            before = " before the answer" if form == "causal" else ""
            notes.append(
                f"task {task.name} ({form}): limits.max_tokens is {task.limits.max_tokens}, but the model reads "
                f"{min(longest)}{before}; that is the limit then"
            )
    asked = [template.max_tokens or task.limits.max_tokens for template in task.templates.values() if template.text]
    if kind != "masked" and asked and codec.max_tokens is not None and max(asked) > codec.max_tokens:
        notes.append(
            f"task {task.name} (text): its limit is {max(asked)} tokens, but the model reads {codec.max_tokens}; "
            "that is the limit then"
        )
    return notes


def _forms(kind: Kind | None) -> tuple[Form, ...]:
    """Return the forms of templates that a kind of model reads; all, where it is not known."""
    return FORMS if kind is None else tuple(form for form in FORMS if form == kind)


def _room(task: Task, template: Template, codec: Codec, form: Form) -> int | None:
    """Return how many tokens of a prompt the model reads; None if that is unknown, or `check_task` has to say why."""
    if codec.max_tokens is None or getattr(template, form) is None:
        return None
    try:
        answers = encode_causal(label_words(task, template), codec) if form == "causal" else ()
    except ShoestringError:
        return None
    return codec.max_tokens - max(map(len, answers), default=0)


def _file_problems(task: Task) -> Iterator[str]:
    for name, template in task.templates.items():
        try:
            label_words(task, template)
        except ShoestringError as error:
            yield str(error)
        for form in FORMS:
            try:
                pieces = template_pieces(task, template, form, name)
            except ShoestringError as error:
                yield str(error)
                continue
            if pieces is not None:
                yield from _piece_problems(f"task {task.name}, template {name!r} ({form})", pieces, task)
        yield from _calibration_problems(task, template, name)
        if template.causal is not None and template.answer.endswith(" "):
            yield f"task {task.name}, template {name!r}: `answer` {template.answer!r} ends in a space"
    yield from text_problems(task)
    yield from _golden_problems(task)


def _calibration_problems(task: Task, template: Template, name: str) -> list[str]:
    """Return why a calibration prompt suits no form of its template: one for a masked form has no causal sense."""
    forms: list[Form] = [form for form in FORMS if getattr(template, form) is not None]
    problems: list[str] = []
    for form in forms:
        try:
            calibration_pieces(task, template, form, name)
        except ShoestringError as error:
            problems.append(str(error))
    return problems if len(problems) == len(forms) else []


def _piece_problems(where: str, pieces: Pieces, task: Task) -> Iterator[str]:
    for piece, following in itertools.pairwise(pieces):
        if isinstance(piece, Text) and piece.text.endswith(" ") and not isinstance(following, Text):
            yield (
                f"{where}: the text {piece.text!r} ends in a space before a token; label words bring their own space, "
                "and sentences have `+` forms for it"
            )
    used = {piece.index for piece in pieces if isinstance(piece, Sentence)}
    for index, name in enumerate(task.sentences):
        if index not in used:
            yield f"{where}: sentence {index} ({name}) is never shown to the model"


def _golden_problems(task: Task) -> Iterator[str]:
    for number, golden in enumerate(task.golden, start=1):
        where = f"task {task.name}, golden {number}"
        if len(golden.sentences) != len(task.sentences):
            yield f"{where}: has {len(golden.sentences)} sentences; the task has {len(task.sentences)}"
            continue
        if golden.masked is None and golden.causal is None and golden.text is None:
            yield f"{where}: has neither a `masked` nor a `causal` nor a `text` rendering, so it checks nothing"
        yield from text_golden_problems(task, golden, where)
        for form in FORMS:
            wanted = golden.masked if form == "masked" else golden.causal
            if wanted is None:
                continue
            try:
                template = task.template(golden.template)
                found = prompt_text(task, template, form, golden.sentences, label_words(task, template))
            except ShoestringError as error:
                yield f"{where}: {error}"
                continue
            if found is None:
                yield f"{where}: has a {form} rendering, but its template has no {form} form"
            elif found != wanted:
                yield f"{where}: the {form} prompt is {found!r}, but the file says {wanted!r}"
            if form == "causal" and found is not None and found.endswith(" "):
                yield f"{where}: the causal prompt {found!r} ends in a space before the answer"


def _tokenizer_problems(task: Task, codec: Codec, form: Form, *, required: bool) -> Iterator[str]:
    having = {name: template for name, template in task.templates.items() if getattr(template, form) is not None}
    if required and not having:
        yield f"task {task.name}: no template has a {form} form"
    for name, template in having.items():
        where = f"task {task.name}, template {name!r} ({form})"
        try:
            words = label_words(task, template)
            pieces = template_pieces(task, template, form, name)
            if form == "masked":
                mask_id(codec)
            options = (encode_masked if form == "masked" else encode_causal)(words, codec)
            if pieces is not None:
                parts = PieceEncoder(pieces, codec, task.limits, options).parts([""] * len(task.sentences))
                yield from _limit_problems(where, task, parts, _room(task, template, codec, form))
        except ShoestringError as error:
            yield str(error) if str(error).startswith("task ") else f"{where}: {error}"


def _limit_problems(where: str, task: Task, parts: list[Part], longest: int | None) -> Iterator[str]:
    """Compare the limits with the template: `parts` of empty sentences; `longest` prompt the model reads."""
    limits = task.limits
    fixed = sum(len(part.ids) for part in parts if not isinstance(part.piece, Sentence))
    if fixed >= limits.max_tokens:
        yield f"{where}: the template alone has {fixed} tokens, limits.max_tokens is {limits.max_tokens}"
        return
    if longest is not None and fixed >= longest:
        yield f"{where}: the template alone has {fixed} tokens, the model reads {longest}"
        return
    ends = [number for number, part in enumerate(parts) if part.piece == Special("mask")]
    needed = parts[: ends[0] + 1] if ends else parts
    caps = [limits.first_sentence_tokens if index == 0 else limits.other_sentence_tokens for index in _indices(needed)]
    if caps and None not in caps:
        fixed = sum(len(part.ids) for part in needed if not isinstance(part.piece, Sentence))
        worst = fixed + sum(cap for cap in caps if cap is not None)
        if worst > limits.max_tokens:
            end = "mask" if ends else "end of the prompt"
            yield (
                f"{where}: sentences as long as their limits put the {end} at token {worst}, beyond "
                f"limits.max_tokens = {limits.max_tokens}; lower the sentence limits or raise max_tokens"
            )


def _indices(parts: list[Part]) -> list[int]:
    return [part.piece.index for part in parts if isinstance(part.piece, Sentence)]
