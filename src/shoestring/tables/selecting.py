"""Runs as the command line names them: `runs`, a run folder, or `runs@method.kind=mezo,task=trec`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoestring.config import apply_overrides
from shoestring.errors import RunFolderError, UnknownNameError
from shoestring.runs.collect import read_records
from shoestring.runs.record import Record
from shoestring.tables.commands import toml_value
from shoestring.tables.grouping import Key, flatten

SHORT = {"method": "method.kind", "model": "model.name", "tuning": "tuning.kind"}
"""What may be left out of a key."""
# A comma ends a value only where another key begins: values may be lists, or texts with commas in them.
_NEXT_KEY = re.compile(r",(?=\s*[\w.-]+\s*=)")


@dataclass(frozen=True)
class Selected:
    """Finished runs, and where they are.

    Attributes:
        name: how they were asked for.
        records: the finished ones, each run id once.
        folders: the folder of each.
        conditions: what stands behind the `@` of the name, if anything does.
    """

    name: str
    records: tuple[Record, ...]
    folders: dict[str, Path]
    conditions: str = ""


def select(text: str) -> Selected:
    """Return the finished runs that `FOLDER` or `FOLDER@KEY=VALUE,KEY=VALUE` names.

    Raises:
        RunFolderError: if there is no such folder, or no finished run in it is meant.
        UnknownNameError: if no run has the key.
    """
    place, at, conditions = text.rpartition("@")
    if not at or Path(text).exists():
        place, conditions = text, ""
    elif "=" not in conditions and Path(place).is_dir():
        raise RunFolderError(f"{text}: {conditions!r} is not of the form KEY=VALUE")
    elif "=" not in conditions:
        place, conditions = text, ""
    found = read_records([Path(place)])
    flats = [flatten(record) for record in found.records]
    wanted = _conditions(conditions, flats) if conditions else {}
    records: dict[str, Record] = {}
    folders: dict[str, Path] = {}
    for record, folder, flat in zip(found.records, found.folders, flats, strict=True):
        if record.status == "ok" and all(_is(flat.get(key), value) for key, value in wanted.items()):
            records[record.run_id], folders[record.run_id] = record, folder
    if not flats:
        raise RunFolderError(f"{text}: no run there has ended")
    if not records:
        raise RunFolderError(
            f"{text}: none of the {len(flats)} runs there has finished and is meant{_there(wanted, flats)}"
        )
    return Selected(text, tuple(records.values()), folders, conditions)


def _conditions(text: str, flats: Sequence[dict[Key, Any]]) -> dict[Key, Any]:
    keys = sorted({key for flat in flats for key in flat})
    wanted: dict[Key, Any] = {}
    for part in _NEXT_KEY.split(text):
        name, _, value = part.partition("=")
        key = SHORT.get(name.strip(), name.strip())
        if key not in keys:
            raise UnknownNameError("key", name.strip(), [*SHORT, *keys])
        wanted[key] = apply_overrides({}, [f"value={value}"])["value"]
    return wanted


def _is(value: Any, wanted: Any) -> bool:
    return value == wanted or str(value) == str(wanted)


def _there(wanted: dict[Key, Any], flats: Sequence[dict[Key, Any]]) -> str:
    parts = [f"{key} is {', '.join(sorted({toml_value(flat.get(key)) for flat in flats}))}" for key in wanted]
    return f": {'; '.join(parts)}" if parts else ""
