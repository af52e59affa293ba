"""Own data without a task file, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.conftest import Shell
from shoestring.cli.first_row import first_row
from shoestring.cli.own_data import OwnData
from shoestring.tasks.spec import FileSource, Task

QUESTIONS = [
    {"question": "What is the capital of France?", "answer": ["Paris", "the city of Paris"]},
    {"question": "Who wrote Faust?", "answer": "Goethe"},
    {"question": "What is 2 + 2?", "answer": "4"},
]
CHOICES = [
    {"question": "Which is a fruit?", "choices": ["a stone", "an apple"], "right": 1, "text": "an apple"},
    {"question": "Which is wet?", "choices": ["water", "sand", "ash"], "right": 0, "text": "water"},
]
DRAW = ["data.mode=subset", "data.num_train=1", "-n", "1"]
MASKED = ["--kind", "masked"]
TEXTS = ["--data", "q.jsonl", "--inputs", "question", "--outputs", "answer"]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("q.jsonl", QUESTIONS)
    write("c.jsonl", CHOICES)
    Path("c.csv").write_text("question,A,B,right\nWhich is a fruit?,a stone,an apple,B\nWhich is wet?,water,sand,A\n")
    Path("pairs.tsv").write_text("a question\tan answer\nanother question\tanother answer\n")
    Path("films.csv").write_text("text,label\na great film,1\na bad film,0\n")


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def made(**options: str) -> Task:
    task = OwnData(**options).table(task=False)["task"]
    assert isinstance(task, Task)
    return task


def source(task: Task) -> FileSource:
    assert task.sources.files is not None
    return task.sources.files


def shown(shell: Shell, *options: str) -> list[str]:
    """Return the lines of one prompt."""
    out, err = shell("prompts", *options, *DRAW)
    assert err == ""
    return out.split("train:")[1].splitlines()[1:]


# What is made


def test_questions_and_answers_are_a_task_to_write_answers(shell: Shell) -> None:
    task = made(data="q.jsonl", inputs="question", outputs="answer")
    assert (task.kind, task.sentences, task.metrics) == ("generation", ("question",), ("token-f1", "exact-match"))
    assert shown(shell, *TEXTS) == ["  text     Question: Who wrote Faust?⏎Answer:", "  answer   ' Goethe\\n'"]


def test_a_template_of_ones_own_is_written_in_jinja(shell: Shell) -> None:
    lines = shown(shell, *TEXTS, "--template", "{{ question.upper() }}\n")
    assert lines == ["  text     WHO WROTE FAUST?⏎", "  answer   'Goethe\\n'"]


def test_several_inputs_are_shown_behind_their_names(shell: Shell) -> None:
    rows = [{"the title": "Rome", "class": "city", "said": "It lies on the Tiber."}] * 2
    write("r.jsonl", rows)
    lines = shown(shell, "--data", "r.jsonl", "--inputs", "the title,class", "--outputs", "said")
    assert lines[0] == "  text     The title: Rome⏎Class: city⏎Said:"


@pytest.mark.parametrize(("column", "key"), [("right", "label"), ("text", "golds")])
def test_candidates_in_a_list_are_chosen_from_by_number_or_by_text(shell: Shell, column: str, key: str) -> None:
    task = made(data="c.jsonl", inputs="question", candidates="choices", outputs=column)
    assert (task.kind, task.metric) == ("multiple-choice", "accuracy")
    assert (getattr(source(task), key), source(task).candidates) == (column, "choices")
    lines = shown(shell, "--data", "c.jsonl", "--inputs", "question", "--candidates", "choices", "--outputs", column)
    assert lines[0] == "  text     Question: Which is wet?⏎Answer:"
    assert lines[1:] == ["  answers  ' water' <- label", "           ' sand'", "           ' ash'"]


@pytest.mark.parametrize("column", ["right", "number", "text"])
def test_candidates_in_columns_are_chosen_from_by_column_number_or_text(shell: Shell, column: str) -> None:
    Path("c.csv").write_text(
        "question,A,B,right,number,text\nWhich?,a stone,an apple,B,1,an apple\nWhich is wet?,water,sand,A,0,water\n"
    )
    lines = shown(shell, "--data", "c.csv", "--inputs", "question", "--candidates", "A,B", "--outputs", column)
    assert lines[1:] == ["  answers  ' water' <- label", "           ' sand'"]


def test_a_number_that_is_a_candidate_is_its_text() -> None:
    write("n.jsonl", [{"q": "Which is even?", "choices": ["3", "1", "2"], "right": "2"}])
    assert source(made(data="n.jsonl", inputs="q", candidates="choices", outputs="right")).golds == "right"


def test_a_file_without_names_has_numbers_for_columns(shell: Shell) -> None:
    task = made(data="pairs.tsv", inputs="0", outputs="-1")
    assert (source(task).header, source(task).sentences, source(task).golds) == (False, (0,), -1)
    lines = shown(shell, "--data", "pairs.tsv", "--inputs", "0", "--outputs", "1")
    assert lines == ["  text     Input: another question⏎Output:", "  answer   ' another answer\\n'"]


def test_columns_that_are_called_by_numbers_are_called_so() -> None:
    Path("n.csv").write_text("0,1\nx,y\n")
    assert source(made(data="n.csv", inputs="0", outputs="1")).header
    Path("y.csv").write_text("2020,text\nx,y\n")
    assert source(made(data="y.csv", inputs="2020", outputs="txet")).header
    write("n.jsonl", [{"0": "x", "1": "y"}])
    assert source(made(data="n.jsonl", inputs="0", outputs="1")).sentences == ("0",)


def test_columns_of_labels_may_be_numbers_too(shell: Shell) -> None:
    Path("films.tsv").write_text("a great film\t1\na bad film\t0\n")
    options = ["--data", "films.tsv", "--text-columns", "0", "--label-column", "1", "--label-words", "bad,good"]
    assert shown(shell, *options, "--template", "*sent_0*_So*mask*.")[0] == "  text     a bad film So<mask>."
    assert shown(shell, *options, "--template", "{{ input }} So")[0] == "  text     a bad film So"


def test_a_column_may_be_computed_in_records() -> None:
    write("r.jsonl", [{"a": "x", "b": {"c": ["y", "z"]}}])
    task = made(data="r.jsonl", inputs="{{ [a, a] | join(' ') }},a", outputs="b.c")
    assert (task.sentences, source(task).golds) == (("input_0", "a"), "b.c")


def test_labels_are_asked_for_in_jinja_as_well(shell: Shell) -> None:
    options = ["--data", "films.csv", "--text-columns", "text", "--label-words", "terrible,great"]
    lines = shown(shell, *options, "--template", "{{ text }} It was")
    assert lines == ["  text     a bad film It was", "  answers  ' terrible'  0 <- label", "           ' great'  1"]


def test_beside_a_task_that_is_named_columns_are_those_of_its_data(shell: Shell) -> None:
    Path("q.csv").write_text("heading,text,asked,said\nRome,It lies there.,Where?,There\nOslo,It is cold.,How?,Cold\n")
    lines = shown(
        shell, "mezo/SQuAD", "--data", "q.csv", "--inputs", "heading,text,asked", "--outputs", "said"
    )  # fmt: skip
    assert lines[0] == "  text     Title: Oslo⏎Context: It is cold.⏎Question: How?⏎Answer:"


def test_beside_a_task_that_is_named_one_label_may_change_its_word(shell: Shell) -> None:
    out, _ = shell("prompts", "SST-2", "--label-words", "1=good")
    assert "' terrible'  0" in out
    assert "' good'  1" in out


def test_a_run_is_made_of_candidates(shell: Shell, tiny_causal_folder: Path) -> None:
    rows = [{"text": f"a {word} film", "choices": ["bad", "great"], "right": word} for word in ("bad", "great")] * 6
    write("m.jsonl", rows)
    out, _ = shell(
        "run", "--data", "m.jsonl", "--inputs", "text", "--candidates", "choices", "--outputs", "right",
        "--template", "{{ text }}. It was", "model.kind=causal", f"model.name={tiny_causal_folder}",
        "method.kind=zero-shot", "data.k=2",
    )  # fmt: skip
    assert "m, causal llama, zero-shot, seed 13" in out
    (result,) = Path("runs").glob("*/result.json")
    assert json.loads(result.read_text())["config"]["task"]["kind"] == "multiple-choice"


# What is refused

USAGE = {
    "both sorts": ([*TEXTS, "--label-words", "a,b"], "--label-words and --inputs are for different tasks"),
    "both columns": (
        ["--data", "q.jsonl", "--text-columns", "question", "--outputs", "answer"],
        "--text-columns and --outputs are for different tasks: --text-columns, --label-column and --label-words for",
    ),
    "no outputs": (
        ["--data", "q.jsonl", "--inputs", "question"],
        "a task of your own also needs --outputs; the columns of q.jsonl are: question, answer",
    ),
    "no data": (["--inputs", "question", "--outputs", "answer"], "a task of your own also needs --data"),
    "candidates alone": (["--data", "c.jsonl", "--candidates", "choices"], "also needs --inputs, --outputs"),
    "either sort": (
        ["--data", "films.csv"],
        "needs --text-columns, --template, --label-words; or, for answers that are texts, --inputs and --outputs",
    ),
    "mixed": (
        ["--data", "pairs.tsv", "--inputs", "0", "--outputs", "answer"],
        "0 is a number and answer a name of a column; a file whose columns have no names calls them all by number",
    ),
    "said twice": ([*TEXTS, "data.label_column=x"], "--outputs and data.label_column=... say the same thing"),
    "candidates of a named task": (
        ["mezo/Copa", "--data", "c.jsonl", "--candidates", "choices"],
        "--candidates makes a task of your own; a task that is named says itself where",
    ),
    "part of an own task": ([*TEXTS, "task.version=2"], "task.version=2 cannot change a task of your own"),
}
ERRORS = {
    "column": (["--data", "q.jsonl", "--inputs", "qestion", "--outputs", "answer"], "did you mean 'question'"),
    "text": ([*TEXTS, "--template", "Q: {{ qestion }}"], "there is no text 'qestion'; did you mean 'question'"),
    "one brace": ([*TEXTS, "--template", "Q: { question }"], "shows no text; where answers are texts, write it in"),
    "stars": ([*TEXTS, "--template", "*sent_0*_So"], "'*sent_0*_So' shows no text; where answers are texts"),
    "no end": ([*TEXTS, "--template", "Q: {{ question"], "is not Jinja: unexpected end of template"),
    "answer asked": (
        [*TEXTS, "--template", "{{ question }} {{ candidate }}"],
        "'candidate' is the answer, which does not stand here",
    ),
    "unseen": (
        ["--data", "q.jsonl", "--inputs", "question,id", "--outputs", "answer", "--template", "{{ question }}"],
        "never shows id; the texts are {{ question }}, {{ id }}",
    ),
    "answer is input": (
        ["--data", "q.jsonl", "--inputs", "question", "--outputs", "question"],
        "outputs: 'question' is one of the inputs",
    ),
    "candidate is input": (
        ["--data", "c.csv", "--inputs", "question", "--candidates", "A,question", "--outputs", "right"],
        "candidates: 'question' is one of the inputs",
    ),
    "candidate is answer": (
        ["--data", "c.csv", "--inputs", "question", "--candidates", "A,right", "--outputs", "right"],
        "candidates: 'right' is the column of the right answer",
    ),
    "one candidate": (
        ["--data", "c.csv", "--inputs", "question", "--candidates", "A", "--outputs", "right"],
        "candidates are two columns or more",
    ),
    "kind of file": (["--data", "q.txt", "--inputs", "a", "--outputs", "b"], "'q.txt' is of an unknown kind"),
    "no file": (["--data", "r.jsonl", "--inputs", "a", "--outputs", "b"], "there is no such file or folder"),
    "beyond the columns": (
        ["--data", "pairs.tsv", "--inputs", "0", "--outputs", "2"],
        "pairs.tsv, line 1: the row has 2 columns, not at least 3",
    ),
    "label without a number": (
        ["--data", "films.csv", "--text-columns", "0", "--template", "{{ input }} So", "--label-words", "a,b"],
        "label_column: 'label' is no number: without a first line of names, columns are",
    ),
    "masked": (
        [
            "--data",
            "films.csv",
            "--text-columns",
            "text",
            "--template",
            "{{ text }} So",
            "--label-words",
            "a,b",
            *MASKED,
        ],
        "template 'inline' has no masked form",
    ),
    "a misspelt mask": (
        [
            "--data",
            "films.csv",
            "--text-columns",
            "text",
            "--template",
            "*cls**sent_0*_It_was*msk*.*sep+*",
            "--label-words",
            "a,b",
            *MASKED,
        ],
        "there is no token `*msk*`; did you mean '*mask*'?",
    ),
    "no text in stars": (
        ["--data", "films.csv", "--text-columns", "text", "--template", "{ text } So", "--label-words", "a,b"],
        "'{ text } So' shows no text; write *sent_0*",
    ),
}


@pytest.mark.parametrize("case", USAGE)
def test_options_that_contradict_each_other_or_lack_one_are_refused(case: str, shell: Shell) -> None:
    options, message = USAGE[case]
    assert message in shell.usage_error("prompts", *options)


@pytest.mark.parametrize("case", ERRORS)
def test_a_task_that_cannot_be_made_is_named(case: str, shell: Shell) -> None:
    options, message = ERRORS[case]
    assert message in shell.error("prompts", *options, *DRAW)


def test_the_same_options_are_refused_by_a_run(shell: Shell) -> None:
    message = shell.usage_error("run", "--data", "q.jsonl", "--inputs", "question", "method.kind=zero-shot")
    assert "a task of your own also needs --outputs; the columns of q.jsonl are: question, answer" in message


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--inputs", "a"], "--inputs names columns"),
        (["--outputs", "a"], "--outputs names columns"),
        (["--label-column", "a"], "--label-column names columns"),
        (["--text-columns", "a", "--label-column", "b"], "--text-columns and --label-column name columns"),
    ],
)
def test_columns_where_data_are_no_file_are_told_by_the_option_that_was_given(
    shell: Shell, tiny_masked_folder: Path, options: list[str], told: str
) -> None:
    model = ["model.kind=masked", f"model.name={tiny_masked_folder}", "method.kind=zero-shot"]
    Path("r.toml").write_text('task = "SST-2"\n')
    message = shell.error("run", "r.toml", *options, *model)
    assert f"error: data: {told} of one file, which data.source (or data.test_source) should be" in message


def test_options_without_effect_are_told_as_they_were_given(shell: Shell) -> None:
    assert "without --data, --outputs has no effect" in shell.error("prompts", "SST-2", "--outputs", "a")


def test_nothing_given_is_nothing_changed() -> None:
    assert OwnData().table(task=False) == {}
    with pytest.raises(typer.BadParameter, match="also needs --data"):
        OwnData(outputs="answer").table(task=False)


# The beginning of a file


def test_the_first_row_is_seen_in_every_format() -> None:
    assert first_row(Path("c.csv"))["B"] == "an apple"
    assert first_row(Path("pairs.tsv"), header=False)["-1"] == "an answer"
    Path("d.json").write_text(json.dumps(CHOICES))
    assert first_row(Path("d.json")).names == ("question", "choices", "right", "text")
    Path("e.jsonl").write_text(json.dumps({"a": {"b": 1}, "a.c": 2}) + "\n")
    row = first_row(Path("e.jsonl"))
    assert (row["a.b"], row["a.c"], row["a.d"], row["b"]) == (1, 2, None, None)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "{"), ("a.json", "[]"), ("a.jsonl", "[1]\n"), ("a.csv", ""), ("a.tsv", ""), ("a.csv", "\x00")],
)
def test_a_file_that_cannot_be_read_has_no_first_row(name: str, text: str) -> None:
    Path(name).write_text(text)
    assert first_row(Path(name))["b"] is None
