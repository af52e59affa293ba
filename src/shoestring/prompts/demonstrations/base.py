"""What a way of demonstrating a task is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from shoestring.config import Settings
from shoestring.registry import Registry

if TYPE_CHECKING:
    from shoestring.data.example import Example

FormName = Literal["masked", "causal", "text"]


class Demonstrations(Settings):
    """How demonstrations are drawn and put together; told from others by `kind`.

    Attributes:
        forms: forms of a template that it is made for.
    """

    forms: ClassVar[frozenset[FormName]]

    kind: str
    """Name in the registry."""


DEMONSTRATIONS: Registry[type[Any]] = Registry("way of demonstrating", "shoestring.prompts.demonstrations.catalog")


def but(examples: tuple[Example, ...], query: Example) -> tuple[Example, ...]:
    """Return the examples without the query: nobody is shown the answer to the very question that is asked."""
    return tuple(example for example in examples if example.uid != query.uid)
