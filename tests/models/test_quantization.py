"""Models in 8 and 4 bits: what is refused, and, where bitsandbytes is there, that training goes on beside them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import ConfigError, MissingPackageError, ModelError
from shoestring.models import placing
from shoestring.models.loading import load_model
from shoestring.models.settings import MaskedModel
from shoestring.runs.config import load_config
from shoestring.runs.run import run
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.load import load_tuned
from tuning.subjects import tuning

pytestmark = pytest.mark.usefixtures("frozen_imports")
BITS = pytest.mark.parametrize("bits", ["8bit", "4bit"])
there = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
speaks = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
SHORT = {"steps": 2, "eval_every": 1, "batch_size": 4, "lr": 1e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny.build_model("roberta", "masked", hidden_size=64, intermediate_size=64)
    return tiny.save(model, tiny.bpe_tokenizer(), tmp_path_factory.mktemp("quantized") / "roberta")


def settings(folder: Path, bits: Any, **changes: Any) -> MaskedModel:
    return MaskedModel(name=str(folder), quantization=bits, device="cpu", **changes)


@BITS
def test_without_bitsandbytes_the_extra_is_named(bits: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingPackageError, match=rf"model\.quantization='{bits}' needs bitsandbytes: pip install 'shoestring"
    ):
        load_model(settings(folder, bits), labels=2, seed=13)


def test_what_cannot_be_in_integers_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ModelError, match=r"on CUDA devices and processors, not on mps; use model\.device=cpu"):
        placing.placing(settings(folder, "8bit"), torch.device("mps"))
    base: dict[str, Any] = {"task": "SST-2", "method": {"kind": "mezo"}}
    model = {"kind": "masked", "name": "roberta", "quantization": "8bit"}
    with pytest.raises(ConfigError, match=r"tuning\.kind='full' trains every weight, .* use tuning\.kind=\"lora\""):
        load_config(None, table={**base, "model": model})
    with pytest.raises(ConfigError, match=r"quantization='8bit' is not for dtype='float64'"):
        load_config(None, table={**base, "model": {**model, "dtype": "float64"}, "tuning": {"kind": "lora"}})
    with pytest.raises(ConfigError, match=r"method\.kind='kernel' reads gradients that model\.quantization='8bit'"):
        load_config(None, table={**base, "model": model, "method": {"kind": "kernel"}, "tuning": {"kind": "lora"}})


@pytest.mark.parametrize("name", ["layers", "pattern", "lora"])
def test_tunings_that_would_train_integers_are_refused(name: str) -> None:
    model = tiny.build_model("roberta", "masked")
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not model.lm_head.decoder:
            module.weight = torch.nn.Parameter(module.weight.to(torch.int8), requires_grad=False)
    changes = {"lora": {"also": "intermediate"}}.get(name, {})
    with pytest.raises(ModelError, match=rf'tuning\.kind="{name}": roberta\..* is kept in integers .* adds weights'):
        TUNINGS.get(name)(**{**tuning(name).model_dump(exclude_unset=True), **changes}).apply(model, seed=0)


def test_gradients_through_four_bits_are_refused_on_a_processor() -> None:
    model = tiny.build_model("roberta", "masked")
    model.is_loaded_in_4bit = True
    with pytest.raises(ModelError, match=r"tuning: with model\.quantization='4bit' bitsandbytes computes no gradients"):
        placing.refuse_backward(model, "tuning")


def test_a_model_is_spread_only_where_the_first_of_several_devices_is_too_small(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {dtype: placing.weight_bytes(settings(folder, None, dtype=dtype)) for dtype in ("float32", "bfloat16")}
    model = tiny.build_model("roberta", "masked", hidden_size=64, intermediate_size=64)
    assert sizes["float32"] == 4 * sum(param.numel() for param in model.parameters()) == 2 * sizes["bfloat16"]
    assert placing.weight_bytes(settings(folder, "4bit")) == sizes["float32"] // 8
    found = {}
    for count in (1, 2):
        for free in (sizes["float32"], 2 * sizes["float32"]):
            monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
            auto = MaskedModel(name=str(folder))
            found[count, free > sizes["float32"]] = placing.placing(auto, torch.device("cuda"))
    assert found == {(1, False): {}, (1, True): {}, (2, False): {"device_map": "auto"}, (2, True): {}}
    assert placing.placing(auto.model_copy(update={"device": "cuda"}), torch.device("cuda")) == {}


@there
@speaks
@BITS
@pytest.mark.parametrize("name", ["lora", "adapter", "prefix", "norms", "ia3"])
@pytest.mark.parametrize("method", ["adam", "mezo"])
def test_training_goes_on_beside_integers(
    bits: str, name: str, method: str, folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    config = tiny.config(
        folder, tiny_original, tmp_path,
        model={"kind": "masked", "name": str(folder), "quantization": bits, "device": "cpu"},
        tuning=tuning(name).model_dump(mode="json"), method={"kind": method, **SHORT},
        output={"folder": str(tmp_path), "keep_model": True},
    )  # fmt: skip
    if (bits, method) == ("4bit", "adam"):
        with pytest.raises(ModelError, match=r"method\.kind='adam': with model\.quantization='4bit' bitsandbytes"):
            run(config)
        return
    record = run(config)
    assert record.status == "ok"
    base = load_model(config.model, labels=2, seed=13).model
    plain = {key: value.clone() for key, value in base.state_dict().items() if value.is_floating_point()}
    tuned = load_tuned(base, config.folder / "model")
    moved = [param for param in tuned.parameters() if param.requires_grad]
    assert sum(param.numel() for param in moved) == record.weights.trained  # pyright: ignore[reportOptionalMemberAccess]
    trained = {key for key, param in tuned.named_parameters() if param.requires_grad}
    assert any(
        key not in plain or not torch.equal(plain[key], value)
        for key, value in tuned.named_parameters()
        if key in trained
    )


def test_element_budgets_are_spent_on_what_is_not_in_integers() -> None:
    model = tiny.build_model("roberta", "masked")
    query: Any = model.get_submodule("roberta.encoder.layer.0.attention.self.query")
    query.weight = torch.nn.Parameter(query.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"budget=33 is more than the 32 weights that there are to choose from"):
        TUNINGS.get("apet")(budget=33, scope=r"0\.attention\.self\.query").apply(model, seed=0)


@there
@speaks
@BITS
def test_what_trains_nothing_reads_integers(bits: str, folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    for method in ("zero-shot", "linear-probe"):
        model = {"kind": "masked", "name": str(folder), "quantization": bits, "device": "cpu"}
        config = tiny.config(folder, tiny_original, tmp_path, model=model, method={"kind": method})
        record = run(config)
        assert record.weights is not None
        assert record.weights.trained == 0


@there
@speaks
def test_gradients_beside_eight_bits_are_near_those_of_the_model(folder: Path) -> None:
    found = []
    for bits in (None, "8bit"):
        model = load_model(settings(folder, bits), labels=2, seed=13).model
        tuning("lora").apply(model, seed=0)
        ids = torch.tensor([[0, 8, 9, 10, 11, 4, 2]])
        model(input_ids=ids).logits[0, 5].log_softmax(-1)[7].backward()
        grads = [param.grad.flatten() for param in model.parameters() if param.grad is not None]
        found.append(torch.cat(grads))
    assert float(torch.cosine_similarity(found[0], found[1], dim=0)) > 0.98
