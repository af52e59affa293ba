"""What a way of demonstrating a task is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from shoestring.config import Settings
from shoestring.registry import Registry

if TYPE_CHECKING:
    from shoestring.data.example import Example
    from shoestring.prompts.settings import Kind
    from shoestring.tasks.spec import Task

FormName = Literal["masked", "causal", "text"]


class Demonstrations(Settings):
    """How demonstrations are drawn and put together; told from others by `kind`.

    Attributes:
        forms: forms of a template that it is made for.
    """

    forms: ClassVar[frozenset[FormName]]

    kind: str
    """Name in the registry."""

    def problems(self, task: Task, kind: Kind) -> list[str]:
        """Return why these demonstrations do not suit a task and a family of models."""
        if self.forms & _FORMS[kind]:
            return []
        forms = " or ".join(sorted(self.forms))
        return [f"of kind {self.kind!r} are for templates of {forms} form, which a {kind} model does not read"]


_FORMS: dict[str, frozenset[FormName]] = {
    "masked": frozenset({"masked"}),
    "causal": frozenset({"causal", "text"}),
    "seq2seq": frozenset({"text"}),
    "head": frozenset(),
}

DEMONSTRATIONS: Registry[type[Any]] = Registry("way of demonstrating", "shoestring.prompts.demonstrations.catalog")


def but(examples: tuple[Example, ...], query: Example) -> tuple[Example, ...]:
    """Return the examples without the query: nobody is shown the answer to the very question that is asked."""
    return tuple(example for example in examples if example.uid != query.uid)
