"""Every shipped recipe loads, every run of its study is a config, and each of its variants runs on a tiny model."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.pages import RECIPES, ROOT
from docs.recipe_data import architecture_of, write_models, write_originals
from shoestring import load_config, run
from shoestring.config import apply_overrides, build
from shoestring.runs.config import RunConfig
from shoestring.studies.keys import has_key
from shoestring.studies.study import Study, Trial, load_study
from shoestring.tasks.metrics import METRICS

OWN_TEST = {"demo"}  # Its task and models are made by `shoestring demo --export`; see tests/demo.
PUBLISHED = [recipe for recipe in RECIPES if recipe.stem not in OWN_TEST]
SMALL = ["data.k=4", "data.num_train=16", "data.num_dev=4", "data.num_eval=2", "method.steps=1", "method.eval_every=1"]
SMALL += ["method.batch_size=2", "method.samples=2", "tuning.length=3", "tuning.budget=64", "method.lr=1e-4"]
SMALL += ["generation.max_new_tokens=2", "model.dtype=float32", "method.strengths=[1.0]"]


def name_of(recipe: Path) -> str:
    return recipe.relative_to(ROOT / "recipes").with_suffix("").as_posix()


def variants() -> Iterator[Any]:
    """Yield each variant of each recipe; one of which nothing is new is slow."""
    seen: set[tuple[str, str]] = set()
    for recipe in PUBLISHED:
        for name, trial in firsts(load_study(recipe)).items():
            parts = features(trial.config)
            marks = [] if parts - seen else [pytest.mark.slow]
            seen |= parts
            yield pytest.param(recipe, name, id=f"{name_of(recipe)}, {name}", marks=marks)


def features(config: RunConfig) -> set[tuple[str, str]]:
    """Return what a config is made of."""
    method = {key: getattr(config.method, key, None) for key in ("objective", "formula", "norms", "begin")}
    found = {"method": config.method.kind, "tuning": config.tuning.kind, "model": config.model.kind, **method}
    found |= {"task": config.task.kind, "data": config.data.mode, "compat": getattr(config.tuning, "compat", None)}
    return {(key, str(value)) for key, value in found.items()}


def firsts(study: Study) -> dict[str, Trial]:
    """Return the first trial of each variant."""
    points = [(arm, {key: values[0] for key, values in arm.over.items()}) for arm in study.arms]
    return {trial.variant: trial for trial in reversed(study.at(points))}


RECIPE = pytest.mark.parametrize("recipe", [pytest.param(recipe, id=name_of(recipe)) for recipe in PUBLISHED])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, frozen_imports: None) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_originals(tmp_path_factory.mktemp("originals"))


@RECIPE
def test_every_run_of_a_recipe_is_a_config_and_no_two_are_one(recipe: Path) -> None:
    study = load_study(recipe, seeds=[13])
    trials = study.trials()
    assert len(trials) == study.count
    assert len(study.configs()) == len(trials), "a combination stands twice"
    assert study.settings.title
    assert (study.notes, load_study(recipe).notes) == ((), ())


@RECIPE
def test_published_numbers_are_those_of_runs_of_the_study(recipe: Path) -> None:
    study = load_study(recipe, ["method.lr=1e-5"] if "method.lr" in load_study(recipe).arms[0].over else [], seeds=[13])
    trials = study.trials()
    for published in study.settings.published:
        mine = [trial for trial in trials if trial.variant == (published.variant or "")]
        for value, (mean, sd) in published.numbers.items():
            assert published.column == "task"
            tasks = [trial.config.task for trial in mine if trial.config.task.name == value]
            assert tasks, f"{published.variant} has no run on {value}"
            assert published.metric in tasks[0].metrics
            assert METRICS.get(published.metric).title
            assert 1 < mean < 100
            assert sd is None or 0 < sd < 20


@RECIPE
def test_a_recipe_says_what_it_is_and_its_commands_are_of_it(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    head = re.match(r"(#.*\n)+\n", text)
    assert head
    assert f"recipes/{name_of(recipe)}.toml" in head[0]
    for name in re.findall(r"--against (\S+)", head[0]):
        assert name == name_of(recipe)
    for name in re.findall(r"\b(?:mezo|hizoo|lozo|lm-bff|lm-kernel-ft|pet-scaling)/[\w-]+", head[0]):
        assert any(name_of(other) == name for other in RECIPES), name
    for line in re.findall(r"#   shoestring (?:run|sweep) (.*)", head[0]):
        path, *rest = shlex.split(line, comments=True)
        keys = [word for word in rest if "=" in word]
        assert load_config(ROOT / path, keys).run_id
    assert max(map(len, text.splitlines())) <= 120


# peft asks transformers for an attribute under its old name when it puts an adapter on a model.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(("recipe", "variant"), list(variants()))
def test_a_variant_runs_on_a_tiny_model(
    recipe: Path, variant: str, models: dict[str, Path], originals: Path, tmp_path: Path
) -> None:
    folder = models[architecture_of(tomllib.loads(recipe.read_text())["model"]["name"])]
    given = firsts(load_study(recipe))[variant].config
    table = given.model_dump(mode="json")
    keys = [text for text in SMALL if has_key(RunConfig, table, text.partition("=")[0]) and _has_effect(given, text)]
    keys += [f"model.name={folder}", f"data.source={originals}", f"output.folder={tmp_path}"]
    config = build(RunConfig, apply_overrides(table, keys), recipe.name)
    assert (config.method.kind, config.tuning.kind, config.model.kind) == (
        given.method.kind,
        given.tuning.kind,
        given.model.kind,
    )
    record = run(config)
    assert record.status == "ok"
    assert "test" in record.metrics


def _has_effect(config: RunConfig, text: str) -> bool:
    key = text.partition("=")[0]
    if key == "data.num_dev":
        return config.data.mode == "subset" and not config.data.per_example
    if key.startswith("data.num_"):
        return config.data.mode == "subset"
    if key == "data.k":
        return config.data.mode not in ("subset", "full")
    return key != "generation.max_new_tokens" or not config.task.has_scores
