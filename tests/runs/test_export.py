"""Models of runs for transformers and peft: what was exported scores as the run did."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel

import tiny
from reference.scoring_twin import causal_scores, head_scores, masked_scores, seq2seq_scores
from shoestring.data.splits import draw
from shoestring.errors import ModelError, OutputError, RunFolderError, ShoestringError
from shoestring.models.quiet import quiet
from shoestring.models.settings import MODEL_KINDS, CausalModel
from shoestring.runs.config import RunConfig
from shoestring.runs.export import Exported, export_run
from shoestring.runs.harness import harness_command, model_arguments
from shoestring.runs.record import read_record, write_record
from shoestring.runs.run import prepare, run
from shoestring.tasks.harness_names import harness_name
from shoestring.tasks.load import load_task, task_names
from shoestring.training.settings import TRAJECTORY
from tuning.subjects import SETTINGS

pytestmark = [
    pytest.mark.usefixtures("frozen_imports"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft's own
]
ADAM = {"kind": "adam", "steps": 3, "batch_size": 4, "lr": 3e-2, "eval_every": 3, "select": "last"}
MEZO = {"kind": "mezo", "steps": 4, "batch_size": 4, "lr": 1e-3, "eval_every": 2, "select": "last"}
TWINS = {"masked": masked_scores, "causal": causal_scores, "head": head_scores, "seq2seq": seq2seq_scores}


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, tiny_masked_folder: Path, tiny_causal_folder: Path
) -> dict[str, Path]:
    """Base models by architecture."""
    found = {"roberta": tiny_masked_folder, "llama": tiny_causal_folder}
    place = tmp_path_factory.mktemp("bases")
    for name, kind in (("opt", "causal"), ("mistral", "causal"), ("t5", "seq2seq")):
        model = tiny.build_model(name, kind)
        if kind == "seq2seq":
            model.generation_config.forced_bos_token_id = 0  # The tokenizer begins texts with it.
        found[name] = tiny.save(model, tiny.bpe_tokenizer(), place / name)
    return found


def made(base: Path, kind: str, data: Path, place: Path, *, keep: bool = True, **sections: Any) -> RunConfig:
    """Make a run and return its config."""
    sections = {"method": ADAM, "output": {"folder": str(place), "keep_model": keep, "eval_batch_size": 8}} | sections
    sections["model"] = {"kind": kind} | sections.get("model", {})
    task = {"task": "mezo/SST2"} if kind == "seq2seq" else {}
    config = tiny.config(base, data, place, **task, **sections)
    run(config)
    return config


def scores(config: RunConfig) -> list[list[float]]:
    """Return the scores of a run's test examples."""
    lines = (config.folder / "predictions.jsonl").read_text().splitlines()
    return [row["scores"] for row in map(json.loads, lines) if row["split"] == "test"]


def loaded(config: RunConfig, out: Path, form: str) -> Any:
    """Load what was exported as anybody would, with nothing of this package."""
    loader = getattr(transformers, MODEL_KINDS.get(config.model.kind).loader)
    labels = {"num_labels": 2} if config.model.kind == "head" else {}
    with quiet():
        if form == "model":
            return loader.from_pretrained(out).eval()
        base = loader.from_pretrained(config.model.name, **labels)
        model = PeftModel.from_pretrained(base, out).eval()
    return _of_the_input(model) if config.model.kind == "causal" else model


def _of_the_input(model: Any) -> Any:
    """Cut the places of peft's soft prompts off the logits, as the harness does."""

    def call(input_ids: torch.Tensor) -> Any:
        found = model(input_ids=input_ids)
        found.logits = found.logits[:, -input_ids.shape[1] :]
        return found

    return call


def check(config: RunConfig, out: Path, form: str) -> None:
    """Compare the scores of what was exported with those that the run wrote down."""
    assert transformers.AutoTokenizer.from_pretrained(out)("It was").input_ids
    prompts = prepare(config, draw(config.task, config.data, config.seed)).prompts["test"]
    found = torch.tensor(TWINS[config.model.kind](loaded(config, out, form), prompts))
    torch.testing.assert_close(found, torch.tensor(scores(config)), atol=1e-5, rtol=1e-5)
    assert not [path.name for path in out.parent.iterdir() if path.name.startswith(f".{out.name}")]


CASES: dict[str, tuple[str, str, dict[str, Any], bool, str]] = {
    "whole": ("roberta", "masked", {"kind": "full"}, False, "model"),
    "whole, of T5": ("t5", "seq2seq", {"kind": "full"}, False, "model"),
    "untied": ("opt", "causal", {"kind": "full", "embeddings": "untied"}, False, "model"),
    "biases": ("roberta", "masked", {"kind": "bitfit"}, False, "model"),
    "biases, added": ("llama", "causal", {"kind": "bitfit", "add": True}, False, "model"),
    "norms, merged": ("llama", "causal", {"kind": "norms"}, True, "model"),
    "some weights": ("llama", "causal", {"kind": "apet", "budget": 500}, False, "model"),
    "lora": ("llama", "causal", {"kind": "lora", "r": 2}, False, "adapter"),
    "lora, merged": ("llama", "causal", {"kind": "lora", "r": 2}, True, "model"),
    "lora with norms": ("roberta", "masked", {"kind": "lora", "r": 2, "also": "LayerNorm"}, False, "adapter"),
    "lora untied": (
        "roberta", "masked", {"kind": "lora", "r": 2, "embeddings": "untied", "also": "^lm_head"}, True, "model",
    ),
    "lora and a head": ("roberta", "head", {"kind": "lora", "r": 2}, False, "adapter"),
    "lora and a head, merged": ("roberta", "head", {"kind": "lora", "r": 2}, True, "model"),
    "ia3 of T5": ("t5", "seq2seq", {"kind": "ia3"}, False, "adapter"),
    "ia3 of T5, merged": ("t5", "seq2seq", {"kind": "ia3"}, True, "model"),
    "any of peft's": ("llama", "causal", {"kind": "peft", "method": "loha", "fields": {"r": 2}}, False, "adapter"),
    "soft prompt": ("llama", "causal", {"kind": "prompt-tuning", "length": 3}, False, "adapter"),
    "soft prompt of T5": ("t5", "seq2seq", {"kind": "prompt-tuning", "length": 3}, False, "adapter"),
    "prefix": ("llama", "causal", {"kind": "prefix", "length": 3}, False, "adapter"),
    "prefix of OPT, made by networks": (
        "opt", "causal", {"kind": "prefix", "length": 2, "reparametrise": True, "hidden": 4}, False, "adapter",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_exported_scores_as_the_run_did(
    case: str, folders: dict[str, Path], tiny_original: Path, tmp_path: Path
) -> None:
    base, kind, tuning, merge, form = CASES[case]
    config = made(folders[base], kind, tiny_original, tmp_path / "runs", tuning=tuning)
    done = export_run(config.folder, tmp_path / "out", merge=merge)
    assert (done.form, done.steps) == (form, None)
    assert (tmp_path / "out" / "adapter_config.json").is_file() == (form == "adapter")
    check(config, tmp_path / "out", form)


@pytest.mark.parametrize(
    ("kind", "merge"), [("full", False), ("lora", False), ("lora", True), ("bitfit", True), ("prefix", False)]
)
def test_what_a_zeroth_order_run_did_not_keep_is_made_again(
    kind: str, merge: bool, folders: dict[str, Path], tiny_original: Path, tmp_path: Path
) -> None:
    tuning = {"kind": kind} | SETTINGS.get(kind, {})
    config = made(folders["opt"], "causal", tiny_original, tmp_path / "runs", keep=False, method=MEZO, tuning=tuning)
    done = export_run(config.folder, tmp_path / "out", merge=merge)
    assert done.steps == 4
    check(config, tmp_path / "out", done.form)


def test_the_step_that_the_run_selected_is_made_again(
    folders: dict[str, Path], tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.7])
    with monkeypatch.context() as patch:
        patch.setattr("shoestring.training.trainer.evaluate", lambda *_: {"accuracy": 1.0, "loss": next(losses)})
        method = MEZO | {"select": "loss", "lr": 0.1}
        config = made(folders["llama"], "causal", tiny_original, tmp_path / "runs", keep=False, method=method)
    done = export_run(config.folder, tmp_path / "out")
    assert done.steps == 2
    check(config, tmp_path / "out", "model")


def test_the_base_model_may_lie_elsewhere(folders: dict[str, Path], tiny_original: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(folders["llama"], base)
    config = made(base, "causal", tiny_original, tmp_path / "runs", tuning={"kind": "lora"})
    base.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=r"there is no such folder"):
        export_run(config.folder, tmp_path / "out", merge=True)
    done = export_run(config.folder, tmp_path / "out", model=str(tmp_path / "moved"))
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tmp_path / "moved"
    )
    assert done.command is not None
    assert f"pretrained={tmp_path}/moved,peft={tmp_path}/out,dtype=float32" in done.command
    export_run(config.folder, tmp_path / "merged", merge=True, model=str(tmp_path / "moved"))
    other = tiny.save(tiny.build_model("llama", "causal", seed=5), tiny.bpe_tokenizer(), tmp_path / "other")
    with pytest.raises(ModelError, match="was tuned on other"):
        export_run(config.folder, tmp_path / "wrong", model=str(other))
    assert not (tmp_path / "wrong").exists()


# What cannot be


@pytest.fixture(scope="module")
def full(
    tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path], tiny_original: Path, frozen_imports: None
) -> RunConfig:
    """A run by gradients that did not keep its model."""
    return made(folders["roberta"], "masked", tiny_original, tmp_path_factory.mktemp("full"), keep=False)


def test_a_run_by_gradients_that_kept_nothing_is_refused(full: RunConfig, tmp_path: Path) -> None:
    message = r"did not keep its model, and has no log .*; run it again with output.keep_model=true"
    with pytest.raises(RunFolderError, match=message):
        export_run(full.folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_trains_nothing_is_refused(folders: dict[str, Path], tiny_original: Path, tmp_path: Path) -> None:
    config = made(folders["roberta"], "masked", tiny_original, tmp_path / "runs", method={"kind": "zero-shot"})
    with pytest.raises(RunFolderError, match=r"no model of its own: method.kind='zero-shot' trains nothing, so it is"):
        export_run(config.folder, tmp_path / "out")


def test_where_there_is_no_finished_run_it_is_said_why(
    full: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(run: Path, match: str) -> None:
        with pytest.raises(RunFolderError, match=match):
            export_run(run, tmp_path / "out")

    runs = full.folder.parent
    refused(runs / full.run_id[:-1], f"there is no such folder; did you mean '{full.run_id}'")
    refused(runs, f"is a folder of runs; give one of them: {full.run_id}")
    refused(full.folder / "result.json", "is a file; give the folder of the run")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no runs")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs, "runs")
    refused(Path(full.run_id), f"there is no such folder; did you mean runs/{full.run_id}")
    run = Path("runs") / full.run_id
    record = read_record(run)
    assert record is not None
    write_record(run, record.model_copy(update={"status": "failed", "error": "the loss is nan"}))
    refused(run, "failed: the loss is nan; a run that is done is needed")
    write_record(run, record.model_copy(update={"status": "cancelled", "error": "interrupted"}))
    refused(run, "was cancelled: interrupted; a run that is done is needed")
    (run / "result.json").unlink()
    refused(run, "has not ended: it is still running, or was killed")


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_there_is_not_overwritten(what: str, full: RunConfig, tmp_path: Path) -> None:
    kept = tmp_path / "out" / "mine.txt" if what == "folder" else tmp_path / "out"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(OutputError, match=r"choose another place to write the model to"):
        export_run(full.folder, tmp_path / "out")
    assert kept.read_text() == "mine"


REFUSED: dict[str, tuple[str, str, dict[str, Any], bool, str]] = {
    "bottlenecks": ("roberta", "masked", {"kind": "adapter", "width": 2}, False, r"no place for.*load_tuned puts"),
    "biases, added": (
        "mistral", "causal", {"kind": "bitfit", "add": True}, False, r"no place for.*predict` answers.*load_tuned puts",
    ),
    "what PET scaling inserts": (
        "roberta", "masked", {"kind": "apet", "budget": 3000, "compat": "pet-scaling"}, True,
        r"no place for.*predict` answers.*load_tuned puts",
    ),
    "a prefix merged": ("llama", "causal", {"kind": "prefix"}, True, r"no place for.*load_tuned puts"),
    "a prompt merged": ("llama", "causal", {"kind": "prompt-tuning"}, True, "without --merge, peft loads what is"),
    "a masked prompt": ("roberta", "masked", {"kind": "prompt-tuning"}, False, r"no place for.*load_tuned puts"),
    "a masked prefix": ("roberta", "masked", {"kind": "prefix"}, False, r"peft cannot load this one.*decoder alone"),
    "a prefix that moves nothing": (
        "llama", "causal", {"kind": "prefix", "shift": False}, False, r"moves the positions of the input",
    ),
    "a prefix and more": (
        "llama", "causal", {"kind": "prefix", "also": "norm"}, False, r"weights of the model itself were trained",
    ),
    "a window": ("mistral", "causal", {"kind": "prefix"}, False, "the window of attention of mistral slides past"),
    "untied": (
        "roberta", "masked", {"kind": "lora", "embeddings": "untied"}, False, "--merge writes the whole model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_nobody_can_load_is_refused_and_nothing_is_written(
    case: str, folders: dict[str, Path], tiny_original: Path, tmp_path: Path
) -> None:
    base, kind, tuning, merge, message = REFUSED[case]
    config = made(folders[base], kind, tiny_original, tmp_path / "runs", tuning=tuning, method=ADAM | {"steps": 1})
    with pytest.raises(ModelError, match=message):
        export_run(config.folder, tmp_path / "out", merge=merge)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_options_without_effect_are_refused(folders: dict[str, Path], tiny_original: Path, tmp_path: Path) -> None:
    config = made(folders["roberta"], "masked", tiny_original, tmp_path / "runs", method=ADAM | {"steps": 1})
    with pytest.raises(RunFolderError, match="nothing is replayed, and --device has no effect"):
        export_run(config.folder, tmp_path / "out", device="cpu")
    with pytest.raises(RunFolderError, match="kept a whole model, so --model has no effect"):
        export_run(config.folder, tmp_path / "out", model="roberta")


def test_a_log_that_cannot_be_replayed_is_named_with_the_way_out(
    folders: dict[str, Path], tiny_original: Path, tmp_path: Path
) -> None:
    config = made(folders["roberta"], "masked", tiny_original, tmp_path / "runs", keep=False, method=MEZO)
    log = config.folder / TRAJECTORY
    log.write_bytes(log.read_bytes()[:40])
    with pytest.raises(ShoestringError) as caught:
        export_run(config.folder, tmp_path / "out")
    assert any("a run with output.keep_model=true needs no log" in note for note in caught.value.__notes__)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


# The lm-evaluation-harness


def base(name: str = "facebook/opt-125m", **changes: Any) -> CausalModel:
    return CausalModel.model_validate({"name": name} | changes)


def test_a_whole_model_and_an_adapter_have_a_command_each() -> None:
    assert harness_command(Path("tuned"), base(), "rte", adapter=False) == (
        "lm_eval --model hf --model_args pretrained=tuned --tasks rte"
    )
    assert harness_command(Path("tuned"), base(revision="main", dtype="bfloat16"), None, adapter=True) == (
        "lm_eval --model hf --model_args pretrained=facebook/opt-125m,peft=tuned,dtype=bfloat16,revision=main"
    )
    head = MODEL_KINDS.get("head").model_validate({"name": "x", "kind": "head"})
    assert harness_command(Path("tuned"), head, "rte", adapter=False) is None


@pytest.mark.parametrize(
    "name", ["my models/tuned", "a,b", "it's", "a=b", "7", "1e5", "0x1f", "true", "None", "nan", "$HOME/{x}", 'say "a"']
)
def test_odd_names_reach_the_harness_as_they_are(name: str) -> None:
    """A shell and the harness's own reading, which takes JSON."""
    command = harness_command(Path(name), base(), "rte", adapter=False)
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    echo = f"{sys.executable} -c '{script}' {command}"
    words = json.loads(subprocess.run(["sh", "-c", echo], capture_output=True, text=True, check=True).stdout)
    assert words[:4] == ["lm_eval", "--model", "hf", "--model_args"]
    assert words[5:] == ["--tasks", "rte"]
    assert json.loads(words[4]) == {"pretrained": name}


@pytest.mark.parametrize("name", ["facebook/opt-125m", "runs/0123456789abcdef/model", "../a_b.c", "~/x", "v1.5", "e5"])
def test_usual_names_need_no_quotes(name: str) -> None:
    assert model_arguments({"pretrained": name, "peft": "x"}) == f"pretrained={name},peft=x"


def test_known_data_sets_have_the_names_of_the_harness() -> None:
    names = {name: harness_name(load_task(name).model_dump(mode="json")) for name in task_names()}
    assert {name: found for name, found in names.items() if name.startswith("mezo/")} == {
        "mezo/BoolQ": "boolq", "mezo/CB": "cb", "mezo/Copa": "copa", "mezo/DROP": "drop", "mezo/MultiRC": "multirc",
        "mezo/RTE": "sglue_rte", "mezo/ReCoRD": "record", "mezo/SQuAD": None, "mezo/SST2": "sst2",
        "mezo/WIC": "wic", "mezo/WSC": "wsc",
    }  # fmt: skip
    assert (names["RTE"], names["trec"], names["pet/wino_grande"]) == ("rte", None, "winogrande")
    own = {"name": "mine", "templates": {"harness": {}}, "sources": {"hub": {"id": "x/y", "config": None}}}
    assert harness_name(own) == "mine"
    assert harness_name({"name": "mine", "templates": {"inline": {}}, "sources": {"hub": None}}) is None


def test_what_was_done_is_told(full: RunConfig, folders: dict[str, Path], tiny_original: Path, tmp_path: Path) -> None:
    record = read_record(full.folder)
    assert record is not None
    config = made(folders["llama"], "causal", tiny_original, tmp_path / "runs", method=ADAM | {"steps": 1})
    done: Exported = export_run(config.folder, tmp_path / "out")
    assert (done.harness, done.form) == ("sst2", "model")
    assert done.command == f"lm_eval --model hf --model_args pretrained={tmp_path}/out --tasks sst2"
