"""The choice of the published code."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers

import tiny
from reference import apet_twin
from shoestring.tuning.apet.inserted import insert_published, published_size
from shoestring.tuning.apet.published import BUDGETS, published_budget, published_choice
from shoestring.tuning.catalog.apet import APET
from shoestring.tuning.catalog.lora import LoRA
from tuning.apet.conftest import loss_of, scramble, trained

pytestmark = pytest.mark.usefixtures("frozen_imports")

# A model small enough to go through by hand: two LoRA pairs, one adapter, four tensors of the backbone.
HAND = [
    ("embed.weight", 50),
    ("q_lora.lora_A", 6), ("q_lora.lora_B", 10),
    ("v_lora.lora_A", 4), ("v_lora.lora_B", 4),
    ("attn_adapter.down.weight", 8), ("attn_adapter.down.bias", 2),
    ("attn_adapter.up.weight", 8), ("attn_adapter.up.bias", 4),
    ("dense.weight", 12), ("dense.bias", 3), ("norm.weight", 5),
]  # fmt: skip


def test_a_choice_computed_by_hand() -> None:
    """Budget 20, seed 1: the stream of seed 20 puts three groups, then four tensors, in the orders below.

    Inserted, 10 to spend: v_lora's first tensor, 4, fits, and the pair costs 8: 2 are left, and neither q_lora's first,
    6, nor the adapter's, 8, fits. Backbone, 10 to spend: 12 and 50 do not fit; 5 does, and then 3.
    """
    stream = random.Random(20)
    groups, singles = ["q_lora", "v_lora", "adapter"], ["embed.weight", "dense.weight", "dense.bias", "norm.weight"]
    stream.shuffle(groups)
    stream.shuffle(singles)
    assert groups == ["v_lora", "q_lora", "adapter"]
    assert singles == ["dense.weight", "embed.weight", "norm.weight", "dense.bias"]
    assert published_choice(HAND, 20, 1) == ["v_lora.lora_A", "v_lora.lora_B", "norm.weight", "dense.bias"]


def test_groups_may_overdraw_and_tensors_of_the_backbone_may_not() -> None:
    """The first tensor decides: with 6 to spend a pair of 6 and 10 is bought."""
    tensors = [("a.lora_A", 6), ("a.lora_B", 10), ("weight", 7), ("bias", 6)]
    assert published_choice(tensors, 12, 0) == ["a.lora_A", "a.lora_B", "bias"]
    assert published_choice(tensors, 11, 0) == []
    tokens = [("soft_prompt.0", 3), ("soft_prompt.1", 3), ("soft_prompt.2", 3)]
    assert len(published_choice(tokens, 12, 0)) == 2  # one by one, not in pairs


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("budget", [20, 37, 60, 4096])
def test_choices_are_those_of_the_procedure_written_down_otherwise(budget: int, seed: int) -> None:
    assert set(published_choice(HAND, budget, seed)) == apet_twin.published(HAND, budget, seed)


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("bloom", "causal"), ("opt", "causal"), ("gpt2", "causal"), ("llama", "causal"), ("bert", "masked"),
     ("roberta", "masked"), ("distilbert", "masked"), ("roberta", "head")],
)  # fmt: skip
def test_trained_tensors_are_those_that_the_published_procedure_picks_of_the_model(
    architecture: str, kind: str
) -> None:
    subject = tiny.prompted(architecture, kind)
    prompts = tiny.encoded(subject, 4)
    before = subject.predict(prompts, 4)
    budget, seed = 3000, 5
    model = APET(budget=budget, compat="pet-scaling").apply(subject.model, seed)
    torch.testing.assert_close(subject.predict(prompts, 4), before, rtol=0, atol=0)
    named = [(name, param) for name, param in model.named_parameters() if not name.startswith("classifier")]
    picked = apet_twin.published([(name, param.numel()) for name, param in named], budget, seed)
    assert {name for name, param in named if param.requires_grad} == picked
    words = {word for name in picked for word in ("lora", "adapter") if word in name}
    assert words
    assert any("lora" not in name and "adapter" not in name for name in picked)
    scramble(trained(model))
    loss_of(subject)().backward()
    # Whatever is chosen acts, a value's LoRA without the query's too.
    silent = {name for name, param in named if param.requires_grad and (param.grad is None or not param.grad.any())}
    assert not any("lora_B" in name or "up_proj" in name for name in silent)
    assert not torch.equal(subject.predict(prompts, 4), before)


def test_bloom_has_the_published_modules_in_the_published_order() -> None:
    model = tiny.build_model("bloom", "causal")
    names = insert_published(model, 0)
    hidden, block = 32, "transformer.h.0."
    wanted = [
        *(f"{block}self_attention.{one}_lora.lora_{factor}" for one in "qv" for factor in "AB"),
        *(
            f"{block}{site}_adapter.modulelist.{way}_proj.{part}"
            for site in ("attn", "fc2")
            for way in ("down", "up")
            for part in ("weight", "bias")
        ),
    ]
    assert [name for name in names if name.startswith(block)] == wanted
    sizes = {name: param.numel() for name, param in model.named_parameters()}
    assert sum(sizes[name] for name in names) == 2 * (2 * 8 * 64 + 2 * (2 * hidden * 24 + 24 + hidden))
    assert published_size(model, "lora") == 2 * 2 * 8 * 64
    assert published_size(model, "adapter") == 2 * 2 * (2 * hidden * 24 + 24 + hidden)
    assert published_size(model, "soft_prompt") == 100 * hidden


@pytest.mark.parametrize("architecture", ["bloom", "gpt2", "llama"])
def test_lora_beside_queries_and_values_changes_these_and_not_the_keys(architecture: str) -> None:
    model = tiny.build_model(architecture, "causal")
    x = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1))
    name = {
        "bloom": "transformer.h.0.self_attention",
        "gpt2": "transformer.h.0.attn",
        "llama": "model.layers.0.self_attn",
    }
    attention = model.get_submodule(name[architecture])

    def projected() -> list[torch.Tensor]:
        if architecture == "bloom":
            return [part.flatten() for part in attention._reshape(attention.query_key_value(x))]
        if architecture == "gpt2":
            return [part.flatten() for part in attention.c_attn(x).split(32, -1)]
        return [getattr(attention, f"{part}_proj")(x).flatten() for part in "qkv"]

    before = projected()
    insert_published(model, 0)
    for lora, place in ((attention.q_lora, 0), (attention.v_lora, 2)):
        torch.nn.init.normal_(lora.lora_B, generator=torch.Generator().manual_seed(2))
        moved = [not torch.equal(one, other) for one, other in zip(projected(), before, strict=True)]
        assert moved == [number == place for number in range(3)]
        if architecture == "gpt2":
            wanted = before[place] + 2.0 * (x @ lora.lora_A.T @ lora.lora_B.T).flatten()
            torch.testing.assert_close(projected()[place], wanted)
        torch.nn.init.zeros_(lora.lora_B)


T5 = {
    "vocab_size": 50, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0,
}  # fmt: skip


def small_t5() -> Any:
    config = transformers.AutoConfig.for_model("t5", **T5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModelForSeq2SeqLM.from_config(config).eval()


def test_t5_gets_the_published_biases_and_answers_as_before() -> None:
    model = small_t5()
    ids, labels = torch.arange(12).view(2, 6), torch.arange(8).view(2, 4)
    with torch.no_grad():
        before = model(input_ids=ids, decoder_input_ids=labels).logits
    plain = {name for name, _ in model.named_parameters()}
    tuned = APET(budget=800, compat="pet-scaling").apply(model, 4)
    with torch.no_grad():
        torch.testing.assert_close(tuned(input_ids=ids, decoder_input_ids=labels).logits, before, rtol=0, atol=0)
    new = {name for name, _ in tuned.named_parameters()} - plain
    linears = [name for name, one in tuned.named_modules() if type(one) is torch.nn.Linear and "adapter" not in name]
    assert {f"{name}.bias" for name in linears} <= new
    cross = "decoder.block.{}.layer.1.EncDecAttention.relative_attention_bias.weight"
    assert {cross.format(number) for number in range(2)} <= new
    assert "encoder.block.1.attn_adapter.modulelist.up_proj.bias" in new
    assert "decoder.block.0.layer.0.SelfAttention.v_lora.lora_A" in new
    sizes = [(name, param.numel()) for name, param in tuned.named_parameters()]
    assert {name for name, param in tuned.named_parameters() if param.requires_grad} == apet_twin.published(
        sizes, 800, 4
    )
    assert published_size(tuned, "lora") == 4 * 2 * 8 * (16 + 16)
    scramble([param for name, param in tuned.named_parameters() if name in new])
    with torch.no_grad():
        assert not torch.equal(tuned(input_ids=ids, decoder_input_ids=labels).logits, before)


def test_modules_that_are_there_already_are_chosen_among() -> None:
    model = LoRA().apply(tiny.build_model("bert", "masked"), 0)
    names = [name for name, _ in model.named_parameters()]
    tuned = APET(budget=2000, compat="pet-scaling").apply(model, 7)
    assert [name for name, _ in tuned.named_parameters()] == names
    sizes = [(name, param.numel()) for name, param in tuned.named_parameters()]
    assert {name for name, param in tuned.named_parameters() if param.requires_grad} == apet_twin.published(
        sizes, 2000, 7
    )


def test_budgets_by_name_are_the_published_ones_or_the_sizes_of_what_is_inserted() -> None:
    assert published_budget("bigscience/bloom-560m", "lora") == published_budget("./bloom-560m", "lora") == 786_432
    assert published_budget("models/mine", "lora") is None
    assert all(scales.keys() == {"lora", "adapter", "soft_prompt", "bitfit"} for scales in BUDGETS.values())
    # The formula of the table: blocks, queries and values, rank 8, hidden size.
    for name, blocks, hidden in (("bloom-560m", 24, 1024), ("bloom-7b1", 30, 4096), ("bloom-1b1", 24, 1536)):
        assert published_budget(name, "lora") == blocks * 2 * 8 * 2 * hidden
        assert published_budget(name, "soft_prompt") == 100 * hidden
    model = tiny.build_model("bloom", "causal")
    wanted = 2 * 2 * 8 * 64
    tuned = APET(budget="lora", compat="pet-scaling").apply(model, 3)
    sizes = [(name, param.numel()) for name, param in tuned.named_parameters()]
    assert {name for name, param in tuned.named_parameters() if param.requires_grad} == apet_twin.published(
        sizes, wanted, 3
    )
