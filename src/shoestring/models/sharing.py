"""What layouts of rows a model computes as it does one input alone: asked of the model itself."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shoestring.errors import first_line
from shoestring.models.budget import out_of_memory
from shoestring.models.virtual import virtual_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.prompts.encoding import EncodedPrompt

_LOG = logging.getLogger(__name__)
# Scores of one computation made in two orders differ by so much of 1 + |score|, at most. Some attention (eager) takes
# its softmax in float32 whatever the weights are.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
_COARSE = 3e-2
# Scores of a prompt move by no more of 1 + |score| when another one in its row is replaced, in any precision: what a
# mask hides counts exactly nothing, but for how many tokens a layer of experts is given.
_LEAK = 1e-6
# What configs call the number of tokens that a layer looks back, or sees with half of it on each side.
_BOTH_SIDES = ("attention_window", "local_attention")
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "keep_window_size", *_BOTH_SIDES)
ROWS, CACHED = "several continuations in one row", "rows behind keys and values that were kept"
FOLDED, IN_LINE = "several prompts in one row", "several prompts with their answers in one row"
PADDED, BESIDE = "an answer to a prompt with padding in front", "an answer beside another"
# What is done for a model that computes a way otherwise than one input alone.
_INSTEAD = {
    FOLDED: "batches are padded to their longest prompt",
    IN_LINE: "batches are padded to their longest prompt",
    PADDED: "only prompts of equal length are answered together",
    BESIDE: "prompts are answered one at a time",
}


@dataclass
class Sharing:
    """What is known of one model, about each way of sharing and of answering in batches.

    A model takes part if its forward takes positions, it has neither windows that an input exceeds, nor biases of
    attention by distance (ALiBi), nor virtual tokens; and if the scores of the first batch, made both ways, agree.
    Of answers in batches only the last is asked.

    Attributes:
        found: whether it computes a way exactly; not in it before that was tried.
        longest: how far all layers look back, where that is limited: inputs of more tokens share nothing.
    """

    found: dict[str, bool] = field(default_factory=dict)
    longest: int | None = None
    _about: Callable[[], PreTrainedModel | None] = lambda: None
    _asked: bool = False
    _told: bool = False
    _told_of_window: bool = False

    def meet(self, model: PreTrainedModel) -> None:
        """Forget what was found out about another model."""
        if self._about() is not model:
            self._about, self.longest = weakref.ref(model), window_of(model)
            self._asked = self._told = self._told_of_window = False
            self.found.clear()

    def recall(self, model: PreTrainedModel, found: Mapping[str, bool]) -> None:
        """Take over what was found out about a model earlier, so that it is not asked again."""
        self.meet(model)
        self.found.update(found)

    def admits(self, model: PreTrainedModel, way: str) -> bool:
        """Return whether a way of sharing may be tried, or was and is exact."""
        self.meet(model)
        if not self._asked:
            self._asked = True
            if (reason := refusal(model)) is not None:
                self._refuse(model, ROWS, reason)
        return self.found.get(ROWS, True) and self.found.get(way, True)

    def folds(self, model: PreTrainedModel, way: str, longest: int, *, causal: bool) -> bool:
        """Return whether prompts of up to `longest` tokens may be put into one row, or were and it is exact.

        `way` is FOLDED, or where answers of several tokens stand in the row too, IN_LINE.
        """
        self.meet(model)
        if way not in self.found and (reason := refusal(model)) is not None:
            self._refuse(model, way, reason)
        if not self.found.get(way, True):
            return False
        window = self.longest if causal else side_of(model)
        if window is None or longest <= window + (not causal):
            return True
        if not self._told_of_window:
            self._told_of_window = True
            _LOG.info("%s sees %d tokens around one: longer prompts are padded", type(model).__name__, window)
        return False

    def leaks(self, model: PreTrainedModel, way: str, one: Tensor, other: Tensor) -> bool:
        """Return whether scores moved, from `one` to `other`, when what shares a row with their prompt was replaced."""
        worst = float(((one - other).abs() / (1 + one.abs())).max())
        if worst <= _LEAK:
            return False
        self._refuse(model, way, f"scores move by a share of {worst:.1g} with another prompt in the row")
        return True

    def fits(self, model: PreTrainedModel, longest: int) -> bool:
        """Return whether inputs of up to `longest` tokens are seen whole by every layer."""
        if self.longest is None or longest <= self.longest:
            return True
        if not self._told:
            self._told = True
            _LOG.warning(
                "%s looks back %d tokens and inputs have up to %d: longer ones are computed without sharing, which "
                "costs time alone",
                type(model).__name__, self.longest, longest,
            )  # fmt: skip
        return False

    def settled(self, way: str) -> bool:
        """Return whether it is known how a model does with a way."""
        return way in self.found

    def compare(self, model: PreTrainedModel, way: str, shared: Callable[[], Tensor], plain: Tensor) -> bool:
        """Find out whether scores made in a way are those made without, `plain`; say so once if they are not.

        Nothing is found out by scores that are not finite.
        """
        if not bool(torch.isfinite(plain).all()):
            return False
        try:
            made = shared()
        except Exception as error:
            if out_of_memory(error):
                raise
            name, says = type(error).__name__, first_line(error)
            self._refuse(model, way, name if says == name else f"{name}: {says}")
            return False
        coarse = model.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
        tolerance = _COARSE if coarse else _TOLERANCE.get(model.dtype, _COARSE)
        worst = float(((made - plain).abs() / (1 + plain.abs())).max())
        self.found[way] = worst <= tolerance
        if not self.found[way]:
            self._refuse(model, way, f"scores differ by a share of {worst:.1g}")
        return self.found[way]

    def _refuse(self, model: PreTrainedModel, way: str, reason: str) -> None:
        self.found[way] = False
        # Padding is what everybody expects, and nothing that a user could do without.
        level = logging.INFO if way in (FOLDED, IN_LINE) else logging.WARNING
        _LOG.log(
            level,
            "%s does not compute %s as it does one alone (%s): %s, which costs time alone",
            type(model).__name__, way, reason, _INSTEAD.get(way, "nothing is shared that way"),
        )  # fmt: skip


def refusal(model: PreTrainedModel) -> str | None:
    """Return why a model cannot be told which tokens see which, and where they stand, if it cannot."""
    if count := virtual_tokens(model):
        return f"it reads {count} virtual tokens before its input"
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # pyright: ignore[reportCallIssue]
    if "position_ids" not in inspect.signature(inner.forward).parameters:
        return "it takes no positions"
    return "distances in the row are part of its attention" if getattr(model.config, "alibi", False) else None


def window_of(model: PreTrainedModel) -> int | None:
    """Return the fewest tokens that a layer looks back, where a config says that there is such a limit."""
    config = model.config.get_text_config()
    given = [getattr(config, name, None) for name in _WINDOWS]
    return min((width for width in given if isinstance(width, int) and width > 0), default=None)


def side_of(model: PreTrainedModel) -> int | None:
    """Return the fewest tokens that a layer which looks both ways sees on each side, where that is limited."""
    config = model.config.get_text_config()
    given = {name: getattr(config, name, None) for name in _WINDOWS}
    sides = [width // (1 + (name in _BOTH_SIDES)) for name, width in given.items() if isinstance(width, int)]
    return min((side for side in sides if side > 0), default=None)


def longest_of(prompts: Sequence[EncodedPrompt]) -> int:
    """Return the number of tokens of the longest prompt with its longest candidate."""
    return max(len(prompt.ids) + max((len(option) for option in prompt.options), default=1) - 1 for prompt in prompts)
