"""What errors of a report say besides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from shoestring.errors import OutputError, RunFolderError


@contextmanager
def noted(notes: Iterable[str]) -> Iterator[None]:
    """Let an error about runs say also what is wrong with those that could not be read, or have not ended."""
    try:
        yield
    except RunFolderError as error:
        for note in notes:
            error.add_note(note)
        raise


@contextmanager
def elsewhere(option: str) -> Iterator[None]:
    """Let an error of the disk name the option that chooses another place."""
    try:
        yield
    except OutputError as error:
        what, _, _ = str(error).partition("; choose another place")
        raise OutputError(f"{what}; choose another place with {option}") from error
