"""A copy of the embedded default to play with: models, tasks, data, a csv of reviews and a recipe."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path

from shoestring.demo.assets import DemoAssets
from shoestring.demo.cache import MANIFEST
from shoestring.errors import OutputError
from shoestring.files import make_folder, write_text, writing

_RECIPE = """\
# Run it:            shoestring run recipe.toml
# Change anything:   shoestring run recipe.toml method.kind=adam method.lr=3e-4 method.steps=100 --seeds 13,21,42
task = "./tasks/demo-sentiment.toml"
seed = 13

[data]
source = "./data"
k = 16

[model]
kind = "masked"
name = "./masked"

[method]
kind = "mezo"
lr = 5e-4
steps = 600
batch_size = 32
"""


def refuse_occupied(folder: Path) -> None:
    """Check that `folder` is free, before anything is built for it.

    Raises:
        OutputError: if it is a file or holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is there already and not empty; choose a new folder")


def export(assets: DemoAssets, folder: Path, sizes: Mapping[str, Path] | None = None) -> list[str]:
    """Copy `assets` to a new folder and return the names of what lies in it.

    Args:
        assets: models, data and tasks.
        folder: the new folder.
        sizes: folders of further models by name, which go to `sizes/`.

    Raises:
        OutputError: if `folder` holds something already, or cannot be written; nothing is left half-copied.
    """
    refuse_occupied(folder)
    make_folder(folder)
    try:
        with writing(folder):
            for name, source in (("masked", assets.masked), ("causal", assets.causal), ("data", assets.data)):
                shutil.copytree(source, folder / name)
            for name, source in (sizes or {}).items():
                shutil.copytree(source, folder / "sizes" / name, ignore=shutil.ignore_patterns(MANIFEST))
            (folder / "tasks").mkdir()
            for name, source in assets.tasks.items():
                shutil.copyfile(source, folder / "tasks" / f"{name}.toml")
            _write_reviews(assets.data / "demo-sentiment" / "train.tsv", folder / "reviews.csv")
        write_text(folder / "recipe.toml", _RECIPE)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return sorted(entry.name for entry in folder.iterdir())


def _write_reviews(tsv: Path, path: Path) -> None:
    """Write the labelled remarks as people keep them: a csv with a header."""
    rows = [line.split("\t") for line in tsv.read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
