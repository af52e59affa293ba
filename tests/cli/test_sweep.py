"""`shoestring sweep`: every run of a study, and how far they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.conftest import Shell
from shoestring.cli import sweep_screen
from shoestring.cli.sweep_screen import remaining, spell, summary
from shoestring.errors import WorkerError
from shoestring.studies.launchers.base import Ended
from shoestring.studies.plan import Plan, Tally
from shoestring.studies.study import load_study
from shoestring.studies.sweep import Sweep

pytestmark = pytest.mark.usefixtures("frozen_imports")
RECIPE = """\
task = "SST-2"
[data]
source = "{data}"
k = 4
[model]
kind = "masked"
name = "{model}"
[method]
kind = "mezo"
steps = 2
eval_every = 2
batch_size = 4
[study]
title = "A small study"
seeds = [13, 21]
search.method.lr = {{ low = 1e-4, high = 1e-2, log = true }}
[[study.variants]]
name = "zero-shot"
set.method.kind = "zero-shot"
[[study.variants]]
name = "MeZO"
"""
HERE = ("--launcher", "here")
NOTE = "note: A small study: the ranges of study.search are for --search random or tpe; the grid leaves them aside\n"


@pytest.fixture
def recipe(tmp_path: Path, tiny_masked_folder: Path, tiny_original: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE.format(data=tiny_original, model=tiny_masked_folder), encoding="utf-8")
    return path


def test_a_sweep_from_a_dry_run_to_its_table(shell: Shell, recipe: Path) -> None:
    out, err = shell("sweep", recipe, "--over", "method.lr=1e-3,1e-2", "--dry-run")
    assert "MeZO, SST-2, method.lr=0.001, seed 13\n" in out
    assert "6 runs: 6 to do; how long they take is not known before one has ended\n" in out
    assert err.endswith("6 runs would be made\n")
    assert NOTE in err
    assert "note: method.lr is left out of what has no such key: 'zero-shot'" in err
    assert not Path("runs").exists()
    out, err = shell("sweep", recipe, "--over", "method.lr=1e-3,1e-2", *HERE)
    assert out.startswith(
        "A small study\naccuracy x 100 on test: mean (population standard deviation, number of seeds)"
    )
    assert "chosen on dev for each seed, out of up to 2 trials; tried: method.lr" in out
    assert out.endswith("zero-shot    2/2\nMeZO         4/4\n6 runs: 6 done\n")
    again, err = shell("sweep", recipe, "--over", "method.lr=1e-3,1e-2", *HERE)
    assert again == out
    assert "to do" not in err
    status, _ = shell("sweep", "status", "runs")
    assert status.startswith(f"A small study ({recipe})\n")
    assert status.splitlines()[1:] == out.splitlines()[-4:]
    status, _ = shell("sweep", "status", recipe)
    assert "4 runs: 2 done, 2 to do; perhaps " in status
    assert " of work, one run at a time (no run of MeZO has ended yet)" in status


def test_where_published_numbers_are_is_said_at_the_end(shell: Shell, recipe: Path) -> None:
    entry = '[[study.published]]\nsource = "X"\nvariant = "MeZO"\nmetric = "accuracy"\nvalues = { "SST-2" = 90.0 }\n'
    recipe.write_text(recipe.read_text() + entry)
    _, err = shell("sweep", recipe, "--seeds", "13", *HERE)
    assert f"shoestring table runs --against {recipe} puts the published numbers beside" in err
    out, _ = shell("table", "runs", "--against", recipe)
    assert "90.0" in out


def test_failures_are_told_at_the_end_and_made_again_when_asked(shell: Shell, recipe: Path) -> None:
    away = Path("away")
    away.mkdir()
    arguments = ("sweep", recipe, f"data.source={away}", "--seeds", "13", *HERE)
    out, err = shell(*arguments, code=1)
    assert "there is no finished run to make a table of" in out
    assert out.endswith("2 runs: 2 failed\n")
    assert "failed: away: holds no files of SST-2" in err
    assert f"  zero-shot, SST-2, seed 13 ({Path('runs').resolve()}/" in err
    assert err.endswith("--retry makes the failed runs again\n")
    away.rmdir()
    away.symlink_to(recipe.read_text().split('source = "')[1].split('"')[0])
    shell(*arguments, code=1)
    out, err = shell(*arguments, "--retry")
    assert out.endswith("2 runs: 2 done\n")
    assert "failed:" not in err


def test_a_damaged_folder_is_not_said_to_be_mended_by_retry(shell: Shell, recipe: Path) -> None:
    arguments = ("sweep", recipe, "--seeds", "13", *HERE)
    shell(*arguments)
    first, second = sorted(Path("runs").glob("*/result.json"))
    intact = first.read_text()
    first.write_text("{")
    second.write_text(intact)
    _, err = shell(*arguments, "--retry", code=1)
    assert "result.json cannot be read" in err
    assert "; delete the folder" in err
    assert f"holds a run of another config ({first.parent.name}); delete or move the folder" in err
    assert "--retry makes" not in err


def test_stop_on_failure_ends_with_the_error(shell: Shell, recipe: Path) -> None:
    Path("nothing").mkdir()
    out, err = shell("sweep", recipe, "data.source=nothing", "--stop-on-failure", *HERE, code=1)
    assert out == ""
    assert "\nerror: nothing: holds no files of SST-2" in err
    assert len(list(Path("runs").glob("*/result.json"))) == 1


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("data.source=nowhere", "nowhere: there is no such file or folder"),
        ("model.name=./nowhere", "there is no such folder"),
    ],
)
def test_a_sweep_of_which_no_run_could_begin_is_refused_at_once(
    shell: Shell, recipe: Path, key: str, message: str
) -> None:
    out, err = shell("sweep", recipe, key, *HERE, code=1)
    assert out == ""
    assert message in err
    assert "no run was begun: this, or the like, keeps each of 4 from it" in err
    assert not Path("runs").exists()


def test_a_misspelt_recipe_is_named_with_the_nearest(shell: Shell, recipe: Path) -> None:
    err = shell.error("sweep", "mezo/roberta-large-k61")
    assert "unknown recipe 'mezo/roberta-large-k61'; did you mean 'mezo/roberta-large-k16'?" in err
    assert "there is no such file; did you mean 'small.toml'?" in shell.error("sweep", "smal.toml")
    err = shell.error("sweep", "staus", "runs")
    assert "there is no file or folder 'staus' either; shoestring sweep status says how far a sweep is" in err


def test_a_sweep_by_random_search_and_by_tpe(shell: Shell, recipe: Path) -> None:
    out, err = shell("sweep", recipe, "--search", "random", "--trials", "2", "--out", "r", *HERE)
    assert out.endswith("MeZO         4/4\n6 runs: 6 done\n")
    assert NOTE not in err
    pytest.importorskip("optuna")
    out, _ = shell("sweep", recipe, "--search", "tpe", "--trials", "3", "--out", "t", "--dry-run")
    assert "8 runs: 8 to do" in out
    out, _ = shell("sweep", recipe, "--search", "tpe", "--trials", "3", "--prune", "--out", "t", *HERE)
    assert out.endswith("MeZO         6/6\n8 runs: 8 done\n")
    (plan,) = Path("t").glob("*.sweep.json")
    assert plan.name == "a-small-study.sweep.json"
    assert len(json.loads(plan.read_text())["runs"]) == 8


def test_run_makes_the_base_of_a_study_and_says_so(shell: Shell, recipe: Path) -> None:
    out, err = shell("run", recipe)
    assert "SST-2, masked roberta, mezo, seed 13" in out
    assert err == (
        f"note: {recipe} is a study of 4 runs; shoestring sweep {recipe} makes them all, run makes its base\n"
    )


def test_several_recipes_are_one_sweep(shell: Shell, recipe: Path) -> None:
    other = recipe.with_name("other.toml")
    other.write_text(recipe.read_text().replace("A small study", "Another"))
    out, err = shell("sweep", recipe, other, "--seeds", "13", "--dry-run")
    assert "2 runs: 2 to do" in out
    assert "note: 2 runs belong to several studies; made once" in err
    err = shell.error("sweep", recipe, recipe, "--dry-run")
    assert "is given twice" in err


def test_mistakes_on_the_command_line_are_named(shell: Shell, recipe: Path) -> None:
    def usage(*arguments: object) -> str:
        return shell.usage_error("sweep", *arguments)

    assert "a recipe is needed" in usage("method.lr=1")
    assert "--trials is for --search random or tpe" in usage(recipe, "--trials", "3")
    assert "--search tpe needs --trials N" in usage(recipe, "--search", "tpe")
    assert "--prune is for --search tpe" in usage(recipe, "--search", "random", "--trials", "2", "--prune")
    assert "there is no 'tep'; did you mean 'tpe'" in usage(recipe, "--search", "tep")
    assert "--seeds and seed=... say the same thing" in usage(recipe, "seed=3", "--seeds", "13")
    assert "--jobs and launcher.jobs=... say the same thing" in usage(recipe, "launcher.jobs=3", "--jobs", "3")
    assert "launcher.kind=... is for --launcher NAME to say" in usage(recipe, "launcher.kind=here")
    Path("folder").mkdir()
    assert "a folder has its plan; settings, --over, --seeds and --out go" in usage("status", "folder", "a=b")
    assert "method.lrr: there is no such key; did you mean 'method.lr'" in shell.error(
        "sweep", recipe, "--over", "method.lrr=1"
    )
    assert "unknown launcher 'loca'; did you mean 'local'" in shell.error("sweep", recipe, "--launcher", "loca")
    assert "launcher local: 1 problem\n  jbos: unknown key; did you mean 'jobs'" in shell.error(
        "sweep", recipe, "launcher.jbos=3"
    )
    assert "holds no plan of a sweep" in shell.error("sweep", "status", "folder")


def test_help_shows_the_options_without_a_command(shell: Shell) -> None:
    out, _ = shell("sweep", "--help")
    assert "--dry-run" in out
    assert "shoestring sweep status" in " ".join(out.split())


def test_times_are_said_as_people_do() -> None:
    assert [spell(seconds) for seconds in (0.4, 89, 90, 5399, 7260, 200_000)] == [
        "0 s", "89 s", "2 min", "1 h 30 min", "2 h 1 min", "2 d 7 h",
    ]  # fmt: skip


def test_progress_counts_what_goes_on(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = load_study(recipe, out=str(recipe.parent / "runs"))
    tally = Sweep.of([study]).tally()
    shown = sweep_screen.Progress(tally)
    first, second, third, _ = study.configs()
    for config in (first, second, third):
        shown.began(config)
    shown.ended(Ended(first.folder, "ok", seconds=30.0))
    shown.ended(Ended(second.folder, "failed", error=WorkerError("it broke")))
    assert summary(tally, remaining(tally, 1)) == (
        "4 runs: 1 done, 1 running, 1 failed, 1 to do; perhaps 45 s left with 1 at a time "
        "(no run of MeZO has ended yet)"
    )
    assert tally.failures[0][1] == "it broke"
    tally.seen[3] = type(tally.seen[3])("done", seconds=10.0)
    assert remaining(tally, 2) == "; about 2 s left with 2 at a time"
    tally.seen[3] = type(tally.seen[3])("to do")
    shown.tick()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sweep_screen, "_LINE_EVERY", 0.0)
    shown.tick()
    assert capsys.readouterr().err.startswith("4 runs: 1 done, 1 running")
    shown.ended(Ended(third.folder, "lost"))
    assert tally.count("to do") == 2


def test_failures_with_the_same_error_stand_together(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = load_study(recipe, seeds=range(8), out=str(recipe.parent / "runs"))
    sweep = Sweep.of([study])
    tally = sweep.tally()
    for place in range(16):
        tally.seen[place] = type(tally.seen[place])("failed", "one and the same" if place < 5 else f"error {place}")
    sweep_screen.print_failures(tally)
    err = capsys.readouterr().err
    assert err.count("one and the same") == 1
    assert "  and 2 more\n" in err
    assert "and 2 further errors\n" in err
    assert remaining(Tally.of([Plan(title="x", recipe="y", runs=())]), 0) == ""
