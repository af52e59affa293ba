"""What was tuned, on disk and back on its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import tiny
from shoestring.errors import ModelError
from shoestring.tuning.apet.load import load_delta
from shoestring.tuning.apet.storage import FILE
from shoestring.tuning.catalog.apet import APET
from shoestring.tuning.load import load_tuned
from tuning.apet.conftest import MODELS, chosen, scramble, trained, tune
from tuning.subjects import logits, model_of

pytestmark = pytest.mark.usefixtures("frozen_imports")
TUNINGS: dict[str, dict[str, Any]] = {
    "elements": {"budget": 400},
    "rows": {"budget": 400, "granularity": "row"},
    "tensors": {"budget": 400, "granularity": "tensor"},
    "fisher": {"budget": 400, "scorer": "fisher"},
    "lora": {"budget": 100, "over": "half", "insert": ["lora"]},
    "published": {"budget": 1500, "compat": "pet-scaling"},
}


@pytest.mark.parametrize("name", TUNINGS)
@pytest.mark.parametrize(("architecture", "kind"), MODELS)
@pytest.mark.parametrize("load", [load_delta, load_tuned])
def test_what_was_saved_is_loaded_onto_the_base_to_the_last_bit(
    name: str, architecture: str, kind: str, load: Any, tmp_path: Path
) -> None:
    subject, other = (tiny.prompted(architecture, kind) for _ in range(2))
    prompts = tiny.encoded(subject, 4)
    tuning = APET.model_validate(TUNINGS[name])
    model = tune(subject, tuning)
    scramble(trained(model))
    tuning.save(subject.model, tmp_path)
    again = load(other.model, tmp_path)
    assert again is other.model
    assert chosen(again) == chosen(model)
    assert [param.shape for param in trained(again)] == [param.shape for param in trained(model)]
    torch.testing.assert_close(other.predict(prompts, 4), subject.predict(prompts, 4), rtol=0, atol=0)
    tuning.save(again, tmp_path / "again")
    assert (tmp_path / "again" / FILE).read_bytes() == (tmp_path / FILE).read_bytes()


def tuned(folder: Path, **table: Any) -> Path:
    model = APET.model_validate({"budget": 400, **table}).apply(tiny.build_model("opt", "causal"), 3)
    scramble(trained(model))
    APET.model_validate({"budget": 400, **table}).save(model, folder)
    return folder


def test_a_file_holds_positions_and_values_and_says_what_of(tmp_path: Path) -> None:
    place = tuned(tmp_path) / FILE
    with safe_open(place, "pt") as file:
        assert set(file.keys()) == {"index", "values"}
        assert (file.get_tensor("index").dtype, len(file.get_tensor("values"))) == (torch.int32, 400)
    header = header_of(tmp_path)
    assert sum(header["counts"].values()) == 400
    assert (header["about"]["seed"], header["about"]["model"]) == (3, "OPTForCausalLM")
    assert header["about"]["tuning"]["budget"] == 400
    assert place.stat().st_size < 400 * 8 + 9000


def test_merging_leaves_a_plain_model_that_transformers_saves_and_loads(tmp_path: Path) -> None:
    subject = tiny.prompted("gpt2", "causal")
    plain = {name for name, _ in subject.model.named_parameters()}
    tuning = APET(budget=400)
    model = tuning.apply(subject.model, 3)
    scramble(trained(model))
    prompts = tiny.encoded(subject, 4)
    wanted = subject.predict(prompts, 4)
    merged = tuning.merge(model)
    assert {name for name, _ in merged.named_parameters()} == plain
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in merged.modules())
    merged.save_pretrained(tmp_path)
    again = type(merged).from_pretrained(tmp_path)
    ids = torch.tensor([[0, 8, 9, 10, 2]])
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, merged(input_ids=ids).logits)
    torch.testing.assert_close(subject.predict(prompts, 4), wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match="has nothing that APET tuned: merged already, or never applied"):
        tuning.save(merged, tmp_path)


INSERTED: dict[str, tuple[str, dict[str, Any]]] = {
    "published, of T5": ("t5", {"budget": 800, "compat": "pet-scaling"}),
    "published": ("llama", {"budget": 3000, "compat": "pet-scaling"}),
    "adapters": ("opt", {"budget": 300, "over": "half", "insert": ("adapter",)}),
    "LoRA, then adapters": ("opt", {"budget": 300, "over": "half", "insert": ("lora", "adapter")}),
}


@pytest.mark.parametrize("case", INSERTED)
def test_what_was_inserted_for_good_is_not_merged_and_the_model_stays_as_it_is(case: str, tmp_path: Path) -> None:
    architecture, settings = INSERTED[case]
    tuning = APET(**settings)
    model = tuning.apply(model_of(architecture), 3)
    scramble(trained(model))
    wanted, weights = logits(model), tiny.weights(model)
    with pytest.raises(ModelError, match=rf'"\w+" adds \d+ weights that {type(model).__name__} has no place for; save'):
        tuning.merge(model)
    assert torch.equal(logits(model), wanted)
    assert tiny.equal(tiny.weights(model), weights)
    tuning.save(model, tmp_path)
    torch.testing.assert_close(logits(load_delta(model_of(architecture), tmp_path)), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_delta_loads_onto_the_base_in_another_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    model = load_delta(tiny.build_model("opt", "causal").to(dtype), tuned(tmp_path))
    assert {param.dtype for param in trained(model)} == {torch.promote_types(dtype, torch.float32)}


def test_another_base_is_refused(tmp_path: Path) -> None:
    folder = tuned(tmp_path)
    with pytest.raises(ModelError, match=r"was tuned on other weights: .* differs from those here; load the model"):
        load_delta(tiny.build_model("opt", "causal", seed=1), folder)
    with pytest.raises(ModelError, match=r"was tuned on another model: a OPTForCausalLM, not a LlamaForCausalLM"):
        load_delta(tiny.build_model("llama", "causal"), folder)
    with pytest.raises(ModelError, match=r"was tuned on another model: .* is \[400, 16\] here and was \[400, 32\]"):
        load_delta(tiny.build_model("opt", "causal", hidden_size=16, word_embed_proj_dim=16), folder)
    model = load_delta(tiny.build_model("opt", "causal"), folder)
    with pytest.raises(ModelError, match="has been tuned by APET already"):
        load_delta(model, folder)


def header_of(folder: Path) -> dict[str, Any]:
    with safe_open(folder / FILE, "pt") as file:
        return json.loads(file.metadata()["shoestring"])


def rewritten(folder: Path, **changes: Any) -> Path:
    with safe_open(folder / FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, folder / FILE, {"shoestring": json.dumps(header_of(folder) | changes)})
    return folder


NORM = "model.decoder.final_layer_norm.bias"
DAMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"format": "delta-9"}, r"delta\.safetensors is of format 'delta-9', and this version reads 'delta-1'"),
    "sums": ({"counts": {"lm_head.weight": 3}}, r"delta\.safetensors cannot be read"),
    "counts": ({"counts": None}, r"delta\.safetensors cannot be read"),
    "names": ({"counts": {"no.weight": 400}}, r"holds weights of no\.weight, which OPTForCausalLM has not"),
    "shapes": ({"counts": {NORM: 400}}, r"holds weights of .*bias that do not fit into its \[32\] here"),
    "about": ({"about": {}}, r"delta\.safetensors does not say what model it is of"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_file_is_refused_and_changes_nothing(case: str, tmp_path: Path) -> None:
    changes, message = DAMAGES[case]
    model = tiny.build_model("opt", "causal")
    with pytest.raises(ModelError, match=message):
        load_delta(model, rewritten(tuned(tmp_path), **changes))
    assert len(trained(model)) == len(list(model.parameters()))


def test_a_file_that_is_not_there_or_of_something_else_is_refused(tmp_path: Path) -> None:
    model = tiny.build_model("opt", "causal")
    with pytest.raises(ModelError, match=r"delta\.safetensors cannot be read"):
        load_delta(model, tmp_path)
    save_file({"weight": torch.ones(2)}, tmp_path / FILE)
    with pytest.raises(ModelError, match=r"is of format None, and this version reads 'delta-1'"):
        load_delta(model, tmp_path)


def test_settings_that_are_not_known_are_refused(tmp_path: Path) -> None:
    folder = tuned(tmp_path)
    about = header_of(folder)["about"] | {"tuning": {"budget": 4, "depth": 2}}
    with pytest.raises(ModelError, match=r"written by settings that are not known here: (.|\n)*depth: unknown key"):
        load_delta(tiny.build_model("opt", "causal"), rewritten(folder, about=about))


def test_inserted_modules_that_come_out_otherwise_are_refused(tmp_path: Path) -> None:
    folder = tuned(tmp_path, over="half", insert=["lora"])
    about = header_of(folder)["about"] | {"seed": 4}
    with pytest.raises(ModelError, match=r"was tuned on other weights: .*lora_A"):
        load_delta(tiny.build_model("opt", "causal"), rewritten(folder, about=about))
