"""`shoestring replay`: a log and a base model to the model that a run tuned."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

import tiny
from cli.conftest import Shell
from shoestring.models.quiet import quiet
from shoestring.runs.record import Record, read_record
from shoestring.runs.run import run
from shoestring.training.settings import TRAJECTORY
from shoestring.zeroth import MeZO
from shoestring.zeroth.trajectory import Recorder, Trajectory
from shoestring.zeroth.trajectory.log import Log

pytestmark = pytest.mark.usefixtures("frozen_imports")
KEEP: dict[str, Any] = {"keep_model": True}
METHOD = {"kind": "mezo", "steps": 5, "batch_size": 4, "lr": 1e-3, "eval_every": 2, "select": "last"}


def make(place: Path, base: Path, data: Path, **sections: Any) -> tuple[Path, Record]:
    """Make a run that keeps its model, and return its folder."""
    sections = {"method": METHOD, "output": {"folder": str(place), **KEEP}} | sections
    config = tiny.config(base, data, place, **sections)
    return config.folder, run(config)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, tiny_masked_folder: Path, tiny_original: Path) -> Path:
    return make(tmp_path_factory.mktemp("full"), tiny_masked_folder, tiny_original)[0]


def same(one: Path, other: Path, name: str = "model.safetensors") -> bool:
    return tiny.equal(load_file(one / name), load_file(other / name))


def test_it_writes_the_model_that_the_run_kept(full: Path, shell: Shell) -> None:
    out, err = shell("replay", full / TRAJECTORY, "--out", "tuned")
    assert out.startswith("tuned: ")
    assert out.endswith("roberta, SST-2, 5 steps of mezo\n")
    assert err == ""
    assert same(Path("tuned"), full / "model")
    assert {path.name for path in Path("tuned").iterdir()} == {path.name for path in (full / "model").iterdir()}
    with quiet():
        model = AutoModelForMaskedLM.from_pretrained("tuned")
    assert AutoTokenizer.from_pretrained("tuned")("It was").input_ids
    state = torch.load(_saved(model), weights_only=True)
    assert torch.equal(state["roberta.embeddings.word_embeddings.weight"], model.get_input_embeddings().weight)
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def _saved(model: PreTrainedModel) -> Path:
    torch.save(model.state_dict(), "state.pt")
    return Path("state.pt")


def test_a_runs_folder_stands_for_its_log_and_the_model_may_lie_elsewhere(
    full: Path, tiny_masked_folder: Path, shell: Shell
) -> None:
    shutil.copytree(tiny_masked_folder, "base")
    out, _ = shell("replay", full, "--out", "a/b", "--model", "base")
    assert out == "a/b: base, SST-2, 5 steps of mezo\n"
    assert same(Path("a/b"), full / "model")


def test_an_empty_folder_is_filled(full: Path, shell: Shell) -> None:
    Path("tuned").mkdir()
    shell("replay", full, "--out", "tuned")
    assert same(Path("tuned"), full / "model")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own
@pytest.mark.parametrize("kind", ["lora", "bitfit"])
def test_what_was_tuned_is_tuned_again(
    kind: str, tiny_masked_folder: Path, tiny_original: Path, shell: Shell, tmp_path: Path
) -> None:
    folder, _ = make(tmp_path / "runs", tiny_masked_folder, tiny_original, tuning={"kind": kind})
    shell("replay", folder, "--out", "tuned")
    name = "adapter_model.safetensors" if kind == "lora" else "tuned.safetensors"
    assert same(Path("tuned"), folder / "model", name)
    if kind == "lora":
        assert json.loads(Path("tuned/adapter_config.json").read_text())["r"] == 8
        with quiet():
            base = AutoModelForMaskedLM.from_pretrained(tiny_masked_folder)
        PeftModel.from_pretrained(base, "tuned")


def test_the_new_head_of_a_model_is_drawn_again(
    tiny_masked_folder: Path, tiny_original: Path, shell: Shell, tmp_path: Path
) -> None:
    model = {"kind": "head", "dtype": "bfloat16"}
    folder, record = make(tmp_path / "runs", tiny_masked_folder, tiny_original, model=model)
    assert record.facts["rounding"] == "stochastic"
    shell("replay", folder, "--out", "tuned")
    assert same(Path("tuned"), folder / "model")
    with quiet():
        assert AutoModelForSequenceClassification.from_pretrained("tuned").dtype is torch.bfloat16


def test_the_step_that_the_run_kept_is_named_and_can_be_had(
    tiny_masked_folder: Path, tiny_original: Path, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.7, 0.9])

    with monkeypatch.context() as patch:
        patch.setattr("shoestring.training.trainer.evaluate", lambda *_: {"accuracy": 1.0, "loss": next(losses)})
        method = METHOD | {"select": "loss"}
        folder, record = make(tmp_path / "runs", tiny_masked_folder, tiny_original, method=method)
    assert record.facts["selected_step"] == 2
    _, err = shell("replay", folder, "--out", "last")
    assert err == "note: the run itself kept the weights of step 2: --steps 2\n"
    assert not same(Path("last"), folder / "model")
    out, err = shell("replay", folder, "--steps", 2, "--out", "kept")
    assert (out.split(", ")[-1], err) == ("2 steps of mezo\n", "")
    assert same(Path("kept"), folder / "model")


def test_a_run_that_is_not_made_for_the_first_time_keeps_its_log_right(
    tiny_masked_folder: Path, tiny_original: Path, shell: Shell, tmp_path: Path
) -> None:
    """A finished run without a model is made once more for it."""
    output = {"folder": str(tmp_path / "runs"), "keep_model": False}
    folder, _ = make(tmp_path / "runs", tiny_masked_folder, tiny_original, output=output)
    before = (folder / TRAJECTORY).read_bytes()
    make(tmp_path / "runs", tiny_masked_folder, tiny_original)
    assert (folder / TRAJECTORY).read_bytes() == before
    shell("replay", folder, "--out", "tuned")
    assert same(Path("tuned"), folder / "model")


# What is refused


def test_another_base_model_is_refused_and_nothing_is_written(full: Path, shell: Shell) -> None:
    tiny.save(tiny.build_model("roberta", "masked", seed=1), tiny.bpe_tokenizer(), Path("other"))
    message = shell.error("replay", full, "--out", "tuned", "--model", "other")
    assert "began with other weights than these: roberta.embeddings.word_embeddings.weight differs" in message
    assert not Path("tuned").exists()


def test_a_base_of_another_shape_is_refused(full: Path, shell: Shell) -> None:
    tiny.save(tiny.build_model("roberta", "masked", vocab_size=401), tiny.bpe_tokenizer(), Path("other"))
    message = shell.error("replay", full, "--out", "tuned", "--model", "other")
    assert "was float32 [400, 32], this one is float32 [401, 32]" in message


def test_other_frozen_weights_are_refused(
    tiny_masked_folder: Path, tiny_original: Path, shell: Shell, tmp_path: Path
) -> None:
    """The adapters would be the same on any base."""
    folder, _ = make(tmp_path / "runs", tiny_masked_folder, tiny_original, tuning={"kind": "lora"})
    tiny.save(tiny.build_model("roberta", "masked", seed=1), tiny.bpe_tokenizer(), Path("other"))
    message = shell.error("replay", folder, "--out", "tuned", "--model", "other")
    assert "was written for a model with other frozen weights than these" in message


def test_wrong_places_are_named_with_the_nearest(full: Path, shell: Shell, tiny_masked_folder: Path) -> None:
    message = shell.error("replay", full / "trajektory.bin", "--out", "tuned")
    assert "trajektory.bin: there is no such file; did you mean 'trajectory.bin'" in message
    assert f"is a folder of runs; give one of them: {full.name}" in shell.error("replay", full.parent, "--out", "tuned")
    message = shell.error("replay", full.parent / full.name[:4], "--out", "tuned")
    assert f"there is no such folder; did you mean '{full.name}'" in message
    message = shell.error("replay", full, "--out", "tuned", "--model", tiny_masked_folder.parent / "robertta")
    assert "there is no such folder; did you mean 'roberta'" in message
    assert "config.json is no trajectory" in shell.error("replay", full / "config.json", "--out", "tuned")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_there_is_not_overwritten(kind: str, full: Path, shell: Shell) -> None:
    kept = Path("tuned/mine.txt") if kind == "folder" else Path("tuned")
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    what = "is a folder that holds something" if kind == "folder" else "is a file"
    assert f"tuned {what}; choose another place" in shell.error("replay", full, "--out", "tuned")
    assert kept.read_text() == "mine"


def test_steps_beyond_the_log_are_refused(full: Path, shell: Shell) -> None:
    message = shell.error("replay", full, "--out", "tuned", "--steps", 6)
    assert "reaches from step 0 to 5; from step 0 it cannot be replayed to 6" in message
    assert "--steps" in shell.usage_error("replay", full, "--out", "tuned", "--steps", -1)


def test_a_damaged_log_is_refused_and_a_torn_one_replayed(full: Path, shell: Shell) -> None:
    data = (full / TRAJECTORY).read_bytes()
    ends = [end for end, _ in Trajectory.read(full / TRAJECTORY).ends]
    place = ends[1] + 3
    Path("log").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert "log is damaged at step 1" in shell.error("replay", "log", "--out", "tuned")
    Path("log").write_bytes(data[: ends[3] - 2])
    out, _ = shell("replay", "log", "--out", "tuned")
    assert out.endswith("SST-2, 2 steps of mezo\n")


def test_a_log_that_says_nothing_of_a_model_is_refused(shell: Shell) -> None:
    weight = nn.Parameter(torch.ones(3))
    with Recorder(MeZO([("w", weight)]), Path("log")):
        pass
    message = shell.error("replay", "log", "--out", "tuned")
    assert "was not written by `shoestring run` and does not say what model it is of; shoestring.zeroth" in message


def test_a_log_of_a_method_that_this_version_does_not_know_is_refused(full: Path, shell: Shell) -> None:
    header = Trajectory.read(full / TRAJECTORY).header
    about = header.about | {"method": {"kind": "mezzo"}}
    with Log.begin(Path("log"), header.model_copy(update={"about": about})):
        pass
    assert "method.kind: there is no 'mezzo'; did you mean 'mezo'" in shell.error("replay", "log", "--out", "tuned")


def test_a_device_that_is_not_there_is_refused(full: Path, shell: Shell) -> None:
    assert "there is no device 'gpu'" in shell.error("replay", full, "--out", "tuned", "--device", "gpu")


def test_a_full_disk_leaves_nothing_behind(full: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", refuse)
    assert "tuned cannot be written: No space left on device" in shell.error("replay", full, "--out", "tuned")
    assert list(Path().iterdir()) == []


def test_a_run_by_gradients_has_no_log(tiny_masked_folder: Path, tiny_original: Path, shell: Shell) -> None:
    folder, record = make(
        Path("runs"), tiny_masked_folder, tiny_original, method={"kind": "adam", "steps": 1, "batch_size": 4}
    )
    assert "has no trajectory.bin: runs by adam write none" in shell.error("replay", folder, "--out", "tuned")
    assert read_record(folder) == record
    assert "rounding" not in record.facts
