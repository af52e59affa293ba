"""Whole texts are encoded as their slow twin does: on generated texts and on real ones, for all tasks and modes."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import pytest

from reference import text_twin
from shoestring.data.example import Example
from shoestring.data.settings import DataSettings
from shoestring.data.splits import draw
from shoestring.prompts.build import build_encoder
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.prompts.pool import Pool
from shoestring.prompts.settings import PromptSettings
from shoestring.tasks.load import load_task, task_names
from shoestring.tasks.spec import Task

NAMES = [name for name in text_twin.TEMPLATES if name in task_names()]
CASES = [(name, *case) for name in NAMES for case in text_twin.TEMPLATES[name]]
IDS = [f"{name}-{template}" for name, template, *_ in CASES]
SCORED = [case for case in CASES if case[3] is not None]
SCORED_IDS = [f"{name}-{template}" for name, template, *_ in SCORED]
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

    def __init__(self, task: Task, template: str, ask, tokenizer, pool, query, longest: int) -> None:
        self.task, self.template, self.tokenizer, self.query = task, template, tokenizer, query
        self.twin = text_twin.Tokenizer(tokenizer, openings(tokenizer))
        self.pool = Pool(pool, 1, {query.uid: pool})
        self.new = 50 if task.kind == "generation" else 0
        self.asked, self.longest = longest, min(longest, tokenizer.model_max_length)
        self.shown = [(prompt, right) for prompt, _, right in (rendered(task, ask, one) for one in pool)]
        self.prompt, self.answers, self.right = rendered(task, ask, query)

    @classmethod
    def made_up(cls, name: str, template: str, ask, tokenizer, *, count: int, most: int, longest: int) -> Case:
        task, stream = load_task(name), random.Random(f"{name} {template} {count} {most}")
        pool = tuple(example_of(task, stream, f"train:{number}", most) for number in range(count))
        return cls(task, template, ask, tokenizer, pool, example_of(task, stream, "test:0", most), longest)

    def encoded(self, **settings: object) -> EncodedPrompt:
        shown = {"demonstrations": {"kind": "in-context"}} if self.shown else {}
        table = {"template": self.template, "max_tokens": self.asked} | shown | settings
        found = PromptSettings.model_validate(table)
        return build_encoder(self.task, self.tokenizer, "causal", found, None, self.pool).encode(self.query)

    def whole(self) -> int:
        """Return how many tokens the longest input has before any cut; without an answer where it is written."""
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
@pytest.mark.parametrize("tokenizer", ["toy_bpe", "toy_gpt2", "toy_sentencepiece", "stories"])
@pytest.mark.parametrize("count", [0, 3], ids=["zero-shot", "3-shot"])
def test_every_task_equals_the_twin(request, name, template, ask, ask_nothing, tokenizer, count):
    tokenizer = request.getfixturevalue(tokenizer)
    for most in (6, 12):
        case = Case.made_up(name, template, ask, tokenizer, count=count, most=most, longest=5000)
        case.check(case.encoded())


@pytest.mark.parametrize(("name", "template", "ask", "ask_nothing"), CASES, ids=IDS)
@pytest.mark.parametrize("tokenizer", ["toy_bpe", "stories"])
@pytest.mark.parametrize("count", [0, 3], ids=["zero-shot", "3-shot"])
def test_every_task_cut_from_the_left_equals_the_twin(request, name, template, ask, ask_nothing, tokenizer, count):
    tokenizer = request.getfixturevalue(tokenizer)
    for longest in (60, 90) if name not in LONG else (180, 260):
        case = Case.made_up(name, template, ask, tokenizer, count=count, most=14, longest=longest)
        found = case.encoded()
        case.check(found)
        assert found.truncated == max(0, case.whole() - case.longest + case.new)


@pytest.mark.parametrize(("name", "template", "ask", "ask_nothing"), SCORED, ids=SCORED_IDS)
@pytest.mark.parametrize("tokenizer", ["toy_bpe", "stories"])
@pytest.mark.parametrize("count", [0, 3], ids=["zero-shot", "3-shot"])
def test_what_asks_about_nothing_equals_the_twin(request, name, template, ask, ask_nothing, tokenizer, count):
    tokenizer = request.getfixturevalue(tokenizer)
    case = Case.made_up(name, template, ask, tokenizer, count=count, most=12, longest=5000)
    prompt, answers, _ = rendered(case.task, ask_nothing, case.query)
    # With the demonstrations (`icl_sfc`), without them (`sfc`).
    for shown in (True, False) if count else (True,):
        found = case.encoded(calibration="surface-form", calibration_demonstrations=shown)
        case.check(found)
        arguments = (case.twin, case.longest, case.shown, "\n\n", prompt, answers)
        (without,) = found.calibrations
        check(without, text_twin.encode_candidates(*arguments, alone=not (count and shown)))


@pytest.mark.parametrize("count", [0, 3], ids=["zero-shot", "3-shot"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("mezo/Copa", *LONG)])
def test_contextual_calibration_puts_texts_without_content_in_the_place_of_every_text(stories, name, count):
    template, ask, _ = text_twin.TEMPLATES[name][0]
    case = Case.made_up(name, template, ask, stories, count=count, most=4, longest=5000)
    found = case.encoded(calibration="contextual")
    case.check(found)
    assert len(found.calibrations) == 3
    for text, without in zip(("N/A", "", "[MASK]"), found.calibrations, strict=True):
        bare = replace(case.query, sentences=(text,) * len(case.query.sentences))
        prompt, answers, _ = rendered(case.task, ask, bare)
        check(without, text_twin.encode_candidates(case.twin, case.longest, case.shown, "\n\n", prompt, answers))


SUPERGLUE, FEW = "superglue", "superglue/fewglue32"
REAL = {
    "mezo/SST2": ("lm-bff", None),
    **{f"mezo/{name}": (SUPERGLUE, None) for name in ("RTE", "CB", "WSC", "WIC", "MultiRC", "Copa")},
    "mezo/BoolQ": (f"{FEW}/BoolQ/train.jsonl", f"{SUPERGLUE}/BoolQ/val.jsonl"),
    "mezo/ReCoRD": (f"{FEW}/ReCoRD/train.jsonl", f"{FEW}/ReCoRD/train.jsonl"),
    "mezo/SQuAD": ("squad/xquad.en.json", "squad/xquad.en.json"),
    "mezo/DROP": ("drop/drop_contrast_sets_test.json", "drop/drop_contrast_sets_test.json"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokenizer", ["llama", "roberta"])
def test_every_task_equals_the_twin_on_real_texts(shared, request, name, tokenizer):
    tokenizer, task = request.getfixturevalue(tokenizer), load_task(name)
    source, tests = (str(shared / part) if part else None for part in REAL[name])
    splits = draw(task, DataSettings(source=source, test_source=tests, mode="subset", num_train=3, num_eval=4), 0)
    for template, ask, _ in text_twin.TEMPLATES[name]:
        for query in splits.tests["test"]:
            for pool in ((), splits.train):
                case = Case(task, template, ask, tokenizer, pool, query, 2048)
                # Of tokenizers without a first token, prompts of several candidates are cut alike.
                if case.whole() <= case.longest or case.twin.opening:
                    case.check(case.encoded())
