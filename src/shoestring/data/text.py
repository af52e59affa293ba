"""The text of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoestring.errors import DataError, suggest

if TYPE_CHECKING:
    from pathlib import Path

BOM = "\ufeff"


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        DataError: if the file is missing, empty or not UTF-8; names the line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(str(path), f"there is no such file{suggest(path.name, near)}") from None
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            str(path), f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8", line
        ) from None
    if not text.removeprefix(BOM).strip():
        raise DataError(str(path), "is empty")
    return text
