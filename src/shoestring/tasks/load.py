"""Load tasks: from the catalogue that ships with the package, or from a task file of the user's own."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from shoestring.config import build, load_toml
from shoestring.errors import UnknownNameError
from shoestring.tasks.spec import Task

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

FIRST_SUITE = "lm-bff"
"""The suite whose tasks have bare names; those of the others are `<suite>/<name>`."""


@cache
def suites() -> dict[str, tuple[str, ...]]:
    """Return the names of the catalogue's tasks by suite: LM-BFF's first; names sorted without regard to case."""
    catalog = resources.files("shoestring.tasks").joinpath("catalog")
    folders = sorted(entry.name for entry in catalog.iterdir() if entry.is_dir() and not entry.name.startswith("_"))
    found = {FIRST_SUITE: _stems(catalog)}
    for folder in folders:
        found[folder] = tuple(f"{folder}/{stem}" for stem in _stems(catalog.joinpath(folder)))
    return {suite: names for suite, names in found.items() if names}


def task_names(suite: str | None = None) -> tuple[str, ...]:
    """Return the names of the catalogue's tasks, suite by suite, or those of one suite.

    Raises:
        UnknownNameError: if there is no such suite.
    """
    if suite is None:
        return tuple(name for names in suites().values() for name in names)
    if suite not in suites():
        raise UnknownNameError("suite", suite, suites())
    return suites()[suite]


def load_task(name_or_path: str) -> Task:
    """Return a task: of the catalogue, by its name in any case, or of a file, by a path that ends in `.toml`.

    The suite may be left out: `CB` is `mezo/CB`. Of several suites that have the name, the first is meant (see
    `suites`), so `RTE` is LM-BFF's.

    Raises:
        UnknownNameError: if the catalogue has no such task; names the nearest.
        ConfigError: if the file is missing, is a folder, or is not a task file; lists every problem.
    """
    path, name = Path(name_or_path), catalog_name(name_or_path)
    # A folder that is given for a file is said to be one: no name of the catalogue is like it.
    if name_or_path.endswith(".toml") or (name is None and name_or_path and path.is_dir()):
        return build(Task, load_toml(path), str(path))
    if name is None:
        # Each short name as the suite writes it that it means, and no other that differs in case alone.
        short = [full.rpartition("/")[2] for full in _by_short_name().values()]
        raise UnknownNameError("task", name_or_path, dict.fromkeys([*short, *task_names()]))
    return _from_catalog(name)


def catalog_name(given: str) -> str | None:
    """Return the full name of the catalogue's task that `given` means, or None where it means none."""
    folded = given.casefold()
    whole = {name.casefold(): name for name in task_names()}
    return whole.get(folded) or _by_short_name().get(folded)


def _by_short_name() -> dict[str, str]:
    """Return the full name that each name without a suite means, in lower case."""
    return {name.rpartition("/")[2].casefold(): name for name in reversed(task_names())}


@cache
def _from_catalog(name: str) -> Task:
    entry = resources.files("shoestring.tasks").joinpath("catalog", *f"{name}.toml".split("/"))
    return build(Task, tomllib.loads(entry.read_text(encoding="utf-8")), f"catalogue task {name}")


def _stems(folder: Traversable) -> tuple[str, ...]:
    stems = (entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return tuple(sorted(stems, key=str.casefold))
