from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny
from shoestring.data.example import Example
from shoestring.data.splits import draw
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.runs.hardest import hardest, prompt_text
from shoestring.runs.predicting import Answered, prediction_rows
from shoestring.runs.run import prepare, run
from shoestring.tasks.load import load_task


class Letters:
    """Stands for a tokenizer: every prompt is long."""

    def decode(self, ids: list[int], **_: bool) -> str:
        return "a" * 5000 + "b" * 5000 + str(ids[0])


def asked(label: float, *, right: tuple[int, ...] = (), golds: tuple[str, ...] = ()) -> EncodedPrompt:
    return EncodedPrompt("test:0", (1,), (0,), 0, ((1,), (2,)), label, 0, right=right, golds=golds)


def test_the_hardest_are_those_whose_right_answer_has_the_least_share() -> None:
    scores = torch.tensor([[0.0, 2.0], [2.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    prompts = [asked(1), asked(1), asked(0), asked(1)]
    assert hardest(load_task("SST-2"), prompts, scores, count=2) == {1, 3}


def test_of_several_right_candidates_the_best_counts_and_one_that_is_not_there_has_no_share() -> None:
    scores = torch.tensor([[3.0, 0.0, 2.9], [0.0, 0.0, -torch.inf], [3.0, 0.0, 0.0]])
    prompts = [asked(1, right=(1, 2)), asked(1, right=(1,)), asked(1, right=(1,))]
    assert hardest(load_task("Copa"), prompts, scores, count=1) == {2}


def test_of_values_the_farthest_and_of_written_answers_the_least_worth_are_hardest() -> None:
    values = torch.tensor([[0.1], [4.0], [2.0]])
    assert hardest(load_task("STS-B"), [asked(0.0), asked(1.0), asked(2.5)], values, count=1) == {1}
    golds, written = [asked(0, golds=("Rome",)) for _ in range(3)], ["Rome", "Paris", "Oslo"]
    logs = torch.tensor([[-9.0], [-1.0], [-2.0]])
    assert hardest(load_task("SQuAD"), golds, logs, written, count=1) == {2}


def test_a_run_keeps_the_prompts_of_its_hardest_test_examples_as_the_model_read_them(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardest, "__defaults__", (None, 3))
    made = tiny.config(tiny_masked_folder, tiny_original, tmp_path / "runs", method={"kind": "zero-shot"})
    run(made)
    lines = (made.folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    kept = [row for row in rows if "prompt" in row]
    assert {row["split"] for row in kept} == {"test"}
    assert len(kept) == 3

    def share(row: dict[str, list[float]]) -> float:
        return float(torch.tensor(row["scores"]).softmax(0)[int(str(row["label"]))])

    shares = sorted(share(row) for row in rows if row["split"] == "test")
    assert sorted(map(share, kept)) == shares[:3]
    ready = prepare(made, draw(made.task, made.data, made.seed))
    by_uid = {prompt.uid: prompt for prompt in ready.prompts["test"]}
    for row in kept:
        assert row["prompt"] == ready.tokenizer.decode(list(by_uid[row["uid"]].ids))
        assert "<mask>" in row["prompt"]


def test_of_a_long_prompt_the_beginning_and_the_end_are_kept() -> None:
    text = prompt_text(Letters(), asked(0))
    assert text.startswith("aaa")
    assert text.endswith("b1")
    assert " […] " in text
    assert len(text) < 2000


def test_of_several_right_candidates_all_are_kept_with_the_prediction() -> None:
    task = load_task("ReCoRD")
    example = Example(
        "test:0", ("a",) * len(task.sentences), "Rome", ("Rome", "Oslo", "the city"), ("Rome", "the city")
    )
    prompts = {"test": [asked(0, right=(0, 2))]}
    config: Any = SimpleNamespace(task=task)
    found = Answered({"test": torch.tensor([[0.0, -1.0, 2.0]])}, {})
    (row,) = prediction_rows(config, prompts, {"test": [example]}, found, Letters())
    assert (row["label"], row["prediction"], row["golds"]) == ("Rome", "the city", ["Rome", "the city"])
    assert row["candidates"] == ["Rome", "Oslo", "the city"]
