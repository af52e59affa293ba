"""Tunings that choose among the weights a model has, and what may be done to these before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.config import build
from shoestring.errors import ConfigError, ModelError
from shoestring.models.quiet import quiet
from shoestring.tuning.base import TUNINGS, count_trained
from shoestring.tuning.catalog.bitfit import BitFit
from shoestring.tuning.catalog.full import Full
from shoestring.tuning.catalog.head import Head
from shoestring.tuning.catalog.layers import Layers
from shoestring.tuning.catalog.norms import Norms
from shoestring.tuning.catalog.pattern import Pattern
from shoestring.tuning.load import load_tuned
from tuning.subjects import ARCHITECTURES, disturb, logits, model_of, trained

pytestmark = pytest.mark.usefixtures("frozen_imports")


def test_full_tuning_trains_every_weight() -> None:
    model = model_of("roberta")
    next(model.parameters()).requires_grad_(False)
    assert len(trained(Full().apply(model, seed=0))) == len(list(model.named_parameters()))


def test_bitfit_trains_the_biases_of_every_layer() -> None:
    names = trained(BitFit().apply(model_of("roberta"), seed=0))
    assert all(name.endswith("bias") for name in names)
    # Per layer: query, key, value, attention output, intermediate, output, two norms; the embeddings' norm; the head's
    # dense, norm and decoder.
    assert len(names) == 2 * 8 + 1 + 3


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral", "gemma", "t5"])
def test_bitfit_refuses_a_model_without_biases_and_names_what_there_is_instead(architecture: str) -> None:
    wanted = r'"bitfit": \w+ has no biases; try tuning.kind="norms", "ia3" or "lora", or give it some with tuning.add='
    with pytest.raises(ModelError, match=wanted):
        BitFit().apply(model_of(architecture), seed=0)
    with pytest.raises(ModelError, match=wanted):
        BitFit().count(model_of(architecture))


@pytest.mark.parametrize(("architecture", "layers"), [("llama", 2 * 7), ("t5", 2 * 6 + 2 * 10)])
def test_bitfit_adds_biases_of_zeros_where_it_is_told_to(architecture: str, layers: int, tmp_path: Path) -> None:
    model, settings = model_of(architecture), BitFit(add=True)
    model.requires_grad_(False)
    before, declared = logits(model), settings.count(model)
    settings.apply(model, seed=0)
    assert len(trained(model)) == layers
    assert count_trained(model) == declared
    assert torch.equal(logits(model), before)
    disturb(model)
    settings.save(model, tmp_path)
    assert torch.equal(logits(load_tuned(model_of(architecture), tmp_path)), logits(model))


@pytest.mark.parametrize(("architecture", "kind"), [("llama", None), ("modernbert", "masked"), ("roberta", None)])
def test_added_biases_that_the_config_can_name_are_loaded_with_a_merged_model(
    architecture: str, kind: str | None, tmp_path: Path
) -> None:
    model, settings = model_of(architecture, kind), BitFit(add=True)
    disturb(settings.apply(model, seed=0))
    merged = settings.merge(model)
    with quiet():
        merged.save_pretrained(tmp_path)
        again, report = type(merged).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert torch.equal(logits(again.eval()), logits(model))


@pytest.mark.parametrize(
    ("architecture", "kind"), [("qwen3", None), ("t5", None), ("mistral", None), ("llama", "head")]
)
def test_added_biases_that_the_architecture_would_drop_are_not_merged(architecture: str, kind: str | None) -> None:
    model, settings = model_of(architecture, kind), BitFit(add=True)
    settings.apply(model, seed=0)
    before = model.config.to_dict()
    added = count_trained(model) - sum(p.numel() for name, p in model.named_parameters() if name == "score.weight")
    with pytest.raises(
        ModelError, match=rf'"bitfit" adds {added} weights that {type(model).__name__} has no place for; save and load'
    ):
        settings.merge(model)
    assert model.config.to_dict() == before


NORMS = {"roberta": 2 * (1 + 2 * 2 + 1), "opt": 2 * (2 * 2 + 1), "llama": 2 * 2 + 1, "qwen3": 2 * 4 + 1, "t5": 5 + 7}


@pytest.mark.parametrize("architecture", NORMS)
def test_norms_are_those_of_layers_queries_keys_and_heads(architecture: str) -> None:
    names = trained(Norms().apply(model_of(architecture), seed=0))
    assert all("norm" in name.lower() for name in names)
    assert len(names) == NORMS[architecture]


def test_norms_refuse_a_model_without() -> None:
    class Bare(torch.nn.Module):
        pass

    with pytest.raises(ModelError, match=r'tuning.kind="norms": Bare has no norms with weights; try'):
        Norms().chosen(Bare())


def test_a_pattern_is_searched_for_in_every_name_that_a_weight_has() -> None:
    names = trained(Pattern(pattern=r"layer\.1\..*(query|key)\.weight").apply(model_of("roberta"), seed=0))
    assert names == {f"roberta.encoder.layer.1.attention.self.{name}.weight": 32 * 32 for name in ("query", "key")}
    tied = trained(Pattern(pattern=r"lm_head\.decoder\.weight").apply(model_of("roberta"), seed=0))
    assert list(tied) == ["roberta.embeddings.word_embeddings.weight"]


@pytest.mark.parametrize("key", ["pattern", "reinit"])
def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_names(key: str) -> None:
    settings = Pattern(pattern="qurey") if key == "pattern" else Full(reinit="qurey")
    with pytest.raises(ModelError, match=rf"tuning.{key}='qurey' matches no parameter of .*; the nearest are .*query"):
        settings.apply(model_of("roberta"), seed=0)


@pytest.mark.parametrize(("kind", "key"), [("pattern", "pattern"), ("full", "reinit"), ("lora", "also")])
def test_what_is_no_regular_expression_is_refused_when_the_config_is_built(kind: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: '\(a' is not a regular expression: missing \), unterminated"):
        build(TUNINGS.get(kind), {key: "(a"}, "here")


def layers(**settings: Any) -> set[str]:
    return set(trained(Layers(**settings).apply(model_of("opt"), seed=0)))


def test_the_last_layers_go_with_the_head_and_the_first_with_the_embeddings() -> None:
    every = {name for name, _ in model_of("opt").named_parameters()}
    last = layers(n=1)
    assert {name.split(".")[2] for name in last} == {"layers", "final_layer_norm"}
    assert all(".layers.1." in name for name in last if ".layers." in name)
    first = layers(n=1, part="first")
    assert {name.split(".")[2] for name in first} == {"layers", "embed_tokens", "embed_positions"}
    assert all(".layers.0." in name for name in first if ".layers." in name)
    assert layers(n=1, frozen=True) == every - last
    assert layers(n=1, part="first", frozen=True) == every - first
    assert layers(n=2) | layers(n=2, part="first") == every
    assert not any(".layers." in name for name in layers(n=2, frozen=True))


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "distilbert", "electra", "modernbert", "gemma2", "bloom"])
def test_both_ends_together_are_the_whole_of_every_architecture(architecture: str) -> None:
    sets = [set(trained(Layers(n=1, part=part).apply(model_of(architecture), seed=0))) for part in ("first", "last")]
    assert sets[0] | sets[1] == {name for name, _ in model_of(architecture).named_parameters()}
    assert not sets[0] & sets[1]
    assert any("embed" in name or "wte" in name or "shared" in name for name in sets[0])
    assert not any("lm_head" in name for name in sets[0])


def test_layers_are_of_an_encoder_and_of_a_decoder() -> None:
    names = trained(Layers(n=1).apply(model_of("t5"), seed=0))
    assert {name.split(".block.")[0] for name in names if ".block." in name} == {"encoder", "decoder"}
    assert all(".block.1." in name for name in names if ".block." in name)


def test_layers_refuse_more_than_there_are_and_models_whose_layers_are_one() -> None:
    with pytest.raises(ModelError, match=r"tuning.n=3: OPTForCausalLM has 2 layers"):
        layers(n=3)
    with pytest.raises(ModelError, match=r'Albert.* has no stack of 2 layers of their own; .*tuning.kind="pattern"'):
        Layers().apply(model_of("albert"), seed=0)


def test_the_head_of_a_language_model_is_what_is_outside_its_base_model_and_the_output_embedding() -> None:
    roberta = set(trained(Head().apply(model_of("roberta"), seed=0)))
    own = {f"lm_head.{name}" for name in ("bias", "dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias")}
    assert roberta == own | {"roberta.embeddings.word_embeddings.weight"}
    assert set(trained(Head().apply(model_of("llama"), seed=0))) == {"lm_head.weight"}
    assert set(trained(Head().apply(model_of("opt"), seed=0))) == {"model.decoder.embed_tokens.weight"}
    assert set(trained(Head().apply(model_of("t5"), seed=0))) == {"shared.weight"}


def test_the_head_of_a_classifier_is_the_classifier() -> None:
    names = trained(Head().apply(model_of("roberta", "head"), seed=0))
    assert {name.split(".")[0] for name in names} == {"classifier"}


def test_a_model_without_a_head_has_none_to_train() -> None:
    with pytest.raises(ModelError, match=r'tuning.kind="head": RobertaModel has no head; try tuning.kind="layers"'):
        Head().apply(model_of("roberta").roberta, seed=0)


HEADS = {
    "roberta": {"classifier.dense", "classifier.out_proj"},
    "bert": {"classifier"},
    "distilbert": {"pre_classifier", "classifier"},
    "electra": {"classifier.dense", "classifier.out_proj"},
    "llama": {"score"},
}


@pytest.mark.parametrize("architecture", HEADS)
@pytest.mark.parametrize("kind", ["lora", "norms", "adapter", "prompt-tuning"])
def test_a_head_has_no_pretrained_weights_and_is_trained_whole(architecture: str, kind: str) -> None:
    model = TUNINGS.get(kind)().apply(model_of(architecture, "head"), seed=0)
    weights = [name for name in trained(model) if name.endswith(".weight") and "norm" not in name.lower()]
    own = {name.rpartition(".")[0] for name in weights if "lora_" not in name and "adapter" not in name}
    assert own == HEADS[architecture]


# --- embeddings -------------------------------------------------------------------------------------------------------


def test_untied_embeddings_begin_as_a_copy_and_go_their_own_way(tmp_path: Path) -> None:
    model, settings = model_of("roberta"), Head(embeddings="untied")
    before, declared = logits(model), settings.count(model)
    settings.apply(model, seed=0)
    torch.testing.assert_close(logits(model), before)
    assert count_trained(model) == declared
    assert "lm_head.decoder.weight" in trained(model)
    start = model.roberta.embeddings.word_embeddings.weight.clone()
    disturb(model)
    assert torch.equal(model.roberta.embeddings.word_embeddings.weight, start)
    settings.save(model, tmp_path)
    assert torch.equal(logits(load_tuned(model_of("roberta"), tmp_path)), logits(model))


@pytest.mark.parametrize("architecture", ["roberta", "opt", "t5"])
def test_a_whole_model_with_untied_embeddings_is_read_by_transformers_with_all_it_has(
    architecture: str, tmp_path: Path
) -> None:
    model, settings = model_of(architecture), Full(embeddings="untied")
    settings.apply(model, seed=0)
    disturb(model, std=0.1)
    with quiet():
        settings.save(model, tmp_path)
        again, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert torch.equal(logits(again.eval()), logits(model))
    assert torch.equal(logits(load_tuned(model_of(architecture), tmp_path)), logits(model))


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "albert", "electra"])
@pytest.mark.parametrize("kind", ["full", "head", "lora"])
def test_a_merged_model_with_untied_embeddings_is_loaded_by_transformers_as_it_is(
    kind: str, architecture: str, tmp_path: Path
) -> None:
    settings = TUNINGS.get(kind)(embeddings="untied")
    model = settings.apply(model_of(architecture), seed=0)
    disturb(model, std=0.1)
    tuned = logits(model)
    merged = settings.merge(model)
    torch.testing.assert_close(logits(merged), tuned, rtol=1e-4, atol=1e-4)
    with quiet():
        merged.save_pretrained(tmp_path)
        again, report = type(merged).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert torch.equal(logits(again.eval()), logits(merged))


def test_tied_embeddings_are_one_matrix() -> None:
    model, settings = model_of("llama"), Full(embeddings="tied")
    assert not settings.identity
    settings.apply(model, seed=0)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert count_trained(model) == settings.count(model_of("llama"))
    grown = model_of("electra")
    grown.generator_lm_head = torch.nn.Linear(32, 400)
    with pytest.raises(ModelError, match=r'tuning.embeddings="tied": the output embedding of Electra.* is \[400, 32\]'):
        settings.apply(grown, seed=0)


def test_embeddings_of_a_classifier_have_no_output_to_tie() -> None:
    with pytest.raises(ModelError, match=r"tuning.embeddings='untied' with tuning.kind=\"full\": .* has no output emb"):
        Full(embeddings="untied").apply(model_of("roberta", "head"), seed=0)


# --- drawn anew -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_drawn_anew_are_as_the_model_begins_and_the_rest_stays(architecture: str) -> None:
    model, settings = model_of(architecture), Full(reinit=r"\.1\.")
    assert not settings.identity
    start = tiny.weights(model)
    settings.apply(model, seed=1)
    changed = {name for name, value in tiny.weights(model).items() if not torch.equal(value, start[name])}
    assert changed == {name for name in start if ".1." in name}
    assert tiny.equal(tiny.weights(settings.apply(model_of(architecture), seed=1)), tiny.weights(model))
    assert not tiny.equal(tiny.weights(settings.apply(model_of(architecture), seed=2)), tiny.weights(model))


def test_weights_drawn_anew_have_the_scale_of_the_model_and_norms_are_ones(tmp_path: Path) -> None:
    base = tiny.save(model_of("roberta"), tiny.bpe_tokenizer(), tmp_path)
    with quiet():
        model = type(model_of("roberta")).from_pretrained(base)  # of which transformers marks what it has loaded
    Full(reinit=".").apply(model, seed=1)
    weight = model.roberta.encoder.layer[0].output.dense.weight
    assert weight.std().item() == pytest.approx(0.2, rel=0.1)
    norm = model.roberta.encoder.layer[0].output.LayerNorm
    assert torch.equal(norm.weight, torch.ones(32))
    assert not norm.bias.any()


def test_weights_drawn_anew_have_the_scale_that_the_module_around_them_says() -> None:
    model = Full(reinit=r"\.q\.").apply(model_of("t5"), seed=1)
    weights = [param for name, param in model.named_parameters() if ".q." in name]
    assert torch.stack(weights).std().item() == pytest.approx((32 * 8) ** -0.5, rel=0.05)


def test_what_was_drawn_anew_is_saved_although_it_is_not_trained(tmp_path: Path) -> None:
    model, settings = model_of("roberta"), BitFit(reinit=r"layer\.1\..*query")
    settings.apply(model, seed=1)
    settings.save(model, tmp_path)
    assert torch.equal(logits(load_tuned(model_of("roberta"), tmp_path)), logits(model))


def test_a_weight_that_a_model_does_not_say_how_to_begin_is_refused() -> None:
    model = model_of("roberta")
    model.extra = torch.nn.Module()
    model.extra.own = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(ModelError, match=r"tuning.reinit: RobertaForMaskedLM does not say how extra.own begins"):
        Full(reinit="extra").apply(model, seed=0)


def test_counting_needs_the_base_model() -> None:
    model = BitFit(add=True).apply(model_of("llama"), seed=0)
    with pytest.raises(ModelError, match=r"can be counted on a base model only, and this LlamaForCausalLM has been ch"):
        TUNINGS.get("head")(embeddings="tied").count(model)
