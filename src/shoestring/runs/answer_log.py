"""Answers on disk as they come, so that a killed prediction goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from shoestring.files import writing

ANSWERS = "answers.partial.jsonl"
Answer = list[float] | str
"""Scores of the candidates, or a text."""


class AnswerLog:
    """A file of answers, one line each; its first line says what they are answers of.

    An answer counts once its line is whole: a last line that was torn is dropped. What was written about other data,
    another model or other weights is thrown away.

    Args:
        path: the file.
        about: what the answers depend on.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self._about = path, json.dumps(dict(about), sort_keys=True)
        self._known: dict[tuple[str, str], Answer] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> AnswerLog:
        """Read what is there, and open the file behind the last whole line.

        Raises:
            OutputError: if the disk refuses.
        """
        kept = self._read()
        with writing(self.path):
            # Written anew, as it is short: so a torn line goes, and with it everything that is about something else.
            self._file = self.path.open("w", encoding="utf-8")
            self._file.write("".join([f"{self._about}\n", *(f"{line}\n" for line in kept)]))
            self._file.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; it stays until the run is done."""
        if self._file is not None:
            with writing(self.path):
                self._file.close()

    def known(self, split: str) -> dict[str, Answer]:
        """Return the answers of a split that are there already, by uid."""
        return {uid: answer for (name, uid), answer in self._known.items() if name == split}

    def add(self, split: str, uid: str, answer: Answer) -> None:
        """Write one answer.

        Raises:
            OutputError: if the disk refuses.
        """
        if self._file is None:
            return
        with writing(self.path):
            self._file.write(json.dumps([split, uid, answer], ensure_ascii=False) + "\n")
            self._file.flush()

    def _read(self) -> list[str]:
        try:
            about, *lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):
            return []
        kept: list[str] = []
        if about != self._about:
            return kept
        for line in lines[:-1]:  # What follows the last line break is not whole.
            with suppress(ValueError, TypeError):
                split, uid, answer = json.loads(line)
                self._known[split, uid] = answer
                kept.append(line)
        return kept
