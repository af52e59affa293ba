from __future__ import annotations

from pathlib import Path

import pytest

from shoestring.errors import OutputError, RunFolderError, UnknownNameError
from shoestring.studies import recipes
from shoestring.studies.recipe_table import published_table
from shoestring.studies.recipes import copy_recipe, find_recipe, load_recipe, load_recipes, recipe_or_file, recipe_paths

K16 = "mezo/roberta-large-k16"


def test_a_recipe_is_found_by_its_name_its_file_and_its_last_part() -> None:
    path = recipe_paths()[K16]
    assert find_recipe(K16) == find_recipe(f"recipes/{K16}.toml") == path
    assert find_recipe("roberta-large-k512-20k") == recipe_paths()["mezo/roberta-large-k512-20k"]


def test_a_wrong_name_names_the_nearest_and_a_last_part_of_several_names_them() -> None:
    with pytest.raises(UnknownNameError, match="unknown recipe 'mezo/robarta-large-k16'; did you mean 'mezo/roberta-l"):
        find_recipe("mezo/robarta-large-k16")
    with pytest.raises(UnknownNameError, match=r"Allowed: fzoo/roberta-large-k16, hizoo/roberta-large-k16, lozo/"):
        find_recipe("roberta-large-k16")


def test_what_is_on_disk_comes_before_a_recipe_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Path("recipes") / f"{K16}.toml"
    assert recipe_or_file(mine) == recipe_paths()[K16]
    mine.parent.mkdir(parents=True)
    mine.write_text("")
    assert recipe_or_file(mine) == mine
    assert recipe_or_file(Path("none.toml")) == Path("none.toml")


def test_an_installation_without_recipes_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_PLACES", (tmp_path,))
    with pytest.raises(RunFolderError, match="this installation has no recipes"):
        recipe_paths()
    assert recipe_or_file(Path(K16)) == Path(K16)


def test_every_recipe_says_its_title_its_models_and_how_many_numbers_it_has() -> None:
    found = {recipe.name: recipe for recipe in load_recipes()}
    assert found.keys() == recipe_paths().keys()
    mezo = found[K16]
    assert (mezo.title, mezo.models, mezo.study.count, mezo.published) == (
        "MeZO, RoBERTa-large, k = 16", ("roberta-large",), 1290, 54,
    )  # fmt: skip
    assert found["pet-scaling/bloom-560m"].published == 0
    assert mezo.about.startswith("MeZO, its variants, and what it is measured against: RoBERTa-large")


def test_a_copy_is_the_recipe_and_never_replaces_a_file_unasked(tmp_path: Path) -> None:
    target = copy_recipe(K16, tmp_path)
    assert target == tmp_path / "roberta-large-k16.toml"
    assert target.read_bytes() == find_recipe(K16).read_bytes()
    target.write_text("mine")
    with pytest.raises(OutputError, match="is there already; give --force to replace it"):
        copy_recipe(K16, tmp_path)
    assert target.read_text() == "mine"
    assert copy_recipe(K16, target, force=True) == target
    assert target.read_text() != "mine"
    assert copy_recipe(K16, tmp_path / "new").parent == tmp_path / "new"


def test_published_numbers_are_a_table() -> None:
    table = published_table(load_recipe(K16).study)
    assert table is not None
    (row,) = [row for row in table.rows if row[0].text == "MeZO-LoRA"]
    assert row[1].text == "91.4 (0.9)"
    assert row[1].values == (pytest.approx(0.914), pytest.approx(0.009))
    assert any("table 18, k = 16" in note for note in table.notes)
    ablations = published_table(load_recipe("mezo/ablations").study)
    assert ablations is not None
    assert [cell.text for cell in ablations.rows[-1]] == ["without a prompt", "51.9", "–", "–"]  # noqa: RUF001
    assert published_table(load_recipe("pet-scaling/bloom-560m").study) is None
