"""The record of a run: everything a table, a report or a sceptical reader needs, in one atomic file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from shoestring._version import __version__
from shoestring.config import Settings
from shoestring.errors import RecordChangedError, RunFolderError
from shoestring.files import write_json

FORMAT = 1
RESULT, CONFIG, METRICS, PREDICTIONS, SPLIT = (
    "result.json",
    "config.json",
    "metrics.jsonl",
    "predictions.jsonl",
    "split.json",
)
Status = Literal["ok", "failed", "cancelled", "pruned"]


class PassCounts(Settings):
    """Passes through the model while the method worked; evaluation on dev and test is not in them."""

    forward: int
    """Forward passes, in batches."""
    backward: int
    forward_examples: int
    """Forward passes, in examples: what compares methods of different batch sizes."""
    backward_examples: int


class Memory(Settings):
    """Memory of the weights, and peaks above what was held before the method began (weights loaded, data encoded)."""

    weights: int
    """Bytes of the weights."""
    fit: int
    """Peak bytes above, while the method worked; 0 where it does nothing."""
    predict: int
    """Peak bytes above, while dev and test were predicted."""
    how: str
    """How the peaks were measured."""

    @property
    def peak(self) -> int:
        """The peak of fitting, or that of predicting where nothing is fitted: what a method costs."""
        return self.fit or self.predict


class Weights(Settings):
    """Numbers of weights."""

    total: int
    trained: int


class SplitSizes(Settings):
    """The data the numbers rest on."""

    digest: str
    """Hash of every text and label of train, dev and tests, in order."""
    train: int
    dev: int
    tests: dict[str, int]
    truncated: int
    """Examples of any split that lost tokens to a limit."""


class Record(Settings):
    """One run: status, config, numbers, costs, environment. Written once, whole; tables read only those that are ok."""

    format: int = FORMAT
    run_id: str
    status: Status
    error: str | None = None
    """What went wrong, where something did."""
    config: dict[str, Any]
    """The resolved config, task included."""
    metrics: dict[str, dict[str, float]] = {}
    """Metrics of `dev`, `test` and any further test set."""
    facts: dict[str, Any] = {}
    """What the method says of itself: steps, selected step, ..."""
    passes: PassCounts | None = None
    seconds: dict[str, float] = {}
    """Seconds of `fit` and of `predict`."""
    memory: Memory | None = None
    weights: Weights | None = None
    split: SplitSizes | None = None
    model_fingerprint: str | None = None
    environment: dict[str, Any] = {}
    started: str
    finished: str

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.config["task"]["name"])

    @property
    def trained_weights(self) -> int:
        """The number of weights the method changed: none of them in a run whose method made no pass to fit."""
        idle = self.passes is not None and self.passes.forward == 0 and self.passes.backward == 0
        return 0 if idle or self.weights is None else self.weights.trained

    @property
    def main_metric(self) -> str:
        """The task's main metric."""
        return str(self.config["task"]["metrics"][0])


CHECKSUM = "checksum"


@dataclass(frozen=True)
class Found:
    """A record on disk.

    Attributes:
        record: what it says.
        sealed: whether it has a checksum, which fits; records of early versions have none.
    """

    record: Record
    sealed: bool


def checksum(document: dict[str, Any]) -> str:
    """Return the SHA-256 of a record's JSON document without its checksum: keys sorted, no spaces, UTF-8.

    >>> checksum({"b": 1, "a": 0.5}) == checksum({"a": 0.5, "b": 1, "checksum": "of another"})
    True
    """
    rest = {key: value for key, value in document.items() if key != CHECKSUM}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> str:
    """Return the time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_record(folder: Path, record: Record) -> None:
    """Write `result.json` at once, with its checksum.

    Raises:
        OutputError: if the disk refuses.
    """
    document = record.model_dump(mode="json")
    write_json(folder / RESULT, {**document, CHECKSUM: checksum(document)})


def read_record(folder: Path) -> Record | None:
    """Return the record in a run folder, or None where the run has not ended.

    Raises:
        RunFolderError: if the file is damaged, or of another version.
        RecordChangedError: if it was changed after it was written.
    """
    found = find_record(folder)
    return None if found is None else found.record


def find_record(folder: Path) -> Found | None:
    """Return the record in a run folder and whether it is sealed, or None where the run has not ended.

    Raises:
        RunFolderError: if the file is damaged, or of another version.
        RecordChangedError: if it was changed after it was written.
    """
    path = folder / RESULT
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}; {_AGAIN}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        version = found.get("format") if isinstance(found, dict) else None
        raise RunFolderError(
            f"{path} has format {version!r}, this version of shoestring reads {FORMAT}; read it with the version that "
            "wrote it, or run with --force"
        )
    given = found.pop(CHECKSUM, None)
    if given is not None and given != checksum(found):
        raise RecordChangedError(
            f"{path} was changed after it was written: its checksum is that of other content; put the file back as it "
            f"was, or {_AGAIN}"
        )
    try:
        return Found(Record.model_validate(found), given is not None)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        if given is not None:  # As it was written, so by somebody who has other keys.
            raise RunFolderError(
                f"{path} is of another version of shoestring than this one, {__version__}: {what}; read it with the "
                "version that wrote it, or run with --force"
            ) from error
        raise RunFolderError(f"{path} is damaged: {what}; {_AGAIN}") from error


_AGAIN = "delete the folder, or run with --force"
