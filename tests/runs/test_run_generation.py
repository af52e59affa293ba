"""Runs of tasks whose examples bring their own answers, from config to record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.data.splits import draw
from shoestring.errors import ConfigError
from shoestring.methods.catalog.zero_shot import ZeroShot
from shoestring.runs.answer_log import AnswerLog
from shoestring.runs.config import RunConfig, load_config
from shoestring.runs.loaded import load_run
from shoestring.runs.run import prepare, run

pytestmark = pytest.mark.usefixtures("frozen_imports")
MODELS = {"causal": "llama", "seq2seq": "t5"}
ZERO_SHOT = {"kind": "zero-shot"}
DATA = {"mode": "subset", "num_train": 6, "num_dev": 4, "num_eval": 5}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        kind: tiny.save(tiny.build_model(name, kind), tiny.bpe_tokenizer(), folder / name)
        for kind, name in MODELS.items()
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "words"
    folder.mkdir()
    for name, count, seed in (("train", 12, 1), ("test", 6, 2)):
        rows = [
            {"sentence": one.sentences[0], "choices": one.candidates, "answers": one.golds}
            for one in tiny.answered(count, seed)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder.parent


def config(models: dict[str, Path], data: Path, out: Path, kind: str = "causal", **sections: Any) -> RunConfig:
    chosen = sections.pop("chosen", False)
    files = {
        "folder": "words",
        "format": "jsonl",
        "sentences": ["sentence"],
        "golds": "answers",
        "files": {"train": "train.jsonl", "test": "test.jsonl"},
    }
    more = {"candidates": "choices"} if chosen else {}
    task = {"name": "words", "sentences": ["sentence"], "sources": {"files": files | more}}
    table = {
        "task": task | (tiny.CHOSEN if chosen else tiny.WRITTEN),
        "data": {"source": str(data), **DATA},
        "model": {"kind": kind, "name": str(models[kind])},
        "method": ZERO_SHOT,
        "output": {"folder": str(out)},
    }
    return load_config(None, table=table | sections)


def rows_of(made: RunConfig) -> list[dict[str, Any]]:
    lines = (made.folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("kind", MODELS)
def test_written_answers_are_measured_and_kept(
    kind: str, models: dict[str, Path], data: Path, tmp_path: Path, global_random_states: None
) -> None:
    made = config(models, data, tmp_path, kind)
    record = run(made)
    assert set(record.metrics["test"]) == {"token-f1", "exact-match", "loss"}
    rows = rows_of(made)
    assert [row["split"] for row in rows] == ["dev"] * 4 + ["test"] * 5
    assert all(set(row) - {"prompt"} == {"split", "uid", "golds", "prediction", "score"} for row in rows)
    prepared = prepare(made, draw(made.task, made.data, made.seed))
    for name in ("dev", "test"):
        prompts = prepared.prompts[name]
        own = [row for row in rows if row["split"] == name]
        assert [row["uid"] for row in own] == [prompt.uid for prompt in prompts]
        assert [row["golds"] for row in own] == [list(prompt.golds) for prompt in prompts]
        assert [row["prediction"] for row in own] == [prepared.subject.generate([prompt], 1)[0] for prompt in prompts]
    assert record.main_metric == "token-f1"


@pytest.mark.parametrize(
    "method",
    [
        {"kind": "adam", "steps": 4, "batch_size": 4, "eval_every": 2, "lr": 1e-3},
        {"kind": "mezo", "steps": 2, "batch_size": 4, "eval_every": 1, "lr": 1e-3, "objective": "token-f1"},
        {"kind": "mezo", "steps": 2, "batch_size": 4, "eval_every": 1, "lr": 1e-3, "select": "loss"},
    ],
    ids=["adam", "mezo on F1", "mezo by loss"],
)
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_is_trained_to_write(
    kind: str, method: dict[str, Any], models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    made = config(models, data, tmp_path, kind, method=method)
    record = run(made)
    assert record.status == "ok"
    lines = [json.loads(line) for line in (made.folder / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if "eval_loss" in line]
    assert len(evaluated) == 2
    assert all(("eval_token-f1" in line) == ("select" not in method) for line in evaluated)
    chosen = next(line for line in evaluated if line["step"] == record.facts["selected_step"])
    for name, value in record.metrics["dev"].items():
        if f"eval_{name}" in chosen:
            assert value == pytest.approx(chosen[f"eval_{name}"], rel=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_candidates_of_each_example_are_chosen_among(
    kind: str, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    method = {"kind": "mezo", "steps": 2, "batch_size": 4, "eval_every": 1, "lr": 1e-3}
    made = config(models, data, tmp_path, kind, chosen=True, method=method)
    record = run(made)
    assert set(record.metrics["test"]) == {"accuracy", "loss"}
    examples = {one.uid: one for one in draw(made.task, made.data, made.seed).named["test"]}
    rows = [row for row in rows_of(made) if row["split"] == "test"]
    right = 0
    for row in rows:
        example = examples[row["uid"]]
        assert len(row["scores"]) == len(example.candidates)
        assert row["prediction"] == example.candidates[row["scores"].index(max(row["scores"]))]
        right += row["prediction"] in example.golds
    assert record.metrics["test"]["accuracy"] == pytest.approx(right / len(rows))


@pytest.mark.parametrize("kind", MODELS)
def test_answers_are_written_behind_demonstrations(
    kind: str, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    shown = {"demonstrations": {"kind": "in-context", "count": 2}, "max_tokens": 64}
    made = config(models, data, tmp_path, kind, method={"kind": "in-context"}, prompt=shown)
    record = run(made)
    prepared = prepare(made, draw(made.task, made.data, made.seed))
    prompts = [prompt for name in ("dev", "test") for prompt in prepared.prompts[name]]
    assert {prompt.ids[:10] for prompt in prompts} == {prompts[0].ids[:10]}
    # A fresh model knows nothing of what can be shared, and shares nothing.
    texts = [prepared.subject.generate([prompt], 1)[0] for prompt in prompts]
    assert [row["prediction"] for row in rows_of(made)] == texts
    assert record.metrics["test"]["loss"] > 0


def test_settings_of_generation_are_those_of_the_run(models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    plain, short, drawn = (
        config(models, data, tmp_path, generation=own)
        for own in ({}, {"max_new_tokens": 1}, {"sampling": True, "temperature": 5.0, "top_p": 1.0})
    )
    for made in (plain, short, drawn):
        run(made)
    texts = [[row["prediction"] for row in rows_of(made)] for made in (plain, short, drawn)]
    assert texts[0] != texts[2]
    assert any(len(one) < len(other) for one, other in zip(texts[1], texts[0], strict=True))
    again = config(models, data, tmp_path / "again", generation=drawn.generation.model_dump())
    run(again)
    assert [row["prediction"] for row in rows_of(again)] == texts[2]
    # The answer's room is kept free.
    longer = config(models, data, tmp_path, generation={"max_new_tokens": 20}, prompt={"max_tokens": 30})
    assert prepare(longer, draw(longer.task, longer.data, longer.seed)).subject.encoder.limit == 10


def test_a_killed_writing_goes_on_where_it_stopped(
    models: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(config(models, data, tmp_path / "whole"))
    made, answers, add = config(models, data, tmp_path / "runs"), 0, AnswerLog.add

    def killed(self: AnswerLog, split: str, uid: str, answer: list[float] | str) -> None:
        nonlocal answers
        if isinstance(answer, str) and answers == 11:
            raise KeyboardInterrupt
        answers += 1
        add(self, split, uid, answer)

    with monkeypatch.context() as patch:
        patch.setattr(AnswerLog, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            run(made)

    def counted(self: AnswerLog, *given: Any) -> None:
        nonlocal answers
        answers += 1
        add(self, *given)

    monkeypatch.setattr(AnswerLog, "add", counted)
    again = run(made)
    assert answers == 2 * 9  # A score and a text for each example, none twice.
    assert again.metrics == whole.metrics
    assert rows_of(made) == rows_of(config(models, data, tmp_path / "whole"))


BRING = (
    r"cannot be asked for answers that the examples of words bring; use model\.kind='causal' or model\.kind='seq2seq'"
)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"kind": "masked", "name": "x"}}, rf"model\.kind='masked' {BRING}"),
        ({"model": {"kind": "head", "name": "x"}}, rf"model\.kind='head' {BRING}"),
        ({"model": {"kind": "head", "name": "x"}, "chosen": True}, rf"model\.kind='head' {BRING}"),
        ({"generation": {"beams": 2}, "chosen": True}, r"beams has no effect: answers to words are not written"),
        ({"method": {"kind": "adam", "objective": "token-f1"}}, r"method\.objective='token-f1' has no gradient"),
        ({"method": {"kind": "mezo", "objective": "token-f1"}, "chosen": True}, "not defined for multiple-choice"),
        ({"method": {"kind": "mezo", "objective": "accuracy"}}, r"'accuracy' is not defined for generation"),
        ({"kind": "seq2seq", "method": {"kind": "adam", "objective": "whole-text"}}, r"='causal', not 'seq2seq'"),
    ],
)
def test_what_cannot_be_written_is_refused(
    sections: dict[str, Any], message: str, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(models, data, tmp_path, **sections)


def test_a_method_that_writes_nothing_is_refused(
    models: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ZeroShot, "writes", False, raising=False)
    with pytest.raises(ConfigError, match=r"method\.kind='zero-shot' writes no answers, which words asks for"):
        config(models, data, tmp_path)
    config(models, data, tmp_path, chosen=True)


@pytest.mark.parametrize("chosen", [False, True], ids=["written", "chosen"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_loaded_run_answers_new_rows(
    kind: str, chosen: bool, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    made = config(models, data, tmp_path, kind, chosen=chosen)
    run(made)
    test = draw(made.task, made.data, made.seed).tests["test"]
    rows = [{"sentence": one.sentences[0]} | ({"candidates": list(one.candidates)} if chosen else {}) for one in test]
    found = load_run(made.folder).predict(rows, batch_size=2)
    wanted = [row for row in rows_of(made) if row["split"] == "test"]
    assert [answer.prediction for answer in found] == [row["prediction"] for row in wanted]
    for answer, row in zip(found, wanted, strict=True):
        assert (answer.scores is not None) == chosen
        if answer.scores is not None:
            assert list(answer.scores.values()) == pytest.approx(row["scores"], rel=1e-5)
