"""Strict typed settings: TOML in, every mistake reported at once, a canonical hash out."""

from __future__ import annotations

import hashlib
import json
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from shoestring.errors import ConfigError, Problem, suggest


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused, defaults checked, docstrings of fields kept as help."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=False,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


S = TypeVar("S", bound=Settings)
Table = dict[str, Any]


def canonical_json(settings: Settings) -> str:
    """Return the one JSON text of `settings`: every key present, keys sorted, no spaces."""
    return _json(settings.model_dump(mode="json"))


def essentials(settings: Settings) -> Table:
    """Return what was chosen, as plain JSON values: every setting that is not at its default, and every `kind`.

    Of settings whose order means something (a dict of settings, such as the templates of a task), the order is kept, as
    a list of pairs. A setting that a later version adds changes nothing as long as nobody uses it.
    """
    chosen: Table = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name == "kind" or field.is_required() or value != _default(field):
            chosen[name] = _plain(value)
    return chosen


def _default(field: FieldInfo) -> Any:
    """Return a field's default itself: pydantic's own way copies it, which would be most of a run id's time."""
    return field.default if field.default_factory is None else field.get_default(call_default_factory=True)


def _plain(value: Any) -> Any:
    match value:
        case Settings():
            return essentials(value)
        case dict() if any(isinstance(item, Settings) for item in value.values()):
            return [[key, _plain(item)] for key, item in value.items()]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case _:
            return value


def digest(chosen: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of plain JSON values, however their keys are ordered."""
    return hashlib.sha256(_json(chosen).encode()).hexdigest()[:16]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def union_of(settings: Iterable[type[Settings]]) -> Any:
    """Return the union of settings classes told apart by their `kind`, as an annotation pydantic reads."""
    classes = list(settings)
    return Annotated[reduce(or_, classes), Field(discriminator="kind")] if len(classes) > 1 else classes[0]


def load_toml(path: Path) -> Table:
    """Read a TOML file.

    Raises:
        ConfigError: if the file is missing, is a folder, or is not TOML; names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        near = [entry.name for entry in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise ConfigError(str(path), [Problem("", f"there is no such file{suggest(path.name, near)}")]) from None
    except IsADirectoryError:
        inside = ", ".join(sorted(entry.name for entry in path.glob("*.toml"))[:8])
        holds = f"; it holds {inside}" if inside else ""
        raise ConfigError(str(path), [Problem("", f"is a folder, where a TOML file is meant{holds}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [Problem("", f"cannot be read: {error}")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), [Problem("", f"is not TOML: {error}")]) from None


def apply_overrides(table: Mapping[str, Any], overrides: Sequence[str]) -> Table:
    """Return a copy of `table` with `section.key=value` overrides put in; a value is TOML, or else a plain string.

    >>> apply_overrides({"method": {"kind": "mezo"}}, ["method.lr=1e-6", "task=SST-2"])
    {'method': {'kind': 'mezo', 'lr': 1e-06}, 'task': 'SST-2'}

    Raises:
        ConfigError: listing every override that is not of the form `key=value` or goes through a plain value.
    """
    result = _copy(table)
    problems = [problem for text in overrides if (problem := _override(result, text)) is not None]
    if problems:
        raise ConfigError("command line", problems)
    return result


@dataclass(frozen=True)
class LeftOut:
    """Keys of a table that went with the kind that its section had, before another one was asked for."""

    section: str
    kinds: tuple[str, str]
    """The table's own, and the other."""
    keys: tuple[str, ...]

    def __str__(self) -> str:
        keys = ", ".join(f"{self.section}.{key}" for key in self.keys)
        verb = "is" if len(self.keys) == 1 else "are"
        own, other = self.kinds
        left = f"{keys} of the recipe {verb} left out; the defaults of {other!r} apply"
        return f"{self.section}.kind={other!r} instead of {own!r}: {left}"


def leave_out(
    settings: type[Settings], table: Mapping[str, Any], wanted: Mapping[str, Any], given: Mapping[str, Any]
) -> list[LeftOut]:
    """Say what of `table` has no place in `wanted`, which is `table` with `given` on top of it.

    Where a section of `wanted` has another `kind` than that of `table`, these are all keys of the table's section that
    are not given anew, for they were chosen for the table's own kind. Keys that every kind of the section has stay.
    What the table's own kind does not know is a mistake, and stays for `build` to report.
    """
    found: list[LeftOut] = []
    for section, field in settings.model_fields.items():
        choices = {tag: choice for choice in settings_in(field.annotation) for tag in tags_of(choice)}
        base, top = table.get(section), wanted.get(section)
        if not choices or not isinstance(base, dict) or not isinstance(top, dict):
            continue
        kinds = (base.get("kind"), top.get("kind"))
        if kinds[0] == kinds[1] or not all(kind in choices for kind in kinds):
            continue
        common = set.intersection(*(set(choice.model_fields) for choice in choices.values()))
        leaving = choices[str(kinds[0])].model_fields.keys() - common - given.get(section, {}).keys()
        if keys := tuple(key for key in base if key in top and key in leaving):
            found.append(LeftOut(section, (str(kinds[0]), str(kinds[1])), keys))
    return found


def build(settings: type[S], table: Mapping[str, Any], source: str) -> S:
    """Validate `table` as `settings`.

    Raises:
        ConfigError: listing every problem: the key, what was given, what is allowed, the nearest match.
    """
    try:
        made = settings.model_validate(table)
    except ValidationError as error:
        problems = [_explain(settings, detail) for detail in error.errors(include_url=False)]
        raise ConfigError(source, _one_a_key(problems)) from None
    if problems := list(_flags(table, made)):
        raise ConfigError(source, problems)
    return made


def _flags(table: Mapping[str, Any], made: Settings, section: str = "") -> Iterator[Problem]:
    """Yield each true and false that was given for a number: pydantic, as Python, takes them for 1 and 0."""
    for key, given in table.items():
        value, where = getattr(made, key, None), f"{section}{key}"
        if isinstance(given, bool) and isinstance(value, int | float) and not isinstance(value, bool):
            yield Problem(where, f"got {given!r}: should be {_WHOLE if isinstance(value, int) else _NUMBER}")
        elif isinstance(given, Mapping) and isinstance(value, Settings):
            yield from _flags(given, value, f"{where}.")


def _override(table: Table, text: str) -> Problem | None:
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        return Problem(text, "is not of the form section.key=value")
    section: Table = table
    for part in path[:-1]:
        inner = section.setdefault(part, {})
        if not isinstance(inner, dict):
            return Problem(key, f"{part!r} holds {inner!r}, which has no keys of its own")
        section = inner
    section[path[-1]] = _parse(value.strip())
    return None


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _copy(table: Mapping[str, Any]) -> Table:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in table.items()}


# What pydantic says in the words of Python, in those of TOML.
_WHOLE, _NUMBER, _LIST, _TABLE = (
    "a whole number",
    "a number",
    'a list, such as ["a", "b"]',
    'a table, such as {a = "b"}',
)
_PLAIN = {
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text, in quotes",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
}


def _explain(settings: type[Settings], detail: ErrorDetails) -> Problem:  # noqa: PLR0911 - one return a kind of error
    where, owner = _locate(settings, detail["loc"])
    context = detail.get("ctx", {})
    given = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            key = str(detail["loc"][-1])
            return Problem(where, f"unknown key{suggest(key, owner.model_fields if owner else ())}")
        case "missing":
            return Problem(where, "is required")
        case "union_tag_invalid":
            allowed = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
            tag = str(context["tag"])
            return Problem(f"{where}.kind", f"there is no {tag!r}{suggest(tag, allowed)}")
        case "union_tag_not_found":
            return Problem(f"{where}.kind", f"is required{_allowed_kinds(settings, where)}")
        case "literal_error":
            allowed = [choice.strip(" '") for choice in str(context["expected"]).replace(" or ", ",").split(",")]
            return Problem(where, f"got {given!r}{suggest(str(given), allowed)}")
        case "value_error":
            return Problem(where, str(context.get("error", detail["msg"])))
        case "model_attributes_type" if isinstance(given, str) and (kinds := _allowed_kinds(settings, where)):
            return Problem(where, f"got {given!r}: is a section of its own; write {where}.kind={given}{kinds}")
        case kind if kind in _PLAIN:
            return Problem(where, f"got {given!r}: should be {_PLAIN[kind]}")
        case _:
            return Problem(where, f"got {given!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}")


def _locate(settings: type[Settings], location: tuple[int | str, ...]) -> tuple[str, type[Settings] | None]:
    """Return the key as the user writes it, without pydantic's union tags, and the settings class that owns it."""
    shown: list[str] = []
    owner: type[Settings] | None = settings
    annotation: Any = settings
    for part in location:
        choices = settings_in(annotation)
        tagged = {tag: choice for choice in choices for tag in tags_of(choice)}
        if isinstance(part, str) and len(choices) > 1 and part in tagged:
            owner = annotation = tagged[part]
            continue
        if isinstance(part, str) and part in {choice.__name__ for choice in choices} and not _has_field(choices, part):
            owner = annotation = next(choice for choice in choices if choice.__name__ == part)
            continue
        if isinstance(part, str) and _is_branch(part, annotation):
            continue
        shown.append(str(part) if isinstance(part, str) else f"{part + 1}.")
        if len(choices) == 1:
            owner = choices[0]
            field = owner.model_fields.get(str(part))
            annotation = field.annotation if field is not None else None
        elif arguments := [argument for argument in get_args(annotation) if argument is not Ellipsis]:
            annotation = arguments[-1]
    return ".".join(text.rstrip(".") for text in shown), owner


def _is_branch(part: str, annotation: Any) -> bool:
    """Return whether a part of a location is pydantic's name for one of the types that a value may have."""
    plain = part.removeprefix("constrained-") in {"str", "int", "float", "bool"}
    return (plain or part.startswith(("literal[", "list[", "tuple["))) and len(get_args(annotation)) > 1


def _one_a_key(problems: Sequence[Problem]) -> list[Problem]:
    """Join what is said of one key: a value that may have several types fails each of them."""
    keys = dict.fromkeys(problem.where for problem in problems)
    return [_joined([problem for problem in problems if problem.where == key]) for key in keys]


def _joined(problems: Sequence[Problem]) -> Problem:
    if len(problems) == 1:
        return problems[0]
    # What says which names there are leads; of the others the given value need not be said again.
    first, *others = sorted(problems, key=lambda problem: "Allowed" not in problem.what)
    rest = [text.partition(": ")[2] or text for text in dict.fromkeys(problem.what for problem in others)]
    return Problem(first.where, f"{first.what}; or it {' or '.join(rest)}")


def settings_in(annotation: Any) -> list[type[Settings]]:
    """Return the settings classes among the types that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [found for argument in get_args(annotation) for found in settings_in(argument)]
    return []


def _has_field(choices: Sequence[type[Settings]], name: str) -> bool:
    return any(name in choice.model_fields for choice in choices)


def tags_of(settings: type[Settings]) -> tuple[str, ...]:
    """Return the names by which `kind` chooses a class; none where it has no `kind`."""
    kind = settings.model_fields.get("kind")
    return get_args(kind.annotation) if kind is not None else ()


def _allowed_kinds(settings: type[Settings], where: str) -> str:
    choices = [settings]
    for part in where.removesuffix(".kind").split("."):
        fields = [choice.model_fields[part] for choice in choices if part in choice.model_fields]
        choices = [inner for field in fields for inner in settings_in(field.annotation)]
    tags = sorted({tag for choice in choices for tag in tags_of(choice)})
    return f". Allowed: {', '.join(tags)}" if tags else ""
