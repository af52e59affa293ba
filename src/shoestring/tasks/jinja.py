"""Jinja as task files use it: in a sandbox, without escapes for HTML, without chance."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, Undefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment


@cache
def environment() -> ImmutableSandboxedEnvironment:
    """Return Jinja without escapes for HTML, without files, and without what draws at random."""
    made: Any = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=_written
    )
    del made.filters["random"]
    made.globals = {"range": made.globals["range"], "dict": made.globals["dict"]}
    return made


def _written(value: Any) -> Any:
    """Return what is to be written out, unless it is a method: its text would be an address, another one each time."""
    if callable(value) and not isinstance(value, Undefined):
        name = getattr(value, "__name__", "it")
        raise TypeError(f"{name!r} is a method, and no text; write {name}()")
    return value


@lru_cache(maxsize=1024)
def compiled(text: str) -> tuple[Template, frozenset[str]]:
    """Return a template and every name that it looks up from outside; a study asks for the same ones in every run.

    Raises:
        jinja2.TemplateSyntaxError: if it is no template.
    """
    return environment().from_string(text), frozenset(meta.find_undeclared_variables(environment().parse(text)))


def is_template(text: str) -> bool:
    """Return whether a text has anything in it that Jinja would replace."""
    return "{{" in text or "{%" in text


def expression(text: str) -> str | None:
    """Return the expression that a text consists of, such as `a + b` of `{{ a + b }}`; None if it is more, or less.

    A sign at a brace, as in `{{- a -}}`, is one of Jinja's for the space around it, and not of the expression.
    """
    stripped = text.strip()
    inner = stripped.removeprefix("{{").removesuffix("}}")
    whole = stripped.startswith("{{") and stripped.endswith("}}") and "{{" not in inner and "}}" not in inner
    return re.sub(r"\A[-+]|[-+]\Z", "", inner).strip() if whole else None


def bare_names(text: str) -> list[str]:
    """Return the names that a template looks up from outside, in order; none if it looks into one of them.

    >>> bare_names("{{ premise }} {{ hypothesis | trim }}")
    ['premise', 'hypothesis']
    >>> bare_names("{{ question.strip() }} {{ choices.text[0] }}")
    []

    Raises:
        jinja2.TemplateSyntaxError: if it is no template.
    """
    tree = environment().parse(text)
    called = {id(node.node) for node in tree.find_all(nodes.Call)}
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.For)):
        # `text.title()` asks a text for something; `article.title` looks into a record.
        method = isinstance(node, nodes.Getattr) and id(node) in called and hasattr(str, node.attr)
        if not method:
            return []
    outside = meta.find_undeclared_variables(tree) - {*environment().globals}
    return list(dict.fromkeys(node.name for node in tree.find_all(nodes.Name) if node.name in outside))
