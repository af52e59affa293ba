"""Tasks of the lm-evaluation-harness become task files; what cannot is said."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from shoestring.config import build
from shoestring.data.answers import Row, to_example
from shoestring.data.computed import computed
from shoestring.data.example import Example
from shoestring.data.place import Place
from shoestring.errors import ConfigError
from shoestring.prompts.text_template import TextTemplate
from shoestring.tasks.harness import Imported, import_task
from shoestring.tasks.jinja import is_template
from shoestring.tasks.spec import Task

CHOICES = r"""
task: arc
dataset_path: allenai/ai2_arc
dataset_name: ARC-Easy
output_type: multiple_choice
training_split: train
validation_split: validation
test_split: test
doc_to_text: "Question: {{question}}\nAnswer:"
doc_to_target: "{{choices.label.index(answerKey)}}"
doc_to_choice: "{{choices.text}}"
should_decontaminate: true
metric_list:
  - metric: acc
  - metric: acc_norm
  - metric: brier_score
"""
LABELS = r"""
task: rte
dataset_path: aps/super_glue
dataset_name: rte
output_type: multiple_choice
validation_split: validation
doc_to_text: "{{premise}}\nQuestion: {{hypothesis}} True or False?\nAnswer:"
doc_to_target: label
doc_to_choice: ['True', 'False']
metric_list: [{metric: acc}]
"""
WRITING = r"""
task: nq
dataset_path: google-research-datasets/nq_open
output_type: generate_until
training_split: train
validation_split: validation
description: "Answer these questions:\n\n"
doc_to_text: "Q: {{question}}?\nA:"
doc_to_target: "{{answer}}"
fewshot_delimiter: "\n"
num_fewshot: 5
generation_kwargs: {until: [".", "\n"], do_sample: false, max_gen_toks: 20}
filter_list: [{name: strip, filter: [{function: remove_whitespace}]}]
metric_list: [{metric: exact_match, ignore_case: true}, {metric: f1}]
"""
INDEXED = r"""
task: csqa
dataset_path: tau/commonsense_qa
training_split: train
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{ question.strip() }}\nA. {{choices['text'][0]}}\nB. {{choices['text'][1]}}\nAnswer:"
doc_to_target: answerKey
doc_to_choice: ['A', 'B']
"""
PROMPT = LABELS.replace("task: rte", "task: prompt").replace(
    r"{{premise}}\nQuestion: {{hypothesis}} True or False?\nAnswer:", r"Question: {{prompt}}\nAnswer:"
)
RECORD = PROMPT.replace("task: prompt", "task: record").replace("Question: {{prompt}}", "{{ page.title }}: {{ text }}")
SETS = PROMPT.replace("task: prompt", "task: sets").replace("Question: {{prompt}}", "{% set q = text.strip() %}{{ q }}")
COUNTED = PROMPT.replace("task: prompt", "task: counted").replace("{{prompt}}", "{{candidate}}")
COUNTED = COUNTED.replace("['True', 'False']", "[1, no]").replace(
    "doc_to_target: label", 'doc_to_target: "{{-label-}}"'
)
EMPTY = LABELS.replace("task: rte", "task: empty").replace(
    r'"{{premise}}\nQuestion: {{hypothesis}} True or False?\nAnswer:"', '""'
)
EMPTY = EMPTY.replace("doc_to_target: label", "doc_to_target: '1'")
ROWS = {
    "arc": {"question": "Why?", "choices": {"text": ["so", "no"], "label": ["A", "B"]}, "answerKey": "B"},
    "rte": {"premise": "He ran.", "hypothesis": "He moved.", "label": 0},
    "nq": {"question": "who ran", "answer": ["he", "him"]},
    "csqa": {"question": " Why? ", "choices": {"text": ["so", "no"], "label": ["A", "B"]}, "answerKey": "B"},
    "prompt": {"prompt": "Why?", "label": 0},
    "record": {"page": {"title": "Rome"}, "text": "Old?", "label": 0},
    "sets": {"text": " Why? ", "label": 0},
    "counted": {"candidate": "Ann", "label": 1},
    "empty": {},
}


def imported(folder: Path, text: str, name: str = "task.yaml") -> Imported:
    (folder / name).write_text(text)
    return import_task(folder / name)


def example_of(task: Task, row: dict[str, object]) -> Example:
    """Read a row as the hub reader does."""
    hub = task.sources.hub
    assert hub is not None

    def value(column: str) -> object:
        return computed(column, "row")(row) if is_template(column) else row[column]

    texts = tuple(str(value(column)) for column in hub.sentences)
    label = None if hub.label is None else str(value(hub.label))
    candidates = None if hub.candidates is None else value(str(hub.candidates))
    golds = None if hub.golds is None else value(hub.golds)
    return to_example(task, hub, Row("row", texts, label, candidates, golds), Place("row"))


@pytest.mark.parametrize(
    ("text", "prompt", "answers", "golds"),
    [
        (CHOICES, "Question: Why?\nAnswer:", [" so", " no"], ("no",)),
        (LABELS, "He ran.\nQuestion: He moved. True or False?\nAnswer:", [" True", " False"], ("True",)),
        (WRITING, "Q: who ran?\nA:", [" he"], ("he", "him")),
        (INDEXED, "Why?\nA. so\nB. no\nAnswer:", [" A", " B"], ("B",)),
        (PROMPT, "Question: Why?\nAnswer:", [" True", " False"], ("True",)),
        (RECORD, "Rome: Old?\nAnswer:", [" True", " False"], ("True",)),
        (SETS, "Why?\nAnswer:", [" True", " False"], ("True",)),
        (COUNTED, "Question: Ann\nAnswer:", [" 1", " False"], ("False",)),
        (EMPTY, "", [" True", " False"], ("False",)),
    ],
    ids=["choices", "labels", "writing", "indexed", "prompt", "record", "sets", "counted", "empty"],
)
def test_an_imported_task_asks_what_the_harness_asks(
    text: str, prompt: str, answers: list[str], golds: tuple[str, ...], tmp_path: Path
) -> None:
    task = build(Task, tomllib.loads(imported(tmp_path, text).text), "imported")
    example = example_of(task, ROWS[task.name])
    form = task.template().text
    assert form is not None
    template = TextTemplate(task, "harness", form)
    assert template.prompt(example) == prompt
    assert [template.answer(example, candidate) for candidate in example.candidates or example.golds[:1]] == answers
    assert example.golds == golds


def test_what_is_left_out_or_otherwise_is_noted(tmp_path: Path) -> None:
    assert imported(tmp_path, CHOICES).notes == (
        "metric brier_score has no counterpart here",
        "acc compares sums of log-probabilities: prompt.score=sum",
        "acc_norm divides a score by the choice's characters, prompt.score=mean (the default) by its tokens",
    )
    assert "there is no training split: 'validation' is read in its place" in imported(tmp_path, LABELS).notes
    assert imported(tmp_path, WRITING).notes == (
        "filter_list is left out: answers are compared as they were generated, without filters",
        "description is left out: put it in front of the template's prompt",
        "num_fewshot is left out: prompt.demonstrations.kind=in-context, .count=5",
        "an answer does not stop at '.'",
        "our metrics always fold case, articles and punctuation, as SQuAD's do",
    )


def test_how_answers_are_written_and_measured_is_taken_over(tmp_path: Path) -> None:
    task = build(Task, tomllib.loads(imported(tmp_path, WRITING).text), "imported")
    assert task.generation is not None
    assert (task.generation.stop, task.generation.max_new_tokens) == ("\n", 20)
    assert task.metrics == ("exact-match", "token-f1")
    form = task.template().text
    assert form is not None
    assert form.separator == "\n"


def test_an_answer_that_nothing_stops_ends_with_the_end_of_text_alone(tmp_path: Path) -> None:
    text = WRITING.replace('until: [".", "\\n"]', "until: []")
    task = build(Task, tomllib.loads(imported(tmp_path, text).text), "imported")
    assert task.generation is not None
    assert task.generation.stop == ""


def test_keys_that_are_left_empty_have_their_defaults(tmp_path: Path) -> None:
    text = WRITING.split("fewshot_delimiter")[0]
    keys = ("fewshot_delimiter", "target_delimiter", "generation_kwargs", "dataset_kwargs", "metric_list")
    assert imported(tmp_path, text + "".join(f"{key}:\n" for key in keys)) == imported(tmp_path, text)


def test_a_file_that_includes_another_is_read_on_top_of_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(CHOICES)
    found = imported(tmp_path, "include: base.yaml\ntask: arc_c\ndataset_name: ARC-Challenge\n")
    table = tomllib.loads(found.text)
    assert (table["name"], table["sources"]["hub"]["config"]) == ("arc_c", "ARC-Challenge")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group: g\ntask: [a, b]\n", r"task: is missing: a group of tasks"),
        (CHOICES.replace("multiple_choice", "loglikelihood"), "output_type: 'loglikelihood' cannot be imported"),
        (
            LABELS.replace("doc_to_target: label", "doc_to_target: !function utils.target"),
            "function utils.target; write",
        ),
        (LABELS + "process_docs: !function utils.docs\n", "process_docs: is the Python function utils.docs"),
        (LABELS + "use_prompt: promptsource\n", "use_prompt: cannot be imported"),
        (LABELS.replace("dataset_path: aps/super_glue\n", ""), "dataset_path: is missing"),
        (LABELS + "dataset_kwargs: {data_files: x.json}\n", "dataset_kwargs: files of your own"),
        (LABELS.replace("doc_to_choice: ['True', 'False']\n", ""), "doc_to_choice: is missing"),
        (LABELS.replace("validation_split: validation\n", ""), "training_split: is missing, and so are"),
        (LABELS + "generation_kwargs: [a]\n", r"generation_kwargs: is \['a'\], and should be a table"),
        (LABELS.replace("[{metric: acc}]", "[acc]"), r"metric_list: is \['acc'\], and should list tables"),
        (WRITING.replace('[".", "\\n"]', "5"), r"generation_kwargs\.until: is 5, and should be a text"),
        (WRITING.replace("max_gen_toks: 20", "max_gen_toks: a"), r"generation\.max_new_tokens: got 'a'"),
        (LABELS + "target_delimiter: 1\n", "target_delimiter: is 1, and should be a text"),
        (
            INDEXED.replace("doc_to_text: ", "doc_to_text: What is it? #"),
            "'What is it[?]' is neither the name of a column",
        ),
        (INDEXED.replace("answerKey", '"{{ answer"'), "doc_to_target: '{{ answer' is not Jinja as it is read here"),
        (WRITING.replace("{{answer}}", "{{answer|regex_replace}}"), "doc_to_target: .*No filter named 'regex_replace'"),
        ("a: [", "is not YAML: "),
        ("- a\n", "is not a task of the harness: it holds no keys"),
        ("include: task.yaml\ntask: x\n", "include: the file includes itself"),
        ("include: tusk.yaml\ntask: x\n", r"No such file or directory; did you mean 'task\.yaml'"),
    ],
)
def test_what_cannot_be_imported_says_why(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        imported(tmp_path, text)


def test_every_reason_is_given_at_once(tmp_path: Path) -> None:
    text = LABELS.replace("doc_to_target: label", "doc_to_target: !function a.b") + "use_prompt: p\ndoc_to_image: i\n"
    with pytest.raises(ConfigError, match="3 problems"):
        imported(tmp_path, text)


def test_texts_keep_what_toml_would_escape(tmp_path: Path) -> None:
    text = LABELS.replace("True or False?", json.dumps('say "é" \\ ☃')[1:-1])
    task = build(Task, tomllib.loads(imported(tmp_path, text).text), "imported")
    form = task.template().text
    assert form is not None
    assert 'say "é" \\ ☃' in form.prompt
