"""Dotted keys of settings, such as `method.lr`: which there are, and tables made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, get_origin

from shoestring.config import Settings, Table, settings_in, tags_of


def has_key(settings: type[Settings], table: Mapping[str, Any], key: str) -> bool:
    """Return whether `settings` have a dotted key, where `table` says which `kind` each section is of.

    A section whose kind the table does not say is of its default's, or of any where there is none.
    """
    choices, here = [settings], table
    *sections, last = key.split(".")
    for part in sections:
        fields = [choice.model_fields[part] for choice in choices if part in choice.model_fields]
        inner = here.get(part)
        here = inner if isinstance(inner, Mapping) else {}
        choices = [found for field in fields for found in settings_in(field.annotation)]
        if fields and not choices:  # What is no section has keys of its own only if it is a table of any names.
            return any(get_origin(field.annotation) is dict for field in fields)
        if (kind := here.get("kind")) is not None:
            choices = [choice for choice in choices if kind in (tags_of(choice) or (kind,))]
        elif defaults := [type(field.default) for field in fields if isinstance(field.default, Settings)]:
            choices = defaults
    return any(last in choice.model_fields for choice in choices)


def all_keys(settings: type[Settings], depth: int = 2) -> set[str]:
    """Return the dotted keys of settings, of every kind that a section may be of, down to `depth` parts."""
    keys: set[str] = set()
    for name, field in settings.model_fields.items():
        keys.add(name)
        if depth > 1:
            keys |= {f"{name}.{key}" for inner in settings_in(field.annotation) for key in all_keys(inner, depth - 1)}
    return keys


def nested(flat: Mapping[str, Any]) -> Table:
    """Return a table of sections, from dotted keys.

    >>> nested({"method.lr": 1e-6, "method.kind": "mezo", "seed": 13})
    {'method': {'lr': 1e-06, 'kind': 'mezo'}, 'seed': 13}

    Raises:
        ValueError: if one key goes through the plain value of another.
    """
    table: Table = {}
    for key, given in flat.items():
        here, value = table, deepcopy(given)  # Further keys go into a table that was given as a value.
        *sections, last = key.split(".")
        for part in sections:
            here = here.setdefault(part, {})
            if not isinstance(here, dict):
                raise ValueError(f"{key}: {part} has a value already, {here!r}")
        old = here.get(last)
        here[last] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return table


def leaves(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a table, quoted or nested, with their values.

    >>> dict(leaves({"method": {"lr": [1, 2]}, "tuning.r": [4, 8]}))
    {'method.lr': [1, 2], 'tuning.r': [4, 8]}
    """
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from leaves(value, name)
        else:
            yield name, value
