"""Read a study: what a recipe with a `[study]` and the command line say together."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shoestring.config import Settings, Table, apply_overrides, build, load_toml
from shoestring.errors import ConfigError, Problem, suggest
from shoestring.runs.config import STUDY, RunConfig, make_absolute
from shoestring.studies.keys import all_keys, has_key, nested
from shoestring.studies.study_settings import Published, Range, StudySettings, Variant, swept_keys
from shoestring.studies.trials import Arm, Study, Trial, is_within, key_of, put_on, says_kind
from shoestring.tables.commands import toml_value

__all__ = ["Arm", "Published", "Range", "Study", "StudySettings", "Trial", "Variant", "load_study", "read_over"]


# A value and the comma behind it; commas within quotes and brackets are the value's own.
_VALUE = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|\[[^]]*]|\{[^}]*}|[^,]*?)\s*,""")


class _Section(Settings):
    study: StudySettings = StudySettings()


def load_study(
    path: Path | None,
    overrides: Sequence[str] = (),
    over: Mapping[str, Sequence[Any]] | None = None,
    seeds: Sequence[int] = (),
    out: str | None = None,
) -> Study:
    """Return the study of a recipe; a recipe without a `[study]` is one of its own run.

    Args:
        path: a TOML file.
        overrides: `section.key=value` texts, on top of everything; they replace a sweep over the same key.
        over: swept keys, on top of the recipe's; the same key replaces the recipe's, in every variant.
        seeds: instead of the recipe's.
        out: folder of all runs (`output.folder`).

    Raises:
        ConfigError: listing every problem: an unknown key of the study, a swept key that no variant has, a list that is
            empty or has a value twice. What is wrong with a combination, `Study.trials` raises.
    """
    base: Table = load_toml(path) if path is not None else {}
    source = str(path) if path is not None else "command line"
    settings = build(_Section, {STUDY: base.pop(STUDY, {})}, source).study
    folder = path.parent if path is not None else Path()
    make_absolute(base, folder)
    try:
        mine = swept_keys(over or {})
    except ValueError as error:
        raise ConfigError("--over", [Problem("", str(error))]) from None
    _refuse_both(mine, overrides)
    notes: dict[str, None] = {}
    arms = []
    for variant in settings.variants or (None,):
        own = dict(variant.set) if variant is not None else {}
        make_absolute(own, folder)
        swept = {**settings.over, **(variant.over if variant is not None else {}), **mine}
        for text in overrides:
            for key in [key for key in swept if is_within(key, key_of(text))]:
                del swept[key]
                notes[f"{key} is not swept: {text} replaces its values"] = None
        arms.append(Arm(variant.name if variant is not None else "", put_on(base, own), swept))
    said = [text for text in overrides if key_of(text) == "seed"]
    drawn = tuple(seeds) or (() if said else settings.seeds) or (_own_seed(base, said),)
    if said and settings.seeds:
        notes[f"the study's seeds are replaced by {said[-1]}"] = None
    fixed = [text for text in overrides if key_of(text) != "seed"]
    if out is not None:
        fixed.append(f"output.folder={toml_value(out)}")
    apply_overrides({}, fixed)  # Says now what is not of the form key=value.
    owned = {variant.name: variant.over.keys() - mine.keys() for variant in settings.variants}
    arms = _placed(source, arms, fixed, owned, settings.search, notes)
    return Study(source, settings, drawn, tuple(arms), tuple(fixed), folder, frozenset(mine), tuple(notes))


def read_over(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return key -> values of texts such as `method.lr=1e-6,1e-7`: TOML values or plain texts, with commas between.

    >>> read_over(["method.lr=1e-6,1e-7", "task=SST-2,trec"])
    {'method.lr': [1e-06, 1e-07], 'task': ['SST-2', 'trec']}

    Raises:
        ConfigError: if a text is not of that form, or a key is given twice.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise ConfigError("--over", [Problem(text, "is not of the form section.key=value,value")])
        if key.strip() in found:
            raise ConfigError("--over", [Problem(key.strip(), "is given twice")])
        found[key.strip()] = _values(values)
    return found


def _values(text: str) -> list[Any]:
    if not text.strip():
        return []
    try:
        return tomllib.loads(f"value = [{text}]")["value"]
    except tomllib.TOMLDecodeError:
        return [apply_overrides({}, [f"value={part}"])["value"] for part in _VALUE.findall(f"{text},")]


def _own_seed(base: Table, said: Sequence[str]) -> int:
    return apply_overrides(base, said).get("seed", RunConfig.model_fields["seed"].default)


def _refuse_both(over: Mapping[str, Any], overrides: Sequence[str]) -> None:
    for text in overrides:
        for key in over:
            if is_within(key, key_of(text)):
                raise ConfigError("command line", [Problem(key, f"--over sweeps it and {text} fixes it; give one")])


def _placed(
    source: str,
    arms: Sequence[Arm],
    fixed: Sequence[str],
    owned: Mapping[str, Collection[str]],
    search: Iterable[str],
    notes: dict[str, None],
) -> list[Arm]:
    """Return the arms without the swept keys that their kinds do not have, and note which those are.

    Raises:
        ConfigError: naming each key that no arm has, or that a variant sweeps and has not, with the nearest there is.
    """
    tables = [_kinds(arm, fixed) for arm in arms]
    lacking: dict[str, list[str]] = defaultdict(list)
    problems: dict[Problem, None] = {}
    found: list[Arm] = []
    for arm, of_kinds in zip(arms, tables, strict=True):
        for key in dict.fromkeys([*arm.over, *map(key_of, fixed), *search]):
            if any(has_key(RunConfig, table, key) for table in of_kinds):
                continue
            lacking[key].append(arm.name)
            if key in owned.get(arm.name, ()):
                problems[_unknown(key, of_kinds, f" of variant {arm.name!r}")] = None
        kept = {key: values for key, values in arm.over.items() if arm.name not in lacking.get(key, ())}
        found.append(replace(arm, over=kept))
    for key, names in lacking.items():
        if len(names) == len(arms):
            problems.setdefault(_unknown(key, [table for some in tables for table in some], ""))
        else:
            shown = ", ".join(map(repr, names))
            notes[f"{key} is left out of what has no such key: {shown}"] = None
    if problems:
        raise ConfigError(source, list(problems))
    return found


def _kinds(arm: Arm, fixed: Sequence[str]) -> list[Table]:
    """Return one table for each combination of what an arm sweeps that may decide which keys there are."""
    deciding = {
        key: values
        for key, values in arm.over.items()
        if key.endswith(".kind") or any(isinstance(value, Mapping) for value in values)
    }
    above = [text for text in fixed if says_kind(text)]
    points = (dict(zip(deciding, values, strict=True)) for values in itertools.product(*deciding.values()))
    return [put_on(arm.base, apply_overrides(nested(point), above)) for point in points]


def _unknown(key: str, tables: Sequence[Table], of: str) -> Problem:
    depth = max(2, key.count(".") + 1)
    there = {known for known in all_keys(RunConfig, depth) if any(has_key(RunConfig, table, known) for table in tables)}
    near = suggest(key, there, shown=0).partition(" Allowed")[0]
    return Problem(key, f"there is no such key{of}{near}")
