from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console

from cli.conftest import Shell
from shoestring.cli import screen
from shoestring.tasks.load import task_names

TASK = """
name = "mood"
sentences = ["text"]
labels = [{ name = "0", word = "terrible" }, { name = "1", word = "WORD" }]
[templates.plain]
masked = "*cls**sent_0*_It_was*mask*.*sep+*"
[[golden]]
sentences = ["fine"]
masked = "<cls>fine It was<mask>.<sep>"
"""


def mood(word: str = "great") -> Path:
    path = Path("mood.toml")
    path.write_text(TASK.replace("WORD", word))
    return path


def test_list_gives_one_line_a_task_when_piped(shell: Shell) -> None:
    out, err = shell("tasks", "list")
    assert err == ""
    assert [line.split("\t")[0] for line in out.splitlines()] == list(task_names())


def wide(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    def terminal() -> Console:
        return Console(highlight=False, markup=False, force_terminal=True, color_system=None, width=columns)

    monkeypatch.setattr(screen, "out", terminal)


def test_list_and_show_fit_a_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    wide(monkeypatch, 80)
    lines = shell("tasks", "list")[0].splitlines()
    assert max(map(len, lines)) <= 80
    (sst2,) = (line for line in lines if line.strip().startswith("SST-2"))
    assert all(part in sst2 for part in ("Is the movie", "terrible great", "accuracy"))
    lines = shell("tasks", "show", "MNLI")[0].splitlines()
    assert "".ljust(14) + "test-mismatched from validation_mismatched" in [line.rstrip() for line in lines]


def test_list_gives_json(shell: Shell) -> None:
    tasks = {task["name"]: task for task in json.loads(shell("tasks", "list", "--json")[0])}
    assert tasks["trec"]["words"][0] == "Description"
    assert tasks["CoLA"]["metric"] == "mcc"


def test_show_has_labels_templates_and_a_rendered_example(shell: Shell) -> None:
    out, _ = shell("tasks", "show", "mnli")
    assert "entailment Yes" in out
    assert "*cls**sent-_0*?*mask*,*+sentl_1**sep+*" in out
    assert "<cls>He ran?<mask>, he moved.<sep>" in out
    assert "test-mismatched from validation_mismatched" in out
    assert "\x1b" not in out


def test_show_gives_json(shell: Shell) -> None:
    assert json.loads(shell("tasks", "show", "trec", "--json")[0])["name"] == "trec"


def test_check_passes_the_catalogue_and_a_good_file(shell: Shell) -> None:
    out, _ = shell("tasks", "check", *task_names(), mood())
    assert out.splitlines()[-1] == "mood.toml: ok"


def test_check_says_what_is_wrong_with_a_file_and_goes_on(shell: Shell) -> None:
    bad = mood()
    bad.write_text(bad.read_text().replace("It was<mask>", "It is<mask>"))
    Path("worse.toml").write_text("nmae = 1")
    out, _ = shell("tasks", "check", bad, "worse.toml", "SST-2", code=1)
    assert "task mood, golden 1: the masked prompt is" in out
    assert "nmae: unknown key; did you mean 'name'?" in out
    assert "SST-2: ok" in out


def test_check_holds_label_words_against_a_tokenizer(shell: Shell, tiny_masked_folder: Path) -> None:
    out, err = shell("tasks", "check", mood(), "--model", tiny_masked_folder)
    assert "mood.toml: ok" in out
    assert err.startswith("note: task mood (masked): limits.max_tokens is 128, but the model reads 64; ")
    short = mood()
    short.write_text(short.read_text().replace("[templates", "[limits]\nmax_tokens = 64\n[templates"))
    out, err = shell("tasks", "check", short, "--model", tiny_masked_folder)
    assert err == ""
    assert out == f"mood.toml: ok with the tokenizer of {tiny_masked_folder} (masked)\n"
    out, _ = shell("tasks", "check", mood("extraordinary"), "--model", tiny_masked_folder, code=1)
    assert "'extraordinary' is" in out
    assert "tokens to" in out


def test_check_of_a_model_that_is_not_there(shell: Shell) -> None:
    assert "there is no such folder" in shell.error("tasks", "check", "SST-2", "--model", "./nowhere")


def test_an_imported_task_goes_into_a_pipe_that_is_there(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "task.yaml"
    source.write_text(
        "task: mine\ndataset_path: mine\ntraining_split: train\ntest_split: test\noutput_type: multiple_choice\n"
        "doc_to_text: 'Q: {{q}}'\ndoc_to_target: a\ndoc_to_choice: choices\n"
    )
    wanted, _ = shell("tasks", "import", source)
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        shell("tasks", "import", source, "--out", tmp_path / "pipe")
    assert read.result(timeout=10) == wanted
    (tmp_path / "taken.toml").touch()
    assert "taken.toml is there already" in shell.error("tasks", "import", source, "--out", tmp_path / "taken.toml")
