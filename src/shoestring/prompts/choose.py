"""Which template of a task, and which of its forms, a model of some kind is asked with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoestring.errors import TemplateError, UnknownNameError
from shoestring.prompts.demonstrations.base import FormName
from shoestring.prompts.rendering import template_pieces
from shoestring.tasks.wording import Template, TextForm

if TYPE_CHECKING:
    from shoestring.prompts.settings import Kind, PromptSettings
    from shoestring.prompts.template import Form
    from shoestring.tasks.spec import Task

GIVEN = "given in the settings"
_FORMS: dict[str, tuple[FormName, ...]] = {
    "masked": ("masked",),
    "causal": ("text", "causal"),
    "seq2seq": ("text",),
    "head": (),
}
_PIECES: tuple[Form, ...] = ("masked", "causal")
_WRITE = {
    "masked": "write one that has one `*mask*`",
    "causal": "write one that has no `*mask*` and ends where the answer begins",
    "text": "write one: text.prompt",
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A template and the form of it that is used.

    Attributes:
        name: the template's name, for messages.
        template: the template; its answers are those of the settings, where they give any.
        form: the form.
    """

    name: str
    template: Template
    form: FormName

    @property
    def text(self) -> TextForm:
        """The text form of the template.

        Raises:
            TemplateError: if it has none.
        """
        if self.template.text is None:
            raise TemplateError(f"template {self.name!r} has no text form; {_WRITE['text']}")
        return self.template.text


def forms_of(task: Task, kind: Kind) -> tuple[FormName, ...]:
    """Return the forms of templates that a kind of model reads, the one that it takes first in front.

    A value between two poles is read from their two words alone, so a regression task has no text form.
    """
    return tuple(form for form in _FORMS[kind] if form != "text" or task.kind != "regression")


def likely_kind(task: Task, template: str | None = None, *, masks: bool = True) -> Kind:
    """Return the kind of model that a task's templates are most likely meant for: masked, where one has such a form.

    Args:
        task: the task.
        template: name or text of the template, where one is chosen.
        masks: whether the model's tokenizer has a mask.

    Raises:
        UnknownNameError: if the task has no template of that name.
    """
    if not masks:
        return "causal"
    if template is not None and _written_out(template):
        return "masked" if "*mask*" in template else "causal"
    templates = [task.template(template)] if template is not None else task.templates.values()
    return "masked" if any(one.masked is not None for one in templates) else "causal"


def choose(task: Task, kind: Kind, settings: PromptSettings, forms: tuple[FormName, ...] | None = None) -> Chosen:
    """Return the template that the settings name or give; else the first of the task that has a form for the model.

    Args:
        task: the task.
        kind: family of the model.
        settings: template and answer, where they are not the task's own.
        forms: the forms that will do; all that the model reads unless given.

    Raises:
        UnknownNameError: if the task has no template of that name.
        TemplateError: if the template has no such form, or the settings' `answer` does not go with it.
    """
    forms = forms_of(task, kind) if forms is None else forms
    shown = settings.demonstrations
    # Those that demonstrations are made for, first; where there are none, whoever draws them says so.
    fitting: tuple[FormName, ...] = forms if shown is None else tuple(form for form in forms if form in shown.forms)
    chosen = _found(task, settings.template, fitting) or _found(task, settings.template, forms)
    if chosen is None:
        raise _lacking(task, kind, settings, forms)
    return _with_answer(task, chosen, settings.answer)


def _found(task: Task, name: str | None, forms: tuple[FormName, ...]) -> Chosen | None:
    given = _given(name, forms) if name is not None else None
    names = list(task.templates) if name is None else [name]
    if given is not None or (name is not None and _written_out(name)):
        return given
    return next((found for key in names if (found := _having(key, task.template(key), forms))), None)


def _given(text: str, forms: tuple[FormName, ...]) -> Chosen | None:
    """Return the template that is written out in the settings, or None if they name one."""
    # Not validated here: whoever reads it says what is wrong with it, and where.
    if "{{" in text or "{%" in text:
        template = Template.model_construct(text=TextForm(prompt=text))
        return Chosen(GIVEN, template, "text") if "text" in forms else None
    if "*" not in text:
        return None
    form: FormName | None = next((form for form in forms if form != "text"), None)
    if form is None:
        return None
    template = Template.model_construct(masked=text) if form == "masked" else Template.model_construct(causal=text)
    return Chosen(GIVEN, template, form)


def _written_out(text: str) -> bool:
    return any(mark in text for mark in ("{{", "{%", "*"))


def _having(name: str, template: Template, forms: tuple[FormName, ...]) -> Chosen | None:
    form: FormName | None = next((form for form in forms if getattr(template, form) is not None), None)
    return None if form is None else Chosen(name, template, form)


def _with_answer(task: Task, chosen: Chosen, answer: str | None) -> Chosen:
    if answer is None:
        return chosen
    if chosen.form == "masked":
        raise TemplateError(
            f"task {task.name}: `answer` continues causal prompts, so with a masked model it would have no effect"
        )
    if chosen.form == "causal":
        return Chosen(chosen.name, chosen.template.model_copy(update={"answer": answer}), chosen.form)
    if "{word}" in answer:
        raise TemplateError(
            f"task {task.name}, template {chosen.name!r} (text): `answer` is {answer!r}, but a text form calls the "
            "answer {{ candidate }}"
        )
    text = chosen.text.model_copy(update={"answer": answer})
    return Chosen(chosen.name, chosen.template.model_copy(update={"text": text}), chosen.form)


def _lacking(task: Task, kind: Kind, settings: PromptSettings, forms: tuple[FormName, ...]) -> Exception:
    """Return what to say where no template has a form that the model reads."""
    if not forms:
        return TemplateError(
            f"task {task.name}: a {kind} model reads text forms only, which a {task.kind} task does not have; "
            "use a masked or a causal model"
        )
    if not task.templates:
        return UnknownNameError("template", settings.template or "default", (), where=f"task {task.name}")
    misread = _misread(task, settings.template)
    if misread is not None:
        return misread
    others = [key for key, other in task.templates.items() if _having(key, other, forms)]
    wanted = " or ".join(reversed(forms))
    hint = f"choose one that has: {', '.join(others)}" if others else _WRITE[forms[-1]]
    if settings.template is not None:
        return TemplateError(f"task {task.name}, template {settings.template!r} has no {wanted} form; {hint}")
    which = f"template {next(iter(task.templates))!r} has" if len(task.templates) == 1 else "no template has"
    no = "no" if len(task.templates) == 1 else "a"
    return TemplateError(f"task {task.name}: {which} {no} {wanted} form; {hint}")


def _misread(task: Task, name: str | None) -> TemplateError | None:
    """Return what is wrong with the template that is meant: a misspelt `*mask*` makes another form of it."""
    if name is None and len(task.templates) == 1:
        name = next(iter(task.templates))
    template = task.templates.get(name) if name is not None else None
    if template is None or name is None:
        return None
    for form in _PIECES:
        try:
            template_pieces(task, template, form, name)
        except TemplateError as error:
            return error
    return None
