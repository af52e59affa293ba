"""The card of an exported model, as hubs show it: everything in it is read off the run's record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shoestring.config import essentials
from shoestring.prompts.choose import Chosen, choose
from shoestring.prompts.label_words import label_words
from shoestring.runs.words import shown, title
from shoestring.tasks.spec import DEV, TEST

if TYPE_CHECKING:
    from shoestring.runs.config import RunConfig
    from shoestring.runs.record import Record

CARD = "README.md"
_PIPELINES = {
    "masked": "fill-mask",
    "causal": "text-generation",
    "seq2seq": "text2text-generation",
    "head": "text-classification",
}


def model_card(record: Record, config: RunConfig, form: Literal["model", "adapter"]) -> str:
    """Return the text of a model card: front matter for hubs, then data, method, numbers, use and limits.

    Args:
        record: the record of the run that tuned the model.
        config: its config.
        form: whether a whole model is written, or an adapter.
    """
    base, called = _base(config), f" ({config.task.title})" if config.task.title else ""
    parts = (
        _front_matter(record, config, form),
        f"# {_name(config)}\n",
        f"{base[0].upper()}{base[1:]}, tuned for `{config.task.name}`{called} by "
        f"`{config.method.kind}` with tuning `{config.tuning.kind}`: {record.trained_weights:,} of "
        f"{record.weights.total if record.weights else 0:,} weights were trained. {_what(form)}\n",
        "## Numbers\n\n" + "\n".join(_numbers(record, config)) + "\n",
        "## Data\n\n" + "\n".join(_data(record, config)) + "\n",
        "## How it was asked\n\n" + "\n".join(_asked(config)) + "\n",
        "## Method\n\n" + "\n".join(_method(record, config)) + "\n",
        "## Limits\n\n" + "\n".join(_limits(record, config)) + "\n",
    )
    return "\n".join(parts)


def _front_matter(record: Record, config: RunConfig, form: str) -> str:
    """Return what hubs read. JSON is YAML, and needs no care with what a name may hold."""
    hub = config.task.sources.hub
    dataset = {"name": config.task.name, "type": hub.id if hub is not None else config.task.name}
    results = [
        {"type": name, "value": round(value, 6), "name": f"{title(name)} on {split}"}
        for split, numbers in record.metrics.items()
        if split != DEV
        for name, value in numbers.items()
    ]
    entry = {"task": {"type": _PIPELINES[config.model.kind]}, "dataset": dataset, "metrics": results}
    lines: dict[str, Any] = {
        "library_name": "peft" if form == "adapter" else "transformers",
        "pipeline_tag": _PIPELINES[config.model.kind],
        "tags": ["shoestring", config.method.kind, config.tuning.kind],
        "model-index": [{"name": _name(config), "results": [entry]}],
    }
    if not _is_folder(config.model.name):
        lines["base_model"] = config.model.name
    if hub is not None and config.data.source is None:
        lines["datasets"] = [hub.id]
    body = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in lines.items())
    return f"---\n{body}\n---\n"


def _name(config: RunConfig) -> str:
    return f"{Path(config.model.name).name}, {config.task.name}, {config.method.kind}"


def _base(config: RunConfig) -> str:
    name = Path(config.model.name).name if _is_folder(config.model.name) else f"`{config.model.name}`"
    return f"the {config.model.kind} model {name}"


def _is_folder(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or Path(name).is_dir()


def _what(form: str) -> str:
    if form == "adapter":
        return "This folder holds an adapter, which peft loads on the base model."
    return "This folder holds the whole model, which transformers loads."


def _numbers(record: Record, config: RunConfig) -> Iterator[str]:
    names = list(dict.fromkeys(name for numbers in record.metrics.values() for name in numbers))
    yield f"| split | examples | {' | '.join(map(title, names))} |"
    yield f"|---|---:|{'---:|' * len(names)}"
    sizes: Mapping[str, int] = {DEV: record.split.dev, **record.split.tests} if record.split is not None else {}
    for split, numbers in record.metrics.items():
        cells = [shown(name, numbers[name]) if name in numbers else "" for name in names]
        yield f"| {split} | {sizes.get(split, 0):,} | {' | '.join(cells)} |"
    yield ""
    last = getattr(config.method, "select", None) == "last"
    which = "The weights are those of the last step." if last else "The weights were selected on dev; test had no say."
    yield f"Metrics are times 100, losses as they are. {which}"


def _data(record: Record, config: RunConfig) -> Iterator[str]:
    hub, split = config.task.sources.hub, record.split
    source = Path(config.data.source).name if config.data.source is not None else hub.id if hub is not None else "?"
    yield f"- Source: `{source}`, drawn as `data.mode={config.data.mode}`, seed {config.seed}."
    if split is not None:
        yield f"- {split.train:,} training examples, {split.dev:,} to select on; digest of all splits `{split.digest}`."
        if split.truncated:
            yield f"- {split.truncated:,} examples lost tokens to a limit on the length."


def _asked(config: RunConfig) -> Iterator[str]:
    if not config.model.prompted:
        yield "The classification head reads the bare sentences."
        yield _label_line(config)
        return
    form = _form(config)
    if form is not None:
        yield f"```\n{form}\n```"
    if config.task.labels:
        yield _label_line(config)
    more = essentials(config.prompt)
    if more:
        yield f"\nSettings of the prompt: `{json.dumps(more, ensure_ascii=False)}`"


def _form(config: RunConfig) -> str | None:
    """Return the template as it is written, where a run asked in one way."""
    (first, *others) = _templates(config)
    if others:
        return None
    return first.text.prompt if first.form == "text" else getattr(first.template, first.form)


def _templates(config: RunConfig) -> list[Chosen]:
    """Return the template that a run asked with, or all of an ensemble."""
    names = config.prompt.templates or (config.prompt.template,)
    ways = [config.prompt.model_copy(update={"template": name, "templates": ()}) for name in names]
    return [choose(config.task, config.model.kind, way) for way in ways]


def _label_line(config: RunConfig) -> str:
    found: list[tuple[str, ...]] = []
    if config.model.prompted:
        of = [label_words(config.task, one.template, config.prompt.label_words) for one in _templates(config)]
        found = list(dict.fromkeys(words.words for words in of))
    told = len(found) == 1  # Templates of an ensemble may have words of their own.
    words = found[0] if told else ("",) * len(config.task.labels)
    pairs = [
        f"`{label.name}`" + (f" ({label.title})" if label.title else "") + (f": `{word}`" if told else "")
        for label, word in zip(config.task.labels, words, strict=True)
    ]
    return "\nLabels" + (" and their words" if told else "") + ": " + ", ".join(pairs) + "."


def _method(record: Record, config: RunConfig) -> Iterator[str]:
    sections: dict[str, Any] = {"method": config.method, "tuning": config.tuning}
    for name, settings in sections.items():
        chosen = ", ".join(f"{key}={json.dumps(value)}" for key, value in essentials(settings).items())
        yield f"- `[{name}]` {chosen}; everything else at its default."
    if record.passes is not None:
        yield f"- {record.passes.forward:,} forward and {record.passes.backward:,} backward passes, in batches."
    made = record.environment
    packages = ", ".join(f"{key} {value}" for key, value in made.get("packages", {}).items())
    yield f"- Run `{record.run_id}`, shoestring {made.get('shoestring', '?')}; {packages}; {made.get('device', '?')}."


def _limits(record: Record, config: RunConfig) -> Iterator[str]:
    seen = record.split.train if record.split is not None else 0
    tests = record.split.tests.get(TEST, 0) if record.split is not None else 0
    yield f"- It was tuned on {seen:,} examples and measured on {tests:,}, by one seed; other draws give other numbers."
    yield "- The numbers hold for the prompt above. Asked in other words, it may answer differently."
    yield f"- It has whatever limits and biases {_base(config)} has, and nothing was done about them."
    yield "- The licence is that of the base model and of the data; this card does not know them."
