from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import tiny
from cli.conftest import Run, Shell

MEZO = '[method]\nkind = "mezo"\nlr = 1e-4\nsteps = {steps}\neval_every = 2\n'


def recipe(model: Path, data: Path, *, steps: int = 4) -> Path:
    path = Path("r.toml").resolve()
    path.write_text(
        f'task = "SST-2"\n[data]\nsource = "{data}"\nk = 4\n[model]\nkind = "masked"\nname = "{model}"\n'
        + MEZO.format(steps=steps)
    )
    return path


def results(folder: Path = Path("runs")) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]


def test_a_recipe_is_run_summed_up_and_not_run_again(
    shell: Shell, tiny_masked_folder: Path, tiny_original: Path
) -> None:
    path = recipe(tiny_masked_folder, tiny_original)
    out, err = shell("run", path)
    assert err == ""
    (result,) = results()
    assert "SST-2, masked roberta, mezo, seed 13\n" in out
    assert f"test     accuracy {100 * result['metrics']['test']['accuracy']:.1f}%" in out
    assert "examples 8 train, 8 dev, 24 test" in out
    assert "passes   8 forward, 0 backward" in out
    assert "MiB of weights" in out
    assert f"folder   runs/{result['run_id']}" in out
    assert "\x1b" not in out
    again, _ = shell("run", path)
    assert "already done (use --force to run again)" in again
    assert results() == [result]
    forced, _ = shell("run", path, "--force")
    assert "already done" not in forced
    (made_again,) = results()
    assert made_again["metrics"] == result["metrics"]


def test_seeds_run_one_after_the_other_into_one_folder_and_one_table(
    shell: Shell, tiny_masked_folder: Path, tiny_original: Path
) -> None:
    path = recipe(tiny_masked_folder, tiny_original)
    out, _ = shell("run", path, "method.steps=2", "--seeds", "13,21", "--out", "many")
    assert sorted(one["config"]["seed"] for one in results(Path("many"))) == [13, 21]
    assert re.search(r"roberta +mezo +\d+\.\d \(\d+\.\d, 2\)", out)
    assert out == "" or shell("table", "many")[0] in out


def test_every_config_is_checked_before_the_first_run(
    shell: Shell, tiny_masked_folder: Path, tiny_original: Path
) -> None:
    path = recipe(tiny_masked_folder, tiny_original)
    message = shell.error("run", path, "method.lr=-1", "method.stpes=3", "--seeds", "13,21")
    assert "2 problems" in message
    assert "method.stpes: unknown key; did you mean 'steps'?" in message
    assert not Path("runs").exists()


def test_another_method_leaves_out_the_keys_of_the_recipes_own_and_says_so_once(
    shell: Shell, tiny_masked_folder: Path, tiny_original: Path
) -> None:
    path = recipe(tiny_masked_folder, tiny_original)
    out, err = shell("run", path, "method.kind=zero-shot", "--seeds", "13,21")
    assert err == (
        "note: method.kind='zero-shot' instead of 'mezo': "
        "method.lr, method.steps, method.eval_every of the recipe are left out; the defaults of 'zero-shot' apply\n"
    )
    assert "zero-shot, seed 21" in out
    assert "method.eps: unknown key" in shell.error("run", path, "method.kind=adam", "method.eps=1")


def test_own_data_run_without_a_recipe(shell: Shell, tiny_masked_folder: Path) -> None:
    path = tiny.write_csv(Path("moods.csv"))
    out, _ = shell(
        "run", "model.kind=masked", f"model.name={tiny_masked_folder}", "method.kind=zero-shot", "data.k=4",
        "--data", path, "--text-columns", "review", "--label-column", "mood",
        "--template", "*cls**sent_0*_It_was*mask*.*sep+*", "--label-words", "0=terrible,1=great",
    )  # fmt: skip
    assert "moods, masked roberta, zero-shot, seed 13" in out
    assert "trained  0 of" in out
    (result,) = results()
    assert result["config"]["data"]["source"] == "moods.csv"
    assert result["config"]["task"]["labels"][1] == {"name": "1", "word": "great", "title": ""}


def test_own_data_and_words_change_a_recipe(shell: Shell, tiny_masked_folder: Path, tiny_original: Path) -> None:
    path = recipe(tiny_masked_folder, tiny_original)
    moods = tiny.write_csv(Path("moods.csv"))
    shell(
        "run", path, "method.steps=2", "--data", moods, "--text-columns", "review", "--label-column", "mood",
        "--label-words", "0=bad,1=good",
    )  # fmt: skip
    (result,) = results()
    config = result["config"]
    assert (config["task"]["name"], config["data"]["text_columns"]) == ("SST-2", ["review"])
    assert config["prompt"]["label_words"] == {"0": "bad", "1": "good"}


@pytest.mark.parametrize("named", ["in the recipe", "beside it", "nowhere"])
def test_all_options_of_own_data_change_a_task_that_is_named_and_make_one_where_none_is(
    shell: Shell, tiny_masked_folder: Path, tiny_original: Path, named: str
) -> None:
    path = recipe(tiny_masked_folder, tiny_original)
    if named != "in the recipe":
        path.write_text(path.read_text().removeprefix('task = "SST-2"\n'))
    moods = tiny.write_csv(Path("moods.csv"))
    template = "*cls**sent_0*_So*mask*.*sep+*"
    shell(
        "run", path, *(["task=mr"] if named == "beside it" else []), "method.kind=zero-shot",
        "--data", moods, "--text-columns", "review", "--label-column", "mood",
        "--template", template, "--label-words", "0=bad,1=good",
    )  # fmt: skip
    (result,) = results()
    config = result["config"]
    assert config["data"]["source"] == "moods.csv"
    if named == "nowhere":
        assert config["task"]["name"] == "moods"
        assert config["task"]["templates"]["inline"]["masked"] == template
        assert config["prompt"]["template"] is None
        return
    assert config["task"]["name"] == ("SST-2" if named == "in the recipe" else "mr")
    assert (config["data"]["text_columns"], config["data"]["label_column"]) == (["review"], "mood")
    assert config["prompt"]["template"] == template
    assert config["prompt"]["label_words"] == {"0": "bad", "1": "good"}


def test_a_failed_run_exits_with_1_and_the_table_names_it(
    shell: Shell, tiny_masked_folder: Path, tiny_original: Path
) -> None:
    path = recipe(tiny_masked_folder, tiny_original)
    message = shell.error("run", path, "method.lr=1e30", "method.steps=6")
    assert "the loss is" in message or "not finite" in message
    (result,) = results()
    assert result["status"] == "failed"
    assert "failed" in shell.error("table", "runs")


def test_the_program_runs_quietly_when_piped(
    process: Run, tmp_path: Path, tiny_masked_folder: Path, tiny_original: Path
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        f'task = "SST-2"\n[data]\nsource = "{tiny_original}"\nk = 4\n'
        f'[model]\nkind = "masked"\nname = "{tiny_masked_folder}"\n' + MEZO.format(steps=2)
    )
    done = process("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "accuracy" in done.stdout


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_stopped(
    program: list[str], environment: dict[str, str], process: Run,
    tmp_path: Path, tiny_masked_folder: Path, tiny_original: Path,
) -> None:  # fmt: skip
    path = tmp_path / "r.toml"
    path.write_text(
        f'task = "SST-2"\n[data]\nsource = "{tiny_original}"\nk = 4\n'
        f'[model]\nkind = "masked"\nname = "{tiny_masked_folder}"\n' + MEZO.format(steps=200)
    )
    child = subprocess.Popen(
        [*program, "run", str(path)], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("runs/*/checkpoints/*/shoestring.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert out == ""
    assert "interrupted; the same command goes on from the last checkpoint" in err
    assert "Traceback" not in err
    (result,) = results(tmp_path / "runs")
    assert result["status"] == "cancelled"
    done = process("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = results(tmp_path / "runs")
    assert result["facts"]["resumed_from"] > 0
    assert result["passes"]["forward"] == 400
