"""Soft prompts: the same as real tokens before the input, in masked, causal and sequence-to-sequence models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from shoestring.errors import ModelError
from shoestring.models.virtual import virtual_tokens
from shoestring.training.objective import OBJECTIVES
from shoestring.tuning.catalog.prompt_tuning import PromptTuning
from shoestring.tuning.load import load_tuned
from tuning.subjects import CAUSAL, IDS, batch, checkpointed, disturb, kind_of, logits, losses, model_of, trained

pytestmark = [
    pytest.mark.usefixtures("frozen_imports"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
TOKENS = (30, 31, 32)
REAL = PromptTuning(length=3, tokens=TOKENS)
EVERY = [*tiny.MASKED, *CAUSAL, "gemma2", "bloom", *tiny.SEQ2SEQ]


def prompted(architecture: str, kind: str | None = None, settings: PromptTuning = REAL) -> Any:
    return settings.apply(model_of(architecture, kind, dtype=torch.float64), seed=0)


def behind(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return inputs with the tokens before them."""
    tokens = torch.tensor([TOKENS] * len(given["input_ids"]))
    front = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    return given | {name: torch.cat([front[name], given[name]], 1) for name in front if name in given}


@pytest.mark.parametrize("architecture", EVERY)
def test_a_model_answers_as_with_real_tokens_before_its_input(architecture: str) -> None:
    frozen, model = model_of(architecture, dtype=torch.float64), prompted(architecture)
    assert virtual_tokens(model) == 3
    assert set(trained(model)) == {"soft_prompt.embedding"}
    given = batch(model)
    wanted, found = logits(frozen, behind(given)), logits(model, given)
    if architecture in tiny.SEQ2SEQ:
        torch.testing.assert_close(found, wanted)
        return
    real = given["attention_mask"].bool()
    torch.testing.assert_close(found[real], wanted[:, 3:][real])
    short = {"input_ids": IDS[:1]}
    torch.testing.assert_close(logits(model, short), logits(frozen, behind(short))[:, 3:])


def test_segments_and_hidden_states_are_those_of_the_input() -> None:
    frozen, model = model_of("bert", dtype=torch.float64), prompted("bert")
    given = {"input_ids": IDS[:1], "token_type_ids": torch.tensor([[0, 0, 0, 1, 1, 1, 1]])}
    joined = behind({"input_ids": IDS[:1]}) | {"token_type_ids": torch.tensor([[0] * 6 + [1] * 4])}
    with torch.no_grad():
        wanted = frozen(**joined, output_hidden_states=True).hidden_states
        found = model(**given, output_hidden_states=True).hidden_states
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other[:, 3:])
    with torch.no_grad():
        as_tuple = model.bert(**given, return_dict=False)
    assert as_tuple[0].shape[1] == 7


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "distilbert", "electra", "modernbert"])
def test_a_classifier_reads_the_place_it_always_reads(architecture: str) -> None:
    frozen, model = model_of(architecture, "head", dtype=torch.float64), prompted(architecture, "head")
    states: list[Tensor] = []
    reader = frozen.base_model
    stack = getattr(reader, "encoder", None) or reader

    def own_places(module: Any, args: Any, output: Any) -> Any:
        states.append(output.last_hidden_state)
        output["last_hidden_state"] = output.last_hidden_state[:, 3:]
        return output

    stack.register_forward_hook(own_places)
    wanted = logits(frozen, behind(batch(frozen)))
    assert states[0].shape[1] == 10
    torch.testing.assert_close(logits(model), wanted)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
def test_a_causal_classifier_reads_the_last_token(architecture: str) -> None:
    frozen, model = model_of(architecture, "head", dtype=torch.float64), prompted(architecture, "head")
    torch.testing.assert_close(logits(model), logits(frozen, behind(batch(frozen))))


@pytest.mark.parametrize("architecture", [*CAUSAL, "gemma2", "bloom", *tiny.SEQ2SEQ])
def test_a_model_writes_what_it_writes_behind_real_tokens(architecture: str) -> None:
    frozen, model = model_of(architecture, dtype=torch.float64), prompted(architecture)
    more: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 1, "eos_token_id": None}
    # Padding on the left, as generation wants it.
    ids = torch.tensor([[8, 9, 10, 11, 12], [1, 1, 20, 21, 22]])
    given = {"input_ids": ids, "attention_mask": (ids != 1).long()}
    written = frozen.generate(**behind({name: value[:1] for name, value in given.items()}), **more)
    for cached in (True, False):
        found = model.generate(**given, use_cache=cached, **more)
        reads = architecture not in tiny.SEQ2SEQ  # and gives back what it has read
        assert torch.equal(found[:1, 5 * reads :], written[:, 8 * reads :])
        alone = model.generate(ids[1:, 2:], attention_mask=torch.ones(1, 3), use_cache=cached, **more)
        if reads:
            assert torch.equal(found[1:, 5:], alone[:, 3:])


@pytest.mark.parametrize("architecture", CAUSAL)
def test_a_cache_holds_the_prompt_and_masks_of_four_axes_are_widened(architecture: str) -> None:
    model = prompted(architecture)
    wanted = logits(model, {"input_ids": IDS[:1]})
    with torch.no_grad():
        first = model(input_ids=IDS[:1, :4], use_cache=True)
        rest = model(input_ids=IDS[:1, 4:], past_key_values=first.past_key_values, use_cache=True)
        torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), wanted)
        if architecture == "opt":
            return  # OPT counts positions from a mask of two axes alone
        mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
        for one in (mask, torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)):
            given = {"input_ids": IDS[:1], "attention_mask": one, "position_ids": torch.arange(7)[None]}
            torch.testing.assert_close(model(**given, use_cache=False).logits, wanted)
        first = model(input_ids=IDS[:1, :4], use_cache=True)
        given = {"attention_mask": mask[:, :, 4:], "position_ids": torch.arange(4, 7)[None]}
        again = model(input_ids=IDS[:1, 4:], past_key_values=first.past_key_values, **given)
        torch.testing.assert_close(again.logits, wanted[:, 4:])


def test_what_a_soft_prompt_cannot_do_is_refused() -> None:
    model = prompted("llama")
    with pytest.raises(ModelError, match="a soft prompt does not fit into a static cache; generate with a dynamic one"):
        model.generate(IDS[:1], max_new_tokens=2, cache_implementation="static")
    with pytest.raises(ModelError, match="a model with virtual tokens is called with input_ids or inputs_embeds"):
        model(attention_mask=torch.ones(1, 3))
    wanted = "3 virtual tokens and 64 of input are more than the 66 positions of the model; use prompt.max_tokens=63"
    with pytest.raises(ModelError, match=wanted):
        prompted("opt")(input_ids=torch.full((1, 64), 9))
    with pytest.raises(ModelError, match="already reads 3 virtual tokens"):
        REAL.apply(model, seed=0)


def test_advice_on_room_is_advice_that_can_be_taken() -> None:
    long = torch.full((1, 20), 9)
    with pytest.raises(
        ModelError, match=r"positions of the model; use prompt\.max_tokens=8, or a smaller tuning\.length$"
    ):
        PromptTuning(length=58).apply(model_of("opt"), seed=0)(input_ids=long)
    with pytest.raises(ModelError, match=r"positions of the model; use tuning\.length=46 or less$"):
        PromptTuning(length=59).apply(model_of("opt"), seed=0)(input_ids=long)
    with pytest.raises(ModelError, match=r"positions of the model; use a smaller tuning\.length$"):
        PromptTuning(length=59).apply(model_of("opt"), seed=0)(input_ids=torch.full((1, 66), 9))


@pytest.mark.parametrize(("architecture", "limit"), [("roberta", 64), ("opt", 66), ("bart", 66)])
@pytest.mark.parametrize("more", [0, 36])
def test_a_prompt_that_leaves_no_position_to_the_input_is_refused(architecture: str, limit: int, more: int) -> None:
    wanted = f"^tuning.length={limit + more}: virtual tokens and input share the {limit} positions of the model; use a"
    with pytest.raises(ModelError, match=wanted):
        PromptTuning(length=limit + more).apply(model_of(architecture), seed=0)


def test_a_model_that_takes_no_embeddings_is_refused() -> None:
    model = model_of("roberta")

    def forward(input_ids: Tensor, attention_mask: Tensor) -> None: ...

    model.roberta.forward = forward
    with pytest.raises(ModelError, match=r'tuning.kind="prompt-tuning": RobertaForMaskedLM does not take embeddings'):
        REAL.apply(model, seed=0)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "t5"])
def test_prompts_are_files_that_peft_reads_and_writes(architecture: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = REAL.apply(model_of(architecture), seed=0)
    disturb(model)
    REAL.save(model, tmp_path / "ours")
    wanted, given = logits(model), batch(model)
    theirs = PeftModel.from_pretrained(model_of(architecture), str(tmp_path / "ours")).eval()
    with torch.no_grad():
        found = theirs(**given).logits
    real = given["attention_mask"].bool() if architecture != "t5" else slice(None)
    found = found if architecture == "t5" else found[:, 3:]
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-4, atol=1e-4)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    again = load_tuned(model_of(architecture), tmp_path / "theirs")
    torch.testing.assert_close(logits(again), wanted)


def test_prompts_that_peft_does_not_know_are_deltas(tmp_path: Path) -> None:
    for architecture, kind in (("roberta", None), ("llama", "head")):
        model = REAL.apply(model_of(architecture, kind), seed=0)
        place = tmp_path / f"{architecture}-{kind}"
        REAL.save(model, place)
        assert not (place / "adapter_config.json").exists()
        assert (place / "tuned.safetensors").is_file()
    beside = PromptTuning(length=3, also="norm")
    beside.save(beside.apply(model_of("llama"), seed=0), tmp_path / "beside")
    assert not (tmp_path / "beside" / "adapter_config.json").exists()


def test_a_prompt_of_another_length_is_refused(tmp_path: Path) -> None:
    REAL.save(REAL.apply(model_of("llama"), seed=0), tmp_path)
    with pytest.raises(
        ModelError, match=r"adapter_model.safetensors holds \[3, 32\] prompt_embeddings, where \[4, 32\]"
    ):
        PromptTuning(length=4).restore(model_of("llama"), tmp_path)


@pytest.mark.parametrize("architecture", EVERY)
def test_scorers_see_the_prompt_and_give_it_gradients(architecture: str) -> None:
    subject = tiny.prompted(architecture, kind_of(architecture))
    prompts = tiny.encoded(subject, 5)
    before = subject.predict(prompts, 5)
    REAL.apply(subject.model, seed=0)
    changed = subject.predict(prompts, 5)
    assert not torch.allclose(changed, before)
    torch.testing.assert_close(subject.predict(prompts, 2), changed)
    OBJECTIVES.get("cross-entropy").loss(subject, subject.collate(prompts)).backward()
    assert subject.model.get_parameter("soft_prompt.embedding").grad.any()  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "t5"])
def test_gradient_checkpointing_gives_the_same_gradients(architecture: str) -> None:
    def gradient(*, checkpointing: bool) -> Tensor:
        model = prompted(architecture)
        if checkpointing:
            checkpointed(model)
        losses(model, batch(model)).sum().backward()
        return model.soft_prompt.embedding.grad

    torch.testing.assert_close(gradient(checkpointing=True), gradient(checkpointing=False))


def test_a_copy_of_a_model_has_a_prompt_of_its_own() -> None:
    model = prompted("llama")
    wanted, other = logits(model), copy.deepcopy(model)
    disturb(other)
    assert torch.equal(logits(model), wanted)
    assert not torch.allclose(logits(other), wanted)


def test_a_prompt_begins_with_embeddings_of_tokens_or_with_normal_numbers() -> None:
    embedding = model_of("llama").model.embed_tokens.weight
    drawn = PromptTuning(length=20).apply(model_of("llama"), seed=0).soft_prompt.embedding
    assert all(any(torch.equal(row, one) for one in embedding) for row in drawn)
    noise = PromptTuning(length=200, init="normal").apply(model_of("llama"), seed=0).soft_prompt.embedding
    assert noise.std().item() == pytest.approx(1, abs=0.05)
