"""Recipes for the demo's own models: every run of them is a config, and one of each variant runs on tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from shoestring.demo.export import export
from shoestring.demo.pretrain import ModelSettings
from shoestring.demo.sizes import ensure_sizes
from shoestring.runs.config import RunConfig
from shoestring.runs.run import run
from shoestring.studies.study import load_study
from shoestring.studies.trials import Study
from shoestring.tuning.base import TUNINGS

pytestmark = pytest.mark.usefixtures("frozen_imports")
ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("demo.toml"))
RECIPE = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
FEW = {name: ModelSettings(hidden=16, layers=2, heads=2, steps=2, batch_size=4) for name in ("small", "large")}
SHORT = ["method.steps=1", "method.eval_every=1", "data.k=4", "data.max_test=8"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, frozen_imports: None) -> Path:
    folder = tmp_path_factory.mktemp("export") / "playground"
    assets, sizes = ensure_sizes(tmp_path_factory.mktemp("cache"), None, tiny.demo_settings(), FEW)
    export(assets, folder, sizes)
    return folder.parent


@RECIPE
def test_every_run_of_the_study_is_a_config(recipe: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported)
    study = load_study(recipe)
    assert len(study.configs()) == study.count
    commands = [line for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#   shoestring")]
    assert f"recipes/{recipe.parent.name}/demo.toml" in commands[1]


@RECIPE
def test_a_run_of_each_variant_is_made(
    recipe: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported)
    study = load_study(recipe, [*SHORT, f"output.folder={tmp_path}"], seeds=(13,))
    assert len(list(firsts(study))) == len(study.arms)
    for config in firsts(study):
        assert run(config).status == "ok"


def test_the_recipe_of_tunings_has_all_of_them(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported)
    (recipe,) = [path for path in RECIPES if path.parent.name == "tunings"]
    for method in ("adam", "mezo"):
        kinds = {one.tuning.kind for one in load_study(recipe).configs() if one.method.kind == method}
        assert kinds == set(TUNINGS.names())


def firsts(study: Study) -> list[RunConfig]:
    points = [(arm, {key: values[0] for key, values in arm.over.items()}) for arm in study.arms]
    return [trial.config for trial in study.at(points)]
