"""Prompts as text, without any tokenizer: what golden renderings in task files and `shoestring prompts` show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoestring.prompts.template import (
    DemonstrationWord,
    Form,
    LabelWord,
    Pieces,
    Sentence,
    Shape,
    Special,
    Text,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoestring.prompts.label_words import LabelWords
    from shoestring.tasks.spec import Task, Template


def template_pieces(
    task: Task, template: Template, form: Form, name: str = "", demonstrations: int = 0
) -> Pieces | None:
    """Return the parsed `form` of a template, or None if the template does not have it.

    Raises:
        TemplateError: if the template is not written in the template language.
    """
    text = template.masked if form == "masked" else template.causal
    if text is None:
        return None
    shape = Shape(form, len(task.sentences), len(task.labels), demonstrations)
    return parse(text, shape, where=f"task {task.name}, template {name!r} ({form})")


def head_pieces(sentences: int, *, cls_and_sep: bool) -> Pieces:
    """Return the pieces of an input without a prompt.

    Source: princeton-nlp/LM-BFF src/dataset.py: `[CLS] a [SEP] b [SEP]` with one separator between the sentences and
        segment i for sentence i; for tokenizers without these tokens, the sentences on lines of their own between the
        begin and the end token (ours).
    """
    if cls_and_sep:
        body = [piece for index in range(sentences) for piece in (Sentence(index), Special("sep+"))]
        return (Special("cls"), *body)
    lines = [piece for index in range(sentences) for piece in (Text("\n"), Sentence(index))]
    return (Special("bos"), *lines[1:], Special("eos"))


def render_text(
    pieces: Pieces,
    sentences: Sequence[str],
    words: Sequence[str] = (),
    demonstration_labels: Sequence[int] = (),
) -> str:
    """Return the prompt as text, with `<cls>`, `<sep>`, `<mask>`, `<bos>`, `<eos>` for special tokens; nothing is cut.

    >>> render_text((Sentence(0), Text(" It was"), Special("mask"), Text(".")), ["a fine film ."])
    'a fine film . It was<mask>.'

    Args:
        pieces: a parsed template.
        sentences: the example's sentences, then those of its demonstrations.
        words: each label word as it stands in a prompt, leading space included (`LabelWords.texts`).
        demonstration_labels: label id of each demonstration.
    """
    shown: list[str] = []
    for piece in pieces:
        match piece:
            case Special(name):
                shown.append(f"<{name.removesuffix('+')}>")
            case Sentence():
                shown.append(piece.render(sentences))
            case LabelWord(index):
                shown.append(words[index])
            case DemonstrationWord(index):
                shown.append(words[demonstration_labels[index]])
            case Text(text):
                shown.append(text)
    return "".join(shown)


def prompt_text(task: Task, template: Template, form: Form, sentences: Sequence[str], words: LabelWords) -> str | None:
    """Return the prompt of a task's sentences as text, or None if the template has no such form.

    Raises:
        TemplateError: if the template is not written in the template language.
    """
    pieces = template_pieces(task, template, form)
    return None if pieces is None else render_text(pieces, sentences, words.texts(form))
