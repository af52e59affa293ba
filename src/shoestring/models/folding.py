"""Folded batches: several prompts in one row, each seeing itself alone, so that little of a batch is padding.

Prompts have different lengths, and a batch is as long as its longest: of training batches of usual tasks 40 to 50 % are
padding, which costs as much as words do. A folded batch has fewer rows, in which prompts stand one behind the other
with positions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shoestring.models.batch import Batch, padded
from shoestring.models.loading import longest_input
from shoestring.models.packing import ENDS, IDS, POSITIONS, READS, SOURCES, Row, in_line, pack, stack

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from shoestring.prompts.encoding import EncodedPrompt

OWNERS, PLACES, THERE, COUNTS = "fold_owners", "fold_places", "fold_there", "fold_counts"
_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
_TREES = (IDS, POSITIONS, ENDS, READS)
# Rows may be so much longer than the longest prompt; and a batch is folded if this share of its cost remains, at most.
_LONGER, _WORTH = (1.0, 1.125, 1.25, 1.5), 0.85


@dataclass(frozen=True)
class Cost:
    """What rows take, in tokens of short ones: T + T^2 / (6 d) for T tokens.

    Attention makes 4 T^2 d operations in a layer, all else 24 T d^2.

    Attributes:
        width: d, the hidden size; None leaves attention out.
        causal: padded rows need no mask, and kernels for that leave out the half that nobody sees.
    """

    width: int | None = None
    causal: bool = False

    def padded(self, rows: int, length: int) -> float:
        """Return what prompts take, a row for each."""
        return rows * (length + self._attention(length) / (2 if self.causal else 1))

    def folded(self, rows: int, length: int) -> float:
        """Return what rows of several prompts take."""
        return rows * (length + self._attention(length))

    def _attention(self, length: int) -> float:
        return 0.0 if self.width is None else length**2 / (6 * self.width)


def fold(
    batch: Batch, pad_id: int, most: int | None = None, trees: Sequence[Row] = (), cost: Cost | None = None
) -> Batch | None:
    """Return a batch of N prompts in R rows of up to K of them; None if that would save little.

    Args:
        batch: what `collate` returned.
        pad_id: the token to pad with.
        most: tokens that a row may have (`longest_row`).
        trees: where candidates have several tokens, each prompt with its candidates (`pack`).
        cost: what rows take, for which the layout is chosen.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` [R, T]; `fold_owners` [R, T], which of its row's prompts a token
        belongs to, from 1, 0 for padding; `fold_places` [R, T], its place in that prompt; `fold_there` [R, K], 1 for a
        prompt, 0 where a row has no further one; `fold_counts` [R, 2], R and N in each row. All else has [R, K] for
        [N]; where there is no further prompt, the row's first one stands again. Of `trees` the tokens are those of
        `stack`, and there are neither owners nor places.
    """
    if not foldable(batch) or (is_long(batch) and not trees):
        return None
    lengths = _lengths(batch, trees)
    longest = max(lengths)
    sizes = [int(longer * longest) for longer in _LONGER]
    ways = (_rows(lengths, size if most is None else max(longest, min(size, most))) for size in sizes)
    cost = cost or Cost()
    rows = min(ways, key=lambda rows: cost.folded(len(rows), _longest(rows, lengths)))
    worth = cost.folded(len(rows), _longest(rows, lengths)) <= _WORTH * cost.padded(len(lengths), longest)
    return folded(batch, rows, pad_id, trees) if worth else None


def foldable(batch: Batch) -> bool:
    """Return whether a batch has prompts that are answered with candidates, and nothing that is not theirs."""
    count = len(batch["input_ids"])
    if any(not isinstance(value, Tensor) or value.shape[:1] != (count,) for value in batch.values()):
        return False
    return "position" in batch and "option_ids" in batch


def is_long(batch: Batch) -> bool:
    """Return whether a batch has candidates of several tokens, which are read in as many places."""
    return batch["option_ids"].shape[2] > 1


def pads_inside(model: nn.Module, batch: Batch) -> bool:
    """Return whether prompts contain what a model that numbers its positions itself, as RoBERTa, takes for padding."""
    first = first_position(model)
    return first > 0 and bool(((batch["input_ids"] == first - 1) & (batch["attention_mask"] == 1)).any())


def longest_row(config: PretrainedConfig) -> int | None:
    """Return the most tokens of a row: some models have tables of that size, or scale what stands further behind."""
    scaled = config.floor_scale if getattr(config, "attn_temperature_tuning", False) else None
    return min((most for most in (longest_input(config), scaled) if most is not None), default=None)


def folded(batch: Batch, rows: Sequence[Sequence[int]], pad_id: int, trees: Sequence[Row] = ()) -> Batch:
    """Return a batch with these of its prompts in each row; see `fold`."""
    most = max(map(len, rows))
    slots = torch.tensor([[*row, *[row[0]] * (most - len(row))] for row in rows])
    found = {name: value[slots] for name, value in batch.items() if name not in (*_TOKENS, *_TREES, SOURCES)}
    found |= {THERE: padded([[1] * len(row) for row in rows], most, 0)}
    found |= {COUNTS: torch.tensor([[len(rows), len(batch["labels"])]] * len(rows))}
    return found | (_trees(found, rows, pad_id, trees) if trees else _tokens(batch, slots, rows, pad_id))


def _tokens(batch: Batch, slots: Tensor, rows: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """Return the tokens of rows of prompts, whose they are and where they stand, and the places to read them at."""
    lengths, most = _lengths(batch), slots.shape[1]
    size = _longest(rows, lengths)
    starts = [list(accumulate((lengths[index] for index in row[:-1]), initial=0)) for row in rows]
    owners = [[slot for slot, index in enumerate(row, 1) for _ in range(lengths[index])] for row in rows]
    places = [[place for index in row for place in range(lengths[index])] for row in rows]
    found = {OWNERS: padded(owners, size, 0), PLACES: padded(places, size, 0)}
    found |= {"position": batch["position"][slots] + padded(starts, most, 0)}
    owner = slots.gather(1, (found[OWNERS] - 1).clamp(min=0))
    for name in _TOKENS:
        padding = pad_id if name == "input_ids" else 0
        found[name] = batch[name][owner, found[PLACES]].masked_fill(found[OWNERS] == 0, padding)
    return found


def _trees(found: Batch, rows: Sequence[Sequence[int]], pad_id: int, trees: Sequence[Row]) -> Batch:
    """Return the tokens of rows of prompts with their candidates, and where the candidates' are predicted."""
    lines = [in_line([trees[index] for index in row]) for row in rows]
    scored = found["option_scored"].bool()
    sources = torch.zeros_like(found["option_scored"])
    for line, row, there, place in zip(lines, rows, scored, sources, strict=True):
        # The row's first prompt, where it stands again, is read where it stands.
        again = line.sources[: int(there[0].sum())] * (len(there) - len(row))
        place[there] = torch.tensor(line.sources + again)
    stacked = stack(lines, pad_id)
    return {**stacked, SOURCES: sources, "input_ids": stacked[IDS]}


def trees_of(batch: Batch, prompts: Sequence[EncodedPrompt]) -> Sequence[Row]:
    """Return the prompts of a batch with their candidates, where those have several tokens."""
    return [pack([prompt]) for prompt in prompts] if is_long(batch) else ()


def other_of(prompt: EncodedPrompt) -> EncodedPrompt:
    """Return a prompt that takes the same places with other tokens: itself backwards, its candidates' changed about."""
    tokens = sorted({token for option in prompt.options for token in option})
    others = dict(zip(tokens, tokens[1:] + tokens[:1], strict=True))
    options = tuple(tuple(others[token] for token in option) for option in prompt.options)
    return replace(prompt, ids=prompt.ids[::-1], options=options)


def _lengths(batch: Batch, trees: Sequence[Row] = ()) -> list[int]:
    """Return how many tokens each prompt takes."""
    return [len(tree.ids) for tree in trees] if trees else batch["attention_mask"].sum(1).tolist()


def is_folded(batch: Batch) -> bool:
    """Return whether a batch is folded."""
    return COUNTS in batch


def unfolded(batch: Batch) -> Batch:
    """Return a folded batch whose tensors, but for its rows of tokens, have [R K] prompts as their first axis."""
    kept = (*_TOKENS, *_TREES, OWNERS, PLACES, COUNTS)
    return {name: value if name in kept else value.flatten(0, 1) for name, value in batch.items()}


def in_rows(batch: Batch, value: Tensor) -> Tensor:
    """Return what prompts have [R K, ...] as [R, K, ...], of an unfolded batch; of one that was never folded, as is."""
    return value.view(len(batch[COUNTS]), -1, *value.shape[1:]) if is_folded(batch) else value


def refolded(losses: Tensor, batch: Batch) -> Tensor:
    """Return R / N times the sum of losses [R K] in each row of a folded batch: [R], whose mean is the prompts'."""
    # Where there is no further prompt a loss counts nothing, whatever it is.
    sums = losses.view_as(batch[THERE]).masked_fill(batch[THERE] == 0, 0).sum(1)
    rows, prompts = batch[COUNTS].to(sums.dtype).unbind(1)
    return sums * rows / prompts


def row_losses(losses: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """Return `losses` [N] of a batch; of a folded one a number for each row [R], whose mean is theirs."""
    return refolded(losses(unfolded(batch)), batch) if is_folded(batch) else losses(batch)


def examples_in(batch: Batch) -> int:
    """Return the number of prompts in a batch, folded or not."""
    return int(batch[THERE].sum()) if is_folded(batch) else len(batch["input_ids"])


def folded_inputs(model: PreTrainedModel, batch: Batch, *, causal: bool) -> Batch:
    """Return what the model's forward takes of a folded batch, but for segment ids: a mask [R, 1, T, T] and positions.

    Args:
        model: one that takes such masks, and positions.
        batch: a folded batch.
        causal: whether a token sees those before it only.
    """
    owners = batch[OWNERS]
    sees = owners[:, :, None] == owners[:, None, :]
    if causal:
        sees = sees & torch.ones(sees.shape[1:], dtype=torch.bool, device=sees.device).tril()
    # Added to attention scores, since not every attention takes booleans.
    mask = torch.zeros_like(sees, dtype=model.dtype).masked_fill(~sees, torch.finfo(model.dtype).min)
    return {
        "input_ids": batch["input_ids"],
        "attention_mask": mask[:, None],
        "position_ids": batch[PLACES] + first_position(model),
    }


def width_of(config: PretrainedConfig) -> int | None:
    """Return a model's hidden size, where its config says it."""
    width = getattr(config.get_text_config(), "hidden_size", None)
    return width if isinstance(width, int) and width > 0 else None


def first_position(model: nn.Module) -> int:
    """Return the position of an input's first token: behind that of padding, in RoBERTa and its kin."""
    tables: Any = (getattr(module, "position_embeddings", None) for module in model.modules())
    padding = [table.padding_idx for table in tables if isinstance(table, nn.Embedding)]
    return next((index + 1 for index in padding if index is not None), 0)


def _rows(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Return which prompts share a row of at most so many tokens: the longest first, each in the first row it fits."""
    rows: list[list[int]] = []
    free: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        row = next((number for number, room in enumerate(free) if room >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(most)
        rows[row].append(index)
        free[row] -= lengths[index]
    return rows


def _longest(rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
    """Return how many tokens the longest row has."""
    return max(sum(lengths[index] for index in row) for row in rows)
