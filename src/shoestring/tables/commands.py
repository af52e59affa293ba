"""Command lines that make runs which are missing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from shoestring.config import apply_overrides, essentials
from shoestring.errors import ShoestringError

if TYPE_CHECKING:
    from shoestring.tasks.spec import Task

SHOWN = 8
"""Most lines of what is missing, and most commands, below one table."""
_OF_A_CELL = 3
# Which parts of a config a column stands for, beside the key of its name.
_SECTIONS = {"model": ("model",), "method": ("method", "tuning")}
# Where the examples of a task are, which goes with the task.
_DATA_OF_THE_TASK = ("source", "test_source", "text_columns", "label_column", "revision", "tests")


def run_command(config: Mapping[str, Any], seeds: Iterable[int]) -> str | None:
    """Return the `shoestring run` of a config as a record has it, for other seeds; None where a line cannot say it.

    Only settings that are not at their defaults are named. A task that is not in the catalogue has no short name, and a
    config of another version may be none.
    """
    from shoestring.runs.config import OutputSettings, RunConfig

    try:
        full = RunConfig.model_validate(dict(config))
    except (ValidationError, ShoestringError):
        return None
    if not _in_catalogue(full.task):
        return None
    chosen = essentials(full)
    words = [f"task={full.task.name}"]
    for section, settings in chosen.items():
        if section not in ("task", "seed", "output"):
            words += [f"{section}.{key}={toml_value(value)}" for key, value in settings.items()]
    wanted = ",".join(map(str, sorted(seeds)))
    words += ["--seeds", wanted] if "," in wanted else [f"seed={wanted}"]
    if full.output.folder != OutputSettings().folder:
        words += ["--out", full.output.folder]
    return shlex.join(["shoestring", "run", *words])


def moved(config: Mapping[str, Any], donor: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a config with what a column is of, such as its task, taken from another config."""
    table = dict(config)
    if key == "task":
        data = {name: value for name, value in donor["data"].items() if name in _DATA_OF_THE_TASK}
        return {**table, "task": donor["task"], "data": {**config["data"], **data}}
    if key in _SECTIONS:
        return {**table, **{section: donor[section] for section in _SECTIONS[key]}}
    section, _, name = key.partition(".")
    return {**table, section: {**config[section], name: donor[section].get(name)}}


@dataclass
class Budget:
    """Commands for what is missing, as long as they are few enough to be read."""

    left: int = SHOWN
    unsaid: int = 0
    _seen: set[str] = field(default_factory=set)

    def spend(self, configs: Iterable[Mapping[str, Any]], seeds: Iterable[int]) -> list[str]:
        """Return an indented command for each distinct config, seeds and place of output left out; the first few."""
        if not self.left:
            self.unsaid += 1
            return []
        wanted, distinct = tuple(seeds), dict[str, Mapping[str, Any]]()
        for config in configs:
            rest = {key: value for key, value in config.items() if key != "seed"}
            distinct.setdefault(json.dumps(rest, sort_keys=True), config)
        lines: list[str] = []
        for number, config in enumerate(distinct.values()):
            if number == _OF_A_CELL or not self.left:
                if lines:  # More than nothing says nothing: a task of one's own has no command.
                    left = len(distinct) - number
                    lines.append(f"  and {left} more {'setting' if left == 1 else 'settings'} of the grid")
                break
            command = run_command(config, wanted)
            if command is not None and command not in self._seen:
                self._seen.add(command)
                self.left -= 1
                lines.append(f"  {command}")
        return lines

    def rest(self) -> list[str]:
        """Say that there is more than was said."""
        return [f"commands for {self.unsaid} more are left out"] if self.unsaid else []


def toml_value(value: Any) -> str:
    """Return a value as an override has it: a text as it is where that is read as this text, anything else as TOML.

    >>> [toml_value(value) for value in ("a b", "1e-6", True, 1e-6, {"kind": "per-label", "n": [1, 2]})]
    ['a b', '"1e-6"', 'true', '1e-06', '{kind = "per-label", n = [1, 2]}']
    """
    if isinstance(value, str) and "\n" not in value and apply_overrides({}, [f"value={value}"])["value"] == value:
        return value
    return _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{key if _bare(key) else json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _bare(key: str) -> bool:
    return bool(key) and key.isascii() and key.replace("-", "").replace("_", "").isalnum()


def _in_catalogue(task: Task) -> bool:
    from shoestring.tasks.load import load_task

    try:
        return load_task(task.name) == task
    except ShoestringError:
        return False
