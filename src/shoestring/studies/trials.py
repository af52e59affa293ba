"""The trials of a study: every combination of what it sweeps, as configs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from shoestring.config import Table, apply_overrides, build, leave_out
from shoestring.errors import ConfigError, Problem, ShoestringError
from shoestring.runs.config import RunConfig, make_absolute, merged_tables
from shoestring.studies.keys import has_key, nested
from shoestring.studies.study_settings import Range, StudySettings
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import Task

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

    def cells(self) -> list[tuple[Arm, dict[str, Any], dict[str, Range]]]:
        """Return what a search is made in: arm, values of the swept keys, ranges of the keys that are searched.

        A range replaces the recipe's values of its key; what the command line sweeps or fixes replaces the range.
        """
        found: list[tuple[Arm, dict[str, Any], dict[str, Range]]] = []
        given = [*self.here, *map(key_of, self.fixed)]
        free = {
            key: one for key, one in self.settings.search.items() if not any(is_within(key, other) for other in given)
        }
        for arm in self.arms:
            swept = {key: values for key, values in arm.over.items() if key not in free}
            for values in itertools.product(*swept.values()):
                point = dict(zip(swept, values, strict=True))
                table = self._on(arm.base, self._top(point))
                found.append((arm, point, {key: one for key, one in free.items() if has_key(RunConfig, table, key)}))
        return found

    def at(
        self, points: Iterable[tuple[Arm, Mapping[str, Any]]], seeds: Sequence[int] | None = None
    ) -> tuple[Trial, ...]:
        """Return the trials of given points.

        Args:
            points: pairs of an arm and of values for its swept keys; keys that a combination's kinds do not have are
                left out of it.
            seeds: every seed of the study unless given.

        Raises:
            ConfigError: if a point is no config.
        """
        problems: dict[Problem, str] = {}
        found: list[Trial] = []
        for arm, settings in points:
            kept, table = self._table(arm, settings)
            for seed in self.seeds if seeds is None else seeds:
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
        kinds = [text for text in self.fixed if says_kind(text)]
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


def key_of(text: str) -> str:
    """Return the key of a `key=value` text."""
    return text.partition("=")[0].strip()


def is_within(key: str, other: str) -> bool:
    """Return whether a key is another, or one of its section."""
    return key == other or key.startswith(f"{other}.")


def says_kind(text: str) -> bool:
    """Return whether a `key=value` text may decide which keys a section has."""
    return key_of(text).endswith(".kind") or "." not in key_of(text)


def _told(arm: Arm, settings: Mapping[str, Any]) -> str:
    parts = [f"variant {arm.name!r}"] if arm.name else []
    parts += [f"{key}={value!r}" for key, value in settings.items()]
    return f" ({', '.join(parts)})" if parts else ""


def _grid(arm: Arm) -> Iterator[tuple[Any, ...]]:
    return itertools.product(*arm.over.values())
