"""Models in folders that are one on this disk, by whatever paths runs name them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from shoestring.runs.record import Record


def names_of_models(records: Iterable[Record]) -> dict[str, str]:
    """Return for each name of a model the one that stands for it: of several paths to one folder, the shortest.

    A relative path may have meant another folder where its run was made. So paths are one only if all their runs found
    the same model there; those of records too old to tell stay apart.
    """
    found: dict[str, set[str | None]] = defaultdict(set)
    for record in records:
        found[str(record.config["model"]["name"])].add(record.model_fingerprint)
    paths: dict[Path, list[str]] = defaultdict(list)
    for name in found:
        if (folder := _folder(name)) is not None:
            paths[folder].append(name)
    names = {name: name for name in found}
    for group in paths.values():
        models = {model for name in group for model in found[name]}
        if len(models) == 1 and None not in models:
            names |= dict.fromkeys(group, min(group, key=lambda name: (len(name), name)))
    return names


def _folder(name: str) -> Path | None:
    """Return the folder that a name means here, or None if it is none, such as a hub id."""
    try:
        path = Path(name)
        return path.resolve() if path.is_dir() else None
    except OSError:
        return None
