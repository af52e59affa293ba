"""Find the records of many runs on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shoestring.errors import RunFolderError, suggest
from shoestring.runs.record import CONFIG, RESULT, Record, find_record


@dataclass(frozen=True)
class Collected:
    """What was found.

    Attributes:
        records: the records, failed and cancelled ones too, in order of their folders.
        unfinished: run folders without a record: the run goes on in another process, or was killed.
        damaged: what is wrong with each record that cannot be read.
        unsealed: how many of the records have no checksum, as those of early versions.
        folders: the folder of each record, in the same order.
    """

    records: tuple[Record, ...]
    unfinished: tuple[Path, ...] = ()
    damaged: tuple[str, ...] = ()
    unsealed: int = 0
    folders: tuple[Path, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of a table should know of the runs that are not in it."""
        count = len(self.unfinished)
        left_out = tuple(f"left out: {problem}" for problem in self.damaged)
        if self.unsealed:
            record = "1 record has" if self.unsealed == 1 else f"{self.unsealed} records have"
            left_out += (f"{record} no checksum, being of an early version: taken as found",)
        if not count:
            return left_out
        shown = ", ".join(map(str, self.unfinished[:3])) + (", ..." if count > 3 else "")
        has = "run has" if count == 1 else "runs have"
        return (f"{count} {has} not ended (still running, or killed): {shown}", *left_out)


def read_records(paths: Iterable[str | Path]) -> Collected:
    """Read the records of run folders, and of the run folders that lie directly in other folders.

    Raises:
        RunFolderError: if a path is not a folder or holds no run, or no record in any of them can be read.
    """
    folders = list(dict.fromkeys(folder.resolve() for path in paths for folder in _run_folders(Path(path))))
    records: list[Record] = []
    places: list[Path] = []
    unfinished: list[Path] = []
    damaged: list[RunFolderError] = []
    unsealed = 0
    for folder in folders:
        try:
            found = find_record(folder)
        except RunFolderError as error:
            damaged.append(error)
            continue
        if found is None:
            unfinished.append(folder)
        else:
            records.append(found.record)
            places.append(folder)
            unsealed += not found.sealed
    if damaged and not records:
        raise damaged[0]
    return Collected(
        tuple(records), tuple(unfinished), tuple(map(str, damaged)), unsealed=unsealed, folders=tuple(places)
    )


def _run_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        if path.exists():
            raise RunFolderError(f"{path} is a file, where a folder of runs is meant")
        raise _missing(path)
    if _is_run(path):
        return [path]
    inside = sorted(entry for entry in path.iterdir() if entry.is_dir() and _is_run(entry))
    if not inside:
        raise RunFolderError(
            f"{path} holds no runs: neither it nor a folder directly in it has a {CONFIG} or {RESULT} of a run"
        )
    return inside


def _missing(path: Path) -> RunFolderError:
    """Say which folder on the way to a path is not there, and what is in its place."""
    first = next(place for place in (*reversed(path.parents), path) if not place.is_dir())
    near = [entry.name for entry in first.parent.iterdir() if entry.is_dir()]
    where = "" if first == path else f", nor {first}"
    return RunFolderError(f"{path}: there is no such folder{where}{suggest(first.name, near)}")


def _is_run(folder: Path) -> bool:
    # A model's folder has a config.json too, but no run of any kind lies beside one without its lock or result.
    return (folder / RESULT).is_file() or ((folder / CONFIG).is_file() and (folder / ".lock").is_file())
