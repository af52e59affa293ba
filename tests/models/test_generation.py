"""Written answers equal those of the slow twin, whatever stands beside them in a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

import tiny
from reference import generation_twin as twin
from shoestring.errors import ModelError, NonFiniteScoreError, PromptTooLongError
from shoestring.models import decoding
from shoestring.models.budget import Budget
from shoestring.models.generation import Generator
from shoestring.models.prefix import Prefix
from shoestring.models.prompted import PromptedModel
from shoestring.models.settings import GenerationSettings
from shoestring.models.sharing import BESIDE, CACHED, PADDED
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.tasks.spec import Generation
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.catalog.lora import LoRA

pytestmark = pytest.mark.usefixtures("frozen_imports")
MOST = 12
LIMITS = Generation(max_new_tokens=MOST, stop=None)
# With eager attention, a row of padding in float64 is all minus infinity in the softmax's float32.
COARSE = ("gemma2", "bloom")
LENGTHS = (9, 3, 20, 1, 14, 6, 11, 2)


def asked(*lengths: int, seed: int = 0, vocabulary: int = 400) -> list[EncodedPrompt]:
    """Prompts of random tokens; of a generation task the gold is no part of what is asked."""
    stream = torch.Generator().manual_seed(seed)
    rows = [tuple(torch.randint(5, vocabulary, (length,), generator=stream).tolist()) for length in lengths]
    return [EncodedPrompt(f"test:{n}", ids, (0,) * len(ids), len(ids) - 1, ((7,),), 0, 0) for n, ids in enumerate(rows)]


def writer(architecture: str, limits: Generation = LIMITS, seed: int = 0, **chosen: Any) -> PromptedModel:
    kind = "seq2seq" if architecture in tiny.SEQ2SEQ else "causal"
    dtype = torch.float32 if architecture in COARSE else torch.float64
    subject = tiny.prompted(architecture, kind, dtype=dtype)
    return replace(subject, generator=Generator(tiny.bpe_tokenizer(), limits, GenerationSettings(**chosen), 1, seed))


def generator_of(subject: PromptedModel) -> Generator:
    assert subject.generator is not None
    return subject.generator


def wanted(subject: PromptedModel, prompts: list[EncodedPrompt], choose: Any = twin.likeliest) -> list[str]:
    """Return the twin's answers as text."""
    generator = generator_of(subject)
    stops, most = generator.stops(subject.model), generator.limits.max_new_tokens
    tokens = [twin.answer(subject.model, prompt.ids, stops, most, choose) for prompt in prompts]
    return [generator.text(one, stops) for one in tokens]


def end_early(subject: PromptedModel, prompts: list[EncodedPrompt], count: int = 3) -> list[int]:
    """Make some tokens ends of answers, so that answers end at different places; return the lengths."""
    free = [twin.answer(subject.model, prompt.ids, (), MOST) for prompt in prompts]
    subject.model.generation_config.eos_token_id = [
        2,
        *sorted({row[number % 5 + 1] for number, row in enumerate(free)})[:count],
    ]
    stops = generator_of(subject).stops(subject.model)
    return [len(twin.answer(subject.model, prompt.ids, stops, MOST)) for prompt in prompts]


@pytest.mark.parametrize("architecture", [*tiny.CAUSAL, *tiny.SEQ2SEQ])
def test_greedy_answers_are_those_of_one_prompt_at_a_time(architecture: str) -> None:
    subject, prompts = writer(architecture), asked(*LENGTHS)
    assert len(set(end_early(subject, prompts))) > 1
    texts = wanted(subject, prompts)
    assert len(set(texts)) > 2
    for size in (1, 3, 8):
        assert subject.generate(prompts, size) == texts


@settings(max_examples=12)
@given(
    name=st.sampled_from(["llama", "t5"]),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    size=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_greedy_answers_do_not_depend_on_batches_or_padding(
    name: str, lengths: list[int], size: int, seed: int
) -> None:
    subject, prompts = SHARED[name], asked(*lengths, seed=seed)
    assert subject.generate(prompts, size) == wanted(subject, prompts)


@contextmanager
def rows_of(model: Any) -> Iterator[list[int]]:
    """Collect the number of rows of each forward pass."""
    rows: list[int] = []
    handle = model.register_forward_hook(lambda _, args, kwargs, out: rows.append(len(out.logits)), with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_answers_that_have_ended_are_taken_out_of_the_batch(architecture: str) -> None:
    subject, prompts = writer(architecture), asked(*LENGTHS)
    lengths = end_early(subject, prompts, count=5)
    subject.generate(prompts[:2], 2)  # Finds out whether the model can be padded.
    with rows_of(subject.model) as rows:
        subject.generate(prompts, 8)
    assert rows == sorted(rows, reverse=True)
    assert rows[0] == 8
    assert len(rows) == max(lengths)
    assert sum(rows) <= 2 * sum(lengths)
    assert sum(rows) < 8 * max(lengths)


# BART's decoder counts positions from the left, padding included; RWKV reads padding, and in transformers the state of
# several rows as if it were one.
UNPADDED: dict[str, Any] = {
    "bart": {},
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "intermediate_size": 48},
}


@pytest.mark.parametrize("architecture", UNPADDED)
def test_a_model_that_reads_padding_is_asked_once_and_answers_in_other_batches(
    architecture: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if architecture not in tiny.ARCHITECTURES:
        monkeypatch.setitem(tiny.ARCHITECTURES, architecture, UNPADDED[architecture])
    subject = tiny.prompted(architecture, "causal")
    subject = replace(subject, generator=Generator(tiny.bpe_tokenizer(), LIMITS, GenerationSettings(), 1))
    prompts = asked(*LENGTHS, *LENGTHS[:4])
    texts = wanted(subject, prompts)
    assert len(set(texts)) > 6
    assert [subject.generate([prompt], 8)[0] for prompt in prompts] == texts
    assert subject.sharing.found == {}
    with rows_of(subject.model) as rows:
        assert subject.generate(prompts, 8) == texts
        assert subject.generate(prompts, 8) == texts
    together = architecture == "bart"
    assert subject.sharing.found == {PADDED: False, BESIDE: together}
    assert caplog.text.count("only prompts of equal length are answered together, which costs time alone") == 1
    assert caplog.text.count("prompts are answered one at a time, which costs time alone") == (not together)
    assert rows[:8] == [1, 1, 2, 2] * 2  # Nothing but the questions is asked in other batches.
    assert max(rows[8:]) == 1 + together


def test_a_model_that_hides_padding_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    subject, prompts = writer("llama"), asked(3, 3, 9)
    with rows_of(subject.model) as rows:
        subject.generate(prompts, 3)
        subject.generate(prompts, 3)
    assert subject.sharing.found == {PADDED: True}
    assert rows[:5] == [1, 1, 2, 2, 3]
    assert 2 not in rows[5 : 5 + MOST // 2]
    assert not caplog.text


@pytest.mark.parametrize("architecture", ["llama", "bart"])
def test_where_caches_cannot_shrink_what_was_read_is_read_again(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, prompts = writer(architecture), asked(*LENGTHS)
    end_early(subject, prompts)
    texts = subject.generate(prompts, 8)
    monkeypatch.setattr(decoding, "_can_shrink", lambda model, cache: False)
    assert subject.generate(prompts, 8) == texts


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "qwen3"])
def test_what_all_prompts_begin_with_is_read_once(architecture: str) -> None:
    subject, (beginning,) = writer(architecture), asked(25, seed=9)
    prompts = [
        replace(one, ids=beginning.ids + one.ids, position=24 + len(one.ids)) for one in asked(9, 3, 20, 1, 14, 6)
    ]
    assert len(set(end_early(subject, prompts))) > 1
    model: Any = subject.model
    subject.generate(prompts[:2], 2)  # Finds out whether the model can be padded.
    subject.sharing.found[CACHED] = True
    read: list[tuple[int, ...]] = []
    handle = model.get_input_embeddings().register_forward_hook(lambda _, ids, out: read.append(tuple(ids[0].shape)))
    texts = subject.generate(prompts, 6)
    handle.remove()
    assert read[:2] == [(1, 25), (6, 20)]
    assert texts == wanted(subject, prompts)
    # Too little in common is not looked for, and a prompt that is all beginning keeps a token.
    assert subject.generate([beginning, *prompts], 7) == [*wanted(subject, [beginning]), *texts]
    assert subject.generate(asked(9, 3), 2) == wanted(subject, asked(9, 3))
    with_beams = replace(subject, generator=replace(generator_of(subject), settings=GenerationSettings(beams=2)))
    assert with_beams.generate(prompts, 6) == [with_beams.generate([prompt], 1)[0] for prompt in prompts]


def test_an_adapted_model_writes_with_its_adapters() -> None:
    subject, prompts = writer("llama"), asked(9, 3)
    before = subject.generate(prompts, 2)
    tuned = replace(subject, model=LoRA(r=2, targets=("q_proj", "v_proj")).apply(subject.model, 0).double())
    for number, param in enumerate(tuned.model.parameters()):
        if param.requires_grad:
            torch.nn.init.normal_(param, generator=torch.Generator().manual_seed(number))
    assert tuned.generate(prompts, 2) != before
    assert tuned.generate(prompts, 2) == wanted(tuned, prompts)


@pytest.mark.parametrize("tuning", ["prefix", "prompt-tuning"])
@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_virtual_tokens_are_read_before_prompts_of_any_length(architecture: str, tuning: str) -> None:
    subject, prompts = writer(architecture), asked(*LENGTHS)
    before = subject.generate(prompts, 8)
    tuned = replace(subject, model=TUNINGS.get(tuning)().apply(subject.model, 0).double())
    for number, param in enumerate(tuned.model.parameters()):
        if param.requires_grad:
            torch.nn.init.normal_(param, generator=torch.Generator().manual_seed(number))
    end_early(tuned, prompts)
    assert tuned.generate(prompts, 8) == wanted(tuned, prompts) != before


@pytest.mark.parametrize("chosen", [{}, {"temperature": 0.5, "top_p": 0.7}], ids=str)
def test_tokens_are_drawn_by_their_probabilities(chosen: dict[str, Any]) -> None:
    subject = writer("opt", Generation(max_new_tokens=1, stop=None), **{"sampling": True, **chosen})
    (prompt,) = asked(6)
    draws = 2000
    many = [replace(prompt, uid=f"test:{number}") for number in range(draws)]
    drawn: list[int] = []

    class Watched(Generator):
        def text(self, ids: Any, stops: Any) -> str:
            drawn.append(ids[0])
            return ""

    own = generator_of(subject)
    Watched(own.tokenizer, own.limits, own.settings, 1, 5).generate(subject.model, many, 500, None, Budget(10**6))
    shares = twin.shares(
        twin.next_logits(subject.model, prompt.ids, []), chosen.get("temperature", 1.0), chosen.get("top_p", 0.95)
    ).double()
    counts = Counter(drawn)
    assert len(drawn) == draws
    for token, share in enumerate(shares.tolist()):
        # 5 standard errors: there are hundreds of tokens.
        assert abs(counts[token] - draws * share) <= 5 * (draws * share * (1 - share)) ** 0.5 + 1e-9, token


def test_what_is_drawn_depends_on_seed_and_example_alone(global_random_states: None) -> None:
    subject, prompts = writer("llama", sampling=True, seed=3), asked(*LENGTHS)
    end_early(subject, prompts)
    texts = subject.generate(prompts, 8)
    assert subject.generate(prompts[::-1], 3) == texts[::-1]
    assert [subject.generate([prompt], 1)[0] for prompt in prompts] == texts
    other = replace(subject, generator=replace(generator_of(subject), seed=4))
    assert other.generate(prompts, 8) != texts
    twins = [replace(prompts[0], uid=uid) for uid in ("test:a", "test:b", "test:c")]
    assert len(set(subject.generate(twins, 3))) > 1


def test_a_run_that_draws_can_be_asked_for_the_likeliest() -> None:
    subject, prompts = writer("llama", sampling=True), asked(9, 3, 5)
    assert subject.generate(prompts, 3, greedy=True) == wanted(subject, prompts)
    assert subject.generate(prompts, 3) != wanted(subject, prompts)


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_answers_found_with_beams_do_not_depend_on_batches(architecture: str) -> None:
    subject, prompts = writer(architecture, beams=3), asked(*LENGTHS)
    end_early(subject, prompts)
    texts = [subject.generate([prompt], 1)[0] for prompt in prompts]
    assert subject.generate(prompts, 3) == texts
    assert texts != wanted(subject, prompts)


def test_beams_enough_for_all_answers_find_the_likeliest() -> None:
    """With as many beams as there are tokens, none of two is missed."""
    model = tiny.build_model("llama", "causal", vocab_size=30).double()
    generator = Generator(
        tiny.bpe_tokenizer(), Generation(max_new_tokens=2, stop=None), GenerationSettings(beams=30), 1
    )
    greedy = 0
    for prompt in asked(5, 3, 8, 2, vocabulary=30):
        best = twin.best_of_two(model, prompt.ids, 2)
        assert generator.generate(model, [prompt], 1) == [generator.text(best, (2,))]
        greedy += best == twin.answer(model, prompt.ids, (2,), 2)
    assert greedy < 4


def test_an_answer_ends_with_the_last_token_of_the_stop_and_is_without_it() -> None:
    tokenizer = tiny.bpe_tokenizer()
    ids = tokenizer.encode(" It was great .\nIt", add_special_tokens=False)
    line, dot = (tokenizer.encode(text, add_special_tokens=False)[-1] for text in ("\n", " ."))
    model = tiny.build_model("opt", "causal")
    for stop, stops, text in (
        ("\n", (2, line), "It was great ."),
        (" great .", (2, dot), "It was"),
        (None, (2,), "It was great .\nIt"),
    ):
        generator = Generator(tokenizer, Generation(stop=stop), GenerationSettings(), 1)
        assert generator.stops(model) == tuple(sorted(stops))
        assert generator.text(ids, stops) == text
    assert generator.text([*ids[:2], 2, *ids[2:]], (2,)) == str(tokenizer.decode(ids[:2])).strip()


def test_a_stop_that_the_tokenizer_cannot_write_ends_no_answer() -> None:
    tokenizer = tiny.wordpiece_tokenizer()  # It drops line breaks, as T5's does.
    model = tiny.build_model("llama", "causal", eos_token_id=None)
    generator = Generator(tokenizer, Generation(stop="\n"), GenerationSettings(), 0)
    with pytest.raises(ModelError, match=r"nothing would end an answer: .*generation\.stop='\\n' ends in no token"):
        generator.stops(model)
    tokenizer.eos_token = "[SEP]"
    assert generator.stops(model) == (3,)


def test_the_checkpoints_own_generation_config_has_no_say_and_stays() -> None:
    subject, prompts = writer("llama"), asked(9, 3, 14)
    texts = wanted(subject, prompts)
    own = GenerationConfig(repetition_penalty=5.0, min_new_tokens=9, num_beams=2, do_sample=True, eos_token_id=[2])
    subject.model.generation_config = own
    assert subject.generate(prompts, 3) == texts
    assert subject.model.generation_config is own
    with pytest.raises(IndexError):
        subject.generate([EncodedPrompt("test:0", (999,), (0,), 0, ((7,),), 0, 0)], 1)
    assert subject.model.generation_config is own


def test_answers_end_where_the_model_can_read_no_further() -> None:
    subject, prompts = writer("gpt2"), asked(66 - 4, 9, 66 - 4)
    own = generator_of(subject)
    shorter = replace(subject, generator=replace(own, limits=Generation(max_new_tokens=4, stop=None)))
    texts = subject.generate(prompts, 3)
    assert [texts[0], texts[2]] == wanted(shorter, [prompts[0], prompts[2]])
    assert texts[1:2] == wanted(subject, prompts[1:2])
    with pytest.raises(PromptTooLongError, match=r"example test:0: the prompt has 66 tokens and the model reads 66"):
        subject.generate(asked(66), 1)


def test_when_memory_runs_out_batches_are_halved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    subject, prompts = writer("llama"), asked(9, 3, 14, 9)
    texts, sizes = subject.generate(prompts, 4), []
    original = Generator._ids

    def scarce(self: Generator, model: Any, batch: Any, *rest: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, model, batch, *rest)

    monkeypatch.setattr(Generator, "_ids", scarce)
    assert subject.generate(prompts, 4) == texts
    assert sizes[0] == 4
    assert max(sizes[1:]) <= 2
    assert "memory ran out in a forward pass of 56 tokens: at most 28 at once" in caplog.text
    monkeypatch.setattr(
        Generator, "_ids", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    )
    with pytest.raises(ModelError, match=r"memory does not suffice for an answer to a single prompt \(test:2\)"):
        subject.generate(prompts, 1)
    monkeypatch.setattr(Generator, "_ids", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        subject.generate(prompts, 1)


def test_when_memory_runs_out_on_the_common_beginning_it_is_read_in_parts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    subject, (beginning,) = writer("llama"), asked(25, seed=9)
    prompts = [replace(one, ids=beginning.ids + one.ids) for one in asked(9, 3)]
    texts, sizes = subject.generate(prompts, 2), list[int]()
    subject.sharing.found[CACHED] = True
    original = Prefix.extended

    def scarce(self: Prefix, model: Any, tokens: Any, at_once: int) -> Prefix:
        sizes.append(at_once)
        if at_once > least:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, model, tokens, at_once)

    least = 6
    monkeypatch.setattr(Prefix, "extended", scarce)
    assert subject.generate(prompts, 2) == texts
    assert sizes == [25, 12, 6]
    least = 0
    with pytest.raises(ModelError, match="memory does not suffice"):
        subject.generate(prompts, 2)


@pytest.mark.parametrize("beams", [1, 2])
def test_scores_that_are_no_numbers_are_refused(beams: int) -> None:
    subject, prompts = writer("llama", beams=beams), asked(9, 3)
    model: Any = subject.model
    with torch.no_grad():
        model.model.embed_tokens.weight[prompts[1].ids[0]] = torch.nan
    with pytest.raises(NonFiniteScoreError, match=r"the scores of 1 examples are not finite \(test:1\)"):
        subject.generate(prompts, 2)


def test_a_model_without_generator_writes_nothing() -> None:
    subject = tiny.prompted("llama", "causal")
    with pytest.raises(ModelError, match="task tiny: this model was given no generator"):
        subject.generate(asked(3), 1)


def test_modes_and_counts_are_kept() -> None:
    subject = writer("opt")
    subject.model.train()
    subject.generate(asked(3, 4, 5), 2)
    assert subject.model.training
    assert (subject.passes.forward, subject.passes.forward_examples) == (2, 3)


SHARED = {name: writer(name) for name in ("llama", "t5")}
