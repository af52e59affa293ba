"""What a sweep is to make, written down beside its runs, and how far each of them is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from shoestring.config import Settings
from shoestring.errors import RunFolderError, first_line
from shoestring.files import make_folder, write_json
from shoestring.runs.folder import MODEL, is_held
from shoestring.runs.record import read_record
from shoestring.studies.study import Trial

FORMAT, SUFFIX = 1, ".sweep.json"
State = Literal["done", "pruned", "failed", "running", "to do"]
STATES: tuple[State, ...] = ("done", "running", "pruned", "failed", "to do")
_HERE = "."


class Planned(Settings):
    """One run of a plan."""

    run_id: str
    row: str
    """The variant, or the method where the study has none."""
    column: str
    """The task."""
    settings: dict[str, Any] = {}
    """The swept keys and their values."""
    seed: int
    folder: str
    """The folder of all runs; in a plan's file `.`, if that is where the plan lies: a copied folder is its own."""
    keep_model: bool = False

    @property
    def place(self) -> Path:
        """The run's own folder."""
        return Path(self.folder) / self.run_id

    @property
    def name(self) -> str:
        """What tells the run from others of the plan."""
        settings = [f"{key}={value}" for key, value in self.settings.items() if key != "task"]
        return ", ".join([self.row, self.column, *settings, f"seed {self.seed}"])


class Plan(Settings):
    """The runs of one study, and what asked for them."""

    format: int = FORMAT
    title: str
    recipe: str
    to_come: int = 0
    """How many further runs a search will ask for."""
    runs: tuple[Planned, ...]


@dataclass(frozen=True)
class Seen:
    """How far a run is.

    Attributes:
        state: done, pruned (ended early, which is not done), failed, running (in any process), or to do.
        error: what a failed run's record says, or what is wrong with its folder.
        seconds: what the run took, where it has ended.
        damaged: whether its folder cannot be read, or is another's, which making it again does not mend.
    """

    state: State
    error: str = ""
    seconds: float | None = None
    damaged: bool = False


def planned(trial: Trial) -> Planned:
    """Return a trial as a plan has it."""
    config = trial.config
    return Planned(
        run_id=config.run_id,
        row=trial.variant or row_of(trial),
        column=config.task.name,
        settings=trial.settings,
        seed=trial.seed,
        folder=str(Path(config.output.folder).absolute()),
        keep_model=config.output.keep_model,
    )


def row_of(trial: Trial) -> str:
    """Return the method of a trial, and its tuning where that is not all weights."""
    method, tuning = trial.config.method.kind, trial.config.tuning.kind
    return method if tuning == "full" else f"{method} + {tuning}"


def write_plan(plan: Plan, folder: Path, name: str) -> Path:
    """Write a plan into the folder of its runs, whole or not at all; return its path.

    Raises:
        OutputError: if the disk refuses.
    """
    make_folder(folder)
    path = folder / f"{name}{SUFFIX}"
    write_json(path, _moved(plan, str(folder.absolute()), _HERE).model_dump(mode="json"))
    return path


def _moved(plan: Plan, old: str, new: str) -> Plan:
    """Return a plan whose runs in folder `old` are in folder `new`."""
    runs = tuple(run.model_copy(update={"folder": new}) if run.folder == old else run for run in plan.runs)
    return plan.model_copy(update={"runs": runs})


def read_plans(folder: Path) -> list[Plan]:
    """Return the plans in a folder of runs, in order of their names.

    Raises:
        RunFolderError: if there is none, or one is damaged or of another version.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        what = "holds no plan of a sweep" if folder.is_dir() else "is no folder"
        raise RunFolderError(f"{folder}: {what} (*{SUFFIX}), which shoestring sweep leaves beside its runs")
    return [_read(path) for path in paths]


def _read(path: Path) -> Plan:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            version = found.get("format") if isinstance(found, dict) else None
            raise RunFolderError(f"{path} has format {version!r}, this version of shoestring reads {FORMAT}")
        return _moved(Plan.model_validate(found), _HERE, str(path.parent.absolute()))
    except (OSError, ValueError, ValidationError) as error:
        raise RunFolderError(f"{path} is damaged: {first_line(error)}; shoestring sweep writes it anew") from error


def look(run: Planned) -> Seen:
    """Return how far a run is, from its folder alone."""
    try:
        record = read_record(run.place)
    except RunFolderError as error:
        return Seen("failed", str(error), damaged=True)
    if record is not None and record.status == "ok":
        if record.run_id != run.run_id:
            what = f"{run.place} holds a run of another config ({record.run_id}); delete or move the folder"
            return Seen("failed", what, damaged=True)
        if not run.keep_model or (run.place / MODEL).is_dir():
            return Seen("done", seconds=_seconds(record.started, record.finished, record.seconds))
    if (run.place).is_dir() and is_held(run.place):
        return Seen("running")
    if record is not None and record.status == "failed":
        return Seen("failed", record.error or "", _seconds(record.started, record.finished, record.seconds))
    return Seen("pruned" if record is not None and record.status == "pruned" else "to do")


def _seconds(started: str, finished: str, parts: dict[str, float]) -> float | None:
    """Return how long a run took: what it measured, or, to the second, from its begin to its end."""
    try:
        whole = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
    except ValueError:
        return None
    return max(whole, sum(parts.values()))


def distinct(runs: Iterable[Planned]) -> list[Planned]:
    """Return each run of a folder once."""
    return list({(run.folder, run.run_id): run for run in runs}.values())


@dataclass
class Tally:
    """How far the runs of plans are, all together and by row and column.

    Attributes:
        runs: every run once.
        seen: how far each is, in the order of `runs`.
        coming: runs that a search has not chosen yet.
    """

    runs: list[Planned]
    seen: list[Seen]
    coming: int = 0

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Tally:
        """Look at every run of some plans."""
        runs = distinct(run for plan in plans for run in plan.runs)
        return cls(runs, [look(run) for run in runs], sum(plan.to_come for plan in plans))

    def count(self, state: State, row: str | None = None, column: str | None = None) -> int:
        """Return how many runs are in a state, of all or of one row or column."""
        wanted = sum(
            seen.state == state and row in (None, run.row) and column in (None, run.column)
            for run, seen in zip(self.runs, self.seen, strict=True)
        )
        return wanted + (self.coming if state == "to do" and row is None and column is None else 0)

    @property
    def rows(self) -> list[str]:
        """Names of the rows, in the order of the plans."""
        return list(dict.fromkeys(run.row for run in self.runs))

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in the order of the plans."""
        return list(dict.fromkeys(run.column for run in self.runs))

    @property
    def failures(self) -> list[tuple[Planned, str]]:
        """The runs that failed, with what they said."""
        return [(run, seen.error) for run, seen in zip(self.runs, self.seen, strict=True) if seen.state == "failed"]

    @property
    def unknown(self) -> list[str]:
        """Names of the rows with runs to come of which none has ended."""
        ended = {run.row for run, seen in zip(self.runs, self.seen, strict=True) if seen.seconds is not None}
        coming = [run.row for run, seen in zip(self.runs, self.seen, strict=True) if seen.state in ("to do", "running")]
        return [row for row in dict.fromkeys(coming) if row not in ended]

    def work_left(self) -> float | None:
        """Return the seconds that all runs to come would take one after another; None while none has ended.

        A run is thought to take what those of its row and column took, or of its row, or all; one that goes on is
        counted half.
        """
        spent: dict[tuple[str, str], list[float]] = {}
        for run, seen in zip(self.runs, self.seen, strict=True):
            if seen.state == "done" and seen.seconds is not None:
                for key in ((run.row, run.column), (run.row, ""), ("", "")):
                    spent.setdefault(key, []).append(seen.seconds)
        if not spent:
            return None
        means = {key: sum(values) / len(values) for key, values in spent.items()}
        left = self.coming * means["", ""]
        for run, seen in zip(self.runs, self.seen, strict=True):
            if seen.state in ("to do", "running"):
                keys = ((run.row, run.column), (run.row, ""), ("", ""))
                one = next(means[key] for key in keys if key in means)
                left += one if seen.state == "to do" else one / 2
        return left


def error_line(error: str) -> str:
    """Return the first line of what a run said, without where its last good weights are."""
    lines = error.partition("; the last good weights are ")[0].strip().splitlines()
    return lines[0] if lines else "it says nothing"
