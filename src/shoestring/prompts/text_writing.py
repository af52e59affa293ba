"""Examples to questions and answers as text: every draw of demonstrations, and what calibrates it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shoestring.errors import TemplateError
from shoestring.prompts.demonstrations.catalog.in_context import InContext
from shoestring.prompts.text_rendering import Written, alone, shown, taught, written

if TYPE_CHECKING:
    from shoestring.data.example import Example
    from shoestring.prompts.pool import Pool
    from shoestring.prompts.settings import PromptSettings
    from shoestring.prompts.text_answers import Answers
    from shoestring.prompts.text_template import TextTemplate

CONTENT_FREE = ("N/A", "", "[MASK]")
"""What stands in the place of every text, to ask about nothing (Zhao et al. 2021, section 5)."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of asking about an example.

    Attributes:
        question: the question with its candidates.
        calibrations: what asks about nothing, with the same number of candidates.
        demonstrations: number of demonstrations in front.
    """

    question: Written
    calibrations: tuple[Written, ...] = ()
    demonstrations: int = 0


class Writer:
    """Writes examples by the text form of a template.

    Args:
        template: the compiled template.
        answers: the answers of the task.
        settings: demonstrations and calibration.
        pool: what demonstrations are drawn from.
    """

    def __init__(self, template: TextTemplate, answers: Answers, settings: PromptSettings, pool: Pool) -> None:
        self.template, self.answers, self.settings, self.pool = template, answers, settings, pool
        self._demonstrated: dict[str, str] = {}

    def ways(self, example: Example) -> list[Way]:
        """Return an example as it is asked with each draw of demonstrations.

        Raises:
            DataError: if it has another number of texts, candidates or right answers that cannot be; if there are too
                few examples to demonstrate with.
            TemplateError: if the template fails on it, or cannot be calibrated.
        """
        drawn = self.settings.demonstrations
        if not isinstance(drawn, InContext):
            return [self._way(example, ())]
        return [self._way(example, draw) for draw in drawn.draws(self.answers.task, self.pool, example)]

    def _way(self, example: Example, demonstrations: tuple[Example, ...]) -> Way:
        before = self._before(demonstrations)
        prompt = self.template.prompt(example)
        candidates = self.answers.candidates(example)
        answers = [self.template.answer(example, candidate) for candidate in candidates]
        form = self.template.form
        if self.answers.task.kind == "generation":
            return Way(taught(form, prompt, answers[0], before), (), len(demonstrations))
        question = written(form, prompt, answers, before)
        return Way(question, self._calibrations(example, candidates, before), len(demonstrations))

    def _before(self, demonstrations: tuple[Example, ...]) -> str:
        if not demonstrations:
            return ""
        texts: list[str] = []
        for example in demonstrations:
            # Of the same examples again and again: a uid is unique within a run.
            if example.uid not in self._demonstrated:
                answer = self.answers.shown(example)
                self._demonstrated[example.uid] = self.template.demonstration(example, answer)
            texts.append(self._demonstrated[example.uid])
        form, settings = self.template.form, self.settings.demonstrations
        given = getattr(settings, "separator", None)
        between = form.separator if given is None else given
        return shown(form, texts, between) + between

    def _calibrations(self, example: Example, candidates: tuple[str, ...], before: str) -> tuple[Written, ...]:
        """Return what asks about nothing.

        Source: princeton-nlp/MeZO large_models/utils.py, `encode_prompt` with `sfc` and `icl_sfc`; Zhao et al. 2021,
            section 5, for texts without content.
        """
        calibration, form, template = self.settings.calibration, self.template.form, self.template
        before = before if self.settings.calibration_demonstrations else ""
        if calibration is None:
            return ()
        if calibration == "surface-form":
            answers = [template.calibration_answer(example, candidate) for candidate in candidates]
            prompt = template.calibration(example)
            return (written(form, prompt, answers, before) if before else alone(form, prompt, answers),)
        found: list[Written] = []
        for text in CONTENT_FREE:
            bare = replace(example, sentences=(text,) * len(example.sentences))
            try:
                prompt = template.prompt(bare)
                answers = [template.answer(bare, candidate) for candidate in candidates]
            except TemplateError as error:
                raise TemplateError(f"{error}; {_replaced(text)}") from None
            if len(set(answers)) < len(answers):
                where = f"task {self.answers.task.name}, template {template.name!r}"
                made = "all answers are alike, for they are made of the example's texts"
                raise TemplateError(f"{where}: {made}; {_replaced(text)}")
            found.append(written(form, prompt, answers, before))
        return tuple(found)


def _replaced(text: str) -> str:
    return f'prompt.calibration="contextual" puts {text!r} in the place of every text, "surface-form" does not'
