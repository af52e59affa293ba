"""What prompt settings ask for that cannot be had, or has no effect: known before any data are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoestring.errors import ShoestringError, TemplateError, suggest
from shoestring.prompts.choose import choose
from shoestring.prompts.encoding import find_template
from shoestring.prompts.finding import find_calibration, find_demonstrations
from shoestring.prompts.label_words import label_words
from shoestring.prompts.template import Sentence
from shoestring.prompts.text_room import find_text_room
from shoestring.prompts.text_template import TextTemplate
from shoestring.tasks.spec import Template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shoestring.prompts.choose import Chosen
    from shoestring.prompts.settings import Kind, PromptSettings
    from shoestring.tasks.spec import Task

_OF_PROMPTS = (
    "template", "templates", "answer", "label_words", "demonstrations", "calibration", "calibration_demonstrations",
    "begin", "score",
)  # fmt: skip
_OF_SCORES = ("templates", "calibration", "score")


def prompt_problems(task: Task, kind: Kind, settings: PromptSettings) -> list[str]:
    """Return everything that is wrong with the prompt settings of a run.

    Args:
        task: the task.
        kind: family of the model.
        settings: the settings.
    """
    if kind == "head":
        none = "a model with a classification head takes no prompt"
        return [f"prompt.{key} has no effect: {none}" for key in _changed(settings, _OF_PROMPTS)]
    problems = list(_idle(task, settings))
    unknown = [label for label in settings.label_words if label not in task.label_names]
    problems += [f"prompt.label_words: unknown label {text!r}{suggest(text, task.label_names)}" for text in unknown]
    known = {label: word for label, word in settings.label_words.items() if label not in unknown}
    for name in settings.templates or (settings.template,):
        asked = settings.model_copy(update={"template": name, "templates": (), "label_words": known})
        problems += _template_problems(task, kind, asked)
    return list(dict.fromkeys(problems))


def _idle(task: Task, settings: PromptSettings) -> Iterator[str]:
    """Yield the settings that have no effect beside others, whatever the template."""
    if settings.template is not None and settings.templates:
        yield "prompt.template and prompt.templates are both given; one is enough"
    if not settings.calibration_demonstrations and (settings.calibration is None or settings.demonstrations is None):
        both = "prompt.calibration and prompt.demonstrations"
        yield f"prompt.calibration_demonstrations=false has no effect without {both}"
    if task.kind != "generation":
        return
    written = f"answers of {task.name} are written, and no scores are made"
    yield from (f"prompt.{key} has no effect: {written}" for key in _changed(settings, _OF_SCORES))
    if getattr(settings.demonstrations, "samples", 1) > 1:
        yield f"prompt.demonstrations.samples averages scores: {written}"


def _template_problems(task: Task, kind: Kind, settings: PromptSettings) -> Iterator[str]:
    chosen: list[Chosen] = []
    yield from _said(lambda: chosen.append(choose(task, kind, settings)))
    template = chosen[0].template if chosen else Template.model_construct()
    if task.labels:
        yield from _said(lambda: label_words(task, template, settings.label_words))
    for one in chosen:
        yield from (_text_problems if one.form == "text" else _piece_problems)(task, kind, settings, one)


def _text_problems(task: Task, kind: Kind, settings: PromptSettings, chosen: Chosen) -> Iterator[str]:
    yield from _said(lambda: TextTemplate(task, chosen.name, chosen.text))
    yield from _said(lambda: find_text_room(task, chosen.template, kind, settings, None))
    shown = settings.demonstrations
    if shown is not None:
        unfit = [] if "text" in shown.forms else [f"of kind {shown.kind!r} are not for templates with a text form"]
        yield from (f"prompt.demonstrations {text}" for text in (*shown.problems(task, kind), *unfit))
    if settings.calibration == "surface-form" and chosen.text.calibration is None:
        yield (
            f"prompt.calibration=surface-form: template {chosen.name!r} of task {task.name} has no text.calibration; "
            "write what the prompt is when it asks about nothing, or use prompt.calibration=contextual"
        )


def _piece_problems(task: Task, kind: Kind, settings: PromptSettings, chosen: Chosen) -> Iterator[str]:
    for key in _changed(settings, ("begin",)):
        yield f"prompt.{key} has no effect: it is for text forms, and template {chosen.name!r} is a {chosen.form} one"
    yield from _said(lambda: find_demonstrations(task, kind, settings))

    def calibrated() -> None:
        pieces, template = find_template(task, kind, settings)
        if not any(isinstance(piece, Sentence) for piece in pieces):
            where = f"task {task.name}, template {chosen.name!r} ({chosen.form})"
            raise TemplateError(f"{where} shows no text, so every prompt is the same; write *sent_0* where it stands")
        if kind in ("masked", "causal"):
            find_calibration(task, kind, settings, template, pieces)

    yield from _said(calibrated)


def _changed(settings: PromptSettings, keys: tuple[str, ...]) -> list[str]:
    fields = type(settings).model_fields
    return [key for key in keys if getattr(settings, key) != fields[key].get_default(call_default_factory=True)]


def _said(check: Callable[[], object]) -> Iterator[str]:
    """Yield what a check says, if it fails."""
    try:
        check()
    except ShoestringError as error:
        yield f"prompt: {error}"
