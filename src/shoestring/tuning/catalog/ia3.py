"""IA3, through peft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from shoestring.errors import ModelError
from shoestring.tuning.adapters import PeftTuning, task_type
from shoestring.tuning.architectures import FEED_FORWARD_OUT, KEYS_VALUES, modules_at
from shoestring.tuning.base import TUNINGS

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


@TUNINGS.register("ia3")
class IA3(PeftTuning):
    """Vectors that multiply keys, values and what is inside the feed-forward networks, all ones at first.

    Source: Liu et al. 2022 (T-Few), section 3.3.
    Differs: peft's own defaults multiply queries in place of keys or values for some architectures (OPT, Gemma, Qwen3),
        and the output of attention in BERT and RoBERTa; here it is what the paper says, but where queries, keys and
        values are one layer (GPT-2, BLOOM), all of whose outputs are multiplied.
    """

    kind: Literal["ia3"] = "ia3"
    targets: tuple[str, ...] | None = None
    """Endings of the names of modules whose outputs are multiplied; by default the architecture's keys and values."""
    feedforward: tuple[str, ...] | None = None
    """Endings of the names of modules whose inputs are multiplied; by default feed-forward networks' last layers."""

    def config(self, model: PreTrainedModel) -> PeftConfig:
        """Return peft's config.

        Raises:
            ModelError: if names match nothing, or the architecture is not known and none are given.
        """
        from peft import IA3Config

        outputs = _found(model, self.targets, KEYS_VALUES, "targets")
        inputs = _found(model, self.feedforward, FEED_FORWARD_OUT, "feedforward")
        return IA3Config(
            target_modules=sorted({*outputs, *inputs}),
            feedforward_modules=sorted(inputs),
            task_type=task_type(model),
        )


def _found(model: PreTrainedModel, given: tuple[str, ...] | None, pattern: str, key: str) -> list[str]:
    """Return the full names of modules."""
    if given is None:
        found: list[Any] = list(modules_at(model, pattern))
        missing = f"no default for {model.config.model_type}; name the modules"
    else:
        found = [
            name
            for name, module in model.named_modules()
            if getattr(module, "weight", None) is not None and any(f".{name}".endswith(f".{end}") for end in given)
        ]
        missing = f"no module's name ends in {' or '.join(map(repr, given))}"
    if not found and given != ():
        raise ModelError(f"tuning.{key}: {missing}")
    return found
