"""LoRA, IA3 and any other adapter of peft's: equations, targets, files, merging, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.config import build
from shoestring.errors import ConfigError, ModelError
from shoestring.models.quiet import quiet
from shoestring.tuning.base import TUNINGS, count_trained
from shoestring.tuning.catalog.ia3 import IA3
from shoestring.tuning.catalog.lora import LoRA
from shoestring.tuning.catalog.peft import Peft
from shoestring.tuning.load import load_tuned
from tuning.subjects import ARCHITECTURES, SETTINGS, batch, disturb, logits, model_of, trained, tuning

# What peft itself warns of when it puts an adapter on a model.
pytestmark = [
    pytest.mark.usefixtures("frozen_imports"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning"),
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
]
EVERY = [*ARCHITECTURES, "gemma2", "bloom", "distilbert", "albert", "electra", "modernbert"]
VARIANTS = {
    "lora": LoRA(r=3),
    "rslora": LoRA(r=3, rslora=True),
    "dora": LoRA(r=3, dora=True),
    "all-linear": LoRA(r=2, targets="all-linear"),
    "ia3": IA3(),
    "loha": Peft(method="loha", fields={"r": 2}),
    "lokr": Peft(method="LoKr", fields={"r": 2}),
    "hra": Peft(method="hra", fields={"r": 2}),
    "oft": Peft(method="oft", fields={"oft_block_size": 4}),
    "road": Peft(method="road", fields={"group_size": 4}),
    "shira": Peft(method="shira", fields={"r": 2}),
    "ln_tuning": Peft(method="ln_tuning", fields={"target_modules": ["LayerNorm"]}),
    "randlora": Peft(method="randlora", fields={"r": 4}),
}


@pytest.mark.parametrize("rank", [1, 4])
def test_lora_trains_two_thin_matrices_for_each_query_and_value(rank: int) -> None:
    assert LoRA(r=rank).count(model_of("roberta")) == 2 * 2 * rank * (32 + 32)  # layers, projections, A and B
    assert LoRA(r=rank).count(model_of("llama")) == 2 * rank * ((32 + 32) + (32 + 16))  # values: two of four heads
    assert LoRA(r=rank, dora=True).count(model_of("roberta")) == 2 * 2 * (rank * (32 + 32) + 32)
    assert LoRA(r=rank).count(model_of("t5")) == (2 + 2 + 2) * 2 * rank * (32 + 32)  # across too


@pytest.mark.parametrize("architecture", EVERY)
def test_lora_knows_the_queries_and_values_of_every_architecture(architecture: str) -> None:
    names = {
        name.split(".lora_")[0].rpartition(".")[2] for name in trained(tuning("lora").apply(model_of(architecture), 0))
    }
    together = {"gpt2": "c_attn", "bloom": "query_key_value", "modernbert": "Wqkv"}
    assert names == {together[architecture]} if architecture in together else len(names) == 2


@pytest.mark.parametrize("architecture", EVERY)
def test_ia3_multiplies_keys_values_and_the_inside_of_feed_forward_networks(architecture: str) -> None:
    model = model_of(architecture)
    names = [name.split(".ia3_l")[0] for name in trained(IA3().apply(model, 0))]
    layers = 1 if architecture == "albert" else 2
    attentions = 3 * layers if architecture in tiny.SEQ2SEQ else layers
    networks = [name for name in names if model.get_submodule(name).is_feedforward]
    assert len(networks) == (2 * layers if architecture in tiny.SEQ2SEQ else layers)
    assert not any("attention.output" in name or "q_proj" in name for name in names)
    together = architecture in ("gpt2", "bloom", "modernbert")
    assert len(names) - len(networks) == attentions * (1 if together else 2)


def test_ia3_multiplies_what_it_is_told_to() -> None:
    names = trained(IA3(targets=("query",), feedforward=()).apply(model_of("roberta"), 0))
    assert sum(names.values()) == 2 * 32
    assert all(".query.ia3_l" in name for name in names)
    with pytest.raises(ModelError, match=r"tuning.targets: no module's name ends in 'qurey'"):
        IA3(targets=("qurey",)).apply(model_of("roberta"), 0)
    model = model_of("roberta")
    model.roberta.encoder.layer = torch.nn.ModuleList()
    with pytest.raises(ModelError, match=r"tuning.targets: no default for roberta; name the modules"):
        IA3().apply(model, 0)


def test_ia3_is_what_its_equation_says() -> None:
    model = IA3().apply(model_of("roberta", dtype=torch.float64), 0)
    disturb(model)
    x = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    key, out = model.roberta.encoder.layer[0].attention.self.key, model.roberta.encoder.layer[0].output.dense
    base = key.base_layer
    torch.testing.assert_close(key(x), (x @ base.weight.T + base.bias) * key.ia3_l["default"].flatten())
    wide = torch.randn(3, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    wanted = (wide * out.ia3_l["default"].flatten()) @ out.base_layer.weight.T + out.base_layer.bias
    torch.testing.assert_close(out(wide), wanted)


def lora_layer(settings: LoRA) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Return a layer with an adapter, an input, and W + factor B A."""
    model = settings.apply(model_of("roberta", dtype=torch.float64), seed=0)
    layer = model.roberta.encoder.layer[0].attention.self.query
    up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    torch.nn.init.normal_(up, generator=torch.Generator().manual_seed(1))
    factor = settings.alpha / (settings.r**0.5 if settings.rslora else settings.r)
    x = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return layer, x, layer.base_layer.weight + factor * up.double() @ down.double()


@pytest.mark.parametrize("rslora", [False, True])
def test_lora_is_what_its_equation_says(rslora: bool) -> None:
    layer, x, weight = lora_layer(LoRA(r=4, alpha=6.0, rslora=rslora))
    torch.testing.assert_close(layer(x), x @ weight.T + layer.base_layer.bias, rtol=1e-6, atol=1e-6)


def test_dora_is_what_its_equation_says() -> None:
    layer, x, weight = lora_layer(LoRA(r=4, alpha=6.0, dora=True))
    lengths = layer.lora_magnitude_vector["default"].weight.double()
    torch.testing.assert_close(lengths, layer.base_layer.weight.norm(dim=1), rtol=1e-6, atol=1e-6)
    weight = lengths[:, None] * weight / weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer(x), x @ weight.T + layer.base_layer.bias, rtol=1e-6, atol=1e-6)


def test_lora_adapts_the_modules_it_is_told_to() -> None:
    names = trained(LoRA(r=2, targets=("key", "dense")).apply(model_of("roberta"), seed=0))
    assert names
    assert all(".key." in name or ".dense." in name for name in names)
    linear = {name.split(".lora_")[0] for name in trained(LoRA(r=2, targets="all-linear").apply(model_of("llama"), 0))}
    assert len(linear) == 2 * 7


def test_lora_leaves_a_head_that_is_trained_whole_without_adapters() -> None:
    for targets in ("all-linear", ("dense",)):
        names = trained(LoRA(r=2, targets=targets).apply(model_of("roberta", "head"), seed=0))
        assert not any("classifier" in name and "lora" in name for name in names)
        assert "classifier.dense.weight" in names


def test_lora_refuses_targets_that_are_not_there() -> None:
    with pytest.raises(ModelError, match=r"tuning\.targets: .*nonsense"):
        LoRA(targets=("nonsense",)).apply(model_of("roberta"), seed=0)


def test_lora_asks_for_targets_where_there_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("roberta")
    monkeypatch.setattr(type(model.config), "model_type", "unheard-of")
    with pytest.raises(ModelError, match=r"tuning\.targets: peft has no default for unheard-of; name the modules"):
        LoRA().apply(model, seed=0)


def test_mezos_lora_on_roberta_trains_the_untied_head_as_well() -> None:
    settings = LoRA(r=2, embeddings="untied", also="^lm_head")
    model = model_of("roberta")
    before, declared = logits(model), settings.count(model)
    settings.apply(model, seed=0)
    own = {name for name in trained(model) if "lora_" not in name}
    assert own == {name for name, _ in model.named_parameters() if name.startswith("lm_head")}
    assert "lm_head.decoder.weight" in own
    assert count_trained(model) == declared
    torch.testing.assert_close(logits(model), before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_adapters_are_files_that_peft_reads_and_writes(variant: str, tmp_path: Path) -> None:
    from peft import PeftModel

    settings = VARIANTS[variant]
    model = model_of("bert")
    declared = settings.count(model)
    settings.apply(model, seed=3)
    assert count_trained(model) == declared
    disturb(model, std=0.05)
    with quiet():
        settings.save(model, tmp_path / "ours")
    wanted = logits(model)
    torch.testing.assert_close(logits(load_tuned(model_of("bert"), tmp_path / "ours")), wanted)
    if variant == "randlora":
        return  # Its shared bases are looked for where only peft's own wrapper has them.
    theirs = PeftModel.from_pretrained(model_of("bert"), str(tmp_path / "ours")).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(**batch(model)).logits, wanted)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    torch.testing.assert_close(logits(load_tuned(model_of("bert"), tmp_path / "theirs")), wanted)


@pytest.mark.parametrize("architecture", ["roberta", "llama", "gpt2"])
@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_adapters_of_classifiers_are_read_by_peft_with_the_head(name: str, architecture: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = tuning(name).apply(model_of(architecture, "head"), seed=3)
    disturb(model, std=0.1)
    tuning(name).save(model, tmp_path)
    theirs = PeftModel.from_pretrained(model_of(architecture, "head"), str(tmp_path)).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(**batch(model)).logits, logits(model))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["task_type"] == "SEQ_CLS"


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "randlora"])
def test_merged_adapters_are_weights_of_the_architecture(variant: str, tmp_path: Path) -> None:
    settings = VARIANTS[variant]
    model = settings.apply(model_of("bert"), seed=3)
    disturb(model, std=0.05)
    wanted = logits(model)
    merged = settings.merge(model)
    assert merged is model
    assert not hasattr(model, "peft_config")
    assert tiny.weights(model).keys() == tiny.weights(model_of("bert")).keys()
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-4)
    with quiet():
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again), logits(model))


def test_what_cannot_be_merged_says_so() -> None:
    settings = Peft(method="lily")
    with pytest.raises(ModelError, match=r"bert.encoder.*query cannot be merged: .*Lily"):
        settings.merge(settings.apply(model_of("bert"), seed=0))
    wrapped = Peft(method="lora", fields={"r": 2, "modules_to_save": ["transform"]})
    with pytest.raises(ModelError, match=r"cls.predictions.transform is wrapped by peft, and merged by peft alone"):
        wrapped.merge(wrapped.apply(model_of("bert"), seed=0))


def test_a_model_without_an_adapter_is_not_saved_as_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"this RobertaForMaskedLM carries no adapter of peft's"):
        LoRA().save(model_of("roberta"), tmp_path)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (
            {"method": "lokk"},
            r"method='lokk' is none that peft puts into a model by itself; did you mean 'lokr'\? Allo",
        ),
        ({"method": "vera"}, r"method='vera' is none that peft puts into a model by itself"),
        ({"method": "adalora"}, r"method='adalora' is none that peft puts into a model by itself"),
        ({"method": "prefix_tuning"}, r'method=\'prefix_tuning\' is put before the input: use tuning.kind="prefix"'),
        ({"method": "lora", "fields": {"rank": 4}}, r"fields.rank: LoraConfig has no such field"),
        ({"method": "lora", "fields": {"lora_alfa": 4}}, r"LoraConfig has no such field; did you mean 'lora_alpha'\?"),
        ({"method": "lora", "fields": {"task_type": "SEQ_CLS"}}, r"fields.task_type: LoraConfig has no such field"),
        (
            {"method": "fourierft", "fields": {"target_modules": "a", "layers_to_transform": [1]}},
            r"fields: Four.*refus",
        ),
        ({}, r"method: is required"),
    ],
)
def test_mistakes_in_the_fields_of_an_adapter_are_found_when_the_config_is_built(settings: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        build(Peft, settings, "here")


def test_what_peft_refuses_of_a_model_is_said_in_its_words() -> None:
    with pytest.raises(ModelError, match=r'tuning.kind="peft": Target module Conv1D\(nf=96, nx=32\) is not supported'):
        Peft(method="hra").apply(model_of("gpt2"), seed=0)


def test_dropout_among_the_fields_is_seen_by_whoever_looks_for_it() -> None:
    assert Peft(method="lora", fields={"lora_dropout": 0.5}).dropout == 0.5
    assert Peft(method="lora").dropout == 0


def test_settings_of_these_tests_are_those_of_tunings_that_exist() -> None:
    assert set(SETTINGS) <= set(TUNINGS.names())
