"""Every shipped recipe is a config for every task it names, and runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.pages import RECIPES, ROOT
from shoestring import load_config, run

TASKS = ("SST-2", "sst-5", "SNLI", "MNLI", "RTE", "trec")
RECIPE = pytest.mark.parametrize("recipe", [pytest.param(recipe, id=recipe.stem) for recipe in RECIPES])


@RECIPE
@pytest.mark.parametrize("task", TASKS)
def test_a_recipe_is_a_config_for_each_of_its_tasks(recipe: Path, task: str) -> None:
    config = load_config(recipe, [f"task={task}"])
    assert config.task.name == task
    assert config.data.mode == "k-shot-1k-test"


@RECIPE
def test_a_recipe_runs_on_a_tiny_model(
    recipe: Path, tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    small = [
        f"model.name={tiny_masked_folder}",
        f"data.source={tiny_original}",
        "data.k=4",
        f"output.folder={tmp_path}",
    ]
    if load_config(recipe).method.trains:
        small += ["method.steps=2", "method.eval_every=1", "method.batch_size=4"]
    record = run(load_config(recipe, small))
    assert record.status == "ok"
    assert record.metrics.keys() == {"dev", "test"}


@RECIPE
def test_the_commands_and_grids_in_a_recipes_comments_are_configs(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    lines = re.findall(r"#   shoestring run (.*)", text)
    assert lines
    for line in lines:
        name, *overrides = line.split()
        assert load_config(ROOT / name, overrides).run_id
    for key, values in re.findall(r"(method\.\w+) ((?:[\d.e-]+, )+[\d.e-]+)", text):
        for value in values.split(", "):
            assert load_config(recipe, [f"{key}={value}"]).run_id


def test_the_published_rows_all_have_a_recipe() -> None:
    kinds = {(load_config(recipe).method.kind, load_config(recipe).tuning.kind) for recipe in RECIPES}
    assert kinds == {("zero-shot", "full"), ("adam", "full"), ("mezo", "full"), ("mezo", "lora")}
