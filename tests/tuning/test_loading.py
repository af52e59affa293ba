"""Loading what was tuned: onto its base model, in any precision, and onto no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import ModelError
from shoestring.models.quiet import quiet
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.delta import read_note
from shoestring.tuning.load import load_tuned, tuning_of
from tuning.subjects import disturb, logits, model_of, tuning

pytestmark = [
    pytest.mark.usefixtures("frozen_imports"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft's own
]
SMALL = ["adapter", "bitfit", "ia3", "layers", "lora", "norms", "prefix", "prompt-tuning"]


def saved(name: str, folder: Path, architecture: str = "roberta") -> Any:
    """Tune and save a tiny model."""
    model = tuning(name).apply(model_of(architecture), seed=3)
    disturb(model)
    tuning(name).save(model, folder)
    return model


@pytest.mark.parametrize("name", SMALL)
def test_another_base_model_is_refused(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    with pytest.raises(
        ModelError, match=r"was tuned on other weights: roberta.* differs from those here; load the mod"
    ):
        load_tuned(model_of("roberta", seed=1), tmp_path)
    with pytest.raises(ModelError, match=r"was tuned on another model: a RobertaForMaskedLM, not a BertForMaskedLM"):
        load_tuned(model_of("bert"), tmp_path)
    wider = tiny.build_model("roberta", "masked", intermediate_size=64)
    with pytest.raises(ModelError, match=r"was tuned on another model: roberta.* is \[64.* here and was \[48"):
        load_tuned(wider, tmp_path)
    shallow = tiny.build_model("roberta", "masked", num_hidden_layers=1)
    if name == "layers":
        return  # The second layer is what was tuned: a model without it has all the others.
    with pytest.raises(ModelError, match=r"was tuned on another model: RobertaForMaskedLM has no roberta.encoder.lay"):
        load_tuned(shallow, tmp_path)


def test_a_base_model_that_was_tuned_a_little_is_refused(tmp_path: Path) -> None:
    saved("bitfit", tmp_path)
    near = model_of("roberta")
    with torch.no_grad():
        for param in near.parameters():
            param.mul_(1 + 1e-5)
    with pytest.raises(ModelError, match="was tuned on other weights"):
        load_tuned(near, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SMALL)
def test_the_base_model_may_have_another_precision(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = saved(name, tmp_path)
    again = load_tuned(model_of("roberta", dtype=dtype), tmp_path)
    assert logits(again).dtype == dtype
    assert torch.corrcoef(torch.stack([logits(again).float().flatten(), logits(model).flatten()]))[0, 1] > 0.95
    if dtype == torch.float64:
        torch.testing.assert_close(logits(again).float(), logits(model), rtol=1e-3, atol=1e-3)


def test_what_was_tuned_in_half_precision_is_loaded_in_full(tmp_path: Path) -> None:
    model = tuning("bitfit").apply(model_of("roberta", dtype=torch.bfloat16), seed=3)
    tuning("bitfit").save(model, tmp_path)
    assert load_tuned(model_of("roberta"), tmp_path).dtype == torch.float32


def test_the_note_has_the_settings_and_where_the_base_model_came_from(tmp_path: Path) -> None:
    base = tiny.save(model_of("roberta"), tiny.bpe_tokenizer(), tmp_path / "base")
    with quiet():
        model = type(model_of("roberta")).from_pretrained(base)
    settings = TUNINGS.get("layers")(n=2, part="first")
    settings.save(settings.apply(model, seed=0), tmp_path / "tuned")
    note = read_note(tmp_path / "tuned")
    assert note is not None
    assert note.name == str(base)
    assert tuning_of(tmp_path / "tuned") == settings


def test_tuning_goes_on_where_a_saved_one_ended(tmp_path: Path) -> None:
    saved("lora", tmp_path / "first")
    model = load_tuned(model_of("roberta"), tmp_path / "first")
    disturb(model, std=0.1)
    tuning("lora").save(model, tmp_path / "second")
    again = load_tuned(model_of("roberta"), str(tmp_path / "second"))
    assert torch.equal(logits(again), logits(model))


def test_a_whole_model_without_a_note_is_loaded_too(tmp_path: Path) -> None:
    with quiet():
        other = model_of("roberta", seed=5)
        other.save_pretrained(tmp_path)
    again = load_tuned(model_of("roberta"), tmp_path)
    assert torch.equal(logits(again), logits(other))
    assert all(param.requires_grad for param in again.parameters())


def edit(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        place = folder / "tuning.json"
        table = json.loads(place.read_text())
        if name == "format":
            table["format"] = 2
        elif name == "kind":
            table["tuning"]["kind"] = "unheard-of"
        elif name == "key":
            table["tuning"]["colour"] = "red"
        place.write_text("{" if name == "cut" else json.dumps(table))

    return change


def resize(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "tuned.safetensors")
    name = sorted(tensors)[0]
    save_file(tensors | {name: torch.zeros(5)}, folder / "tuned.safetensors")


def drop(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "tuned.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / "tuned.safetensors")


def add(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(folder / "tuned.safetensors") | {"a.b": torch.zeros(1)}, folder / "tuned.safetensors")


def shorten(folder: Path) -> None:
    place = folder / "tuned.safetensors"
    place.write_bytes(place.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (edit("cut"), r"tuning.json is damaged: "),
        (edit("format"), r"tuning.json is of format 2, and this version reads format 1"),
        (edit("kind"), r"tuning.json names a tuning that is not known here: unknown tuning 'unheard-of'"),
        (edit("key"), r"names a tuning that is not known here: .*\n.*colour: unknown key"),
        (resize, r"tuned.safetensors: .* is \[5\], where the model has \[32\]"),
        (drop, r"tuned.safetensors lacks .*, unlike RobertaForMaskedLM with this tuning"),
        (add, r"tuned.safetensors holds a.b, unlike RobertaForMaskedLM with this tuning"),
        (shorten, r"tuned.safetensors cannot be read: "),
        (lambda folder: (folder / "tuned.safetensors").unlink(), r"tuned.safetensors cannot be read: "),
    ],
    ids=["cut", "format", "kind", "key", "resized", "dropped", "added", "shortened", "gone"],
)
def test_a_damaged_folder_is_refused_and_says_where(
    damage: Callable[[Path], None], wanted: str, tmp_path: Path
) -> None:
    saved("norms", tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match=wanted):
        load_tuned(model_of("roberta"), tmp_path)


def test_a_folder_that_holds_nothing_tuned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds nothing that was tuned: no tuning.json, no adapter_config.json \(\)"):
        load_tuned(model_of("roberta"), tmp_path)
    with pytest.raises(ModelError, match=r"holds nothing that was tuned: .* \(no folder\)"):
        load_tuned(model_of("roberta"), tmp_path / "nowhere")


def test_a_damaged_adapter_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved("lora", tmp_path)
    place = tmp_path / "adapter_model.safetensors"
    whole = load_file(place)
    name = sorted(whole)[0]
    save_file({key: value for key, value in whole.items() if key != name}, place)
    with pytest.raises(ModelError, match=r"adapter_model.safetensors is not of this tuning: .*lora_A"):
        load_tuned(model_of("roberta"), tmp_path)
    save_file(whole | {"base_model.model.lm_head.lora_A.weight": torch.zeros(2, 2)}, place)
    with pytest.raises(ModelError, match=r"adapter_model.safetensors is not of this tuning: lm_head.lora_A"):
        load_tuned(model_of("roberta"), tmp_path)
    (tmp_path / "tuning.json").unlink()
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config.json cannot be read: "):
        load_tuned(model_of("roberta"), tmp_path)


def test_an_adapter_without_weights_that_were_trained_beside_it_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    settings = TUNINGS.get("lora")(r=2, also="LayerNorm")
    settings.save(settings.apply(model_of("roberta"), seed=0), tmp_path)
    place = tmp_path / "adapter_model.safetensors"
    save_file({key: value for key, value in load_file(place).items() if "LayerNorm" not in key}, place)
    with pytest.raises(ModelError, match=r"lacks roberta.embeddings.LayerNorm.bias, which this tuning trains"):
        load_tuned(model_of("roberta"), tmp_path)


def test_an_adapter_of_a_method_that_is_not_put_in_place_is_refused(tmp_path: Path) -> None:
    from peft import PrefixTuningConfig, get_peft_model

    with quiet():
        config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        get_peft_model(model_of("llama"), config).save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match=r"method='prefix_tuning' is put before the input: use tuning.kind=\"prefix\""):
        load_tuned(model_of("llama"), tmp_path)


def test_a_whole_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    with quiet():
        tuning("full").save(tuning("full").apply(model_of("roberta"), seed=0), tmp_path)
    wider = tiny.build_model("roberta", "masked", intermediate_size=64)
    with pytest.raises(ModelError, match=r"has no roberta.encoder.layer.0.intermediate.dense.weight as RobertaForMask"):
        load_tuned(wider, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"cannot be loaded as a RobertaForMaskedLM: "):
        load_tuned(model_of("roberta"), tmp_path)
