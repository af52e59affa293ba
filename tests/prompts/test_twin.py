"""The encoder equals its slow twin: on generated templates and texts, and on the real tasks."""

from __future__ import annotations

import csv
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import prompt_twin
from shoestring.data.example import Example
from shoestring.errors import PromptTooLongError
from shoestring.prompts import PromptEncoder, PromptSettings
from shoestring.prompts.template import SENTENCES
from shoestring.tasks.load import FIRST_SUITE, load_task, task_names
from shoestring.tasks.spec import Label, Limits, Task

# Written so that none of them reads like a token and none is a lone space, alone or side by side.
TEXTS = ("It_was", "_It_was", ",", ".", "?", ":", "_This_is_", "a b", "\nSo_", "answer_", "é!")
SPECIALS = ("cls", "sep", "sep+", "bos", "eos")
SPACE = st.sampled_from(TEXTS)
NAMED = st.sampled_from([f"*{name}_{index}*" for name in SENTENCES for index in (0, 1)])
LABELS = st.sampled_from(["*label_0*", "*label_1*"])
PIECES = st.lists(st.one_of(SPACE, NAMED, LABELS, st.sampled_from([f"*{name}*" for name in SPECIALS])), max_size=8)
LIMIT = st.one_of(st.none(), st.integers(1, 12))


@st.composite
def templates(draw: st.DrawFn) -> str:
    return "".join([*draw(PIECES), "*mask*", *draw(PIECES)])


def a_task(first: int | None, other: int | None, max_tokens: int) -> Task:
    return Task(
        name="toy",
        sentences=("first", "second"),
        labels=(Label(name="0", word="film"), Label(name="1", word="answer")),
        limits=Limits(max_tokens=max_tokens, first_sentence_tokens=first, other_sentence_tokens=other),
    )


def compare(tokenizer, template, sentences, task) -> None:
    encoder = PromptEncoder(task, tokenizer, "masked", PromptSettings(template=template))
    twin = prompt_twin.encode(
        template,
        list(sentences),
        tokenizer,
        words=[list(option) for option in encoder.options],
        first_limit=task.limits.first_sentence_tokens,
        other_limit=task.limits.other_sentence_tokens,
        max_tokens=task.limits.max_tokens,
    )
    example = Example("a", sentences, "0")
    if twin.mask is None:
        with pytest.raises(PromptTooLongError, match="would cut off the mask"):
            encoder.encode(example)
        return
    prompt = encoder.encode(example)
    assert list(prompt.ids) == twin.ids
    assert list(prompt.segment_ids) == twin.segments
    assert prompt.position == twin.mask
    assert prompt.truncated == twin.cut


@given(template=templates(), pair=st.tuples(st.text(), st.text()), first=LIMIT, other=LIMIT, size=st.integers(1, 60))
def test_byte_level_bpe_equals_the_twin(toy_bpe, template, pair, first, other, size):
    compare(toy_bpe, template, pair, a_task(first, other, size))


@given(template=templates(), pair=st.tuples(st.text(), st.text()), first=LIMIT, other=LIMIT, size=st.integers(1, 60))
def test_wordpiece_equals_the_twin(toy_wordpiece, template, pair, first, other, size):
    compare(toy_wordpiece, template, pair, a_task(first, other, size))


@given(pair=st.tuples(st.text(), st.text()), size=st.integers(1, 40))
def test_bare_sentences_equal_the_twin(toy_bpe, pair, size):
    prompt = PromptEncoder(a_task(1, 1, size), toy_bpe, "head").encode(Example("a", pair, "0"))
    twin = prompt_twin.encode_head(list(pair), toy_bpe, size)
    assert (list(prompt.ids), list(prompt.segment_ids), prompt.truncated) == (twin.ids, twin.segments, twin.cut)


def real_examples(shared, task: Task, count: int = 150) -> list[Example]:
    """Return the first rows of one of the task's files, read here without the package's readers."""
    source = task.sources.files
    assert source is not None
    folder = shared / "lm-bff" / source.folder
    files = sorted(folder.glob(f"original/*.{source.format}")) or sorted(folder.glob(f"test/1k/*.{source.format}"))
    if not files:
        pytest.skip(f"no original file of {task.name} in {folder}")
    with files[0].open(encoding="utf-8-sig", newline="") as lines:
        split = csv.reader(lines) if source.format == "csv" else (line.rstrip("\r\n").split("\t") for line in lines)
        rows = list(islice(split, int(source.header), count))
    return [
        Example(f"{files[0].name}:{number}", tuple(row[int(column)] for column in source.sentences), "0")
        for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize("name", task_names(FIRST_SUITE))
@pytest.mark.parametrize("tokenizer", ["roberta", "bert"])
def test_every_catalogue_task_equals_the_twin_on_real_texts(shared, request, name, tokenizer):
    task = load_task(name)
    template = task.template().masked
    assert template is not None
    for example in real_examples(shared, task):
        compare(request.getfixturevalue(tokenizer), template, example.sentences, plain(task))


def plain(task: Task) -> Task:
    """Return the task with labels `0`, `1`, ..., so that any label will do."""
    labels = tuple(Label(name=str(number), word=label.word) for number, label in enumerate(task.labels))
    return task.model_copy(update={"labels": labels, "kind": "classification", "range": None})


@pytest.mark.parametrize("name", task_names(FIRST_SUITE))
def test_every_catalogue_task_renders_real_texts_for_llama(shared, stories, name):
    task = plain(load_task(name))
    encoder = PromptEncoder(task, stories, "causal", PromptSettings(truncate="sentence", max_tokens=400))
    for example in real_examples(shared, task, 40):
        prompt = encoder.encode(example)
        assert prompt.ids[0] == stories.bos_token_id
        assert prompt.position == len(prompt.ids) - 1
        if not prompt.truncated:
            assert stories.decode(prompt.ids[1:]).strip() == encoder.text(example).removeprefix("<bos>").strip()
