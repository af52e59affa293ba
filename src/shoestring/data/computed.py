"""Columns that a task file computes from those of a row, by a Jinja text or expression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import TemplateSyntaxError, UndefinedError

from shoestring.errors import DataError
from shoestring.tasks.jinja import environment, expression

Compute = Callable[[Mapping[str, Any]], Any]


def computed(text: str, where: str) -> Compute:
    """Return what makes a value of a row's columns.

    A text that is one expression keeps the kind of its value: `{{ choices.text }}` is a list. Any other is a text:
    `sentence: {{ sentence }}`.

    Raises:
        DataError: if it is not Jinja; the function it returns, if it fails on a row.
    """
    try:
        alone = expression(text)
        if alone is None:
            template = environment().from_string(text)
            make: Compute = lambda row: template.render(row)  # noqa: E731
        else:
            compiled = environment().compile_expression(alone, undefined_to_none=False)
            make = lambda row: compiled(row)  # noqa: E731
    except TemplateSyntaxError as error:
        raise DataError(where, f"{text!r} is not Jinja: {error.message}") from None

    def compute(row: Mapping[str, Any]) -> Any:
        try:
            value = make(row)
            str(value)  # An undefined name says so when it is used.
        except UndefinedError as error:
            known = ", ".join(sorted(map(str, row)))
            raise DataError(where, f"{text!r} fails: {error.message}; the columns are {known}") from None
        except Exception as error:
            raise DataError(where, f"{text!r} fails: {error}") from None
        return value

    return compute
