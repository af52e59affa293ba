"""A study: every run that a recipe with a `[study]` stands for, as configs."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from shoestring.config import Settings, Table, apply_overrides, build, leave_out, load_toml
from shoestring.errors import ConfigError, Problem, ShoestringError, suggest
from shoestring.runs.config import STUDY, RunConfig, make_absolute, merged_tables
from shoestring.runs.keys import all_keys, has_key, nested
from shoestring.runs.study_settings import Published, Range, StudySettings, Variant, swept_keys
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import Task

__all__ = ["Published", "Range", "Study", "StudySettings", "Trial", "Variant", "load_study", "read_over"]

_MOST_PROBLEMS = 12


@dataclass(frozen=True)
class Trial:
    """One run of a study.

    Attributes:
        config: what is run.
        variant: the name of its variant; empty where the study has none.
        settings: the swept keys and their values, as the recipe has them.
        seed: the run's seed.
    """

    config: RunConfig
    variant: str
    settings: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class Arm:
    """A variant, ready to be combined: its recipe, and what it sweeps over.

    Attributes:
        name: the variant's name; empty where the study has none.
        base: the recipe with the variant's settings.
        over: swept key -> its values.
    """

    name: str
    base: Table
    over: dict[str, tuple[Any, ...]]


class _Section(Settings):
    study: StudySettings = StudySettings()


@dataclass(frozen=True)
class Study:
    """All runs of a recipe.

    Attributes:
        source: the recipe's path, as errors name it.
        settings: its `[study]`, with what the command line replaced.
        seeds: of every trial.
        arms: its variants; one without a name where it has none.
        fixed: settings of the command line, on top of everything.
        folder: what relative paths in swept values are meant from, for keys of the recipe.
        here: the swept keys of the command line, whose paths are meant from the current folder.
        notes: what a reader of the command line should know.
    """

    source: str
    settings: StudySettings
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    fixed: tuple[str, ...] = ()
    folder: Path = Path()
    here: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    _tasks: dict[str, Task] = field(default_factory=dict, repr=False, compare=False)

    @property
    def title(self) -> str:
        """The study's title, or the recipe's name."""
        return self.settings.title or Path(self.source).stem

    @property
    def count(self) -> int:
        """The number of trials, those with the same config counted apart."""
        return sum(math.prod(map(len, arm.over.values())) for arm in self.arms) * len(self.seeds)

    @cached_property
    def _all(self) -> tuple[Trial, ...]:
        return self.at((arm, dict(zip(arm.over, values, strict=True))) for arm in self.arms for values in _grid(arm))

    def trials(self) -> tuple[Trial, ...]:
        """Return every trial of the grid: variant by variant, setting by setting, seed by seed.

        Trials that come to the same config are all here; see `configs`.

        Raises:
            ConfigError: if a combination is no config; names the combinations.
        """
        return self._all

    def configs(self) -> list[RunConfig]:
        """Return the configs of all trials, each run id once."""
        return list({trial.config.run_id: trial.config for trial in self._all}.values())

    def at(self, points: Iterable[tuple[Arm, Mapping[str, Any]]]) -> tuple[Trial, ...]:
        """Return the trials of given points, for every seed.

        Args:
            points: pairs of an arm and of values for its swept keys; keys that a combination's kinds do not have are
                left out of it.

        Raises:
            ConfigError: if a point is no config.
        """
        problems: dict[Problem, str] = {}
        found: list[Trial] = []
        for arm, settings in points:
            kept, table = self._table(arm, settings)
            for seed in self.seeds:
                try:
                    config = build(RunConfig, {**table, "seed": seed}, self.source)
                except ConfigError as error:
                    for problem in error.problems:
                        problems.setdefault(problem, _told(arm, kept))
                    break
                found.append(Trial(config, arm.name, kept, seed))
            if len(problems) >= _MOST_PROBLEMS:
                break
        if problems:
            shown = [Problem(problem.where, f"{problem.what}{where}") for problem, where in problems.items()]
            raise ConfigError(self.source, shown)
        return tuple(found)

    def _table(self, arm: Arm, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Table]:
        """Return those of the settings that the combination has, and its table but for the seed."""
        full = self._on(arm.base, self._top(settings))
        kept = {key: value for key, value in settings.items() if has_key(RunConfig, full, key)}
        top = self._top(kept)
        table = full if len(kept) == len(settings) else self._on(arm.base, top)
        table = apply_overrides(table, [text for text in self.fixed if has_key(RunConfig, table, key_of(text))])
        make_absolute(table, Path())
        if isinstance(name := table.get("task"), str):
            table["task"] = self._task(name)
        return kept, table

    def _top(self, settings: Mapping[str, Any]) -> Table:
        table: Table = {}
        for of_file in (True, False):
            part = nested({key: value for key, value in settings.items() if (key not in self.here) is of_file})
            make_absolute(part, self.folder if of_file else Path())
            table = merged_tables(table, part)
        return table

    def _on(self, base: Table, top: Table) -> Table:
        """Return `top` on `base`, and the command line's kinds on both, without what goes with the kinds of `base`."""
        kinds = [text for text in self.fixed if _says_kind(text)]
        given = apply_overrides(top, kinds) if kinds else top
        return put_on(base, given)

    def _task(self, name: str) -> Any:
        """Return a task, read once; where it cannot be, its name, so that building the config says why."""
        if name not in self._tasks:
            try:
                self._tasks[name] = load_task(name)
            except ShoestringError:
                return name
        return self._tasks[name]


def put_on(base: Table, top: Table) -> Table:
    """Return `top` on `base`: where it asks for another `kind` of a section, without the keys of the base's kind."""
    table = merged_tables(base, top)
    if not any(isinstance(section, dict) and "kind" in section for section in top.values()):
        return table
    for entry in leave_out(RunConfig, base, table, top):
        kept = {key: value for key, value in base[entry.section].items() if key not in entry.keys}
        base = {**base, entry.section: kept}
    return merged_tables(base, top)


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
            for key in [key for key in swept if _within(key, key_of(text))]:
                del swept[key]
                notes[f"{key} is not swept: {text} replaces its values"] = None
        arms.append(Arm(variant.name if variant is not None else "", put_on(base, own), swept))
    said = [text for text in overrides if key_of(text) == "seed"]
    drawn = tuple(seeds) or (() if said else settings.seeds) or (_own_seed(base, said),)
    if said and settings.seeds:
        notes[f"the study's seeds are replaced by {said[-1]}"] = None
    fixed = [text for text in overrides if key_of(text) != "seed"]
    if out is not None:
        fixed.append(f"output.folder={json.dumps(out)}")
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


def key_of(text: str) -> str:
    """Return the key of a `key=value` text."""
    return text.partition("=")[0].strip()


def _values(text: str) -> list[Any]:
    if not text.strip():
        return []
    try:
        return tomllib.loads(f"value = [{text}]")["value"]
    except tomllib.TOMLDecodeError:
        return [apply_overrides({}, [f"value={part}"])["value"] for part in text.split(",")]


def _grid(arm: Arm) -> Iterator[tuple[Any, ...]]:
    return itertools.product(*arm.over.values())


def _own_seed(base: Table, said: Sequence[str]) -> int:
    return apply_overrides(base, said).get("seed", RunConfig.model_fields["seed"].default)


def _within(key: str, other: str) -> bool:
    """Return whether a key is another, or one of its section."""
    return key == other or key.startswith(f"{other}.")


def _says_kind(text: str) -> bool:
    return key_of(text).endswith(".kind") or "." not in key_of(text)


def _told(arm: Arm, settings: Mapping[str, Any]) -> str:
    parts = [f"variant {arm.name!r}"] if arm.name else []
    parts += [f"{key}={value!r}" for key, value in settings.items()]
    return f" ({', '.join(parts)})" if parts else ""


def _refuse_both(over: Mapping[str, Any], overrides: Sequence[str]) -> None:
    for text in overrides:
        for key in over:
            if _within(key, key_of(text)):
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
    above = [text for text in fixed if _says_kind(text)]
    points = (dict(zip(deciding, values, strict=True)) for values in itertools.product(*deciding.values()))
    return [put_on(arm.base, apply_overrides(nested(point), above)) for point in points]


def _unknown(key: str, tables: Sequence[Table], of: str) -> Problem:
    depth = max(2, key.count(".") + 1)
    there = {known for known in all_keys(RunConfig, depth) if any(has_key(RunConfig, table, known) for table in tables)}
    near = suggest(key, there, shown=0).partition(" Allowed")[0]
    return Problem(key, f"there is no such key{of}{near}")
