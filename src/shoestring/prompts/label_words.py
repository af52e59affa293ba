"""Label words to token ids, checked: one token each for masked models, any number for causal ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from shoestring.errors import LabelWordError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shoestring.prompts.codec import Codec
    from shoestring.prompts.template import Form
    from shoestring.tasks.spec import Task, Template

Options = tuple[tuple[int, ...], ...]
_AS_IT_STANDS = ("<", "[", ".", ",")


@dataclass(frozen=True, slots=True)
class LabelWords:
    """The label words of one task and template, in order of the label ids.

    Attributes:
        task: the task's name, for messages.
        labels: label names.
        words: the word of each label.
        answer: how a word continues a causal prompt, with `{word}` in it.
    """

    task: str
    labels: tuple[str, ...]
    words: tuple[str, ...]
    answer: str = " {word}"

    def texts(self, form: Form) -> tuple[str, ...]:
        """Return each label word as it stands in a prompt, its leading space included."""
        if form == "causal":
            return tuple(self.answer.replace("{word}", word) for word in self.words)
        return tuple(word if word.startswith(_AS_IT_STANDS) else f" {word}" for word in self.words)


def label_words(task: Task, template: Template, overrides: Mapping[str, str] | None = None) -> LabelWords:
    """Return the label words of `template`; `overrides` maps label names to other words.

    Raises:
        UnknownNameError: if the template or an override names a label the task does not have.
        LabelWordError: if `answer` is not a text with one `{word}`, or a word is empty or repeated.
    """
    given = {**template.label_words, **(overrides or {})}
    for label in given:
        if label not in task.label_names:
            raise UnknownNameError("label", label, task.label_names, where=f"label_words of task {task.name}")
    words = {label.name: given.get(label.name, label.word) for label in task.labels}
    if template.answer.count("{word}") != 1 or re.search(r"[{}]", template.answer.replace("{word}", "")):
        raise LabelWordError(
            f"task {task.name}: `answer` is {template.answer!r}, but needs exactly one {{word}} and no other braces, "
            "such as ' {word}'"
        )
    found = LabelWords(task.name, tuple(words), tuple(words.values()), template.answer)
    for label, word in words.items():
        if not word.strip():
            raise LabelWordError(f"{_place(found, label)}: the label word is empty; write the word the model shall say")
    _distinct(found, found.words, "the same label word")
    return found


def encode_masked(words: LabelWords, codec: Codec) -> Options:
    """Return the one token of each label word.

    A word is encoded with a space in front; one that starts with `<`, `[`, `.` or `,` is looked up as it stands.

    Raises:
        LabelWordError: if a word is not one known token, or two words share theirs; names the tokens.

    Source: princeton-nlp/LM-BFF src/dataset.py, `label_to_word`.
    """
    ids: list[tuple[int, ...]] = []
    for label, word, text in zip(words.labels, words.words, words.texts("masked"), strict=True):
        if text == word:
            found = codec.lookup(word)
            if found is None:
                what = f"{word!r} is looked up as it stands and is not in the vocabulary of {codec.name}"
                raise LabelWordError(f"{_place(words, label)}: {what}{_near(word, codec)}")
            ids.append((found,))
            continue
        encoded = codec.continuation(text)
        if len(encoded) != 1 or encoded[0] == codec.unknown:
            raise LabelWordError(f"{_place(words, label)}: {_not_one(word, encoded, codec)}{_near(word, codec)}")
        ids.append((encoded[0],))
    _distinct(words, ids, f"the same token of {codec.name}")
    return tuple(ids)


def encode_causal(words: LabelWords, codec: Codec) -> Options:
    """Return the tokens of each answer, as they continue a prompt.

    Raises:
        LabelWordError: if an answer has no token or an unknown one, or two answers have the same tokens.
    """
    ids: list[tuple[int, ...]] = []
    for label, text in zip(words.labels, words.texts("causal"), strict=True):
        encoded = tuple(codec.continuation(text))
        if not encoded:
            raise LabelWordError(f"{_place(words, label)}: the answer {text!r} has no token in {codec.name}")
        if codec.unknown in encoded:
            shown = ", ".join(map(repr, codec.tokens(list(encoded))))
            raise LabelWordError(
                f"{_place(words, label)}: the answer {text!r} holds the unknown token of {codec.name}: {shown}"
            )
        ids.append(encoded)
    _distinct(words, ids, f"the same tokens of {codec.name}")
    return tuple(ids)


def _place(words: LabelWords, label: str) -> str:
    return f"task {words.task}, label {label!r}"


def _distinct(words: LabelWords, values: Sequence[str | tuple[int, ...]], what: str) -> None:
    owner: dict[str | tuple[int, ...], int] = {}
    for number, value in enumerate(values):
        first = owner.setdefault(value, number)
        if first != number:
            raise LabelWordError(
                f"{_place(words, words.labels[number])}: its word {words.words[number]!r} is {what} as "
                f"{words.words[first]!r} of label {words.labels[first]!r}; label words must differ"
            )


def _not_one(word: str, encoded: Sequence[int], codec: Codec) -> str:
    shown = ", ".join(map(repr, codec.tokens(list(encoded)))) or "nothing"
    if len(encoded) == 1:
        return f"{word!r} is the unknown token {shown} to {codec.name}; a masked model needs a known one"
    return f"{word!r} is {len(encoded)} tokens to {codec.name} ({shown}); a masked model needs exactly one"


def _near(word: str, codec: Codec) -> str:
    """Return the tail of a message: words near `word` that are one token."""
    marker = codec.tokens(codec.continuation(" the"))[:1]
    prefix = marker[0].removesuffix("the") if marker and marker[0].endswith("the") else ""
    starts = {prefix + word[:1], prefix + word[:1].lower(), prefix + word[:1].upper()}
    entries = (
        entry.removeprefix(prefix) for entry in codec.tokenizer.get_vocab() if entry[: len(prefix) + 1] in starts
    )
    near = get_close_matches(word, sorted({entry for entry in entries if entry.isalpha()}), n=5, cutoff=0.6)
    single = [entry for entry in near if len(codec.continuation(f" {entry}")) == 1]
    return f"; single-token words near it: {', '.join(single)}" if single else ""
