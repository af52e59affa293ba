"""The benchmark of scoring: candidates behind shared prompts against one candidate at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.bench.scoring_settings import Case, ScoringReport, ScoringRow, ScoringSettings, scoring_goals
from shoestring.bench.shapes import Shape, shape_named
from shoestring.bench.timing import lap, threads, timed
from shoestring.errors import ModelError
from shoestring.models.prompted import PromptedModel
from shoestring.models.scoring import SCORERS
from shoestring.progress import Progress, Silent
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.runs.environment import environment
from shoestring.runs.record import now
from shoestring.seeds import torch_stream
from shoestring.tasks.spec import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.prompts.encoding import Encoder

_SPECIAL = 5  # ids below are special tokens
_TASK = {
    "name": "bench",
    "sentences": ["text"],
    "labels": [{"name": "0", "word": "no"}, {"name": "1", "word": "yes"}],
    "templates": {"only": {"causal": "*sent_0*"}},
}
Made = tuple[float, Tensor]
"""Examples that were scored, and their scores or loss."""


@dataclass
class Contest:
    """One case, made in two ways.

    Attributes:
        reference: as the published code does; of how many examples, and what came out.
        ours: the same of at least these examples, the first of them the same.
    """

    case: Case
    candidates: int
    tokens: int
    reference: Callable[[], Made]
    ours: Callable[[], Made]
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"reference": [], "ours": []})
    difference: float = 0.0

    def round(self, device: torch.device, *, counts: bool) -> None:
        """Make both, one after the other."""
        made: dict[str, Made] = {}

        def make(name: str) -> None:
            made[name] = getattr(self, name)()

        for name, found in self.seconds.items():
            seconds = lap(lambda name=name: make(name), device)
            if counts:
                found.append(seconds / made[name][0])
        wanted = made["reference"][1].double().cpu()
        found = made["ours"][1].double().cpu()[: len(wanted)]
        self.difference = float(((found - wanted).abs() / (1 + wanted.abs())).max())

    def row(self, settings: ScoringSettings) -> ScoringRow:
        """Return the figures."""
        reference, ours = (timed(found) for found in self.seconds.values())
        row = ScoringRow(
            case=self.case,
            candidates=self.candidates,
            tokens=self.tokens,
            reference=reference,
            ours=ours,
            speedup=reference.median / ours.median,
            difference=self.difference,
        )
        return row.model_copy(update={"goals": scoring_goals(row, settings)})


def bench_scoring(settings: ScoringSettings, command: str = "", progress: Progress | None = None) -> ScoringReport:
    """Measure evaluation and training batches, both ways in turn, round after round.

    Raises:
        UnknownNameError: if there is no such shape.
        ModelError: if it is not causal, cannot read prompts of this length, or there is no such device.
    """
    shape, device = shape_named(settings.model), torch.device(settings.device)
    check(shape, settings)
    begun, clock = now(), time.perf_counter()
    with threads(settings.threads):
        model = shape.build(getattr(torch, settings.dtype), device)
        contests = list(_contests(model, settings))
        bar = (progress or Silent()).bar(f"{settings.model} {settings.dtype}", (1 + settings.rounds) * len(contests))
        with bar as told:
            for number in range(1 + settings.rounds):
                for contest in contests:
                    contest.round(device, counts=number > 0)
                    told.advance()
        machine = environment(device)
    rows = tuple(contest.row(settings) for contest in contests)
    seconds = time.perf_counter() - clock
    return ScoringReport(
        command=command, started=begun, seconds=seconds, settings=settings, environment=machine, rows=rows
    )


def check(shape: Shape, settings: ScoringSettings) -> None:
    """Check that a model can read what it is to be asked.

    Raises:
        ModelError: if it is not causal, cannot read prompts of this length, or there is no such device.
    """
    if shape.kind != "causal":
        raise ModelError(f"model={shape.name}: candidates follow the prompt of a causal model, and this one is masked")
    asked, trained = settings.prompting, settings.training
    demonstrated = asked.shots * asked.shot_tokens + asked.tokens + asked.tokens // 2 + asked.candidate_tokens
    longest = max(demonstrated, trained.tokens + trained.candidate_tokens)
    if longest > shape.longest:
        raise ModelError(
            f"prompts with their candidates have up to {longest} tokens and {shape.name} reads {shape.longest}: "
            "lower shots, shot_tokens or tokens"
        )
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device='cuda': this machine has no CUDA device; use cpu")


def _contests(model: PreTrainedModel, settings: ScoringSettings) -> Iterator[Contest]:
    asked = settings.prompting
    draw = _Draw(int(model.config.vocab_size))
    options = draw.options(asked.candidates, asked.candidate_tokens)
    demos, spread = asked.shots * asked.shot_tokens, range(asked.tokens // 2, asked.tokens + asked.tokens // 2 + 1)
    lengths = [spread[number % len(spread)] for number in range(asked.examples)]
    texts = [draw.tokens(length) for length in lengths]
    common = draw.tokens(demos)
    sets: dict[Case, list[EncodedPrompt]] = {
        "zero-shot": [_prompt(text, options) for text in texts],
        "common demonstrations": [_prompt(common + text, options) for text in texts],
        "own demonstrations": [_prompt(draw.tokens(demos) + text, options) for text in texts[: asked.own]],
    }
    for case, prompts in sets.items():
        # One example that takes seconds is enough; of those that take less, one of each length.
        few = prompts[: len(spread) if case == "zero-shot" else 1]
        longest = max(len(prompt.ids) for prompt in prompts)
        yield Contest(case, asked.candidates, longest, _OneByOne(model, few), _Ours(model, prompts))
    training = settings.training
    cases: tuple[Case, ...] = ("forward", "backward")
    for case in cases:
        for count in training.candidates:
            options = draw.options(count, training.candidate_tokens)
            prompts = [_prompt(draw.tokens(training.tokens), options) for _ in range(training.batch_size)]
            backward = case == "backward"
            reference, ours = _RepeatedBatch(model, prompts, backward), _OurBatch(model, prompts, backward)
            yield Contest(case, count, training.tokens, reference, ours)


class _Draw:
    """Random tokens, always the same ones."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary, self._stream = vocabulary, torch_stream(0, "bench scoring")

    def tokens(self, count: int) -> tuple[int, ...]:
        return tuple(torch.randint(_SPECIAL, self._vocabulary, (count,), generator=self._stream).tolist())

    def options(self, count: int, length: int) -> tuple[tuple[int, ...], ...]:
        return tuple(self.tokens(length) for _ in range(count))


def _prompt(ids: tuple[int, ...], options: tuple[tuple[int, ...], ...]) -> EncodedPrompt:
    return EncodedPrompt("bench", ids, (0,) * len(ids), len(ids) - 1, options, 0, 0)


def _subject(model: PreTrainedModel) -> PromptedModel:
    # Prompts are made here, of tokens, so nothing is ever encoded.
    return PromptedModel(model, Task.model_validate(_TASK), cast("Encoder", None), SCORERS.get("causal"), 1)


class _OneByOne:
    """One candidate at a time, batches of one row, logits and log-probabilities at every position.

    Source: princeton-nlp/MeZO large_models/run.py, `forward` and `one_step_pred`.
    """

    def __init__(self, model: PreTrainedModel, prompts: list[EncodedPrompt]) -> None:
        self._model, self._prompts = model, prompts

    @torch.no_grad()
    def __call__(self) -> Made:
        scores = [[self._score(prompt, option) for option in prompt.options] for prompt in self._prompts]
        return len(self._prompts), torch.tensor(scores)

    def _score(self, prompt: EncodedPrompt, option: tuple[int, ...]) -> float:
        ids = torch.tensor([[*prompt.ids, *option]], device=self._model.device)
        logits = self._model(input_ids=ids).logits[0, :-1]
        found = logits.float().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        return float(found[-len(option) :].mean())


class _Ours:
    """Our prediction."""

    def __init__(self, model: PreTrainedModel, prompts: list[EncodedPrompt]) -> None:
        self._subject, self._prompts = _subject(model), prompts

    def __call__(self) -> Made:
        return len(self._prompts), self._subject.predict(self._prompts, 64)


class _RepeatedBatch:
    """A training batch of one row a candidate, with logits and log-probabilities at every position.

    Source: princeton-nlp/MeZO large_models/utils.py, `forward_wrap_with_option_len`.
    """

    def __init__(self, model: PreTrainedModel, prompts: list[EncodedPrompt], backward: bool) -> None:
        rows = [(*prompt.ids, *option) for prompt in prompts for option in prompt.options]
        self._model, self._backward = model, backward
        self._ids = torch.tensor(rows, device=model.device)
        self._shape = (len(prompts), len(prompts[0].options), len(prompts[0].options[0]))

    def __call__(self) -> Made:
        return self._shape[0], _descended(self._model, self._loss, self._backward)

    def _loss(self) -> Tensor:
        count, candidates, length = self._shape
        logits = self._model(input_ids=self._ids, attention_mask=torch.ones_like(self._ids)).logits[:, :-1]
        log_probs = logits.float().log_softmax(-1).gather(2, self._ids[:, 1:, None])[..., 0]
        scores = log_probs[:, -length:].mean(-1).view(count, candidates)
        return functional.cross_entropy(scores, torch.zeros(count, dtype=torch.long, device=scores.device))


class _OurBatch:
    """Our training batch."""

    def __init__(self, model: PreTrainedModel, prompts: list[EncodedPrompt], backward: bool) -> None:
        self._subject, self._prompts, self._backward = _subject(model), prompts, backward

    def __call__(self) -> Made:
        return len(self._prompts), _descended(self._subject.model, self._loss, self._backward)

    def _loss(self) -> Tensor:
        batch: dict[str, Any] = self._subject.collate(self._prompts)
        batch = {name: value.to(self._subject.model.device) for name, value in batch.items()}
        return functional.cross_entropy(self._subject.scores(batch), batch["labels"])


def _descended(model: PreTrainedModel, loss: Callable[[], Tensor], backward: bool) -> Tensor:
    """Return a loss, after its gradients are made and dropped where that is asked for."""
    with torch.set_grad_enabled(backward):
        found = loss()
        if backward:
            found.backward()
            model.zero_grad(set_to_none=True)
    return found.detach()[None]
