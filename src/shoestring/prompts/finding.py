"""What of the prompt settings belongs to a task and a family of models: demonstrations, calibration prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from shoestring.errors import TemplateError
from shoestring.prompts.choose import choose
from shoestring.prompts.demonstrations.templated import Templated
from shoestring.prompts.template import Form, Pieces, Shape, parse

if TYPE_CHECKING:
    from shoestring.prompts.settings import Kind, PromptSettings
    from shoestring.tasks.spec import Task, Template

_OF_PROMPTS = ("template", "templates", "answer", "label_words", "demonstrations", "calibration")


def find_demonstrations(task: Task, kind: Kind, settings: PromptSettings) -> Templated | None:
    """Return the demonstrations of templates in LM-BFF's language that the settings ask for.

    Raises:
        TemplateError: if they do not suit the task or the model, or are not for such templates.
    """
    if settings.templates:
        raise TemplateError(f"task {task.name}: prompt.templates asks for several encoders, one a template")
    shown = settings.demonstrations
    if shown is None or kind == "head":
        return None
    problems = shown.problems(task, kind)
    if not isinstance(shown, Templated) and not problems:
        problems = [f"of kind {shown.kind!r} are for templates with a text form"]
    if problems:
        raise TemplateError(f"task {task.name}: prompt.demonstrations {'; '.join(problems)}")
    return cast("Templated", shown)


def find_calibration(
    task: Task, form: Form, settings: PromptSettings, template: Template, pieces: Pieces
) -> Pieces | None:
    """Return what is asked about nothing: the template's calibration prompt, or itself with other texts; None if none.

    Raises:
        TemplateError: if a calibration prompt is asked for and there is none, or one that is wrong.
    """
    if settings.calibration != "surface-form":
        return None if settings.calibration is None else pieces
    name = choose(task, form, settings, (form,)).name
    found = calibration_pieces(task, template, form, name)
    if found is None:
        raise TemplateError(
            f"task {task.name}, template {name!r} ({form}) has no calibration prompt, which "
            f"prompt.calibration=surface-form needs; write `calibration` beside `{form}` in the task file, or use "
            "prompt.calibration=contextual"
        )
    return found


def calibration_pieces(task: Task, template: Template, form: Form, name: str = "") -> Pieces | None:
    """Return what `form` of a template is when it asks about nothing; None if it has no such prompt, or no such form.

    Raises:
        TemplateError: if it is not written in the template language.
    """
    if template.calibration is None or getattr(template, form) is None:
        return None
    shape = Shape(form, len(task.sentences), len(task.labels))
    return parse(template.calibration, shape, f"task {task.name}, template {name!r} ({form}), calibration")


def refuse_prompt(task: Task, settings: PromptSettings) -> None:
    """Refuse settings of prompts for a classification head.

    Raises:
        TemplateError: if there are any.
    """
    given = [name for name in _OF_PROMPTS if getattr(settings, name)]
    if given:
        raise TemplateError(
            f"task {task.name}: a classification head reads the bare sentences, so {' and '.join(given)} would have no "
            "effect; leave them out, or use a masked or causal model with prompts"
        )
