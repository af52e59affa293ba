"""Tasks of the lm-evaluation-harness: what their YAML files say, as task files."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateSyntaxError

from shoestring.config import build
from shoestring.errors import ConfigError, Problem, suggest
from shoestring.tasks.harness_yaml import Function, read_yaml
from shoestring.tasks.jinja import bare_names, compiled, is_template
from shoestring.tasks.spec import Task

KINDS = {"multiple_choice": "multiple-choice", "generate_until": "generation"}
# Their metrics -> ours.
METRICS = {
    "acc": "accuracy",
    "acc_norm": "accuracy",
    "exact_match": "exact-match",
    "em": "exact-match",
    "f1": "token-f1",
    "rougeL": "rouge-l",
}
# What their defaults are (lm_eval.config.task.TaskConfig, lm_eval.defaults).
_DELIMITER, _BETWEEN, _LONGEST, _STOP = " ", "\n\n", 256, "\n\n"
# The harness cuts prompts to what the model reads; ours never exceed that either.
_MAX_TOKENS = 2048
_WORDED = ("doc_to_text", "doc_to_target", "doc_to_choice")
_ASKED = (*_WORDED, "process_docs", "process_results", "custom_dataset")
_NEVER = ("use_prompt", "doc_to_image", "doc_to_audio")
_LEFT_OUT = {
    "filter_list": "answers are compared as they were generated, without filters",
    "repeats": "every question is asked once",
    "fewshot_config": "demonstrations are chosen by prompt.demonstrations",
    "gen_prefix": "put it at the end of the template's prompt",
    "description": "put it in front of the template's prompt",
}


@dataclass(frozen=True)
class Imported:
    """A task file's text, and what it leaves out or does otherwise than the harness."""

    text: str
    notes: tuple[str, ...]


def import_task(path: Path) -> Imported:
    """Return a multiple-choice or generate-until task of the harness as a task file.

    Prompts, targets and choices that are columns or Jinja templates are taken over as they are; a choice of the harness
    continues the prompt after `target_delimiter`. Python functions cannot be: a task file holds no code.

    Raises:
        ConfigError: if the file is not a task, or cannot be imported; lists every reason.
    """
    # What a file leaves empty is what it does not say.
    config = {key: value for key, value in read_yaml(path).items() if value is not None}
    if problems := list(_problems(config)):
        raise ConfigError(str(path), problems)
    text = "\n".join([*_head(config, path), *_template(config), *_source(config), ""])
    build(Task, tomllib.loads(text), f"{path}, imported")
    return Imported(text, tuple(_notes(config)))


def _problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    if "task" not in config or not isinstance(config["task"], str):
        yield Problem("task", "is missing: a group of tasks, or no task of the harness; import its tasks one by one")
        return
    kind = str(config.get("output_type", "generate_until"))
    if kind not in KINDS:
        yield Problem("output_type", f"{kind!r} cannot be imported{suggest(kind, KINDS)}")
    for key in _ASKED:
        if isinstance(config.get(key), Function):
            yield Problem(key, f"is the Python function {config[key].name}; write it as a Jinja template, or by hand")
    yield from (Problem(key, "cannot be imported") for key in _NEVER if config.get(key) is not None)
    yield from _sort_problems(config)
    yield from _data_problems(config)
    yield from _template_problems(config)
    for key in ("doc_to_text", "doc_to_target", *(["doc_to_choice"] if kind == "multiple_choice" else [])):
        if config.get(key) is None:
            yield Problem(key, "is missing")


def _data_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    if not isinstance(config.get("dataset_path"), str):
        yield Problem("dataset_path", "is missing: the data set's name on the hub")
    elif _table(config, "dataset_kwargs").get("data_files"):
        yield Problem("dataset_kwargs", "files of your own: write a task file, or give them as --data with --inputs")
    if not any(config.get(f"{split}_split") for split in ("training", "validation", "test")):
        yield Problem("training_split", "is missing, and so are validation_split and test_split")


def _sort_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("dataset_kwargs", "generation_kwargs"):
        if not isinstance(config.get(key, {}), Mapping):
            yield Problem(key, f"is {config[key]!r}, and should be a table of keys and values")
    metrics = config.get("metric_list", [])
    if not isinstance(metrics, list) or not all(isinstance(entry, Mapping) and "metric" in entry for entry in metrics):
        yield Problem("metric_list", f"is {metrics!r}, and should list tables, such as `- metric: acc`")
    until = _table(config, "generation_kwargs").get("until", [])
    if not isinstance(until, str | list):
        yield Problem("generation_kwargs.until", f"is {until!r}, and should be a text, or a list of texts")
    for key in ("target_delimiter", "fewshot_delimiter"):
        if not isinstance(config.get(key, ""), str):
            yield Problem(key, f"is {config[key]!r}, and should be a text")


def _template_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    asked = config.get("doc_to_text", "")
    column = isinstance(asked, str) and (not asked or asked.isidentifier())
    if not isinstance(asked, Function) and not column and not is_template(str(asked)):
        yield Problem("doc_to_text", f"{asked!r} is neither the name of a column nor a Jinja template")
    for key in _WORDED:
        text = config.get(key)
        if not isinstance(text, str) or not is_template(text):
            continue
        try:
            compiled(text)
        except TemplateSyntaxError as error:
            yield Problem(key, f"{text!r} is not Jinja as it is read here: {error.message}")


def _head(config: Mapping[str, Any], path: Path) -> Iterator[str]:
    yield f"# Imported from {path.name} of the lm-evaluation-harness."
    yield f"name = {_toml(config['task'])}"
    yield f"kind = {_toml(_kind(config))}"
    yield f"sentences = {_toml(list(_texts(config)))}"
    yield f"metrics = {_toml(_metrics(config))}"


def _template(config: Mapping[str, Any]) -> Iterator[str]:
    texts, asked = _texts(config), str(config["doc_to_text"])
    if not is_template(asked) or list(texts.values()) == [asked]:
        asked = f"{{{{ {next(iter(texts))} }}}}"
    yield from ("", "[templates.harness.text]", f"prompt = {_toml(asked)}")
    yield f"answer = {_toml(config.get('target_delimiter', _DELIMITER) + '{{ candidate }}')}"
    yield f"separator = {_toml(config.get('fewshot_delimiter', _BETWEEN))}"
    yield from ("strip = false", "", "[limits]", f"max_tokens = {_MAX_TOKENS}")
    if _kind(config) == "generation":
        longest = _table(config, "generation_kwargs").get("max_gen_toks", _LONGEST)
        stop = next(iter(_stops(config)), "")
        yield from ("", "[generation]", f"max_new_tokens = {_toml(longest)}", f"stop = {_toml(stop)}")


def _source(config: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "[sources.hub]", f"id = {_toml(config['dataset_path'])}")
    if config.get("dataset_name"):
        yield f"config = {_toml(config['dataset_name'])}"
    yield f"sentences = {_toml(list(_texts(config).values()))}"
    target = config["doc_to_target"]
    target = f"{{{{ {target} }}}}" if str(target).isdecimal() else str(target)
    if _kind(config) == "generation":
        yield f"golds = {_toml(target)}"
    else:
        choices = config["doc_to_choice"]
        if isinstance(choices, Mapping):
            choices = list(choices.values())
        if isinstance(choices, list):
            # Numbers, and the truth value that YAML reads in `no`, are written as the harness writes them.
            choices = f"{{{{ {_toml([str(choice) for choice in choices])} }}}}"
        yield f"candidates = {_toml(str(choices))}"
        yield f"label = {_toml(target)}"
    yield f"splits = {{ {', '.join(f'{ours} = {_toml(theirs)}' for ours, theirs in _splits(config).items())} }}"


def _texts(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of an example and where each comes from: the columns the prompt names, or the prompt itself."""
    asked = str(config["doc_to_text"]) or '{{ "" }}'
    if not is_template(asked):
        return {asked: asked}
    names = bare_names(asked)
    # Answers are called `candidate` here, and texts cannot be.
    return {name: name for name in names} if names and "candidate" not in names else {"prompt": asked}


def _splits(config: Mapping[str, Any]) -> dict[str, str]:
    train, dev, test = (str(config.get(f"{split}_split") or "") for split in ("training", "validation", "test"))
    found = {"train": train or dev or test, "test": test or dev or train}
    return found | ({"dev": dev} if train and dev and test else {})


def _metrics(config: Mapping[str, Any]) -> list[str]:
    fitting = ("accuracy",) if _kind(config) == "multiple-choice" else ("exact-match", "token-f1", "rouge-l")
    known = [METRICS[name] for name in _named(config) if METRICS.get(name) in fitting]
    return list(dict.fromkeys(known)) or [fitting[0]]


def _named(config: Mapping[str, Any]) -> list[str]:
    return [str(entry.get("metric")) for entry in config.get("metric_list") or ()]


def _stops(config: Mapping[str, Any]) -> list[str]:
    until = _table(config, "generation_kwargs").get("until", [_STOP])
    stops = [until] if isinstance(until, str) else list(until)
    return sorted(stops, key=lambda stop: stop != "\n")


def _kind(config: Mapping[str, Any]) -> str:
    return KINDS[str(config.get("output_type", "generate_until"))]


def _notes(config: Mapping[str, Any]) -> Iterator[str]:
    for name in _named(config):
        if METRICS.get(name) not in _metrics(config):
            yield f"metric {name} has no counterpart here"
    for key, why in _LEFT_OUT.items():
        if config.get(key) not in (None, "", 1, []):
            yield f"{key} is left out: {why}"
    if config.get("num_fewshot"):
        yield f"num_fewshot is left out: prompt.demonstrations.kind=in-context, .count={config['num_fewshot']}"
    if not config.get("training_split"):
        yield f"there is no training split: {_splits(config)['train']!r} is read in its place"
    yield from _notes_on_choices(config) if _kind(config) == "multiple-choice" else _notes_on_writing(config)


def _notes_on_choices(config: Mapping[str, Any]) -> Iterator[str]:
    yield "acc compares sums of log-probabilities: prompt.score=sum"
    if "acc_norm" in _named(config):
        yield "acc_norm divides a score by the choice's characters, prompt.score=mean (the default) by its tokens"


def _notes_on_writing(config: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"an answer does not stop at {stop!r}" for stop in _stops(config)[1:])
    given = _table(config, "generation_kwargs")
    if given.get("do_sample") or given.get("num_beams", 1) != 1:
        yield "sampling and beams are settings of a run: [generation]"
    if any("ignore" in key for entry in config.get("metric_list") or () for key in entry):
        yield "our metrics always fold case, articles and punctuation, as SQuAD's do"


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key)
    return found if isinstance(found, Mapping) else {}


def _toml(value: Any) -> str:
    """Return a text, or a list of texts, as TOML: JSON's strings are TOML's."""
    return json.dumps(value, ensure_ascii=False)
