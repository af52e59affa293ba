"""Text forms: Jinja templates in, prompts and answers out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Template, TemplateSyntaxError

from shoestring import errors
from shoestring.errors import DataError, suggest
from shoestring.tasks.jinja import compiled, environment

if TYPE_CHECKING:
    from shoestring.data.example import Example
    from shoestring.tasks.spec import Task, TextForm

CANDIDATE = "candidate"
"""What the answer is called in templates."""
# Which parts of a text form may name the candidate.
_PARTS = {"prompt": False, "answer": True, "calibration": False, "calibration_answer": True, "demonstration": True}


class TextTemplate:
    """The text form of one template of a task, compiled.

    Templates run in Jinja's sandbox: they see the texts of the example and `candidate`, nothing of the program.

    Args:
        task: the task.
        name: the template's name, for messages.
        form: its text form.

    Attributes:
        form: the text form.

    Raises:
        TemplateError: if a part is not Jinja or names what there is not, which it says, on which line, and what is
            near; if the answer does not say which one it is.
    """

    def __init__(self, task: Task, name: str, form: TextForm) -> None:
        self.task, self.name, self.form = task, name, form
        if CANDIDATE in task.sentences:
            raise errors.TemplateError(
                f"task {task.name}: a text is called {CANDIDATE!r}, which is what answers are called in text forms; "
                "give it another name"
            )
        self._parts = {part: self._compiled(part) for part in _PARTS if getattr(form, part) is not None}
        if CANDIDATE not in compiled(form.answer)[1]:
            raise errors.TemplateError(
                f"{self._where('answer')}: {form.answer!r} is the same for every answer; it needs {{{{ candidate }}}}"
            )

    def prompt(self, example: Example) -> str:
        """Return the question of an example.

        Raises:
            DataError: if the example has another number of texts.
            TemplateError: if the template fails on them.
        """
        return self._render("prompt", example)

    def answer(self, example: Example, candidate: str) -> str:
        """Return how a candidate continues the question; raises as `prompt`."""
        return self._render("answer", example, candidate)

    def demonstration(self, example: Example, candidate: str) -> str:
        """Return an example with its answer, as it is shown to the model; raises as `prompt`."""
        if self.form.demonstration is None:
            return self.prompt(example) + self.answer(example, candidate)
        return self._render("demonstration", example, candidate)

    def calibration(self, example: Example) -> str:
        """Return the prompt that asks about nothing; raises as `prompt`."""
        if self.form.calibration is None:
            raise errors.TemplateError(
                f"{self._where('calibration')}: there is none; write what the prompt is when it asks about nothing, or "
                'use prompt.calibration="contextual"'
            )
        return self._render("calibration", example)

    def calibration_answer(self, example: Example, candidate: str) -> str:
        """Return how a candidate continues the prompt that asks about nothing; raises as `prompt`."""
        part = "answer" if self.form.calibration_answer is None else "calibration_answer"
        return self._render(part, example, candidate)

    def unseen(self) -> list[str]:
        """Return the names of the task's texts that neither prompt nor answer uses."""
        used = compiled(self.form.prompt)[1] | compiled(self.form.answer)[1]
        return [name for name in self.task.sentences if name not in used]

    def _render(self, part: str, example: Example, candidate: str | None = None) -> str:
        names = self.task.sentences
        if len(example.sentences) != len(names):
            raise DataError(
                f"task {self.task.name}, example {example.uid}",
                f"has {len(example.sentences)} texts; the task has {len(names)} ({', '.join(names)})",
            )
        texts: dict[str, str] = dict(zip(names, example.sentences, strict=True))
        if candidate is not None:
            texts[CANDIDATE] = candidate
        try:
            return self._parts[part].render(texts)
        except Exception as error:  # a template may do anything that Jinja lets it do
            raise errors.TemplateError(
                f"{self._where(part)}, example {example.uid}: the template fails: {error}"
            ) from None

    def _compiled(self, part: str) -> Template:
        source = getattr(self.form, part)
        try:
            template, names = compiled(source)
        except TemplateSyntaxError as error:
            shown = source.splitlines()[error.lineno - 1 : error.lineno]
            line = f"\n    {shown[0]}" if shown else ""
            raise errors.TemplateError(
                f"{self._where(part)}, line {error.lineno}: not Jinja: {error.message}{line}"
            ) from None
        known = [*self.task.sentences, *([CANDIDATE] if _PARTS[part] else [])]
        for name in sorted(names):
            if name not in known and name not in environment().globals:
                what = "is the answer, which does not stand here" if name == CANDIDATE else "is no text of the task"
                raise errors.TemplateError(f"{self._where(part)}: {name!r} {what}{suggest(name, known)}")
        return template

    def _where(self, part: str) -> str:
        return f"task {self.task.name}, template {self.name!r} (text.{part})"
