"""A small copy of what `shoestring demo --export playground` makes, for the code in the pages to run in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tiny
from shoestring.demo.assets import ensure
from shoestring.demo.export import export
from shoestring.zeroth.base import OPTIMIZERS
from shoestring.zeroth.directions.base import DIRECTIONS


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, frozen_imports: None) -> Path:
    """The exported folder, with models that have hardly been trained; do not write into it."""
    folder = tmp_path_factory.mktemp("export") / "playground"
    export(ensure(tmp_path_factory.mktemp("cache"), None, tiny.demo_settings(test=120)), folder)
    return folder


@pytest.fixture
def playground(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, `playground` in the current folder; what a page registers is gone after it."""
    for registry in (OPTIMIZERS, DIRECTIONS):
        monkeypatch.setattr(registry, "_entries", dict(registry.items()))
    shutil.copytree(exported, tmp_path / "playground")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "playground"
