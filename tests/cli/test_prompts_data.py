"""What `shoestring prompts` reads where nothing is said about how the data are drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.conftest import Shell

SHOWN = ("prompt.demonstrations.kind=in-context", "prompt.demonstrations.count=1")


def write(path: str, labels: str) -> None:
    rows = [{"passage": f"text {n}", "question": "is it", "label": label == "y"} for n, label in enumerate(labels)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(json.dumps(row) for row in rows))


@pytest.fixture
def both(shell: Shell) -> Shell:
    """A folder with a train file that has few of one label, and a test file."""
    write("data/BoolQ/train.jsonl", "yyyyyyyn")
    write("data/BoolQ/val.jsonl", "ny")
    return shell


def test_few_examples_of_a_label_are_shown_all(both: Shell) -> None:
    out, _ = both("prompts", "BoolQ", "--data", "data", "-n", 20)
    assert out.count("train:") == 8
    for asked in (("--k", 4), ("data.k=4",), ("data.mode=k-shot",), ("data.allow_fewer=false",)):
        assert "are needed" in both.error("prompts", "BoolQ", "--data", "data", *asked)


def test_a_test_set_alone_is_shown(shell: Shell) -> None:
    write("data/BoolQ/val.jsonl", "nyn")
    out, _ = shell("prompts", "BoolQ", "--data", "data", "--split", "test", "-n", 20)
    assert out.count("test:") == 3
    refused = shell.error("prompts", "BoolQ", "--data", "data")
    assert "holds no files of mezo/BoolQ" in refused
    assert "--split test shows the test set, which is there" in refused


def test_the_test_set_of_a_folder_is_the_same_with_train_and_without(both: Shell) -> None:
    asked = ("prompts", "BoolQ", "--data", "data", "--split", "test")
    out, _ = both(*asked, "data.allow_fewer=true")
    assert both(*asked)[0] == out


def test_demonstrations_of_a_test_set_need_train(both: Shell) -> None:
    asked = ("prompts", "BoolQ", "--data", "data", "--split", "test", "-n", 1, *SHOWN)
    assert "text 0 Is it?" in both(*asked)[0]
    Path("data/BoolQ/train.jsonl").unlink()
    refused = both.error(*asked)
    assert "looked for" in refused
    assert "--split" not in refused


def test_the_test_set_of_one_file_is_what_the_draw_leaves(shell: Shell) -> None:
    write("rows.jsonl", "yn" * 17)
    out, _ = shell("prompts", "BoolQ", "--data", "rows.jsonl", "--split", "test", "-n", 40)
    assert out.count("train:") == 2


def test_a_split_without_examples_is_an_error(both: Shell) -> None:
    refused = both.error("prompts", "BoolQ", "--data", "data", "data.mode=subset", "data.num_train=0")
    assert "error: split 'train': has no examples as the data are drawn; there are: test\n" in refused
