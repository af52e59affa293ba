from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Shell
from shoestring.errors import ShoestringError

USAGE = {
    "command": (["taks"], "No such command 'taks'. Did you mean 'tasks'?"),
    "subcommand": (["tasks", "lst"], "No such command 'lst'. Did you mean 'list'?"),
    "option": (["run", "x.toml", "--sedes", "13"], "No such option: --sedes"),
    "nothing to run": (["run"], "a recipe is needed, or --data and what belongs to it"),
    "seeds": (["run", "x.toml", "--seeds", "13;21"], "--seeds: '13;21' is not of the form 13,21,42"),
    "seeds in other digits": (["run", "x.toml", "--seeds", "²"], "--seeds: '²' is not of the form 13,21,42"),
    "seed twice": (["run", "x.toml", "--seeds", "13,13"], "--seeds: a seed stands twice in '13,13'"),
    "seed said twice": (["run", "x.toml", "seed=1", "--seeds", "13"], "--seeds and seed=... say the same thing"),
    "folder said twice": (
        ["run", "x.toml", "output.folder=a", "--out", "b"],
        "--out and output.folder=... say the same",
    ),
    "kind": (["prompts", "trec", "--kind", "maskd"], "there is no 'maskd'; did you mean 'masked'?"),
    "kind of tasks": (["tasks", "check", "trec", "--kind", "head"], "there is no 'head'. Allowed: causal, masked"),
    "kind of nothing": (
        ["tasks", "check", "trec", "--kind", "causal"],
        "--kind is about a model; give --model as well",
    ),
    "mode": (
        ["data", "kshot", "--source", "a", "--out", "b", "--task", "trec", "--mode", "k-shot-10"],
        "there is no 'k-shot-10'; did you mean 'k-shot-10x'?",
    ),
    "format": (["table", "runs", "--format", "latx"], "there is no 'latx'; did you mean 'latex'?"),
    "no task": (["prompts"], "a task is needed, or --data and what belongs to it"),
    "json without a model": (["prompts", "SST-2", "--json"], "--json gives token ids, for which it needs --model"),
    "model said twice": (
        ["prompts", "SST-2", "model.name=a", "--model", "b"],
        "--model and model.name=... say the same",
    ),
    "data said twice": (
        ["run", "task=mr", "data.source=a", "--data", "b"],
        "--data and data.source=... say the same",
    ),
    "template said twice": (
        ["prompts", "mr", "prompt.template=a", "--template", "b"],
        "--template and prompt.template=... say the same",
    ),
    "split of nothing": (["prompts", "SST-2", "--split", "dev"], "--split is about data; give --data as well"),
    "seed of nothing": (["prompts", "SST-2", "--seed", "3"], "--seed is about data; give --data as well"),
    "part of an own task": (
        [
            "run",
            "task.version=2",
            "--data",
            "a.csv",
            "--text-columns",
            "t",
            "--template",
            "x*mask*",
            "--label-words",
            "a,b",
        ],
        "task.version=2 cannot change a task of your own; use prompt.* or a task file",
    ),
    "export and out": (["demo", "--out", "a", "--export", "b"], "--export runs nothing, so --out and --force would"),
    "task for a recipe": (["run", "sst-2"], "sst-2 is a task, no recipe; give it as task=sst-2, with model.* and"),
    "task file for a recipe": (["run", "task.toml"], "task.toml is a task, no recipe; give it as task=task.toml"),
    "data for a recipe": (["run", "none.csv"], "none.csv is data, no recipe; give it as --data none.csv"),
    "folder for a task of one's own": (
        ["run", "--data", ".", "--text-columns", "t", "--template", "x*mask*", "--label-words", "a,b"],
        "--data . is a folder; a task of your own is made of one file in it",
    ),
    "part of a task": (["run", "--data", "none.csv"], "also needs --text-columns, --template, --label-words"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_command_used_wrongly_exits_with_2_and_says_what_is_right(shell: Shell, case: str) -> None:
    arguments, message = USAGE[case]
    Path("task.toml").write_text('name = "t"\nsentences = ["s"]\n')
    assert message in shell.usage_error(*arguments)


ERRORS = {
    "recipe": (["run", "nope.toml"], "nope.toml: 1 problem\n  there is no such file"),
    "override": (["run", "r.toml", "method"], "method: is not of the form section.key=value"),
    "task": (["tasks", "show", "SST--2"], "unknown task 'SST--2'; did you mean 'SST-2'?"),
    "prompts": (["prompts", "trek"], "unknown task 'trek'; did you mean 'trec'?"),
    "template": (["prompts", "trec", "--template", "lmbff"], "unknown template 'lmbff'; did you mean 'lm-bff'?"),
    "runs": (["table", "rns"], "rns: there is no such folder"),
    "run in no folder": (
        ["predict", "rnus/0123"],
        "rnus/0123: there is no such folder, nor rnus; did you mean 'runs'?",
    ),
    "run to extract from": (
        ["extract", "rnus/0123", "--out", "a.safetensors"],
        "rnus/0123: there is no such folder, nor rnus; did you mean 'runs'?",
    ),
    "folder for a task": (["tasks", "show", "runs"], "runs: 1 problem\n  is a folder, where a TOML file is meant"),
    "folder for a task of a run": (["run", "task=runs"], "  task: runs: 1 problem\n  is a folder, where a TOML file"),
    "key": (["prompts", "trec", "promt.template=x"], "promt: unknown key; did you mean 'prompt'?"),
    "k of nothing": (["prompts", "trec", "--k", "4"], "data: without --data, data.k has no effect"),
    "source": (["prompts", "trec", "--data", "here"], "here: there is no such file or folder"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_mistake_exits_with_1_and_a_message_without_traceback(shell: Shell, case: str) -> None:
    Path("runs").mkdir()
    Path("r.toml").write_text('task = "SST-2"\n')
    arguments, message = ERRORS[case]
    assert message in shell.error(*arguments)


def test_brackets_in_a_message_are_no_markup(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        error = ShoestringError("the batch [train:1, bold] is [red]nan[/red]\n  on two lines")
        error.add_note("a note")
        raise error

    monkeypatch.setattr("shoestring.tasks.load.load_task", fail)
    assert shell.error("tasks", "show", "trec") == (
        "error: the batch [train:1, bold] is [red]nan[/red]\n  on two lines\na note\n"
    )


def test_the_columns_of_the_file_are_named_to_whom_forgot_them(shell: Shell) -> None:
    Path("r.csv").write_text("review,mood\nfine,1\n")
    assert "the columns of r.csv are: review, mood" in shell.usage_error("run", "--data", "r.csv")
    Path("r.jsonl").write_text('{"text": "fine", "label": 1}\n')
    assert "the columns of r.jsonl are: text, label" in shell.usage_error("prompts", "--data", "r.jsonl")


@pytest.mark.parametrize(
    ("command", "message"),
    [("tasks", "interrupted\n"), ("run", "interrupted; the same command makes what is not done")],
)
def test_an_interruption_exits_with_130(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: str, message: str
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shoestring.tasks.load.load_task", interrupt)
    monkeypatch.setattr("shoestring.runs.config.load_config", interrupt)
    Path("r.toml").touch()
    out, err = shell(*{"tasks": ("tasks", "show", "trec"), "run": ("run", "r.toml")}[command], code=130)
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_an_interruption_says_what_the_run_says_of_itself(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        error = KeyboardInterrupt()
        error.add_note("the same command begins this run again")
        raise error

    monkeypatch.setattr("shoestring.runs.config.load_config", interrupt)
    Path("r.toml").touch()
    assert shell("run", "r.toml", code=130)[1] == "\ninterrupted; the same command begins this run again\n"


@pytest.mark.parametrize("error", ["RuntimeError('ours')", "OSError(28, 'ours')"])
def test_a_mistake_of_ours_keeps_its_traceback(error: str, environment: dict[str, str]) -> None:
    """Also one of the system that is not about printing."""
    code = (
        "import shoestring.tasks.load as load\n"
        f"def broken(name): raise {error}\n"
        "load.load_task = broken\n"
        "import sys; sys.argv = ['shoestring', 'tasks', 'show', 'trec']\n"
        "from shoestring.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert error.partition("(")[0] in done.stderr
    assert done.stderr.endswith("ours\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
@pytest.mark.parametrize("arguments", [["tasks", "list"], ["tasks", "list", "--json"], ["tasks", "show", "trec"]])
def test_a_reader_that_leaves_early_gives_no_traceback(
    environment: dict[str, str], program: list[str], arguments: list[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*program, *arguments], stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
    assert done.returncode in (0, 1, -signal.SIGPIPE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["tasks", "list"], ["tasks", "list", "--json"], ["tasks", "show", "trec"], ["--help"], ["--version"]]
)
def test_what_a_full_disk_keeps_from_being_printed_is_an_error_without_traceback(
    environment: dict[str, str], program: list[str], arguments: list[str], unbuffered: str
) -> None:
    environment = environment | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*program, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    assert (done.returncode, done.stderr) == (1, "error: standard output cannot be written: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_error_that_cannot_be_printed_still_exits_with_1(environment: dict[str, str], program: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*program, "tasks", "show", "nope"]
        done = subprocess.run(command, stdout=full, stderr=full, env=environment, check=False)
    assert done.returncode == 1
