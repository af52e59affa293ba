from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.conftest import Shell

K16 = "mezo/roberta-large-k16"


def test_the_list_has_titles_models_runs_and_how_many_numbers(shell: Shell) -> None:
    out, err = shell("recipes", "list")
    assert err == ""
    assert f"{K16}\troberta-large\t1290\t54 numbers\tMeZO, RoBERTa-large, k = 16" in out.splitlines()
    (row,) = [
        row for row in json.loads(shell("recipes", "list", "--json")[0]) if row["name"] == "pet-scaling/bloom-7b1"
    ]
    assert row["published"] == 0
    assert row["models"] == ["bigscience/bloom-7b1"]


def test_a_recipe_is_shown_with_its_variants_and_its_numbers(shell: Shell) -> None:
    out, _ = shell("recipes", "show", K16)
    assert "1,290 runs on roberta-large, seeds 13, 21, 42, 87, 100" in out
    assert "MeZO-LoRA: task SST-2, sst-5, SNLI, MNLI, RTE, trec; method.lr 1e-05, 5e-05, 0.0001" in out
    assert "90.5 (1.2)" in out
    assert shell("recipes", "show", K16, "--toml")[0].startswith("# MeZO, its variants")
    assert "one variant: task" in shell("recipes", "show", "mezo/non-differentiable")[0]


def test_a_copy_runs_like_the_recipe(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "roberta-large-k16.toml: run it with shoestring sweep" in shell("recipes", "copy", K16)[0]
    assert "is there already; give --force" in shell.error("recipes", "copy", K16)
    shell("recipes", "copy", K16, "--force")


def test_a_wrong_name_names_the_nearest(shell: Shell) -> None:
    assert "did you mean 'mezo/opt-13b'" in shell.error("recipes", "show", "mezo/opt13b")


def test_run_takes_a_recipe_of_the_package_by_its_name(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (K16, f"recipes/{K16}.toml"):
        assert "data/original: there is no such file or folder" in shell("run", name, code=1)[1]


def test_sweep_takes_a_recipe_of_the_package_by_its_name(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, _ = shell("sweep", "mezo/roberta-large-k512-20k", "--over", "task=trec", "--seeds", "21", "--dry-run")
    assert "trec" in out


def test_a_copy_that_cannot_be_written_names_its_own_option(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    error = shell.error("recipes", "copy", "mezo/opt-13b", "--out", tmp_path / "taken" / "mine.toml")
    assert error.endswith("a file of this name is there; choose another place with --out\n")


def test_a_recipe_of_a_file_is_shown(shell: Shell, tmp_path: Path) -> None:
    shell("recipes", "copy", "mezo/opt-13b", "--out", tmp_path / "mine.toml")
    shown, _ = shell("recipes", "show", "mezo/opt-13b")
    mine, _ = shell("recipes", "show", tmp_path / "mine.toml")
    assert mine == shown.replace("mezo/opt-13b: ", f"{tmp_path / 'mine.toml'}: ", 1)
