"""Find a task's examples on disk or on the hub, and read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shoestring.data.files import read_table
from shoestring.data.hub import read_hub
from shoestring.data.layout import file_layout
from shoestring.data.settings import DataSettings, Mode
from shoestring.errors import DataError, UnknownNameError, suggest
from shoestring.tasks.load import load_task, task_names
from shoestring.tasks.spec import DEV, TEST, TRAIN, FileSource, HubSource, Task, is_test

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shoestring.data.table import Table

SHOWN = 12
"""How many names of a folder a message shows."""
OWN_DEV: tuple[Mode, ...] = ("given", "full")
"""Modes in which a source's own dev set is used; in the others dev is drawn from train."""


@dataclass(frozen=True)
class Found:
    """A task's tables, and the layout of the files they came from (None: the hub).

    Attributes:
        tables: `train`, where anything of it is wanted, each wanted test set, and `dev` where the source has one.
        one_file: everything came from one file: the test set is what the draw leaves over.
    """

    tables: Mapping[str, Table]
    files: FileSource | None
    one_file: bool = False


@dataclass(frozen=True)
class _Folder:
    """Where each split's file is, or the places that were looked at in vain, and whether a test set was found there."""

    paths: Mapping[str, Path] = field(default_factory=dict[str, Path])
    tried: tuple[Path, ...] = ()
    only_test: bool = False


def read_source(task: Task, settings: DataSettings, seed: int | None = None) -> Found:
    """Read every split that `settings` ask for.

    The source may be absent (the task's hub id), a local mirror of the hub (`<source>/nyu-mll/glue`), a folder of
    original files (itself, or in it `<task>`, `<task>/original`, `original/<task>`), a k-shot folder (mode `given`:
    itself, or in it `<k>-<seed>`, `<task>/<k>-<seed>`, `k-shot/<task>/<k>-<seed>`), or one csv, tsv, jsonl or json
    file.

    Raises:
        DataError: if the source is not found or cannot be read as asked.
        UnknownNameError: if `settings.tests` names a test set that the task has not.
    """
    if settings.source is None:
        return _from_hub(task, settings, None)
    refuse_absent(settings.source)
    path = Path(settings.source)
    if path.is_file():
        return _from_file(task, settings, path)
    folder = find_folder(task, settings, seed)
    if folder.paths and task.sources.files is not None:
        return _from_folder(task, settings, task.sources.files, folder.paths)
    hub = task.sources.hub
    if hub is not None and (path / hub.id).is_dir():
        return _from_hub(task, settings, path / hub.id)
    if hub is not None and path.as_posix().endswith(f"/{hub.id}"):
        return _from_hub(task, settings, path)
    raise not_found(task, path, folder)


def refuse_absent(source: str) -> None:
    """Refuse a source that is neither a file nor a folder.

    Raises:
        DataError: with the nearest name beside it.
    """
    path = Path(source)
    if not path.is_file() and not path.is_dir():
        raise DataError(str(path), f"there is no such file or folder{suggest(path.name, _siblings(path))}")


def find_folder(task: Task, settings: DataSettings, seed: int | None = None) -> _Folder:
    """Find the files of a task under `settings.source`: the first folder that holds the train file.

    Where nothing of train is wanted, it is the first folder that holds the file of a test set.
    """
    files = task.sources.files
    if files is None or settings.source is None:
        return _Folder()
    root = Path(settings.source)
    if settings.mode == "given":
        drawn = f"{settings.k}-{seed}"
        places = (root / files.folder / drawn, root / "k-shot" / files.folder / drawn)
        places += (root / files.folder / "k-shot" / drawn, root / drawn, root / files.folder, root)
        names = files.drawn
    else:
        places = (root / files.folder / "original", root / "original" / files.folder, root / files.folder, root)
        names = files.files
    tests = [split for split in names if is_test(split)]
    wanted = [TRAIN] if settings.wants_train else tests
    for place in places:
        if any((place / names[split]).is_file() for split in wanted):
            return _Folder({split: place / name for split, name in names.items()}, places)
    only_test = any((place / names[split]).is_file() for place in places for split in tests)
    return _Folder(tried=tuple(place / names[split] for place in places for split in wanted), only_test=only_test)


def not_found(task: Task, source: Path, folder: _Folder) -> DataError:
    """Return the error that says what was looked for, and what there is instead."""
    looked = ", ".join(str(place.relative_to(source)) for place in folder.tried)
    hub = f", nor a mirror of {task.sources.hub.id}" if task.sources.hub is not None else ""
    names = sorted(entry.name for entry in source.iterdir())
    there = f"{', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}" if names else "nothing"
    remedy = "; a test set alone is evaluated with data.mode=subset data.num_train=0" if folder.only_test else ""
    remedy += _read_by_another(task, source)
    return DataError(
        str(source), f"holds no files of {task.name}: looked for {looked or 'nothing'}{hub}; there is {there}{remedy}"
    )


def _read_by_another(task: Task, source: Path) -> str:
    """Return which task of another suite, of the same name, reads what is there: `RTE` is LM-BFF's, `mezo/RTE` not."""
    last = task.name.rpartition("/")[2].casefold()
    for name in task_names():
        if name != task.name and name.rpartition("/")[2].casefold() == last:
            found = find_folder(load_task(name), DataSettings(source=str(source))).paths
            if TRAIN in found:
                return f"; task {name} reads {found[TRAIN].relative_to(source)}"
    return ""


def wanted_tests(settings: DataSettings, known: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the test sets to read, in the task's order unless the settings name them.

    Raises:
        UnknownNameError: if the settings name another.
    """
    tests = tuple(split for split in known if is_test(split))
    for name in settings.tests or ():
        if name not in tests:
            raise UnknownNameError("test set", name, tests, where=where)
    return tests if settings.tests is None else settings.tests


def _from_hub(task: Task, settings: DataSettings, mirror: Path | None) -> Found:
    hub = task.sources.hub
    if hub is None:
        raise DataError(f"task {task.name}", "is not on the hub; give data.source: a folder or a file")
    if settings.mode == "given":
        raise DataError(
            f"task {task.name}", "the hub holds no k-shot splits; mode 'given' needs a folder as data.source"
        )
    _no_columns(settings)
    splits = _hub_splits(hub, settings, task)
    tables = read_hub(task, hub, splits, mirror, settings.revision)
    return Found({**tables, **_separate_tests(task, settings)}, None)


def _hub_splits(hub: HubSource, settings: DataSettings, task: Task) -> tuple[str, ...]:
    tests = wanted_tests(settings, hub.splits, f"task {task.name}") if settings.test_source is None else ()
    dev = (DEV,) if settings.mode in OWN_DEV and DEV in hub.splits else ()
    return (*_train(settings), *dev, *tests)


def _from_folder(task: Task, settings: DataSettings, files: FileSource, paths: Mapping[str, Path]) -> Found:
    _no_columns(settings)
    tests = wanted_tests(settings, paths, f"task {task.name}") if settings.test_source is None else ()
    dev = (DEV,) if settings.mode in OWN_DEV and DEV in paths else ()
    for split in (*dev, *tests):
        if not paths[split].is_file():
            near = suggest(paths[split].name, _siblings(paths[split]))
            remedy = (
                "; data.test_source names another folder, data.tests the test sets to read" if is_test(split) else ""
            )
            if is_test(split) and TRAIN in paths and paths[TRAIN].is_file():
                remedy += f"; of {paths[TRAIN].name} itself as data.source, test is what train and dev leave"
            raise DataError(str(paths[split]), f"there is no such file, for split {split!r}{near}{remedy}")
    tables = {split: read_table(task, files, paths[split], split) for split in (*_train(settings), *dev, *tests)}
    return Found({**tables, **_separate_tests(task, settings)}, files)


def _from_file(task: Task, settings: DataSettings, path: Path) -> Found:
    if settings.mode == "given":
        raise DataError(str(path), "is one file; mode 'given' needs a folder of train, dev and test files")
    layout = file_layout(task, settings, path)
    tests = _separate_tests(task, settings)
    if not tests:
        wanted_tests(settings, (TEST,), str(path))
    if not settings.wants_train:
        return Found(tests or {TEST: read_table(task, layout, path, TEST)}, layout)
    return Found({TRAIN: read_table(task, layout, path, TRAIN), **tests}, layout, one_file=not tests)


def _train(settings: DataSettings) -> tuple[str, ...]:
    return (TRAIN,) if settings.wants_train else ()


def _separate_tests(task: Task, settings: DataSettings) -> dict[str, Table]:
    if settings.test_source is None:
        return {}
    path, files = Path(settings.test_source), task.sources.files
    if path.is_file():
        wanted_tests(settings, (TEST,), str(path))
        return {TEST: read_table(task, file_layout(task, settings, path), path, TEST)}
    refuse_absent(str(path))
    if files is None:
        raise DataError(f"task {task.name}", "names no files; data.test_source must be one file")
    found: dict[str, Table] = {}
    for split in wanted_tests(settings, files.drawn, f"task {task.name}"):
        names = (files.drawn[split], *([files.files[split]] if split in files.files else []))
        place = next((path / name for name in names if (path / name).is_file()), None)
        if place is None:
            near = suggest(names[0], [entry.name for entry in path.iterdir()])
            raise DataError(str(path), f"has no file of split {split!r}, neither {' nor '.join(names)}{near}")
        found[split] = read_table(task, files, place, split)
    return found


def _no_columns(settings: DataSettings) -> None:
    given = [f"data.{key}" for key in ("text_columns", "label_column") if getattr(settings, key) is not None]
    if given and not (settings.test_source is not None and Path(settings.test_source).is_file()):
        name = f"{' and '.join(given)} {'names' if len(given) == 1 else 'name'}"
        raise DataError("data", f"{name} columns of one file, which data.source (or data.test_source) should be")


def _siblings(path: Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
