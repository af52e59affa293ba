"""Whole texts are encoded as their slow twin does: on generated texts and on real ones, for all tasks and modes."""

from __future__ import annotations

import random
from functools import cache

import pytest

from reference import text_twin
from shoestring.data.example import Example
from shoestring.prompts.build import build_encoder
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.prompts.pool import Pool
from shoestring.prompts.settings import PromptSettings
from shoestring.tasks.load import load_task, task_names
from shoestring.tasks.spec import Task

NAMES = [name for name in text_twin.TEMPLATES if name in task_names()]
CASES = [(name, *case) for name in NAMES for case in text_twin.TEMPLATES[name]]
IDS = [f"{name}-{template}" for name, template, *_ in CASES]
LONG = ("mezo/ReCoRD", "mezo/SQuAD", "mezo/DROP")
WORDS = ["Ann", "said", "that", "the", "answer", "is", "5,000", "I", "@placeholder", "It", "was", "great.", "why?", "é"]
SPACES = [" ", " ", " ", " ", "  ", "\n", "\n@highlight\n", " \n"]


def some_text(stream: random.Random, most: int = 12) -> str:
    """Return a text of words, with the white space that goes wrong: at the ends, doubled, line breaks."""
    text = stream.choice(WORDS)
    for _ in range(stream.randrange(most)):
        text += stream.choice(SPACES) + stream.choice(WORDS)
    return stream.choice(["", "", "", " ", "\n"]) + text + stream.choice(["", "", "", " ", "\n", "."])


def example_of(task: Task, stream: random.Random, uid: str, most: int = 12) -> Example:
    texts = [some_text(stream, most) for _ in task.sentences]
    if "question" in task.sentences and task.name.endswith("Copa"):
        texts[task.sentences.index("question")] = stream.choice(["cause", "effect"])
    if task.labels:
        return Example(uid, tuple(texts), stream.choice(task.label_names))
    if task.kind == "generation":
        golds = tuple(some_text(stream, 3).strip() for _ in range(2))
        return Example(uid, tuple(texts), golds[0], golds=golds)
    candidates = tuple(f"{some_text(stream, 4).strip()} {number}" for number in range(stream.randrange(2, 5)))
    golds = tuple(stream.sample(candidates, 2))
    if task.name.endswith("ReCoRD"):
        texts[task.sentences.index("query")] = f"{some_text(stream)} @placeholder {some_text(stream)}"
    return Example(uid, tuple(texts), golds[0], candidates, golds)


def rendered(task: Task, render, example: Example) -> tuple[str, list[str], str]:
    """Return prompt, every answer, and the right answer, as the twin writes them."""
    prompt, answer = render(dict(zip(task.sentences, example.sentences, strict=True)))
    if task.labels:
        words = {label.name: label.word for label in task.labels}
        return prompt, [answer(word) for word in words.values()], answer(words[str(example.label)])
    return prompt, [answer(text) for text in example.candidates or example.golds[:1]], answer(example.golds[0])


def check(found: EncodedPrompt, twin: text_twin.Twin) -> None:
    """Compare whole sequences and what is scored of them."""
    assert [[*found.ids, *option] for option in found.options] == twin.encodings
    assert list(found.scored_lengths) == twin.option_lens
    assert found.position == len(found.ids) - 1
    assert found.segment_ids == (0,) * len(found.ids)


@cache
def openings(tokenizer) -> tuple[int, ...]:
    """Return what a tokenizer puts in front of a text, found out here by hand."""
    bare, whole = tokenizer.encode("the", add_special_tokens=False), tokenizer.encode("the")
    return tuple(whole[: whole.index(bare[0])])


class Case:
    """One query of a task, with demonstrations of its own, for the package and for the twin."""

    def __init__(self, name: str, template: str, ask, tokenizer, *, count: int, most: int, longest: int) -> None:
        self.task, self.template, self.tokenizer = load_task(name), template, tokenizer
        self.twin = text_twin.Tokenizer(tokenizer, openings(tokenizer))
        stream = random.Random(f"{name} {template} {count} {most}")
        pool = tuple(example_of(self.task, stream, f"train:{number}", most) for number in range(count))
        self.query = example_of(self.task, stream, "test:0", most)
        self.pool = Pool(pool, 1, {self.query.uid: pool})
        self.new = 50 if self.task.kind == "generation" else 0
        self.asked, self.longest = longest, min(longest, tokenizer.model_max_length)
        self.shown = [(prompt, right) for prompt, _, right in (rendered(self.task, ask, one) for one in pool)]
        self.prompt, self.answers, self.right = rendered(self.task, ask, self.query)

    def encoded(self, **settings: object) -> EncodedPrompt:
        shown = {"demonstrations": {"kind": "in-context"}} if self.shown else {}
        table = {"template": self.template, "max_tokens": self.asked} | shown | settings
        found = PromptSettings.model_validate(table)
        return build_encoder(self.task, self.tokenizer, "causal", found, None, self.pool).encode(self.query)

    def whole(self) -> int:
        """Return how many tokens the longest input has before anything is cut; without an answer where it is written."""
        arguments = (self.twin, 10**6, self.shown, "\n\n", self.prompt)
        if self.new:
            return len(text_twin.encode_question(*arguments, 0))
        return max(map(len, text_twin.encode_candidates(*arguments, self.answers).encodings))

    def check(self, found: EncodedPrompt) -> None:
        arguments = (self.twin, self.longest, self.shown, "\n\n", self.prompt)
        if self.task.kind != "generation":
            check(found, text_twin.encode_candidates(*arguments, self.answers))
            return
        question = text_twin.encode_question(*arguments, self.new)
        assert list(found.ids) == question
        assert found.position == len(question) - 1
        assert found.golds == self.query.golds
        check(found.taught or found, text_twin.encode_taught(*arguments, self.right, self.new))


@pytest.mark.parametrize(("name", "template", "ask", "ask_nothing"), CASES, ids=IDS)
@pytest.mark.parametrize("tokenizer", ["toy_bpe", "toy_gpt2", "toy_sentencepiece", "stories", "llama", "roberta"])
@pytest.mark.parametrize("count", [0, 3], ids=["zero-shot", "3-shot"])
def test_every_task_equals_the_twin(request, name, template, ask, ask_nothing, tokenizer, count):
    tokenizer = request.getfixturevalue(tokenizer)
    for most in (6, 12):
        case = Case(name, template, ask, tokenizer, count=count, most=most, longest=5000)
        case.check(case.encoded())


@pytest.mark.parametrize(("name", "template", "ask", "ask_nothing"), CASES, ids=IDS)
@pytest.mark.parametrize("tokenizer", ["toy_bpe", "stories", "roberta"])
@pytest.mark.parametrize("count", [0, 3], ids=["zero-shot", "3-shot"])
def test_every_task_cut_from_the_left_equals_the_twin(request, name, template, ask, ask_nothing, tokenizer, count):
    tokenizer = request.getfixturevalue(tokenizer)
    for longest in (60, 90) if name not in LONG else (180, 260):
        case = Case(name, template, ask, tokenizer, count=count, most=14, longest=longest)
        found = case.encoded()
        case.check(found)
        assert found.truncated == max(0, case.whole() - case.longest + case.new)
