"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from shoestring.errors import OutputError


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn what the disk refuses inside the block into an OutputError that names `place`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{place} cannot be written: {reason}; choose another place with output.folder=..."
        ) from error


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        OutputError: if the disk refuses, or a file is in the way.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file at once: a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        OutputError: if the disk refuses; the old file, if any, is untouched.
    """
    with writing(path), _replacing(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document at once, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON document a line, all at once."""
    with writing(path), _replacing(path) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
