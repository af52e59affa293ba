"""The folder of one run: its lock, its config, its logs, and what an interrupted attempt left in it."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from shoestring.errors import RunBusyError, RunFolderError
from shoestring.files import make_folder, saving, write_json, write_jsonl, writing
from shoestring.runs.answer_log import ANSWERS
from shoestring.runs.record import CONFIG, METRICS, PREDICTIONS, RESULT, SPLIT, read_record
from shoestring.training.settings import TRAJECTORY
from shoestring.training.trackers import TENSORBOARD

CHECKPOINTS, MODEL, LOCK = "checkpoints", "model", ".lock"
# A finished run that is made again for its weights alone is made in a folder of its own in here.
AGAIN, _HALF_MODEL = "again", ".model"
_ATOMIC = (CONFIG, RESULT, METRICS, PREDICTIONS, SPLIT)


@dataclass(frozen=True)
class Inputs:
    """What a run was begun with: digests of its data and of its model."""

    data: str
    model: str


class RunFolder:
    """A run folder, locked against other processes while it is open.

    Args:
        path: the folder.
        config: what the run is made of.
        watch: called with each line of metrics.jsonl once it is written; what it raises ends the run.

    Raises:
        RunBusyError: if another process holds it.
        RunFolderError: if it holds another config.
        OutputError: if the disk refuses.
    """

    def __init__(
        self, path: Path, config: dict[str, Any], watch: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.path, self.config, self._watch = path, config, watch

    @property
    def checkpoints(self) -> Path:
        """Where training puts its checkpoints; gone once the run is done."""
        return self.path / CHECKPOINTS

    @contextmanager
    def open(self, *, force: bool) -> Iterator[None]:
        """Lock the folder, check whose it is, write the config; with `force`, throw away what it holds."""
        make_folder(self.path)
        with ExitStack() as stack:
            with writing(self.path):
                lock = stack.enter_context((self.path / LOCK).open("a"))
                if not _locked(lock):
                    raise RunBusyError(f"{self.path} is being written by another process")
            if force:
                self.clear()
            self._claim()
            yield

    def clear(self) -> None:
        """Delete everything a run writes; nothing else that may lie in the folder."""
        with writing(self.path):
            for name in (*_ATOMIC, TRAJECTORY):
                (self.path / name).unlink(missing_ok=True)
        for name in (MODEL, AGAIN, TENSORBOARD):
            shutil.rmtree(self.path / name, ignore_errors=True)
        self.tidy()

    def tidy(self) -> None:
        """Delete what serves only to make a run, as far as the disk lets: for who holds a folder that is finished."""
        for path in self._scaffolding():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()

    def tidy_if_free(self) -> None:
        """Tidy a finished folder, unless another process holds it or it may not be written."""
        if not self._scaffolding():
            return
        with suppress(OSError), (self.path / LOCK).open("a") as lock:
            # Somebody may have begun it anew since the caller found it finished.
            if _locked(lock) and (known := read_record(self.path)) is not None and known.status == "ok":
                self.tidy()

    def _scaffolding(self) -> list[Path]:
        """Return what only the making of a run needs, with files that a killed process had written in part."""
        known = [self.path / name for name in (CHECKPOINTS, _HALF_MODEL, ANSWERS)]
        # As `files.replacing` names them.
        half = [path for name in _ATOMIC for path in self.path.glob(f".{name}.????????")]
        return [path for path in known if path.exists()] + half

    def again(self) -> RunFolder:
        """Return the folder in here in which the run is made once more while its record stays as it is."""
        inner = RunFolder(self.path / AGAIN, self.config)
        make_folder(inner.path)
        return inner

    def take(self, inner: RunFolder) -> None:
        """Put what was made in `inner` in the place of what is here: the model first, the record last."""
        with writing(self.path):
            _replace_folder(inner.path / MODEL, self.path / MODEL)
            for name in (SPLIT, METRICS, PREDICTIONS, TRAJECTORY, RESULT):
                if (inner.path / name).exists():
                    (inner.path / name).replace(self.path / name)
        shutil.rmtree(inner.path, ignore_errors=True)

    def keep_model(self, save: Callable[[Path], None]) -> None:
        """Let `save` write `model/`, which is either whole or not there.

        Raises:
            OutputError: if the disk refuses.
        """
        half = self.path / _HALF_MODEL
        shutil.rmtree(half, ignore_errors=True)
        try:
            with saving(self.path / MODEL):
                save(half)
                _replace_folder(half, self.path / MODEL)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise

    def keep_trajectory(self) -> None:
        """Keep the log of a zeroth-order training, where there is one: checkpoints go once the run is done.

        Raises:
            OutputError: if the disk refuses.
        """
        if (self.checkpoints / TRAJECTORY).exists():
            with writing(self.path):
                (self.checkpoints / TRAJECTORY).replace(self.path / TRAJECTORY)

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with writing(self.path), (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self._watch is not None:
            self._watch(line)

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

    def write_split(self, inputs: Inputs, uids: Mapping[str, Sequence[str]]) -> None:
        """Write split.json: what the run is begun with.

        Raises:
            OutputError: if the disk refuses.
        """
        write_json(self.path / SPLIT, {"digest": inputs.data, "model": inputs.model, **uids})

    def inputs(self) -> Inputs | None:
        """Return what split.json says the run was begun with, or None where it does not."""
        try:
            found = json.loads((self.path / SPLIT).read_text(encoding="utf-8"))
            return Inputs(str(found["digest"]), str(found["model"]))
        except (OSError, ValueError, KeyError, TypeError):
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


def is_held(path: Path) -> bool:
    """Return whether a process, this one included, is writing a run folder."""
    try:
        with (path / LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked(lock: IO[str]) -> bool:
    """Lock a file; those who only ask whether it is held hold it for a moment."""
    for pause in (0.0, 0.01, 0.1):
        time.sleep(pause)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def _replace_folder(new: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    new.replace(old)


def _differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        # What one side lacks, its version did not have; that it was not used yet, the run id says.
        for key in found.keys() & wanted.keys():
            yield from _differences(found[key], wanted[key], f"{path}.{key}" if path else str(key))
    elif found != wanted:
        yield path
