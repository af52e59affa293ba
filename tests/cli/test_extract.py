"""`shoestring extract`: what is in the file is what the model is at the answer, one example at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from cli.conftest import Shell
from shoestring.data.splits import draw
from shoestring.errors import OutputError
from shoestring.runs.config import RunConfig
from shoestring.runs.run import prepare, run
from shoestring.tuning.load import load_tuned

pytestmark = pytest.mark.usefixtures("frozen_imports")
TRAINED = {"kind": "adam", "steps": 2, "batch_size": 4, "lr": 1e-2, "eval_every": 2, "select": "last"}


@pytest.fixture
def trained(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> RunConfig:
    output = {"folder": str(tmp_path / "runs"), "keep_model": True}
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=TRAINED, output=output)
    run(config)
    return config


def wanted(config: RunConfig, split: str, tuned: Path | None) -> dict[str, torch.Tensor]:
    """Return what should be in a file, by one forward pass for each prompt."""
    prepared = prepare(config, draw(config.task, config.data, config.seed))
    model: Any = prepared.subject.model if tuned is None else load_tuned(prepared.subject.model, tuned)
    model.eval()
    seen: dict[str, list[torch.Tensor]] = {}
    layers = [layer.output.dense for layer in model.roberta.encoder.layer] + [model.lm_head.decoder]
    names = [f"feed_forward.{number}" for number in range(len(layers) - 1)] + ["last_hidden"]
    for prompt in prepared.prompts[split]:
        for name, layer in zip(names, layers, strict=True):
            layer.register_forward_pre_hook(
                lambda _, args, name=name, place=prompt.position: seen.setdefault(name, []).append(args[0][0, place])
            )
        with torch.no_grad():
            model(input_ids=torch.tensor([prompt.ids]))
        for layer in layers:
            layer._forward_pre_hooks.clear()
    return {name: torch.stack(rows) for name, rows in seen.items()}


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.allclose(value, expected[name], atol=1e-5) for name, value in found.items()
    )


def test_it_writes_what_a_run_tuned_makes_of_a_split(trained: RunConfig, shell: Shell) -> None:
    out, _ = shell("extract", trained.folder, "--out", "a/test.safetensors")
    assert out.startswith(
        "a/test.safetensors: 24 examples of SST-2, test: last_hidden [24, 32], feed_forward.0 [24, 48]"
    )
    found = load_file("a/test.safetensors")
    assert close(found, wanted(trained, "test", trained.folder / "model"))
    assert not torch.allclose(found["last_hidden"], wanted(trained, "test", None)["last_hidden"], atol=1e-3)
    beside = json.loads(Path("a/test.json").read_text())
    examples = draw(trained.task, trained.data, trained.seed).named["test"]
    assert beside["uids"] == [example.uid for example in examples]
    assert beside["labels"] == [example.label for example in examples]
    assert beside["layers"] == [0, 1]
    assert sorted(path.name for path in Path("a").iterdir()) == ["test.json", "test.safetensors"]


def test_of_a_recipe_it_is_the_model_that_training_begins_with(
    tiny_masked_folder: Path, tiny_original: Path, shell: Shell
) -> None:
    keys = ["task=SST-2", f"data.source={tiny_original}", "data.k=4", "model.kind=masked"]
    keys += [f"model.name={tiny_masked_folder}", "method.kind=linear-probe", "output.eval_batch_size=3"]
    shell("extract", *keys, "--out", "dev.safetensors", "--split", "dev", "--layers", "-1,1")
    expected = wanted(tiny.config(tiny_masked_folder, tiny_original, Path("x")), "dev", None)
    del expected["feed_forward.0"]
    assert close(load_file("dev.safetensors"), expected)
    assert shell.error("extract", *keys, "--out", "dev.safetensors").startswith(
        "error: dev.safetensors is there already"
    )
    assert "layer 2: the model has 2 layers, 0 to 1" in shell.error(
        "extract", *keys, "--out", "b.safetensors", "--layers", "2"
    )
    assert "unknown split 'tset'; did you mean 'test'?" in shell.error(
        "extract", *keys, "--out", "b.safetensors", "--split", "tset"
    )
    head = [key.replace("kind=masked", "kind=head") for key in keys]
    assert "model.kind='head' has no token" in shell.error("extract", *head, "--out", "b.safetensors")
    several = 'prompt.templates=["lm-bff", "*cls**sent_0*_So*mask*.*sep+*"]'
    assert "asked in several ways" in shell.error("extract", *keys, several, "--out", "b.safetensors")
    assert not Path("b.safetensors").exists()
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_causal_and_sequence_to_sequence_models_are_read_too(tiny_original: Path, shell: Shell) -> None:
    for name, kind, task in (("gpt2", "causal", "SST-2"), ("t5", "seq2seq", "mezo/SST2")):
        model = tiny.save(tiny.build_model(name, kind), tiny.bpe_tokenizer(), Path(name))
        keys = [f"task={task}", f"data.source={tiny_original}", "data.k=4", f"model.kind={kind}"]
        shell("extract", *keys, f"model.name={model}", "method.kind=zero-shot", "--out", f"{name}.safetensors")
        found = load_file(f"{name}.safetensors")
        assert found["last_hidden"].shape == (24, 32)
        assert found["feed_forward.1"].shape[0] == 24


def test_bad_arguments_are_named(trained: RunConfig, shell: Shell) -> None:
    assert "--out FILE.safetensors is needed" in shell.usage_error("extract", trained.folder, "--out", "x.pt")
    assert "'a' is not of the form 0,5,-1" in shell.usage_error(
        "extract", trained.folder, "--out", "x.safetensors", "--layers", "a"
    )
    assert "is a run, whose settings are what they were; seed=3 is for recipes" in shell.usage_error(
        "extract", trained.folder, "seed=3", "--out", "x.safetensors"
    )
    assert "the folder of a run, or a recipe, is needed" in shell.usage_error("extract", "--out", "x.safetensors")
    (trained.folder / "model").rename(trained.folder / "gone")
    assert "did not keep its model: run it again with" in shell.error(
        "extract", trained.folder, "--out", "x.safetensors"
    )


def test_a_full_disk_leaves_nothing(trained: RunConfig, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoestring.runs import extracting

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    def refuse(*_: Any) -> None:
        raise OutputError("full")

    for where, name, said in (
        (extracting.Rows, "put", "cannot be written: No space"),
        (extracting, "write_json", "full"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, full if name == "put" else refuse)
            assert said in shell.error("extract", trained.folder, "--out", "x.safetensors")
        assert not [path for path in Path().iterdir() if path.name.startswith(("x", "."))]
