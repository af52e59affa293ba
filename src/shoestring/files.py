"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shoestring.errors import OutputError

_MOST_LINKS = 40
"""As many as Linux follows."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn what the disk refuses inside the block into an OutputError that names `place`."""
    try:
        yield
    except OSError as error:
        raise _refused(place, _disk_says(error) or str(error)) from error


@contextmanager
def saving(place: Path) -> Iterator[None]:
    """As `writing`, for blocks in which transformers, safetensors, tokenizers and torch save things to disk.

    Their writers raise what they like: safetensors and tokenizers errors of their own with the system's number in the
    text, torch RuntimeErrors of its zip writer, with an OSError behind them at best.
    """
    try:
        yield
    except Exception as error:
        if (reason := _disk_says(error)) is None:
            raise
        raise _refused(place, reason) from error


_NUMBER = re.compile(r"\(os error (\d+)\)")
_TORCH = re.compile(r"PytorchStreamWriter failed|unexpected pos \d+ vs \d+|iostream error|write\(\): fd \d+ failed")


def _disk_says(error: Exception) -> str | None:
    """Return what the disk said, where an error of a library comes from it."""
    if isinstance(error, shutil.Error):  # one (source, target, why) for each file of a tree
        return re.sub(r"^\[Errno \d+\] |: '.*", "", str(error.args[0][0][2])) if error.args[0] else str(error)
    if isinstance(error, OSError):
        return "a file of this name is there" if isinstance(error, FileExistsError) else error.strerror or str(error)
    text = str(error)
    if number := _NUMBER.search(text):
        return os.strerror(int(number[1]))
    if isinstance(error, RuntimeError) and _TORCH.search(text):
        behind = error.__context__
        if isinstance(behind, OSError) and behind.strerror:
            return behind.strerror
        return f"the disk may be full ({text.splitlines()[0]})"
    return None


def _refused(place: Path, reason: str) -> OutputError:
    return OutputError(f"{place} cannot be written: {reason}; choose another place with output.folder=...")


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
    with writing(path), replacing(path) as half:
        half.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file at once, as `write_text`."""
    with writing(path), replacing(path) as half:
        half.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document at once, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON document a line, all at once."""
    write_lines(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines as they come, to a file that is there when all of them are."""
    with writing(path), replacing(path) as half, half.open("w", encoding="utf-8") as file:
        file.writelines(lines)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the place of an empty file that takes that of `path` at the end of the block, or is gone.

    Links stay: what they lead to is replaced. What passes on what is written to it stays too, and is given the content.
    """
    passed_on = passes_on(path)
    target = Path(os.path.realpath(path))
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=None if passed_on else target.parent)
    os.close(handle)
    half = Path(name)
    try:
        yield half
        if passed_on:
            _pass_on(half, path)
            half.unlink()
            return
        with half.open("rb") as file:
            os.fsync(file.fileno())
        half.chmod(0o644)
        half.replace(target)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def passes_on(path: Path) -> bool:
    """Return whether a place passes on what is written to it: a device, a pipe, an open file such as /dev/stdout."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        return False
    return _open_file(path) is not None or not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def _open_file(path: Path) -> int | None:
    """Return the number of the file, open in this process, that a name such as /dev/stdout stands for."""
    folders = (f"/proc/{os.getpid()}/fd", "/dev/fd")
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(path.parent)
        if folder in folders and path.name.isdigit():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder, path.readlink())
    return None


def _pass_on(half: Path, path: Path) -> None:
    number = _open_file(path)
    if number is not None and sys.stdout is not None:
        sys.stdout.flush()  # What was printed before stands before it.
    # An open file goes on where it stands: opened once more, it would be cut off, or written over from its start.
    handle = os.open(path, os.O_WRONLY) if number is None else os.dup(number)
    with half.open("rb") as content, os.fdopen(handle, "wb") as out:
        shutil.copyfileobj(content, out)
