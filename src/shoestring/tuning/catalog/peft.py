"""Any adapter of peft's, by its own fields."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from shoestring.errors import suggest
from shoestring.tuning.adapters import NOT_SETTINGS, PeftTuning, task_type
from shoestring.tuning.base import TUNINGS

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

# Need to be told of every step, or of the task of every example, or other adapters.
_NOT_ALONE = {"ADALORA", "POLY", "XLORA"}
_INSTEAD = {"PROMPT_TUNING": "prompt-tuning", "PREFIX_TUNING": "prefix", "P_TUNING": "prefix"}


@TUNINGS.register("peft")
class Peft(PeftTuning):
    """An adapter of peft's (LoHa, LoKr, OFT, HRA, LN tuning, ...), with the fields of peft's own config.

    Those that peft puts into a model's own modules, that is; prompts and prefixes have kinds of their own, and methods
    whose layers share weights (VeRA, VB-LoRA, ...) are peft's own affair.
    """

    kind: Literal["peft"] = "peft"
    method: str
    """Name of the method, as peft's `PeftType` has it, in small letters or large."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """Fields of that method's config, such as `r = 4` or `target_modules = ["q_proj"]`."""

    @property
    def identity(self) -> bool:
        """Nothing is promised: some methods begin with a change."""
        return False

    @property
    def dropout(self) -> float:
        """The largest share that any of the fields drops."""
        return max((float(value) for name, value in self.fields.items() if name.endswith("dropout")), default=0.0)

    def config(self, model: PreTrainedModel) -> PeftConfig:
        """Return peft's config."""
        return _class_of(self.method)(**self.fields, task_type=task_type(model))

    @model_validator(mode="after")
    def _known_to_peft(self) -> Self:
        allowed = _methods()
        name = self.method.upper()
        if name in _INSTEAD:
            raise ValueError(f'method={self.method!r} is put before the input: use tuning.kind="{_INSTEAD[name]}"')
        if name not in allowed:
            hint = suggest(self.method, [method.lower() for method in allowed], shown=40)
            raise ValueError(f"method={self.method!r} is none that peft puts into a model by itself{hint}")
        config = _class_of(name)
        known = {field.name for field in dataclasses.fields(config) if field.init} - NOT_SETTINGS
        for field in self.fields:
            if field not in known:
                raise ValueError(f"fields.{field}: {config.__name__} has no such field{suggest(field, known)}")
        try:
            config(**self.fields)
        except Exception as error:
            raise ValueError(f"fields: {config.__name__} refuses: {error}") from error
        return self


def _methods() -> dict[str, Any]:
    """Return the methods that peft injects into a model, by the names of their types."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTuner

    return {
        str(kind.value): PEFT_TYPE_TO_CONFIG_MAPPING[kind]
        for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items()
        if isinstance(tuner, type)
        and issubclass(tuner, BaseTuner)
        and not getattr(tuner, "uses_shared_state", False)
        and str(kind.value) not in _NOT_ALONE
        and kind in PEFT_TYPE_TO_CONFIG_MAPPING
        and not str(kind.value).startswith("SHADOW")
    }


def _class_of(method: str) -> Any:
    return _methods()[method.upper()]
