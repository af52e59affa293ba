from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from reference import scoring_twin
from shoestring.errors import ModelError
from shoestring.models.batch import Batch, collate
from shoestring.models.prompted import PromptedModel
from shoestring.models.scoring import SCORERS, logits_at, model_inputs, token_logits_at
from shoestring.prompts.encoding import EncodedPrompt

pytestmark = pytest.mark.usefixtures("frozen_imports")
KINDS = [*((name, "masked") for name in tiny.MASKED), *((name, "causal") for name in tiny.CAUSAL)]


def ragged(*lengths: int, options: tuple[tuple[int, ...], ...] = ((7,), (9,)), seed: int = 0) -> list[EncodedPrompt]:
    """Prompts of random tokens; positions as a causal model has them."""
    stream = torch.Generator().manual_seed(seed)
    prompts = []
    for number, length in enumerate(lengths):
        ids = tuple(torch.randint(5, 400, (length,), generator=stream).tolist())
        segments = tuple(int(place > length // 2) for place in range(length))
        label = number % len(options)
        prompts.append(EncodedPrompt(f"train:{number}", ids, segments, length - 1, options, label, 0))
    return prompts


@pytest.fixture(scope="module")
def doubles() -> dict[str, PromptedModel]:
    """Two causal models in float64: absolute positions with offset and biases; rotary with grouped queries."""
    return {name: tiny.prompted(name, "causal", dtype=torch.float64) for name in ("opt", "llama")}


@pytest.mark.parametrize(("architecture", "kind"), KINDS)
def test_logits_at_positions_are_the_full_logits_there(architecture: str, kind: str) -> None:
    model = tiny.build_model(architecture, kind)
    batch = collate(ragged(9, 5, 14), pad_id=1)
    positions = torch.tensor([[8, 0], [4, 2], [13, 7]])
    with torch.no_grad():
        found = logits_at(model, model_inputs(model, batch), positions)
        full = model(**model_inputs(model, batch)).logits
    assert found.shape == (3, 2, 400)
    torch.testing.assert_close(found, full[torch.arange(3)[:, None], positions], rtol=1e-5, atol=1e-5)


TOKENS = torch.tensor([[7, 9, 300], [12, 7, 12], [0, 399, 9]])


@pytest.mark.parametrize(("architecture", "kind"), KINDS)
def test_logits_of_some_tokens_are_those_of_the_full_vocabulary(architecture: str, kind: str) -> None:
    model = tiny.build_model(architecture, kind)
    inputs, positions = model_inputs(model, collate(ragged(9, 5, 14), pad_id=1)), torch.tensor([8, 4, 13])
    full = model(**inputs).logits[torch.arange(3), positions].gather(1, TOKENS)
    with torch.no_grad():
        torch.testing.assert_close(token_logits_at(model, inputs, positions, TOKENS), full, rtol=1e-5, atol=1e-5)
    found = token_logits_at(model, inputs, positions, TOKENS)
    torch.testing.assert_close(found, full, rtol=1e-5, atol=1e-5)
    assert found.requires_grad


def widths(model: torch.nn.Module, architecture_inputs: Batch) -> list[int]:
    """Widths of the logits that a model makes when some tokens are asked for."""
    seen: list[int] = []
    forward = model.forward

    def watched(*arguments: object, **more: object) -> object:
        found = forward(*arguments, **more)
        seen.append(found.logits.shape[-1])
        return found

    model.forward = watched
    with torch.no_grad():
        token_logits_at(model, architecture_inputs, torch.tensor([8, 4, 13]), TOKENS)  # type: ignore[arg-type]
    return seen


def test_the_output_embedding_is_applied_for_these_tokens_only_where_it_is_plain() -> None:
    inputs = collate(ragged(9, 5, 14), pad_id=1)
    plain = tiny.build_model("opt", "causal")
    head = plain.get_output_embeddings()
    assert widths(plain, model_inputs(plain, inputs)) == [6]
    assert "forward" not in vars(head)

    hooked = tiny.build_model("opt", "causal")
    hooked.get_output_embeddings().register_forward_hook(lambda module, given, out: out)
    assert widths(hooked, model_inputs(hooked, inputs)) == [400]

    adapted = tiny.build_model("llama", "causal")
    adapted.lm_head = type("Adapted", (torch.nn.Linear,), {})(32, 400, bias=False)
    assert widths(adapted, model_inputs(adapted, inputs)) == [400]


def test_a_model_that_makes_its_logits_otherwise_is_asked_for_all_of_them() -> None:
    model = tiny.build_model("opt", "causal")
    head = model.get_output_embeddings()
    inputs = model_inputs(model, collate(ragged(9, 5, 14), pad_id=1))
    wanted = token_logits_at(model, inputs, torch.tensor([8, 4, 13]), TOKENS).detach()
    forward = model.forward

    def otherwise(*arguments: object, **more: object) -> object:
        found = forward(*arguments, **more)
        found.logits = torch.nn.functional.pad(found.logits, (0, 3))
        return found

    model.forward = otherwise
    with torch.no_grad():
        torch.testing.assert_close(token_logits_at(model, inputs, torch.tensor([8, 4, 13]), TOKENS), wanted)
    assert "forward" not in vars(head)


ESM = {"token_dropout": False, "position_embedding_type": "rotary", "mask_token_id": 4, "initializer_range": 0.2}


@pytest.mark.parametrize("tokens", [TOKENS, torch.tensor([[7], [7], [7]])], ids=["several", "one"])
@pytest.mark.parametrize("architecture", ["bart", "esm"])
def test_a_model_with_a_bias_behind_its_head_is_asked_for_all_logits(
    architecture: str, tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.ARCHITECTURES, "esm", tiny.SIZES | ESM)
    model = tiny.build_model(architecture, "masked")
    if architecture == "bart":
        model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(0))
    inputs, positions = model_inputs(model, collate(ragged(9, 5, 14), pad_id=1)), torch.tensor([8, 4, 13])
    with torch.no_grad():
        full = model(**inputs).logits[torch.arange(3), positions].gather(1, tokens)
        torch.testing.assert_close(token_logits_at(model, inputs, positions, tokens), full, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("architecture", "kind"), KINDS)
def test_ordinary_models_are_asked_for_some_logits_only(architecture: str, kind: str) -> None:
    model = tiny.build_model(architecture, kind)
    assert widths(model, model_inputs(model, collate(ragged(9, 5, 14), pad_id=1))) == [6]


def test_a_forward_pass_that_fails_leaves_the_head_as_it_was() -> None:
    model = tiny.build_model("opt", "causal")
    with torch.no_grad(), pytest.raises(IndexError):
        token_logits_at(model, collate(ragged(4), pad_id=1), torch.tensor([99]), torch.tensor([[7]]))
    assert "forward" not in vars(model.get_output_embeddings())


@pytest.mark.parametrize(("architecture", "kind"), KINDS)
def test_relative_scores_differ_by_one_number_an_example(architecture: str, kind: str) -> None:
    model = tiny.build_model(architecture, kind)
    batch = collate(ragged(9, 5, 14, options=((7,), (9,), (300,))), pad_id=1)
    with torch.no_grad():
        scorer = SCORERS.get(kind)
        difference = scorer.scores(model, batch, relative=True) - scorer.scores(model, batch)
    torch.testing.assert_close(difference, difference[:, :1].expand(3, 3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["roberta", "llama"])
def test_gradients_flow_through_the_logits_at_positions(architecture: str) -> None:
    model = tiny.build_model(architecture, "masked" if architecture == "roberta" else "causal").double()
    batch, positions = collate(ragged(9, 5), pad_id=1), torch.tensor([[8], [4]])
    logits_at(model, model_inputs(model, batch), positions).square().sum().backward()
    narrow = {name: param.grad for name, param in model.named_parameters()}
    model.zero_grad()
    full = model(**model_inputs(model, batch)).logits
    full[torch.arange(2)[:, None], positions].square().sum().backward()
    for name, param in model.named_parameters():
        torch.testing.assert_close(narrow[name], param.grad, msg=name)


def test_no_hook_is_left_on_the_model() -> None:
    model = tiny.build_model("roberta", "masked")
    batch, head = collate(ragged(4), pad_id=1), model.get_output_embeddings()
    logits_at(model, model_inputs(model, batch), torch.tensor([[3]]))
    assert not head._forward_pre_hooks
    with pytest.raises(IndexError):
        logits_at(model, model_inputs(model, batch), torch.tensor([[99]]))
    assert not head._forward_pre_hooks


def test_a_model_without_output_embedding_is_refused() -> None:
    model = tiny.build_model("roberta", "head")
    with pytest.raises(ModelError, match="RobertaForSequenceClassification has no output embedding"):
        logits_at(model, model_inputs(model, collate(ragged(4), pad_id=1)), torch.tensor([[3]]))


@pytest.mark.parametrize("architecture", tiny.CAUSAL)
@pytest.mark.parametrize("options", [((7,), (9,), (11,)), ((7,), (9, 10, 11), (12, 13))], ids=["one", "more"])
def test_causal_scores_are_those_of_one_candidate_at_a_time(
    architecture: str, options: tuple[tuple[int, ...], ...]
) -> None:
    subject = tiny.prompted(architecture, "causal", dtype=torch.float64)
    prompts = ragged(9, 30, 1, 14, options=options)
    found = subject.predict(prompts, batch_size=3)
    torch.testing.assert_close(
        found, torch.tensor(scoring_twin.causal_scores(subject.model, prompts), dtype=torch.float64)
    )


lengths = st.lists(st.integers(1, 24), min_size=1, max_size=6)
answers = st.lists(st.lists(st.integers(5, 399), min_size=1, max_size=4), min_size=2, max_size=4)


@settings(max_examples=30)
@given(st.sampled_from(["opt", "llama"]), lengths, answers, st.integers(1, 7), st.integers(0, 99))
def test_causal_scores_do_not_depend_on_batches_or_padding(
    doubles: dict[str, PromptedModel], name: str, lengths: list[int], options: list[list[int]], size: int, seed: int
) -> None:
    subject = doubles[name]
    prompts = ragged(*lengths, options=tuple(map(tuple, options)), seed=seed)
    found = subject.predict(prompts, batch_size=size)
    wanted = scoring_twin.causal_scores(subject.model, prompts)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))


@settings(max_examples=15)
@given(st.sampled_from(["opt", "llama"]), lengths, answers)
def test_causal_answers_are_the_sums_over_their_tokens(
    doubles: dict[str, PromptedModel], name: str, lengths: list[int], options: list[list[int]]
) -> None:
    subject = doubles[name]
    prompts = ragged(*lengths, options=tuple(map(tuple, options)))
    with torch.no_grad():
        log_probs, tokens = subject.answer_log_probs(subject.collate(prompts))
    rights = [prompt.options[int(prompt.label)] for prompt in prompts]
    found = [scoring_twin.answer_log_probs(subject.model, *pair) for pair in zip(prompts, rights, strict=True)]
    torch.testing.assert_close(log_probs, torch.tensor([sum(row) for row in found], dtype=torch.float64))
    assert tokens.tolist() == [len(row) for row in found]


@pytest.mark.parametrize("architecture", tiny.MASKED)
def test_masked_scores_are_those_of_one_prompt_at_a_time(architecture: str) -> None:
    subject = tiny.prompted(architecture, "masked", dtype=torch.float64)
    prompts = tiny.encoded(subject, 7)
    assert len({len(prompt.ids) for prompt in prompts}) > 1
    found = subject.predict(prompts, batch_size=3)
    wanted = scoring_twin.masked_scores(subject.model, prompts)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))


def test_masked_answers_are_log_probabilities_over_the_vocabulary() -> None:
    subject = tiny.prompted("roberta", "masked", dtype=torch.float64)
    prompts = tiny.encoded(subject, 5)
    with torch.no_grad():
        log_probs, tokens = subject.answer_log_probs(subject.collate(prompts))
    wanted = scoring_twin.masked_answers(subject.model, prompts)
    torch.testing.assert_close(log_probs, torch.tensor(wanted, dtype=torch.float64))
    assert tokens.tolist() == [1.0] * 5


@pytest.mark.parametrize("architecture", ["roberta", "bert", "opt", "llama", "gpt2"])
def test_head_scores_are_those_of_one_input_at_a_time(architecture: str) -> None:
    subject = tiny.prompted(architecture, "head", dtype=torch.float64, labels=3)
    prompts = tiny.encoded(subject, 7)
    found = subject.predict(prompts, batch_size=4)
    wanted = scoring_twin.head_scores(subject.model, prompts)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))


def test_a_head_has_no_answer_tokens() -> None:
    subject = tiny.prompted("roberta", "head")
    with pytest.raises(ModelError, match=r"no answer tokens: use method\.objective"):
        subject.answer_log_probs(subject.collate(tiny.encoded(subject, 2)))


def test_a_model_is_given_segment_ids_only_if_it_tells_segments_apart() -> None:
    batch = collate(ragged(6), pad_id=1)
    assert "token_type_ids" in model_inputs(tiny.build_model("bert", "masked"), batch)
    for architecture in ("roberta", "distilbert", "modernbert"):
        assert set(model_inputs(tiny.build_model(architecture, "masked"), batch)) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(("architecture", "kind"), [("roberta", "masked"), ("llama", "causal"), ("roberta", "head")])
def test_scores_of_half_precision_models_are_float32(architecture: str, kind: str) -> None:
    subject = tiny.prompted(architecture, kind, dtype=torch.bfloat16)
    assert subject.predict(tiny.encoded(subject, 2), 2).dtype == torch.float32


CONTRACT = {"masked": "roberta", "causal": "opt", "head": "roberta", "seq2seq": "t5"}


@pytest.mark.parametrize("kind", SCORERS.names())
def test_every_scorer_gives_one_score_per_candidate_in_any_order_of_rows(kind: str) -> None:
    subject = tiny.prompted(CONTRACT[kind], kind, dtype=torch.float64)
    batch: Batch = subject.collate(tiny.encoded(subject, 5))
    order = torch.tensor([3, 1, 4, 0, 2])
    with torch.no_grad():
        scores = subject.scores(batch)
        permuted = subject.scores({name: value[order] for name, value in batch.items()})
    assert scores.shape == (5, 2)
    torch.testing.assert_close(permuted, scores[order])
    assert subject.scorer.has_vocabulary == (kind != "head")


@pytest.mark.parametrize(("architecture", "kind"), [*((name, "causal") for name in tiny.CAUSAL), ("llama", "head")])
def test_no_keys_and_values_are_kept_for_tokens_that_will_never_come(architecture: str, kind: str) -> None:
    subject = tiny.prompted(architecture, kind)
    assert subject.model.config.use_cache
    kept: list[object] = []
    subject.model.register_forward_hook(lambda *called: kept.append(called[-1].get("past_key_values")))
    subject.predict(tiny.encoded(subject, 2), 2)
    if kind == "causal":
        with torch.no_grad():
            subject.answer_log_probs(subject.collate(tiny.encoded(subject, 2)))
    assert kept
    assert all(cache is None for cache in kept)
    assert subject.model.config.use_cache
