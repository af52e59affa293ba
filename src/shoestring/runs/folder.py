"""The folder of one run: its lock, its config, its logs, and what an interrupted attempt left in it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shoestring.errors import RunFolderError
from shoestring.files import make_folder, write_json, write_jsonl, writing
from shoestring.runs.record import CONFIG, METRICS, PREDICTIONS, RESULT, SPLIT

CHECKPOINTS, MODEL = "checkpoints", "model"


class RunFolder:
    """A run folder, locked against other processes while it is open.

    Raises:
        RunFolderError: if another process holds it, or it holds another config.
        OutputError: if the disk refuses.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config

    @property
    def checkpoints(self) -> Path:
        """Where training puts its checkpoints; gone once the run is done."""
        return self.path / CHECKPOINTS

    @contextmanager
    def open(self, *, force: bool) -> Iterator[None]:
        """Lock the folder, check whose it is, write the config; with `force`, throw away what it holds."""
        make_folder(self.path)
        with writing(self.path), (self.path / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(f"{self.path} is being written by another process") from None
            if force:
                self.clear()
            self._claim()
            yield

    def clear(self) -> None:
        """Delete everything a run writes; nothing else that may lie in the folder."""
        for name in (CONFIG, RESULT, METRICS, PREDICTIONS, SPLIT):
            (self.path / name).unlink(missing_ok=True)
        for name in (CHECKPOINTS, MODEL):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with writing(self.path), (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def rewind_log(self, step: int) -> None:
        """Drop the lines of metrics.jsonl behind `step`, which a resumed training will write again."""
        path = self.path / METRICS
        if not path.exists():
            return
        kept = []
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # a line torn by a crash
                continue
            if line.get("step", 0) <= step:
                kept.append(line)
        write_jsonl(path, kept)

    def split_digest(self) -> str | None:
        """Return the digest in split.json, or None where there is none."""
        try:
            return str(json.loads((self.path / SPLIT).read_text(encoding="utf-8"))["digest"])
        except (OSError, ValueError, KeyError):
            return None

    def _claim(self) -> None:
        path = self.path / CONFIG
        if not path.exists():
            write_json(path, self.config)
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise RunFolderError(f"{path} is damaged; delete the folder, or run with --force") from None
        differing = sorted(_differences(found, self.config))
        if differing:
            shown = ", ".join(differing[:6]) + (", ..." if len(differing) > 6 else "")
            raise RunFolderError(
                f"{self.path} holds a run of another config (different: {shown}); "
                "choose another output.folder, or --force to overwrite it"
            )


def _differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in found.keys() | wanted.keys():
            yield from _differences(found.get(key), wanted.get(key), f"{path}.{key}" if path else str(key))
    elif found != wanted:
        yield path
