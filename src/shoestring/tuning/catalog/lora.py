"""LoRA, through peft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from shoestring.config import Settings
from shoestring.errors import ModelError
from shoestring.seeds import derive
from shoestring.tuning.base import TUNINGS

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@TUNINGS.register("lora")
class LoRA(Settings):
    """W + (alpha / r) B A on the query and value projections, B = 0 at first. Source: Hu et al. 2022, eq. 3."""

    kind: Literal["lora"] = "lora"
    r: PositiveInt = 8
    """Rank."""
    alpha: PositiveFloat = 16.0
    """Scale: the update is multiplied by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before A, in training with gradients."""
    targets: tuple[str, ...] | None = None
    """Endings of the names of the adapted modules; by default peft's choice for the architecture (query and value)."""

    def apply(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Return the model with adapters inside its own modules, drawn from the stream (seed, "lora").

        A classification head, which has no pretrained weights to adapt, is trained whole.

        Raises:
            ModelError: if no module matches `targets`.
        """
        import torch
        from peft import LoraConfig, TaskType, inject_adapter_in_model

        head = any(name in type(model).__name__ for name in ("SequenceClassification",))
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType] - any number works
            lora_dropout=self.dropout,
            target_modules=list(self.targets) if self.targets is not None else None,
            task_type=TaskType.SEQ_CLS if head else None,
        )
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.random.manual_seed(derive(seed, "lora"))
            try:
                inject_adapter_in_model(config, model)
            except ValueError as error:
                raise ModelError(f"tuning.targets: {str(error).splitlines()[0]}") from error
        heads = {
            id(param) for name, module in model.named_children() if name in _HEADS for param in module.parameters()
        }
        for name, param in model.named_parameters():
            param.requires_grad_("lora_" in name or (head and id(param) in heads))
        return model.eval()


_HEADS = ("classifier", "score", "classification_head")
