"""Written answers: greedy, drawn, or searched for with beams, in batches that shrink as answers end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from shoestring.errors import ModelError, NonFiniteScoreError, PromptTooLongError
from shoestring.models.batch import batches
from shoestring.models.budget import Budget, out_of_memory
from shoestring.models.loading import longest_input
from shoestring.models.prefix import Prefix
from shoestring.models.quiet import quiet
from shoestring.models.scorers.seq2seq import decoder_start
from shoestring.models.settings import GenerationSettings
from shoestring.tasks.spec import Generation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from shoestring.progress import Bar
    from shoestring.prompts.encoding import EncodedPrompt


_WORTH = 16
"""Tokens that prompts must have in common, for these to be read once."""
OnText = Callable[[int, str], None]
"""Told the number of a prompt and its answer, as soon as it is written."""


@dataclass(frozen=True)
class Generator:
    """Writes answers with transformers' `generate`, whatever the model's own generation config says.

    An answer ends with the model's or the tokenizer's end-of-text token, with the last token of the encoding of the
    task's `stop`, after `max_new_tokens`, or where the model can read no further. A `stop` that the tokenizer cannot
    write (T5's has no line break) ends no answer.

    Attributes:
        tokenizer: the model's tokenizer.
        limits: length and end of answers.
        settings: how tokens are chosen.
        pad_id: the token to pad with.
        seed: drawn tokens come from the streams (seed, "generation", uid of the example, place of the token).
        pads: whether prompts of different lengths are put together; not for causal models that read the padding in
            front of the shorter ones (`Sharing` finds that out).

    Source: princeton-nlp/MeZO large_models/run.py (stop tokens, decoding).

    Differs: MeZO limits a prompt with its answer to 2,048 tokens, here the model's own limit holds. Of a `stop` of
        several tokens MeZO leaves all but the last in the answer; here all of it is taken off.
    """

    tokenizer: PreTrainedTokenizerBase
    limits: Generation
    settings: GenerationSettings
    pad_id: int
    seed: int = 0
    pads: bool = True

    @property
    def greedy(self) -> Generator:
        """The same, but for taking the likeliest token."""
        return replace(self, settings=GenerationSettings())

    def generate(
        self,
        model: PreTrainedModel,
        prompts: Sequence[EncodedPrompt],
        batch_size: int,
        bar: Bar | None = None,
        budget: Budget | None = None,
        on_text: OnText | None = None,
        *,
        share: bool = False,
    ) -> list[str]:
        """Return the answers to prompts, in their order, without space at their ends; the model is in eval mode.

        Prompts of similar length are put into batches. Whenever half of a batch have ended, they
        are taken out of it. An answer does not depend on its batch, beyond rounding.

        Args:
            model: a causal or a sequence-to-sequence model.
            prompts: encoded prompts; their options are not looked at.
            batch_size: most prompts of a batch.
            bar: advanced by one for each prompt.
            budget: most tokens that a batch of prompts may have; halved when memory runs out.
            on_text: called with the number of a prompt and its answer as soon as that is there, in any order.
            share: whether what all prompts begin with is read once; for models that are known to compute that exactly.

        Raises:
            ModelError: if nothing could end an answer, or memory does not suffice for a single prompt.
            PromptTooLongError: if a prompt leaves no room for a single token.
            NonFiniteScoreError: if the model's scores are no numbers; names the examples.
        """
        rooms = [self._room(model, prompt) for prompt in prompts]
        kinds = [(room, 0 if self.pads else len(prompt.ids)) for room, prompt in zip(rooms, prompts, strict=True)]
        stops, budget = self.stops(model), budget or Budget()
        begin = self._common(prompts) if share else ()
        prefix: Prefix | None = None
        texts: dict[int, str] = {}
        while len(texts) < len(prompts):
            left = [index for index in range(len(prompts)) if index not in texts]
            tried, size = list[int](), min(len(begin), budget.on(model.device))
            try:
                prefix = prefix or _read(model, begin, size)
                for tried in _batches(prompts, kinds, left, batch_size, budget.on(model.device)):
                    size = len(tried) * max(len(prompts[index].ids) for index in tried)
                    found = self._ids(model, [prompts[index] for index in tried], rooms[tried[0]], stops, prefix)
                    for index, ids in zip(tried, found, strict=True):
                        texts[index] = self.text(ids, stops)
                        if on_text is not None:
                            on_text(index, texts[index])
                    if bar is not None:
                        bar.advance(len(tried))
                continue
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(tried) == 1 or size == 1:
                    raise ModelError(_too_large(prompts[tried[0] if tried else 0])) from error
            # Behind the handler: while that is active the error's traceback holds the tensors of the pass.
            budget.halve(size, model.device)
        return [texts[index] for index in range(len(prompts))]

    def stops(self, model: PreTrainedModel) -> tuple[int, ...]:
        """Return the tokens that end an answer.

        Raises:
            ModelError: if there are none.
        """
        config = model.generation_config
        own = config.eos_token_id if config is not None else None
        found = [*(own if isinstance(own, list) else [own]), self.tokenizer.eos_token_id, self._stop()]
        stops = sorted({int(str(token)) for token in found if token is not None})
        if not stops:
            raise ModelError(
                "nothing would end an answer: neither model nor tokenizer have an end-of-text token, and "
                f"generation.stop={self.limits.stop!r} ends in no token of the tokenizer; give another generation.stop"
            )
        return tuple(stops)

    def text(self, ids: Sequence[int], stops: Sequence[int]) -> str:
        """Return the answer that new tokens make: up to the first stop, without it and without special tokens."""
        end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
        text = str(self.tokenizer.decode(list(ids[: end + 1]), skip_special_tokens=True))
        return text.removesuffix(self.limits.stop or "").strip() if end < len(ids) else text.strip()

    def _stop(self) -> int | None:
        """Return the last token of the encoding of `stop`, if that is how the tokenizer writes its end."""
        if not self.limits.stop:
            return None
        ids = self.tokenizer.encode(self.limits.stop, add_special_tokens=False, verbose=False)
        if not ids or ids[-1] == self.tokenizer.unk_token_id:
            return None
        written = str(self.tokenizer.decode([ids[-1]]))
        return ids[-1] if written and self.limits.stop.endswith(written) else None

    def _room(self, model: PreTrainedModel, prompt: EncodedPrompt) -> int:
        """Return how many tokens an answer may have."""
        longest = longest_input(model.config)
        if longest is None:
            return self.limits.max_new_tokens
        used = len(decoder_start(model)) if model.config.is_encoder_decoder else len(prompt.ids)
        if used >= longest:
            raise PromptTooLongError(
                f"example {prompt.uid}: the prompt has {used} tokens and the model reads {longest}, which leaves no "
                "room for an answer; lower prompt.max_tokens"
            )
        return min(self.limits.max_new_tokens, longest - used)

    def _common(self, prompts: Sequence[EncodedPrompt]) -> tuple[int, ...]:
        """Return the tokens that all prompts begin with, if they are worth it; each prompt keeps one of its own."""
        if self.settings.beams > 1 or len(prompts) < 2:
            return ()
        first, last = min(prompt.ids for prompt in prompts), max(prompt.ids for prompt in prompts)
        shortest = min(len(prompt.ids) for prompt in prompts)
        length = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), shortest)
        length = min(length, shortest - 1)
        return first[:length] if length >= _WORTH else ()

    def _ids(
        self,
        model: PreTrainedModel,
        prompts: Sequence[EncodedPrompt],
        room: int,
        stops: tuple[int, ...],
        prefix: Prefix,
    ) -> list[list[int]]:
        """Return the new tokens of one batch of prompts, up to their stops or beyond."""
        from transformers import GenerationConfig

        from shoestring.models.decoding import Answers, Doubt, HalfDone, without_own_config

        found: list[list[int]] = [[] for _ in prompts]
        ends = torch.tensor(stops, device=model.device)
        shrinks = self.settings.beams == 1
        write: Any = model.generate
        with torch.no_grad(), quiet(), without_own_config(model):
            answers = Answers.begin(model, prompts, self.pad_id, prefix)
            while len(answers.rows):
                config = GenerationConfig(
                    max_new_tokens=room - answers.written,
                    num_beams=self.settings.beams,
                    pad_token_id=self.pad_id,
                    eos_token_id=list(stops),
                    return_dict_in_generate=True,
                )
                doubt = Doubt()
                uids = [prompts[row].uid for row in answers.rows.tolist()]
                out = write(
                    **answers.inputs(),
                    generation_config=config,
                    stopping_criteria=[HalfDone(answers.start, ends)] if shrinks else [],
                    logits_processor=[doubt, *self._sampling(uids, answers.start)],
                )
                if doubt.rows is not None and bool(doubt.rows.any()):
                    places = doubt.rows.view(len(uids), -1).any(1).nonzero()[:, 0]
                    raise NonFiniteScoreError([uids[place] for place in places.tolist()])
                new = out.sequences[:, answers.start :]
                going = ~torch.isin(new, ends).any(1) & (new.shape[1] < room) & shrinks
                for row, ids in zip(answers.rows[~going].tolist(), new[~going].tolist(), strict=True):
                    found[row] = ids
                answers = answers.behind(model, out, going)
        return found

    def _sampling(self, uids: Sequence[str], start: int) -> list[Any]:
        """Return what changes the scores of the next token so that the highest is that of a drawn one."""
        if not self.settings.sampling:
            return []
        from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

        from shoestring.models.decoding import Draws

        warm, likely = TemperatureLogitsWarper(self.settings.temperature), TopPLogitsWarper(self.settings.top_p)
        return [warm, likely, Draws(self.seed, uids, start)]


def _read(model: PreTrainedModel, tokens: Sequence[int], at_once: int) -> Prefix:
    with torch.no_grad():
        return Prefix().extended(model, tokens, at_once) if tokens else Prefix()


def _batches(
    prompts: Sequence[EncodedPrompt], kinds: Sequence[tuple[int, int]], left: Sequence[int], size: int, tokens: int
) -> Iterator[list[int]]:
    """Yield the numbers of prompts that are answered together: of one kind, and of similar length."""
    for kind in sorted({kinds[index] for index in left}, reverse=True):
        own = [index for index in left if kinds[index] == kind]
        for places in batches([prompts[index] for index in own], size, tokens):
            yield [own[place] for place in places]


def _too_large(prompt: EncodedPrompt) -> str:
    return (
        f"memory does not suffice for an answer to a single prompt ({prompt.uid}); a smaller prompt.max_tokens, fewer "
        "demonstrations or model.dtype=bfloat16 helps"
    )
