"""Prefixes: the same as real tokens before the input where that is defined, in whatever calls the model."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import tiny
from shoestring.config import build
from shoestring.errors import ConfigError, ModelError
from shoestring.models.quiet import quiet
from shoestring.models.virtual import virtual_tokens
from shoestring.training.objective import OBJECTIVES
from shoestring.tuning.base import count_trained
from shoestring.tuning.catalog.prefix import Prefix
from shoestring.tuning.load import load_tuned
from tuning.subjects import ARCHITECTURES, CAUSAL, IDS, batch, checkpointed, disturb, logits, losses, model_of, trained

pytestmark = pytest.mark.usefixtures("frozen_imports")
TOKENS = (30, 31, 32)
REAL = Prefix(length=3, tokens=TOKENS)
WAYS = {
    "plain": REAL,
    "reparametrised": Prefix(length=3, tokens=TOKENS, reparametrise=True, hidden=8),
    "normal": Prefix(length=3, init="normal"),
    "normal, reparametrised": Prefix(length=3, init="normal", reparametrise=True, hidden=8),
}


def behind(ids: Tensor) -> dict[str, Tensor]:
    """Return inputs with the tokens before them."""
    joined = torch.cat([torch.tensor([TOKENS] * len(ids)), ids], 1)
    return {"input_ids": joined, "attention_mask": (joined != 1).long()}


def prefixed(architecture: str, settings: Prefix = REAL, **changes: Any) -> Any:
    return settings.apply(model_of(architecture, dtype=torch.float64, **changes), seed=0)


@pytest.mark.parametrize("way", ["plain", "reparametrised"])
@pytest.mark.parametrize("architecture", [*CAUSAL, "gemma2"])
def test_a_causal_model_answers_as_with_real_tokens_before_its_input(architecture: str, way: str) -> None:
    frozen, model = model_of(architecture, dtype=torch.float64), prefixed(architecture, WAYS[way])
    assert virtual_tokens(model) == 3
    assert virtual_tokens(frozen) == 0
    wanted, given = logits(frozen, behind(IDS))[:, 3:], batch(model)
    real = given["attention_mask"].bool()
    torch.testing.assert_close(logits(model)[real], wanted[real])
    torch.testing.assert_close(logits(model, {"input_ids": IDS[:1]}), wanted[:1])


@pytest.mark.parametrize("architecture", CAUSAL)
def test_a_prefix_is_seen_behind_a_cache_and_by_rows_of_a_mask_of_four_axes(architecture: str) -> None:
    model = prefixed(architecture)
    wanted = logits(model, {"input_ids": IDS[:1]})
    with torch.no_grad():
        first = model(input_ids=IDS[:1, :4], use_cache=True)
        rest = model(input_ids=IDS[:1, 4:], past_key_values=first.past_key_values, use_cache=True)
        torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), wanted)
        if architecture == "opt":
            return  # OPT counts positions from a mask of two axes alone
        mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
        positions = torch.arange(7)[None]
        torch.testing.assert_close(
            model(input_ids=IDS[:1], attention_mask=mask, position_ids=positions, use_cache=False).logits, wanted
        )


def test_padding_on_the_left_changes_nothing() -> None:
    for architecture in CAUSAL:
        model = prefixed(architecture)
        text = IDS[1:2, :5]
        left = torch.cat([torch.ones(1, 2, dtype=torch.long), text], 1)
        given = {"input_ids": left, "attention_mask": (left != 1).long()}
        torch.testing.assert_close(logits(model, given)[:, 2:], logits(model, {"input_ids": text}))


@pytest.mark.parametrize("architecture", [*CAUSAL, "gemma2"])
def test_a_causal_model_writes_what_it_writes_behind_real_tokens(architecture: str) -> None:
    frozen, model = model_of(architecture, dtype=torch.float64), prefixed(architecture)
    more: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 1, "eos_token_id": None}
    left = IDS[1:2, :5]
    wanted = frozen.generate(**behind(left), **more)[:, 8:]
    for cached in (True, False):
        mask = torch.ones_like(left)
        assert torch.equal(model.generate(left, attention_mask=mask, use_cache=cached, **more)[:, 5:], wanted)
    assert torch.equal(model.generate(left, attention_mask=mask, num_beams=2, **more)[:, :5], left)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", tiny.SEQ2SEQ)
def test_an_encoder_and_decoder_write_with_a_cache_what_they_write_without(architecture: str, way: str) -> None:
    model = prefixed(architecture, WAYS[way])
    names = set(trained(model))
    places = {name.removeprefix("model.").split(".")[0] for name in names if ".prefix." in name}
    assert places == {"encoder", "decoder"}
    assert not any("EncDecAttention" in name or "encoder_attn" in name for name in names)
    disturb(model)
    given = {"input_ids": IDS, "attention_mask": (IDS != 1).long()}
    one, other = (
        model.generate(**given, max_new_tokens=6, do_sample=False, use_cache=cached) for cached in (True, False)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("architecture", ["roberta", "bert"])
def test_the_prefix_of_a_masked_model_is_seen_by_every_token(architecture: str) -> None:
    model, frozen = prefixed(architecture), model_of(architecture, dtype=torch.float64)
    before = logits(model)
    assert not torch.isclose(before, logits(frozen)).all(-1).any()
    site = model.base_model.encoder.layer[1].attention.self
    wanted = {name: value.clone() for name, value in site.prefix.named_parameters()}
    # The keys and values of the tokens, as the second layer of the frozen model makes them.
    seen: list[Tensor] = []
    handle = frozen.base_model.encoder.layer[1].attention.self.key.register_forward_hook(
        lambda module, args, output: seen.append(output)
    )
    logits(frozen, {"input_ids": torch.tensor([TOKENS])})
    handle.remove()
    torch.testing.assert_close(wanted["key"], seen[0][0].view(3, 4, 8).transpose(0, 1))


@pytest.mark.parametrize("architecture", ["distilbert", "albert", "electra", "modernbert"])
def test_other_masked_models_see_a_prefix_too_and_padding_as_little_as_before(architecture: str) -> None:
    model = prefixed(architecture)
    assert virtual_tokens(model) == 3
    changed = logits(model)
    assert not torch.isclose(changed, logits(model_of(architecture, dtype=torch.float64))).all(-1).any()
    alone = logits(model, {"input_ids": IDS[1:2, :5], "attention_mask": torch.ones(1, 5, dtype=torch.long)})
    torch.testing.assert_close(changed[1:2, :5], alone)


@pytest.mark.parametrize("architecture", [*tiny.SEQ2SEQ, "llama", "roberta"])
def test_the_prefix_of_a_classifier_is_that_of_the_model_without_its_head(architecture: str, tmp_path: Path) -> None:
    """Heads of BART and T5 look for the end of the text, and the tokens of a prefix have none."""
    model = model_of(architecture, "head")
    given = {"input_ids": IDS, "attention_mask": (IDS != 1).long()}
    bare, before, declared = copy.deepcopy(model.base_model), logits(model, given), REAL.count(model)
    assert torch.equal(logits(model, given), before)
    REAL.apply(model, seed=0)
    assert count_trained(model) == declared
    assert not torch.allclose(logits(model, given), before)
    wanted = {name: value for name, value in tiny.weights(REAL.apply(bare, seed=0)).items() if ".prefix." in name}
    found = {name.partition(".")[2]: value for name, value in tiny.weights(model).items() if ".prefix." in name}
    assert len(found) == 2 * (4 if architecture in tiny.SEQ2SEQ else 2)
    assert tiny.equal(found, wanted)
    disturb(model)
    REAL.save(model, tmp_path)
    assert torch.equal(logits(load_tuned(model_of(architecture, "head"), tmp_path), given), logits(model, given))


def eager_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.transpose(-1, -2) / key.shape[-1] ** 0.5, -1) @ value


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_over_the_prefix_and_the_input(attention: str) -> None:
    model = model_of("roberta", dtype=torch.float64)
    model.set_attn_implementation(attention)
    Prefix(length=2, init="normal").apply(model, seed=1)
    site = model.base_model.encoder.layer[0].attention.self
    x = torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def heads(layer: Any) -> Tensor:
        return layer(x).view(2, 5, 4, 8).transpose(1, 2)

    with torch.no_grad():
        own = {name: value.expand(2, -1, -1, -1) for name, value in site.prefix.named_parameters()}
        key = torch.cat([own["key"], heads(site.key)], 2)
        value = torch.cat([own["value"], heads(site.value)], 2)
        wanted = eager_attention(heads(site.query), key, value).transpose(1, 2).reshape(2, 5, 32)
        torch.testing.assert_close(site(x)[0], wanted)


def test_positions_stay_where_that_is_asked_for() -> None:
    kept = prefixed("gpt2", Prefix(length=3, tokens=TOKENS, shift=False))
    frozen = model_of("gpt2", dtype=torch.float64)
    # As if the tokens had the positions 0, 1, 2 and the input began at 0 again.
    given = behind(IDS[:1]) | {"position_ids": torch.tensor([[0, 1, 2, *range(7)]])}
    given["attention_mask"] = torch.ones(10, 10, dtype=torch.bool).tril()[None, None]
    torch.testing.assert_close(logits(kept, {"input_ids": IDS[:1]}), logits(frozen, given)[:, 3:])
    assert not torch.allclose(logits(kept), logits(prefixed("gpt2")))


@pytest.mark.parametrize("architecture", ["roberta", "t5"])
def test_positions_move_in_causal_models_only(architecture: str) -> None:
    with pytest.raises(ModelError, match=r"tuning.shift=true: \w+ is not causal, or has no positions; leave it out"):
        Prefix(shift=True).apply(model_of(architecture), seed=0)


def test_a_longer_input_than_there_are_positions_left_is_refused() -> None:
    model = prefixed("gpt2")
    full = torch.full((1, 66 - 3), 9)
    assert logits(model, {"input_ids": full}).shape[1] == 63
    wanted = "3 virtual tokens and 64 of input are more than the 66 positions of the model; use prompt.max_tokens=63"
    with pytest.raises(ModelError, match=wanted):
        model(input_ids=torch.full((1, 64), 9))


@pytest.mark.parametrize("init", ["tokens", "normal"])
@pytest.mark.parametrize("reparametrise", [True, False])
@pytest.mark.parametrize(("architecture", "most"), [("roberta", 64), ("bert", 66), ("bart", 66)])
def test_a_prefix_longer_than_the_positions_is_refused(
    architecture: str, most: int, init: Literal["tokens", "normal"], reparametrise: bool
) -> None:
    def prefix(length: int) -> Prefix:
        return Prefix(length=length, init=init, reparametrise=reparametrise)

    model = prefix(most).apply(model_of(architecture), seed=0)
    assert torch.isfinite(logits(model)).all()
    wanted = (
        rf"^tuning.length={most + 1}: the model reads that many tokens to make the prefix, and has {most} positions; "
        rf"use tuning.length={most} or less$"
    )
    with pytest.raises(ModelError, match=wanted):
        prefix(most + 1).apply(model_of(architecture), seed=0)


@pytest.mark.parametrize(("architecture", "limit"), [("opt", 66), ("gpt2", 66)])
def test_a_prefix_that_leaves_no_position_to_the_input_is_refused(architecture: str, limit: int) -> None:
    model = Prefix(length=limit - 1).apply(model_of(architecture), seed=0)
    assert torch.isfinite(logits(model, {"input_ids": IDS[:1, :1]})).all()
    wanted = f"^tuning.length={limit}: virtual tokens and input share the {limit} positions of the model; use a smaller"
    with pytest.raises(ModelError, match=wanted):
        Prefix(length=limit).apply(model_of(architecture), seed=0)
    assert Prefix(length=limit, shift=False).apply(model_of(architecture), seed=0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", ["roberta", "llama", "t5"])
def test_counts_are_those_of_their_equations(architecture: str, way: str) -> None:
    settings, model = WAYS[way], model_of(architecture)
    sites, wide = {"roberta": (2, 32), "llama": (2, 16), "t5": (4, 32)}[architecture]
    wanted = sites * 2 * 3 * wide
    if settings.reparametrise:
        wanted = 3 * 8 + sites * 2 * (8 * 8 + 8 + 8 * wide + wide)
    attention = model.config._attn_implementation
    assert settings.count(model) == wanted
    assert model.config._attn_implementation == attention
    assert count_trained(settings.apply(model, seed=0)) == wanted


@pytest.mark.parametrize("way", ["reparametrised", "normal, reparametrised"])
def test_what_a_network_makes_is_saved_as_keys_and_values(way: str, tmp_path: Path) -> None:
    settings, model = WAYS[way], prefixed("llama", WAYS[way])
    disturb(model)
    wanted = logits(model)
    settings.save(model, tmp_path)
    assert torch.equal(logits(model), wanted)
    again = load_tuned(model_of("llama", dtype=torch.float64), tmp_path)
    torch.testing.assert_close(logits(again), wanted)
    assert count_trained(again) == 2 * 2 * 3 * 16


def test_a_network_is_trained_with_gradients_from_the_activations_on() -> None:
    model = prefixed("llama", WAYS["reparametrised"])
    optimizer = torch.optim.Adam([param for param in model.parameters() if param.requires_grad], lr=1e-2)
    start, first = tiny.weights(model), float(losses(model, batch(model)).mean().detach())
    for _ in range(8):
        optimizer.zero_grad()
        losses(model, batch(model)).mean().backward()
        optimizer.step()
    assert float(losses(model, batch(model)).mean().detach()) < first
    moved = {name for name, value in tiny.weights(model).items() if not torch.equal(value, start[name])}
    assert moved == set(trained(model))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gemma2", "t5"])
def test_gradient_checkpointing_gives_the_same_gradients(architecture: str, way: str) -> None:
    def gradients(*, checkpointing: bool) -> list[Tensor]:
        model = prefixed(architecture, WAYS[way])
        disturb(model)
        if checkpointing:
            checkpointed(model)
        with quiet():
            losses(model, batch(model)).sum().backward()
        return [param.grad for param in model.parameters() if param.grad is not None]

    found, wanted = gradients(checkpointing=True), gradients(checkpointing=False)
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("roberta", "masked"), ("llama", "causal"), ("gpt2", "head"), ("t5", "seq2seq"), ("bart", "seq2seq")],
)
def test_scorers_see_the_prefix_and_give_it_gradients(architecture: str, kind: str) -> None:
    subject = tiny.prompted(architecture, kind)
    prompts = tiny.encoded(subject, 5)
    before = subject.predict(prompts, 5)
    REAL.apply(subject.model, seed=0)
    changed = subject.predict(prompts, 5)
    assert not torch.allclose(changed, before)
    torch.testing.assert_close(subject.predict(prompts, 2), changed)
    OBJECTIVES.get("cross-entropy").loss(subject, subject.collate(prompts)).backward()
    prefixes = [param for name, param in subject.model.named_parameters() if ".prefix." in name]
    assert len(prefixes) == (8 if kind == "seq2seq" else 4)
    assert all(param.grad is not None and param.grad.any() for param in prefixes)


def test_a_copy_of_a_model_has_a_prefix_of_its_own() -> None:
    for way in WAYS.values():
        model = prefixed("llama", way)
        wanted, other = logits(model), copy.deepcopy(model)
        disturb(other)
        assert torch.equal(logits(model), wanted)
        assert not torch.allclose(logits(other), wanted)


def test_an_architecture_whose_attention_is_its_own_is_refused_and_left_as_it_was() -> None:
    model = model_of("bloom")
    wanted = r'the attention of BloomForCausalLM is its own and takes no prefix; try tuning.kind="prompt-tuning" or'
    with pytest.raises(ModelError, match=wanted):
        REAL.apply(model, seed=0)
    model = model_of("llama")
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(ModelError, match=re.escape("with attention 'flash_attention_2': use model.attention=\"sdpa\"")):
        REAL.apply(model, seed=0)


def test_a_prefix_cannot_be_merged_nor_begin_with_tokens_that_are_not_there() -> None:
    with pytest.raises(ModelError, match=r'tuning.kind="prefix" adds 384 weights that RobertaForMaskedLM has no place'):
        REAL.merge(REAL.apply(model_of("roberta"), seed=0))
    with pytest.raises(ModelError, match=r"tuning.tokens: 400 is not in the vocabulary of 400 tokens"):
        Prefix(length=1, tokens=(400,)).apply(model_of("roberta"), seed=0)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"tokens": [1, 2]}, "tokens names 2, and length=5"),
        ({"tokens": [1, 2], "init": "normal"}, 'tokens have no effect with init="normal"'),
        ({"hidden": 4}, "hidden=4 has no effect without reparametrise=true"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        build(Prefix, settings, "here")


def test_the_tokens_are_drawn_from_the_whole_vocabulary_by_the_seed() -> None:
    from shoestring.tuning.prefixes import drawn_tokens

    model = model_of("roberta")
    drawn = drawn_tokens(model, None, 20_000, 1)
    assert (min(drawn), max(drawn)) == (0, 399)
    assert drawn != drawn_tokens(model, None, 20_000, 2)
    assert drawn[:5] == drawn_tokens(model, None, 5, 1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_without_a_prefix_are_untouched_by_those_with_one(architecture: str) -> None:
    model = model_of(architecture)
    model.requires_grad_(False)
    before = logits(model)
    REAL.apply(model_of(architecture), seed=0)
    assert torch.equal(logits(model), before)
