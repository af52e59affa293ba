"""Bad input: each with a clear error, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.errors import (
    ConfigError,
    DataError,
    LabelWordError,
    ModelError,
    NonFiniteLossError,
    NonFiniteScoreError,
    OutputError,
    PromptTooLongError,
    RunFolderError,
    ShoestringError,
    UnknownNameError,
)
from shoestring.runs.config import RunConfig, load_config
from shoestring.runs.record import read_record
from shoestring.runs.run import run
from shoestring.training.checkpoints import last_checkpoint

pytestmark = pytest.mark.usefixtures("frozen_imports")
Change = Callable[[Path], None]


def without_label(data: Path) -> None:
    path = data / "SST-2" / "train.tsv"
    lines = [line for line in path.read_text().splitlines(keepends=True) if not line.endswith("\t1\n")]
    path.write_text("".join(lines))


def malformed(data: Path) -> None:
    path = data / "SST-2" / "train.tsv"
    path.write_text(path.read_text() + "a row without a label\n")


def empty(data: Path) -> None:
    path = data / "SST-2" / "train.tsv"
    path.write_text(path.read_text() + "\t1\n")


def long(data: Path) -> None:
    path = data / "SST-2" / "dev.tsv"
    path.write_text(path.read_text() + "a film " * 100 + "\t1\n")


def no_test(data: Path) -> None:
    (data / "SST-2" / "dev.tsv").unlink()


INPUT: dict[str, tuple[dict[str, Any], Change | None, type[ShoestringError], str]] = {
    "unknown task": ({"task": "SST--2"}, None, ConfigError, "task: unknown task 'SST--2'; did you mean 'SST-2'"),
    "unknown key": ({"data": {"kk": 3}}, None, ConfigError, r"data\.kk: unknown key; did you mean 'k'"),
    "unknown method": (
        {"method": {"kind": "mezzo"}},
        None,
        ConfigError,
        r"method\.kind: there is no 'mezzo'; did you mean 'mezo'",
    ),
    "unknown model": (
        {"model": {"name": "/no/such/model"}},
        None,
        ModelError,
        r"model\.name='/no/such/model': there is no such folder",
    ),
    "missing label": ({}, without_label, DataError, r"train\.tsv: label '1' of SST-2 has no example; the labels there"),
    "k too large": (
        {"data": {"k": 100}},
        None,
        DataError,
        r"label '0' has 40 examples, 200 are needed .*data\.k=20 would fit",
    ),
    "malformed row": ({}, malformed, DataError, r"train\.tsv, line 82: "),
    "empty row": ({}, empty, DataError, r"train\.tsv, line 82: "),
    "no test file": ({}, no_test, DataError, r"dev\.tsv: there is no such file, for split 'test'"),
    "no such data": ({"data": {"source": "/no/such/data"}}, None, DataError, "/no/such/data: there is no such file"),
    "two tokens": (
        {"prompt": {"label_words": {"1": "greatfilm"}}},
        None,
        LabelWordError,
        r"label '1': .*'greatfilm' is \d+ tokens to .*; a masked model needs exactly one",
    ),
    "long prompt": (
        {"prompt": {"truncate": "error"}},
        long,
        PromptTooLongError,
        r"task SST-2, example test:24: the prompt has \d+ tokens .*the limit is 64 \(what the model can read\)",
    ),
    "unknown test set": (
        {"data": {"tests": ["tset"]}},
        None,
        (UnknownNameError),
        "unknown test set 'tset'; did you mean 'test'",
    ),
    "no biases": (
        {"model": {"kind": "causal"}, "tuning": {"kind": "bitfit"}},
        None,
        ModelError,
        "LlamaForCausalLM has no biases",
    ),
}


@pytest.mark.parametrize("case", INPUT)
def test_a_mistake_is_named_before_anything_is_written(
    case: str, tiny_masked_folder: Path, tiny_causal_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    sections, change, error, message = INPUT[case]
    data = tiny_original
    if change is not None:
        data = tmp_path / "data"
        shutil.copytree(tiny_original, data)
        change(data)
    causal = sections.get("model", {}).get("kind") == "causal"
    with pytest.raises(error, match=message):
        run(tiny.config(tiny_causal_folder if causal else tiny_masked_folder, data, tmp_path / "runs", **sections))
    assert not (tmp_path / "runs").exists()


def test_a_head_without_padding_is_refused(tiny_original: Path, tmp_path: Path) -> None:
    tokenizer = tiny.bpe_tokenizer()
    tokenizer.pad_token = None
    model = tiny.save(tiny.build_model("llama", "head", pad_token_id=None), tokenizer, tmp_path / "model")
    with pytest.raises(ModelError, match="has no padding token, which a classification head needs"):
        run(tiny.config(model, tiny_original, tmp_path / "runs", model={"kind": "head"}))
    assert not (tmp_path / "runs").exists()


CHECKS: dict[str, tuple[dict[str, Any], str]] = {
    "tuning": (
        {"method": {"kind": "zero-shot"}, "tuning": {"kind": "lora"}},
        r"tuning\.kind='lora' has no effect: method\.kind='zero-shot' trains nothing",
    ),
    "prompt of a head": (
        {"model": {"kind": "head"}, "prompt": {"template": "lm-bff"}},
        r"prompt\.template has no effect: a model with a classification head takes no prompt",
    ),
    "objective": (
        {"method": {"objective": "acuracy"}},
        r"method\.objective: unknown objective 'acuracy'; did you mean 'accuracy'",
    ),
    "gradient": (
        {"method": {"kind": "adam", "objective": "accuracy"}},
        r"method\.objective='accuracy' has no gradient, which method\.kind='adam' needs; .*method\.kind=\"mezo\"",
    ),
    "vocabulary": (
        {"model": {"kind": "head"}, "method": {"objective": "language-model"}},
        r"method\.objective='language-model' needs a language model, not model\.kind='head'",
    ),
    "dropout": (
        {"tuning": {"kind": "lora", "dropout": 0.1}},
        r"tuning\.dropout=0\.1 has no effect: method\.kind='mezo' makes forward passes only",
    ),
    "k of all": ({"data": {"mode": "full", "k": 8}}, r"data\.k=8 has no effect in mode 'full', which takes all"),
    "template": (
        {"prompt": {"template": "lmbff"}},
        "prompt: task SST-2: unknown template 'lmbff'; did you mean 'lm-bff'",
    ),
    "form": (
        {"prompt": {"template": "*cls**sent_0*_It_was"}},
        r"prompt: task SST-2, template 'given in the settings'.*mask",
    ),
    "answer": (
        {"prompt": {"answer": " {word}!"}},
        "prompt: task SST-2: `answer` continues causal prompts, so with a masked model it would have no effect",
    ),
    "braces": (
        {"model": {"kind": "causal"}, "prompt": {"answer": "{wort}"}},
        r"prompt: task SST-2: `answer` is '\{wort\}', but needs exactly one",
    ),
    "label": (
        {"prompt": {"label_words": {"grate": "great"}}},
        r"prompt\.label_words: unknown label 'grate'\. Allowed: 0, 1",
    ),
    "same word": (
        {"prompt": {"label_words": {"0": "great"}}},
        "prompt: task SST-2, label '1': its word 'great' is the same label word as 'great' of label '0'",
    ),
    "kind of task": (
        {"method": {"objective": "regression"}},
        r"method\.objective='regression' is not defined for classification, which SST-2 is",
    ),
}


@pytest.mark.parametrize("case", CHECKS)
def test_a_combination_that_makes_no_sense_is_refused(case: str, tmp_path: Path) -> None:
    sections, message = CHECKS[case]
    with pytest.raises(ConfigError, match=message):
        tiny.config(tmp_path, tmp_path, tmp_path, **sections)


def test_every_combination_that_makes_no_sense_is_named_at_once(tmp_path: Path) -> None:
    prompt = {"template": "lmbff", "label_words": {"2": "fair", "3": "fine", "0": "great"}}
    with pytest.raises(ConfigError) as caught:
        tiny.config(tmp_path, tmp_path, tmp_path, prompt=prompt, method={"objective": "acuracy"})
    said = ("template 'lmbff'", "label '2'", "label '3'", "the same label word", "objective 'acuracy'")
    assert [text for text in said if text not in str(caught.value)] == []


@pytest.fixture
def config(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> RunConfig:
    method = {"kind": "mezo", "steps": 6, "batch_size": 4, "eval_every": 2, "lr": 1e-3}
    return tiny.config(tiny_masked_folder, tiny_original, tmp_path / "runs", method=method)


def test_a_runs_folder_that_is_a_file_is_named_before_the_work_begins(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(OutputError, match=r"runs/.* cannot be written: Not a directory; .*output\.folder"):
        run(config)
    assert (tmp_path / "runs").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        run(config)


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_from_the_start_leaves_nothing_half_written(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OutputError, match=r"cannot be written: No space left on device"):
            run(config)
    assert {entry.name for entry in config.folder.iterdir()} == {".lock"}
    assert run(config).status == "ok"


def test_a_disk_that_fills_up_while_checkpoints_are_written_leaves_the_last_good_one(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedModel

    original, calls = PreTrainedModel.save_pretrained, iter(range(9))

    def save(self: Any, *inputs: Any, **more: Any) -> Any:
        return full_disk() if next(calls) == 1 else original(self, *inputs, **more)

    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", save)
        with pytest.raises(OutputError, match="cannot be written: No space left on device"):
            run(config)
    record = read_record(config.folder)
    assert record is not None
    assert record.status == "failed"
    found = last_checkpoint(config.folder / "checkpoints")
    assert found is not None
    assert found.name == "checkpoint-2"
    assert run(config).facts["resumed_from"] == 2


def test_a_loss_that_is_not_finite_fails_the_run_and_keeps_the_last_good_weights(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from shoestring.training.objectives.cross_entropy import CrossEntropy
    from shoestring.training.trainer import PromptTrainer

    original, at = CrossEntropy.losses, [0]

    def losses(self: Any, *inputs: Any) -> Any:
        return original(self, *inputs) * (float("nan") if at[0] == 5 else 1.0)

    def note(self: Any, inputs: Any) -> Any:
        at[0] = self.state.global_step + 1
        return trainer_losses(self, inputs)

    trainer_losses = PromptTrainer.losses
    monkeypatch.setattr(CrossEntropy, "losses", losses)
    monkeypatch.setattr(PromptTrainer, "losses", note)
    message = (
        r"step 5: the loss is nan on the batch \[train:\d+, train:\d+, train:\d+, train:\d+\]; a smaller method\.lr"
    )
    with pytest.raises(NonFiniteLossError, match=message) as caught:
        run(config)
    assert any("last good weights are in" in note for note in caught.value.__notes__)
    record = read_record(config.folder)
    assert record is not None
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.startswith(str(caught.value))
    kept = config.folder / "checkpoints" / "checkpoint-4"
    assert record.error.endswith(str(kept))
    assert all(bool(weight.isfinite().all()) for weight in load_file(kept / "model.safetensors").values())
    assert not (config.folder / "predictions.jsonl").exists()
    assert not record.metrics


def test_scores_that_are_not_finite_fail_a_run_without_training(tiny_original: Path, tmp_path: Path) -> None:
    model = tiny.build_model("roberta", "masked")
    model.lm_head.bias.data.fill_(float("nan"))
    folder = tiny.save(model, tiny.bpe_tokenizer(), tmp_path / "model")
    config = tiny.config(folder, tiny_original, tmp_path / "runs", method={"kind": "zero-shot"})
    with pytest.raises(NonFiniteScoreError, match=r"the scores of 8 examples are not finite \(train:"):
        run(config)
    record = read_record(config.folder)
    assert record is not None
    assert record.status == "failed"


def test_a_folder_of_another_config_is_refused_and_left_alone(config: RunConfig) -> None:
    config.folder.mkdir(parents=True)
    (config.folder / "config.json").write_text(json.dumps(config.identity() | {"seed": 99}))
    before = sorted(config.folder.iterdir())
    with pytest.raises(RunFolderError, match=r"holds a run of another config \(different: seed\)"):
        run(config)
    assert [path for path in sorted(config.folder.iterdir()) if path.name != ".lock"] == before


def test_a_damaged_result_is_refused_until_forced(config: RunConfig) -> None:
    config.folder.mkdir(parents=True)
    (config.folder / "result.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"result\.json cannot be read"):
        run(config)
    assert run(config, force=True).status == "ok"


def test_several_mistakes_are_named_at_once(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'task = "SST--2"\nsead = 3\n[model]\nkind = "maskd"\nname = "x"\n[method]\nkind = "mezo"\nlr = -1\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, ["method.eps=big", "data.kk=3"])
    assert {problem.where for problem in caught.value.problems} == {
        "task", "sead", "model.kind", "method.lr", "method.eps", "data.kk",
    }  # fmt: skip
    assert str(recipe) in str(caught.value)
