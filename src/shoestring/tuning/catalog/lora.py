"""LoRA, through peft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field, PositiveFloat, PositiveInt

from shoestring.errors import first_line
from shoestring.tuning.adapters import PeftTuning, task_type
from shoestring.tuning.architectures import LORA_TARGETS
from shoestring.tuning.base import TUNINGS, head_names

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


@TUNINGS.register("lora")
class LoRA(PeftTuning):
    """W + (alpha / r) B A on the query and value projections, B = 0 at first.

    With `rslora` the factor is alpha / sqrt(r). With `dora` the columns of the sum are scaled to lengths m, which are
    trained and begin as those of W: m (W + (alpha / r) B A) / |W + (alpha / r) B A|.

    Source: Hu et al. 2022, eq. 3; Kalajdzievski 2023 (rsLoRA), theorem 3.2; Liu et al. 2024 (DoRA), eq. 5.
    Differs: nothing else is trained, but for a classification head, which is new. MeZO's RoBERTa runs train the whole
        language-model head as well, untied from the embeddings (princeton-nlp/MeZO medium_models/run.py:939): that is
        `embeddings = "untied"` with `also = "^lm_head"`.
    """

    kind: Literal["lora"] = "lora"
    r: PositiveInt = 8
    """Rank."""
    alpha: PositiveFloat = 16.0
    """Scale: the update is multiplied by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before A, in training with gradients."""
    targets: tuple[str, ...] | Literal["all-linear"] | None = None
    """Endings of the names of the adapted modules, or `all-linear`: every linear layer but the head; by default the
    architecture's queries and values."""
    rslora: bool = False
    """Multiply by alpha / sqrt(r) instead: ranks can then be compared at one learning rate."""
    dora: bool = False
    """Train the lengths of the weights' columns apart from their directions."""

    def config(self, model: PreTrainedModel) -> PeftConfig:
        """Return peft's config."""
        from peft import LoraConfig

        targets: Any = self.targets
        if targets is None:
            targets = LORA_TARGETS.get(model.config.model_type)
        return LoraConfig(
            r=self.r,
            lora_alpha=cast("int", self.alpha),  # any number works
            lora_dropout=self.dropout,
            target_modules=targets if targets is None or isinstance(targets, str) else list(targets),
            exclude_modules=sorted({name.rpartition(".")[0] for name in head_names(model)}) or None,
            use_rslora=self.rslora,
            use_dora=self.dora,
            task_type=task_type(model),
        )

    def explain(self, error: Exception, model: PreTrainedModel) -> str:
        """Say that targets are to be named where peft has no default, or were not found."""
        if self.targets is None and isinstance(error, ValueError):
            return f"tuning.targets: peft has no default for {model.config.model_type}; name the modules to adapt"
        return f"tuning.targets: {first_line(error)}"
