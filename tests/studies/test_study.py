"""Studies: the runs that a recipe with a `[study]` stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shoestring.errors import ConfigError
from shoestring.runs.config import load_config
from shoestring.studies.study import Study, load_study, read_over

BASE = """\
task = "SST-2"
[data]
source = "./data"
[model]
kind = "masked"
name = "./model"
[method]
kind = "mezo"
lr = 1e-6
steps = 10
"""
STUDY = """\
[study]
title = "Two methods"
seeds = [13, 21]
[study.over]
task = ["SST-2", "sst-5"]
method.lr = [1e-7, 1e-6]
[[study.variants]]
name = "MeZO"
[[study.variants]]
name = "MeZO-LoRA"
set = { "tuning.kind" = "lora", tuning.r = 4, method = { kind = "mezo", eps = 1e-2 } }
over = { "method.lr" = [1e-4] }
[[study.variants]]
name = "Adam"
set.method.kind = "adam"
[[study.variants]]
name = "zero-shot"
set.method.kind = "zero-shot"
[[study.published]]
source = "Somebody et al. 2023, table 1"
variant = "MeZO"
metric = "accuracy"
values = { "SST-2" = [91.4, 0.9], "sst-5" = 43, "trec" = [70.1] }
seeds = 5
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(BASE + STUDY, encoding="utf-8")
    return path


def told(study: Study) -> list[tuple[str, dict[str, Any], int]]:
    return [(trial.variant, trial.settings, trial.seed) for trial in study.trials()]


def written(path: Path, study: str, base: str = BASE) -> Path:
    path.write_text(base + study, encoding="utf-8")
    return path


def test_a_recipe_without_a_study_is_one_of_its_own_run(tmp_path: Path) -> None:
    recipe = written(tmp_path / "mine.toml", "")
    study = load_study(recipe)
    assert [trial.config for trial in study.trials()] == [load_config(recipe)]
    assert (study.title, study.count, study.notes) == ("mine", 1, ())


def test_run_leaves_the_study_aside(recipe: Path, tmp_path: Path) -> None:
    assert load_config(recipe) == load_config(written(tmp_path / "base.toml", ""))


def test_trials_are_all_combinations_variant_by_variant_and_seed_by_seed(recipe: Path) -> None:
    study = load_study(recipe)
    grid = [{"task": task, "method.lr": lr} for task in ("SST-2", "sst-5") for lr in (1e-7, 1e-6)]
    lora = [{"task": task, "method.lr": 1e-4} for task in ("SST-2", "sst-5")]
    shot = [{"task": task} for task in ("SST-2", "sst-5")]
    arms = {"MeZO": grid, "MeZO-LoRA": lora, "Adam": grid, "zero-shot": shot}
    assert told(study) == [(arm, point, seed) for arm, points in arms.items() for point in points for seed in (13, 21)]
    assert study.count == len(study.trials()) == len(study.configs()) == 24
    assert study.notes == ("method.lr is left out of what has no such key: 'zero-shot'",)


def test_a_trial_is_what_run_makes_of_the_same_settings(recipe: Path) -> None:
    study = load_study(recipe)
    for trial in study.trials():
        table: dict[str, Any] = {"seed": trial.seed, "task": trial.settings["task"]}
        if trial.variant != "MeZO":
            table["method"] = {"kind": trial.config.method.kind}
        if trial.variant == "MeZO-LoRA":
            table |= {"tuning": {"kind": "lora", "r": 4}, "method": {"kind": "mezo", "eps": 1e-2}}
        if "method.lr" in trial.settings:
            table.setdefault("method", {})["lr"] = trial.settings["method.lr"]
        assert trial.config == load_config(recipe, table=table)


def test_paths_are_meant_from_the_recipe_and_those_of_the_command_line_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = written(
        tmp_path / "there" / "r.toml",
        '[study.over]\n"model.name" = ["./a", "b"]\ndata = [{source = "./x"}]\n'
        '[[study.variants]]\nname = "v"\nset.data.test_source = "../y"',
    )
    own = load_study(recipe).trials()
    assert [trial.config.model.name for trial in own] == [str(tmp_path / "there" / "a"), "b"]
    assert own[0].config.data.source == str(tmp_path / "there" / "x")
    assert own[0].config.data.test_source == str(tmp_path / "y")
    assert own[0].settings["model.name"] == "./a"
    given = load_study(recipe, ["data.test_source=./z"], {"model.name": ["./a"]}).trials()
    assert given[0].config.model.name == str(tmp_path / "a")
    assert given[0].config.data.test_source == str(tmp_path / "z")


@pytest.mark.parametrize("name", ["läufe", "实验", "runs\U0001f600", 'a"b', "a\\b", "13", " a", "a\x7fb"])
def test_runs_go_to_the_folder_that_is_named_whatever_its_letters(recipe: Path, name: str) -> None:
    assert {config.output.folder for config in load_study(recipe, out=name).configs()} == {name}


def test_the_command_line_replaces_what_the_recipe_sweeps(recipe: Path) -> None:
    study = load_study(recipe, ["method.lr=3e-5", "seed=7"], {"task": ["trec"], "method.steps": [20, 40]})
    assert [(name, settings) for name, settings, _ in told(study)][:3] == [
        ("MeZO", {"task": "trec", "method.steps": 20}),
        ("MeZO", {"task": "trec", "method.steps": 40}),
        ("MeZO-LoRA", {"task": "trec", "method.steps": 20}),
    ]
    assert {trial.seed for trial in study.trials()} == {7}
    assert {getattr(trial.config.method, "lr", None) for trial in study.trials()} == {3e-5, None}
    assert study.notes == (
        "method.lr is not swept: method.lr=3e-5 replaces its values",
        "the study's seeds are replaced by seed=7",
        "method.steps is left out of what has no such key: 'zero-shot'",
        "method.lr is left out of what has no such key: 'zero-shot'",
    )


def test_a_kind_of_the_command_line_drops_the_keys_of_the_recipes(recipe: Path) -> None:
    study = load_study(recipe, ["method.kind=adam"], seeds=[13])
    assert {trial.config.method.kind for trial in study.trials()} == {"adam"}
    assert len(study.configs()) == 6  # Only LoRA is not what another variant is.
    assert study.count == 4 * 3 + 2


def test_a_key_is_left_out_of_the_combinations_whose_kind_has_it_not(tmp_path: Path) -> None:
    recipe = written(tmp_path / "r.toml", '[study.over]\ntuning.kind = ["full", "lora"]\ntuning.r = [4, 8]')
    study = load_study(recipe)
    assert [settings for _, settings, _ in told(study)] == [
        {"tuning.kind": "full"},
        {"tuning.kind": "full"},
        {"tuning.kind": "lora", "tuning.r": 4},
        {"tuning.kind": "lora", "tuning.r": 8},
    ]
    assert len(study.configs()) == 3


def test_whole_sections_can_be_swept(tmp_path: Path) -> None:
    recipe = written(
        tmp_path / "r.toml", '[study]\nover.method = [{kind = "mezo", lr = 1e-3}, {kind = "adam", lr = 1e-4}]'
    )
    methods = [trial.config.method for trial in load_study(recipe).trials()]
    assert [(method.kind, getattr(method, "lr", None)) for method in methods] == [("mezo", 1e-3), ("adam", 1e-4)]
    assert getattr(methods[0], "steps", None) == 10  # The same kind keeps the recipe's keys.


def test_published_numbers_are_means_with_or_without_a_deviation(recipe: Path) -> None:
    (published,) = load_study(recipe).settings.published
    assert published.numbers == {"SST-2": (91.4, 0.9), "sst-5": (43.0, None), "trec": (70.1, None)}
    assert (published.column, published.seeds) == ("task", 5)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("[study]\ntitel = 'x'", r"study\.titel: unknown key; did you mean 'title'"),
        ("[study.over]\nmethod.lrr = [1]", r"method\.lrr: there is no such key; did you mean 'method.lr'"),
        ("[study.over]\ntaks = ['trec']", r"taks: there is no such key; did you mean 'task'"),
        ("[study.over]\ntuning.r = [4]", r"tuning\.r: there is no such key"),
        ("[study.over]\nmethod.lr = []", r"method\.lr: has no values"),
        ("[study.over]\nmethod.lr = [1e-6, 0.000001]", r"method\.lr: 1e-06 stands twice"),
        ("[study.over]\nmethod.lr = 1e-6", r"method\.lr: got 1e-06: should be a list of values, such as \[1e-06\]"),
        ("[study.over]\nseed = [1, 2]", r"seed: is not swept but drawn from; give study\.seeds"),
        ("[study.over]\noutput.folder = ['a']", r"output\.folder: changes no number"),
        ("[study]\nseeds = [13, 13]", r"study\.seeds: seeds: 13 stands twice"),
        ("[study]\nover = 3", r"study\.over: got 3: should be a table"),
        ("[study.over]\nmethod.lr = ['x']", r"method\.lr: got 'x': should be a number \(method\.lr='x'\)"),
        ("[[study.variants]]\nname = 'a'\n[[study.variants]]\nname = 'a'", r"variants: 'a' stands twice"),
        (
            "[[study.variants]]\nname = 'a'\nset = { seed = 5 }",
            r"variants\.1\.set: seed: is the study's, which all variants have",
        ),
        ("[study.search]\nseed = { low = 1, high = 5 }", r"search: seed: is not searched; give study\.seeds"),
        ("[study.search]\noutput.folder.choices = ['a']", r"search: output\.folder: changes no number"),
        ("[[study.variants]]\nset = {}", r"study\.variants\.1\.name: is required"),
        (
            "[[study.variants]]\nname = 'a'\nset = { method.kind = 'adam' }\nover = { method.eps = [1] }\n"
            "[[study.variants]]\nname = 'b'",
            r"method\.eps: there is no such key of variant 'a'",
        ),
        (
            "[[study.variants]]\nname = 'first'\n[[study.published]]\nsource = ''\nvariant = 'frist'\n"
            "metric = 'accuracy'\nvalues = {}",
            r"published: there is no variant 'frist'; did you mean 'first'",
        ),
        (
            "[[study.variants]]\nname = 'first'\n[[study.published]]\nsource = 'X'\nmetric = 'f1'\nvalues = {}",
            r"published: 'X' needs a variant: one of first",
        ),
        ("[study.search]\nmethod.lr = { low = 1e-6 }", r"search\.method\.lr: low and high are needed, or choices"),
        ("[study.search]\nmethod.lr = { low = 1, high = 1 }", r"low=1 is not below high=1"),
        ("[study.search]\nmethod.lr = { low = 0, high = 1, log = true }", r"log=true needs low above 0"),
        ("[study.search]\nmethod.lr = { low = 0, choices = [1] }", r"give choices, or low and high; not both"),
        ("[study.search]\nmethod.lr = { low = 0, hihg = 1 }", r"hihg: unknown key; did you mean 'high'"),
        ("[study.search]\nmethod.lrr = { low = 0, high = 1 }", r"method\.lrr: there is no such key; did you mean"),
    ],
)
def test_mistakes_are_named_before_anything_runs(tmp_path: Path, study: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(written(tmp_path / "r.toml", study)).trials()


def test_mistakes_of_the_command_line_are_named(recipe: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.lr: --over sweeps it and method=\{\} fixes it; give one"):
        load_study(recipe, ["method={}"], {"method.lr": [1e-6]})
    with pytest.raises(ConfigError, match=r"method\.stpes: there is no such key; did you mean 'method\.steps'"):
        load_study(recipe, ["method.stpes=3"])
    with pytest.raises(ConfigError, match=r"--over: 1 problem\n  method\.lr: has no values"):
        load_study(recipe, over=read_over(["method.lr="]))
    with pytest.raises(ConfigError, match=r"lr: is not of the form section\.key=value,value"):
        read_over(["lr"])
    with pytest.raises(ConfigError, match=r"task: is given twice"):
        read_over(["task=a", "task=b"])
    with pytest.raises(ConfigError, match=r"there is no such file; did you mean 'recipe\.toml'"):
        load_study(recipe.with_name("recipes.toml"))


def test_every_mistake_of_the_combinations_is_said_once_with_the_first_that_has_it(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="2 problems") as caught:
        load_study(recipe, ["data.k=0"], {"method.lr": [-1, 1e-6]}).trials()
    assert "method.lr: got -1" in str(caught.value)
    assert "data.k: got 0" in str(caught.value)


def test_values_of_the_command_line_are_toml_or_plain_texts() -> None:
    texts = ["task=SST-2,trec", "method.lr=1e-6, 1e-7", 'tuning={kind="lora", r=8},{kind="full"}', "data.k=16"]
    assert read_over(texts) == {
        "task": ["SST-2", "trec"],
        "method.lr": [1e-6, 1e-7],
        "tuning": [{"kind": "lora", "r": 8}, {"kind": "full"}],
        "data.k": [16],
    }


def test_commas_within_quotes_and_brackets_part_no_values() -> None:
    texts = ["""task=trec,"a, b",'c, d', plain""", "data.x=[1, 2],all", "model.name=it's,theirs", 'method.x="a, b']
    assert read_over(texts) == {
        "task": ["trec", "a, b", "c, d", "plain"],
        "data.x": [[1, 2], "all"],
        "model.name": ["it's", "theirs"],
        "method.x": ['"a', "b"],
    }
