"""A small copy of what `shoestring demo --export playground` makes, for the code in the pages to run in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shoestring.demo.assets import DemoSettings, ensure
from shoestring.demo.examples import ExampleSettings
from shoestring.demo.export import export
from shoestring.demo.language import LanguageSettings
from shoestring.demo.pretrain import ModelSettings

_TINY = ModelSettings(hidden=16, layers=1, heads=2, steps=4, batch_size=8)
_SETTINGS = DemoSettings(
    language=LanguageSettings(documents=1500),
    examples=ExampleSettings(train_per_label=60, test=120),
    masked=_TINY,
    causal=_TINY,
)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, frozen_imports: None) -> Path:
    """The exported folder, with models that have hardly been trained; do not write into it."""
    folder = tmp_path_factory.mktemp("export") / "playground"
    export(ensure(tmp_path_factory.mktemp("cache"), None, _SETTINGS), folder)
    return folder


@pytest.fixture
def playground(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, `playground` in the current folder."""
    shutil.copytree(exported, tmp_path / "playground")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "playground"
