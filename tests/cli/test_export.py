"""`shoestring export`: what is printed, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import tiny
from cli.conftest import Shell
from shoestring.runs.run import run

pytestmark = [
    pytest.mark.usefixtures("frozen_imports"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft's own
]
MEZO = {"kind": "mezo", "steps": 2, "batch_size": 4, "lr": 1e-3, "eval_every": 2}


def make(base: Path, data: Path, kind: str, **sections: Any) -> Path:
    """Make a run in `runs/` and return its folder."""
    config = tiny.config(base, data, Path("runs"), **{"model": {"kind": kind}, "method": MEZO, **sections})
    run(config)
    return config.folder


@pytest.fixture
def base(shell: Shell, tiny_causal_folder: Path) -> Path:
    """A causal model called `base`, in the current folder."""
    shutil.copytree(tiny_causal_folder, "base")
    return Path("base")


def test_a_whole_model_and_the_command_that_evaluates_it(shell: Shell, base: Path, tiny_original: Path) -> None:
    folder = make(base, tiny_original, "causal")
    out, err = shell("export", folder, "--out", "my tuned")
    first, second, *more = out.splitlines()
    assert first == "my tuned: a whole model; SST-2, mezo, full, made again up to step 2"
    assert second == 'lm_eval --model hf --model_args \'{"pretrained": "my tuned"}\' --tasks sst2'
    assert (more, err) == ([], "")


def test_an_adapter_and_its_base(shell: Shell, base: Path, tiny_original: Path) -> None:
    folder = make(base, tiny_original, "causal", tuning={"kind": "lora"}, output={"keep_model": True})
    out, _ = shell("export", folder, "--out", "tuned")
    assert out == (
        "tuned: an adapter of base, for peft; SST-2, mezo, lora\n"
        "lm_eval --model hf --model_args pretrained=base,peft=tuned,dtype=float32 --tasks sst2\n"
    )
    merged, _ = shell("export", folder, "--merge", "--out", "merged")
    assert merged == (
        "merged: a whole model; SST-2, mezo, lora\n"
        "lm_eval --model hf --model_args pretrained=merged --tasks sst2\n"
    )  # fmt: skip


def test_a_model_that_the_harness_cannot_ask_is_told(
    shell: Shell, tiny_masked_folder: Path, tiny_original: Path
) -> None:
    folder = make(tiny_masked_folder, tiny_original, "masked")
    out, err = shell("export", folder, "--out", "tuned")
    assert len(out.splitlines()) == 1
    assert err == "note: the lm-evaluation-harness asks causal and seq2seq models; this one is of kind masked\n"


def test_a_task_that_the_harness_has_not_is_told(shell: Shell, base: Path) -> None:
    path = tiny.write_csv(Path("moods.csv"))
    shell(
        "run", "--data", path, "--text-columns", "review", "--label-column", "mood", "--template", "{{ review }} So",
        "--label-words", "bad,good", "model.kind=causal", f"model.name={base}", "method.kind=mezo", "method.steps=1",
        "data.k=2",
    )  # fmt: skip
    (folder,) = Path("runs").iterdir()
    out, err = shell("export", folder, "--out", "tuned")
    assert out.splitlines()[1] == "lm_eval --model hf --model_args pretrained=tuned"
    assert err == (
        "note: the lm-evaluation-harness has no task known to be moods; add --tasks and what is to be asked\n"
    )  # fmt: skip


def test_mistakes_are_named(shell: Shell, base: Path, tiny_original: Path) -> None:
    folder = make(base, tiny_original, "causal", method={"kind": "zero-shot"})
    assert "Missing option '--out'" in shell.usage_error("export", folder)
    message = shell.error("export", folder, "--out", "tuned")
    assert message.endswith(
        "has no model of its own: method.kind='zero-shot' trains nothing, so it is base that answers\n"
    )
    assert "there is no such folder" in shell.error("export", "rnus/x", "--out", "tuned")
    assert f"did you mean {folder}?" in shell.error("export", folder.name, "--out", "tuned")
    assert f"give one of them: {folder.name}" in shell.error("export", "runs", "--out", "tuned")
    assert "Did you mean 'export'" in shell.usage_error("exprot", folder)
    assert not Path("tuned").exists()


def test_a_device_that_is_not_there_is_refused(shell: Shell, base: Path, tiny_original: Path) -> None:
    folder = make(base, tiny_original, "causal")
    message = shell.error("export", folder, "--out", "tuned", "--device", "gpu")
    assert "there is no device 'gpu'" in message
    assert "the model was to be made again from" in message
