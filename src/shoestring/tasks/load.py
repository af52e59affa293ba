"""Load tasks: from the catalogue that ships with the package, or from a task file of the user's own."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from shoestring.config import build, load_toml
from shoestring.errors import UnknownNameError
from shoestring.tasks.spec import Task


@cache
def task_names() -> tuple[str, ...]:
    """Return the names of the catalogue's tasks, sorted without regard to case."""
    catalog = resources.files("shoestring.tasks").joinpath("catalog")
    stems = (entry.name.removesuffix(".toml") for entry in catalog.iterdir() if entry.name.endswith(".toml"))
    return tuple(sorted(stems, key=str.casefold))


def load_task(name_or_path: str) -> Task:
    """Return a task: of the catalogue, by its name in any case, or of a file, by a path that ends in `.toml`.

    Raises:
        UnknownNameError: if the catalogue has no such task; names the nearest.
        ConfigError: if the file is missing or is not a task file; lists every problem.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        return build(Task, load_toml(path), str(path))
    folded = {name.casefold(): name for name in task_names()}
    name = folded.get(name_or_path.casefold())
    if name is None:
        raise UnknownNameError("task", name_or_path, task_names())
    return _from_catalog(name)


@cache
def _from_catalog(name: str) -> Task:
    entry = resources.files("shoestring.tasks").joinpath("catalog", f"{name}.toml")
    return build(Task, tomllib.loads(entry.read_text(encoding="utf-8")), f"catalogue task {name}")
