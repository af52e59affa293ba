"""Text forms as strings: demonstrations, question and answers put together, before any tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shoestring.tasks.spec import TextForm

SPACE = " "


@dataclass(frozen=True, slots=True)
class Written:
    """One question and its candidates, as text.

    Attributes:
        prompt: the question alone.
        whole: the question with each candidate behind it, alone: how many tokens a candidate has is counted on these.
        asked: what is read before an answer: demonstrations and question.
        read: what is read with each candidate: demonstrations, question and candidate.
    """

    prompt: str
    whole: tuple[str, ...]
    asked: str
    read: tuple[str, ...]

    @property
    def answers(self) -> tuple[str, ...]:
        """Return what stands behind the question, for each candidate."""
        return tuple(text[len(self.prompt) :] for text in self.whole)


def shown(form: TextForm, demonstrations: Iterable[str], separator: str | None = None) -> str:
    """Return demonstrations put together, without what parts them from the question."""
    between = form.separator if separator is None else separator
    if not form.strip:
        return between.join(demonstrations)
    return between.join(text.strip() for text in demonstrations).strip()


def written(form: TextForm, prompt: str, answers: Sequence[str], before: str = "") -> Written:
    """Return a question and its candidates, behind demonstrations and their separator (`before`) if there are any.

    With `form.strip`, the question loses the spaces at its ends, and so does the question with an answer; line breaks
    stay. What is read loses all white space at its beginning, and the spaces at its end.

    Source: princeton-nlp/MeZO large_models/utils.py, `encode_prompt`.
    """
    whole = [prompt + answer for answer in answers]
    if not form.strip:
        return Written(prompt, tuple(whole), before + prompt, tuple(before + text for text in whole))
    prompt = prompt.strip(SPACE)
    whole = [text.strip(SPACE) for text in whole]
    return Written(prompt, tuple(whole), _read(before + prompt), tuple(_read(before + text) for text in whole))


def taught(form: TextForm, prompt: str, answer: str, before: str = "") -> Written:
    """Return a question and the answer to be learned, of a generation task: the answer's own line break stays.

    Source: princeton-nlp/MeZO large_models/utils.py, `encode_prompt` with `generation_with_gold`: the answer's tokens
        are counted before spaces are taken off.
    """
    if not form.strip:
        return written(form, prompt, [answer], before)
    whole = prompt + answer
    prompt = prompt.strip(SPACE)
    return Written(prompt, (whole,), _read(before + prompt), (_read(before + whole),))


def alone(form: TextForm, prompt: str, answers: Sequence[str]) -> Written:
    """Return a calibration prompt and its candidates without demonstrations: read as they are counted.

    Source: princeton-nlp/MeZO large_models/utils.py, `encode_prompt` with `sfc`.
    """
    found = written(form, prompt, answers)
    return Written(found.prompt, found.whole, found.prompt, found.whole)


def _read(text: str) -> str:
    return text.lstrip().strip(SPACE)
