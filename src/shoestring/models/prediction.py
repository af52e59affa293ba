"""Scores of many prompts: every input once, whatever inputs share once, in passes that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from shoestring.errors import ModelError
from shoestring.models.batch import collate
from shoestring.models.budget import out_of_memory
from shoestring.models.combining import combined, inputs_of
from shoestring.models.packing import pack, stack
from shoestring.models.planning import Drop, Keep, Limits, Pack, Plain, Step, inner_tokens, plan, row_of, size_of
from shoestring.models.prefix import Prefix
from shoestring.models.sharing import CACHED, ROWS, longest_of
from shoestring.models.trees import log_probs

if TYPE_CHECKING:
    from shoestring.models.prompted import PromptedModel
    from shoestring.progress import Bar
    from shoestring.prompts.encoding import EncodedPrompt

OnScores = Callable[[int, Tensor], None]
"""Told the number of a prompt and its scores [C], as soon as all that they are made of is there."""
_BLOCK = 256


class Collecting:
    """What prompts are still waiting for: inputs that several of them have in common are scored once.

    Attributes:
        inputs: all inputs, no two the same.
        phases: their numbers, in the order they are to be scored in, so that prompts are finished on the way: inputs
            that calibrate come first, those of prompts that are asked in several ways block by block.
    """

    def __init__(
        self, subject: PromptedModel, prompts: Sequence[EncodedPrompt], bar: Bar | None, on_scores: OnScores | None
    ) -> None:
        self._subject, self._prompts, self._bar, self._on_scores = subject, prompts, bar, on_scores
        self.inputs: list[EncodedPrompt] = []
        self._uses: list[list[tuple[int, int]]] = []
        self._rows: list[list[Tensor | None]] = []
        self._scores: list[Tensor] = [torch.empty(0)] * len(prompts)
        known: dict[object, int] = {}
        first: dict[int, int] = {}
        block = _BLOCK if any(prompt.variants for prompt in prompts) else len(prompts)
        for number, prompt in enumerate(prompts):
            items = inputs_of(prompt)
            calibrating = {id(item) for way in (prompt, *prompt.variants) for item in way.calibrations}
            self._rows.append([None] * len(items))
            for place, item in enumerate(items):
                key = (item.ids, item.segment_ids, item.position, item.options, item.scored)
                index = known.setdefault(key, len(self.inputs))
                if index == len(self.inputs):
                    self.inputs.append(item)
                    self._uses.append([])
                self._uses[index].append((number, place))
                phase = 0 if id(item) in calibrating else 1 + number // block
                first[index] = min(phase, first.get(index, phase))
        phases: dict[int, list[int]] = {}
        for index, phase in first.items():
            phases.setdefault(phase, []).append(index)
        self.phases = [phases[phase] for phase in sorted(phases)]

    def take(self, index: int, row: Tensor) -> None:
        """Take in the scores of an input, [C] or longer, and finish the prompts that waited for them alone."""
        own = row[: len(self.inputs[index].options) or None]
        for number, place in self._uses[index]:
            rows = self._rows[number]
            rows[place] = own
            there = [one for one in rows if one is not None]
            if len(there) == len(rows):
                poles = self._subject.task.range is not None and len(own) > 1
                scores = combined(self._prompts[number], there, self._subject.settings.calibration, poles=poles)
                self._scores[number] = scores
                if self._on_scores is not None:
                    self._on_scores(number, scores)
            if self._bar is not None:
                self._bar.advance()

    def scores(self) -> Tensor:
        """Return the scores of all prompts [N, C], -inf for candidates that are not there."""
        if not self._scores:
            return torch.empty(0, 0)
        return pad_sequence(self._scores, batch_first=True, padding_value=-torch.inf)


def scored(subject: PromptedModel, inputs: Sequence[EncodedPrompt], size: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of each input, in any order, with its scores on the CPU; at most `size` inputs a pass.

    When memory runs out, what is left is planned anew with passes of half the tokens.

    Raises:
        ModelError: if memory does not even suffice for one input.
    """
    left = list(range(len(inputs)))
    device = subject.model.device
    blocked: set[str] = set()
    while left:
        run = _Run(subject, [inputs[index] for index in left], size, blocked)
        done: set[int] = set()
        too_many = 0
        try:
            for index, row in run.rows():
                done.add(index)
                yield left[index], row
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if run.least:
                raise ModelError(_too_large(run)) from error
            too_many = run.tokens
        del run
        # Behind the handler: while that is active the error's traceback holds the tensors of the pass.
        if too_many:
            subject.budget.halve(too_many, device)
        left = [number for index, number in enumerate(left) if index not in done]


@dataclass
class _Run:
    """Passes over inputs as they are planned; it ends early where a way of sharing turns out not to be exact.

    Attributes:
        blocked: ways of sharing that are not to be used.
        tokens: tokens of the pass that is being made.
        least: whether it cannot be made smaller.
        about: the inputs in it.
    """

    subject: PromptedModel
    inputs: Sequence[EncodedPrompt]
    size: int
    blocked: set[str]
    tokens: int = 0
    least: bool = False
    about: tuple[int, ...] = ()
    _kept: list[tuple[Keep, Prefix | None]] = field(default_factory=list)

    def rows(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of each input with its scores."""
        limits = self._limits()
        # Beyond a window nothing is shared.
        longest = self.subject.sharing.longest
        alone = {
            number for number, one in enumerate(self.inputs) if longest is not None and longest_of([one]) > longest
        }
        known: dict[object, int] = {}
        sizes = []
        for number, prompt in enumerate(self.inputs):
            inner = None
            if limits.shares and number not in alone:
                inner = known[prompt.options] if prompt.options in known else inner_tokens(prompt.options)
                known[prompt.options] = inner
            sizes.append(size_of(prompt, inner))
        for step in plan(self.inputs, limits, sizes, alone):
            if isinstance(step, Keep):
                self._kept.append((step, None))
            elif isinstance(step, Drop):
                self._kept.pop()
            else:
                found = self._made(step)
                if found is None:
                    return
                yield from found

    def _limits(self) -> Limits:
        subject, model = self.subject, self.subject.model
        shares = subject.may_share(ROWS) and ROWS not in self.blocked
        if shares:
            subject.sharing.fits(model, longest_of(self.inputs))  # Or else it says so.
        keeps = shares and subject.may_share(CACHED) and CACHED not in self.blocked
        tokens = subject.budget.on(model.device)
        width = int(getattr(model.config.get_text_config(), "hidden_size", 0) or 0)
        return Limits(self.size, tokens, min(tokens, row_of(width)), shares, keeps)

    def _made(self, step: Step) -> Sequence[tuple[int, Tensor]] | None:
        """Return what a pass gives; None where it turns out that it should not be made so."""
        if isinstance(step, Plain):
            return self._plain(step)
        if not isinstance(step, Pack):
            return ()
        way = CACHED if step.behind else ROWS
        sharing = self.subject.sharing
        if sharing.settled(way):
            return self._packed(step)
        numbers = [step.rows[0][0], step.rows[-1][-1]]
        wanted = torch.cat([self._sums_alone(self.inputs[number]) for number in numbers])
        found: dict[int, Tensor] = {}

        def shared() -> Tensor:
            found.update(self._sums(step))
            return torch.cat([found[number] for number in numbers])

        if sharing.compare(self.subject.model, way, shared, wanted):
            return [(number, self._finished(number, sums)) for number, sums in found.items()]
        self.blocked.add(way)
        return None

    def _plain(self, step: Plain) -> Sequence[tuple[int, Tensor]]:
        self._trying(step.tokens, step.inputs)
        batch = self.subject.collate([self.inputs[number] for number in step.inputs])
        device = self.subject.model.device
        scores = self.subject.scores({name: value.to(device) for name, value in batch.items()}).cpu()
        return list(zip(step.inputs, scores, strict=True))

    def _packed(self, step: Pack) -> Sequence[tuple[int, Tensor]]:
        return [(number, self._finished(number, sums)) for number, sums in self._sums(step).items()]

    def _sums(self, step: Pack) -> dict[int, Tensor]:
        """Return the sums of log-probabilities [C] of the inputs of a packed pass."""
        subject, device = self.subject, self.subject.model.device
        prefix = self._prefix() if step.behind else None
        numbers = tuple(number for row in step.rows for number in row)
        self._trying(step.tokens, numbers)
        rows = [pack([self.inputs[number] for number in row], step.behind) for row in step.rows]
        trees = {name: value.to(device) for name, value in stack(rows, subject.pad_id).items()}
        sources = pad_sequence([torch.tensor(row.sources) for row in rows], batch_first=True).to(device)
        targets = pad_sequence([torch.tensor(row.targets) for row in rows], batch_first=True).to(device)
        cache = None if prefix is None else prefix.cache()
        found = log_probs(subject.model, trees, sources, targets, cache).cpu()
        subject.passes.forward += 1
        subject.passes.forward_examples += len(numbers)
        sums: dict[int, Tensor] = {}
        for row, values in zip(step.rows, found, strict=True):
            lengths = [length for number in row for length in self.inputs[number].scored_lengths]
            parts = [part.sum() for part in values[: sum(lengths)].split(lengths)]
            for number in row:
                count = len(self.inputs[number].options)
                sums[number], parts = torch.stack(parts[:count]), parts[count:]
        return sums

    def _prefix(self) -> Prefix:
        """Return what is kept, made where it is not there yet."""
        last = Prefix()
        subject = self.subject
        for place, (keep, prefix) in enumerate(self._kept):
            if prefix is None:
                at_once = min(subject.budget.on(subject.model.device), keep.end - keep.begin)
                self._trying(at_once, (keep.input,), least=at_once == 1)
                tokens = self.inputs[keep.input].ids[keep.begin : keep.end]
                prefix = last.extended(subject.model, tokens, at_once)
                subject.passes.forward += -(-len(tokens) // at_once)
                self._kept[place] = (keep, prefix)
            last = prefix
        return last

    def _sums_alone(self, prompt: EncodedPrompt) -> Tensor:
        """Return the sums of an input [C] without sharing anything."""
        subject, device = self.subject, self.subject.model.device
        self._trying(size_of(prompt, None), (), least=True)
        alone = [prompt]
        if max(map(len, prompt.options)) > 1:
            pairs = zip(prompt.options, prompt.scored_lengths, strict=True)
            alone = [replace(prompt, options=(option,), scored=(count,)) for option, count in pairs]
        batches = [{name: value.to(device) for name, value in collate([one], subject.pad_id).items()} for one in alone]
        return torch.cat([subject.scorer.scores(subject.model, batch)[0] for batch in batches]).cpu()

    def _finished(self, number: int, sums: Tensor) -> Tensor:
        lengths = self.inputs[number].scored_lengths
        return sums if self.subject.settings.sums else sums / torch.tensor(lengths)

    def _trying(self, tokens: int, about: tuple[int, ...], *, least: bool | None = None) -> None:
        self.tokens, self.about = tokens, about
        self.least = len(about) <= 1 if least is None else least


def _too_large(run: _Run) -> str:
    uid = f" ({run.inputs[run.about[0]].uid})" if run.about else ""
    return (
        f"memory does not suffice for a single input of {run.tokens} tokens{uid}; a smaller prompt.max_tokens, fewer "
        "demonstrations or model.dtype=bfloat16 helps"
    )
