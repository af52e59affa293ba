"""Write k-shot folders, byte for byte as the published scripts of LM-BFF and MeZO write them."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from shoestring.config import Settings
from shoestring.data.files import RawFile, read_file, to_table
from shoestring.data.published import SEEDS, TEST_LIMIT, chain, dev_rate, small_test, train_and_dev
from shoestring.data.settings import DataSettings, DrawnMode
from shoestring.data.sources import find_folder, not_found
from shoestring.errors import DataError, OutputError, RunFolderError, suggest
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import DEV, TRAIN, FileSource, Task, is_test

if TYPE_CHECKING:
    from collections.abc import Callable


class KshotSettings(Settings):
    """What to draw, from where, to where."""

    source: str
    """Folder of the original files: of one task, or one that holds a folder for each task."""
    out: str
    """Folder to write `<mode>/<folder of the task's files>/<k>-<seed>/` in."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of catalogue tasks, or task files."""
    k: PositiveInt = 16
    """Training examples per label."""
    seeds: tuple[int, ...] = Field(default=SEEDS, min_length=1)
    """Seeds, one folder each; their order makes no difference."""
    mode: DrawnMode = "k-shot"
    """`k-shot`; `k-shot-10x`: ten times k for dev; `k-shot-1k-test`: at most 1,000 test examples."""
    force: bool = False
    """Whether a folder that holds something else is replaced."""


@dataclass(frozen=True)
class KshotReport:
    """What was written. `unchanged` folders were there before, the same to the byte; `warnings` are for people."""

    written: tuple[Path, ...]
    unchanged: tuple[Path, ...]
    warnings: tuple[str, ...]


def write_kshot(settings: KshotSettings, on_folder: Callable[[Path], None] | None = None) -> KshotReport:
    """Write the folder `<out>/<mode>/<folder of the task's files>/<k>-<seed>/` of each task and seed.

    There mode `given` looks for it. Each appears whole or not at all. `on_folder` is told of each one that is done.

    Differs: the published script shuffles CoLA's rows once more for every seed of its list; here a published seed gives
        the published files whichever seeds are asked for, and any other seed is drawn alone. Malformed rows are errors,
        and labels with fewer than 2 k examples are warned of.
    Source: princeton-nlp/LM-BFF and princeton-nlp/MeZO, `tools/generate_k_shot_data.py`.

    Raises:
        DataError: if a task's original files are missing or malformed.
        RunFolderError: if a folder holds something else already, or two tasks want different things in it; names each
            one, and nothing has been written then.
        OutputError: if the disk refuses; the folders that were done before stay, whole.
    """
    folders: dict[Path, Callable[[], dict[str, str]]] = {}
    warnings: list[str] = []
    for name in dict.fromkeys(settings.tasks):
        originals = _Originals.read(load_task(name), settings)
        warnings += originals.warnings(settings)
        for seed in dict.fromkeys(settings.seeds):
            folder = Path(settings.out) / settings.mode / originals.files.folder / f"{settings.k}-{seed}"
            render = _rendering(originals, settings, seed)
            if folder in folders and folders[folder]() != render():
                raise RunFolderError(f"{folder}: task {name} would have other contents there than one before it")
            folders[folder] = render
    there = {folder: _same(folder, render()) for folder, render in folders.items() if folder.exists()}
    other = [str(folder) for folder, same in there.items() if not same]
    if other and not settings.force:
        raise RunFolderError(f"{', '.join(other)}: there already, with other contents; --force replaces")
    for folder, render in folders.items():
        if not there.get(folder, False):
            _write_folder(folder, render())
        if on_folder is not None:
            on_folder(folder)
    unchanged = tuple(folder for folder in folders if there.get(folder, False))
    return KshotReport(tuple(folder for folder in folders if folder not in unchanged), unchanged, tuple(warnings))


@dataclass(frozen=True)
class _Originals:
    """The original files of one task; `keys` are what the rows of train are grouped by."""

    task: Task
    files: FileSource
    train: RawFile
    keys: tuple[str, ...]
    tests: dict[str, RawFile]

    @classmethod
    def read(cls, task: Task, settings: KshotSettings) -> _Originals:
        files, root = task.sources.files, Path(settings.source)
        if files is None or files.is_tree:
            raise DataError(f"task {task.name}", "has no original tsv or csv files to draw from")
        if not root.is_dir():
            near = [entry.name for entry in root.parent.iterdir()] if root.parent.is_dir() else []
            raise DataError(str(root), f"there is no such folder{suggest(root.name, near)}")
        found = find_folder(task, DataSettings(source=settings.source))
        if not found.paths:
            raise not_found(task, root, found)
        train = read_file(found.paths[TRAIN], files)
        tests = {split: read_file(path, files) for split, path in found.paths.items() if is_test(split)}
        for split, raw in tests.items():
            to_table(task, files, raw, split)
        return cls(task, files, train, to_table(task, files, train, TRAIN).keys, tests)

    def render(self, k: int, seed: int, mode: DrawnMode) -> dict[str, str]:
        """Return the text of each file of one k-shot folder."""
        seeds = chain(seed, self.files.cumulative_shuffle)
        train, dev = train_and_dev(self.keys, k, seeds, dev_rate(mode))
        names = self.files.drawn
        texts = {names[TRAIN]: self.train.text(train), names[DEV]: self.train.text(dev)}
        for split, raw in self.tests.items():
            rows = list(range(len(raw.rows)))
            if mode == "k-shot-1k-test":
                rows = small_test(len(rows), tsv=self.files.format == "tsv", times=len(seeds))
            texts[names[split]] = raw.text(rows)
        return texts

    def warnings(self, settings: KshotSettings) -> list[str]:
        """Return what a user should know of these splits, though the published script says nothing."""
        k, dev_k = settings.k, settings.k * dev_rate(settings.mode)
        where, counts = f"{self.task.name}, k={k}", Counter(self.keys)
        labels = self.task.label_names
        scarce = [
            f"{where}: label {label!r} has {counts[label]} rows, {k + dev_k} are needed; train holds "
            f"{min(counts[label], k)} of {k} and dev {max(0, counts[label] - k)} of {dev_k}"
            for label in labels
            if counts[label] < k + dev_k
        ]
        strange = [key for key in counts if key not in labels]
        skipped = [
            f"{where}: {sum(counts[key] for key in strange)} rows of {self.train.path.name} are too short to read; "
            f"what ends them, such as {key[:40]!r}, counts as a label of its own, as published"
            for key in strange[:1]
        ]
        small = settings.mode == "k-shot-1k-test"
        shuffled = [self.train, *(raw for raw in self.tests.values() if small and len(raw.rows) > TEST_LIMIT)]
        glued = [
            f"{where}: the last row of {raw.path.name} has no final newline; wherever a shuffled file holds it, "
            "the next row is glued to it, as published"
            for raw in shuffled
            if raw.unended is not None
        ]
        return scarce + skipped + glued


def _rendering(originals: _Originals, settings: KshotSettings, seed: int) -> Callable[[], dict[str, str]]:
    return lambda: originals.render(settings.k, seed, settings.mode)


def _same(folder: Path, texts: dict[str, str]) -> bool:
    """Return whether `folder` holds these files and no others."""
    try:
        return {entry.name: entry.read_bytes() for entry in folder.iterdir()} == _encoded(texts)
    except OSError:
        return False


def _encoded(texts: dict[str, str]) -> dict[str, bytes]:
    return {name: text.encode() for name, text in texts.items()}


def _write_folder(folder: Path, texts: dict[str, str]) -> None:
    """Write a folder so that it appears whole: as a hidden one beside it, which is then renamed."""
    mark = os.urandom(4).hex()
    new, old = (folder.parent / f".{folder.name}.{kind}-{mark}" for kind in ("new", "old"))
    try:
        new.mkdir(parents=True)
        for name, content in _encoded(texts).items():
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}; nothing of it was left behind") from None
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
