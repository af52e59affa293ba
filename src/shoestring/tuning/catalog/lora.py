"""LoRA, through peft."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import Field, PositiveFloat, PositiveInt

from shoestring.config import Settings
from shoestring.errors import ModelError
from shoestring.seeds import derive, torch_seeded
from shoestring.tuning.base import TUNINGS, head_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@TUNINGS.register("lora")
class LoRA(Settings):
    """W + (alpha / r) B A on the query and value projections, B = 0 at first.

    Source: Hu et al. 2022, eq. 3.
    Differs: nothing else is trained, but for a classification head, which is new. MeZO's RoBERTa runs train the whole
        language-model head as well, untied from the embeddings (princeton-nlp/MeZO medium_models/run.py:939).
    """

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
            ModelError: if no module matches `targets`, or peft has no default for the architecture.
        """
        from peft import LoraConfig, TaskType, inject_adapter_in_model

        head = head_names(model)
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType] - any number works
            lora_dropout=self.dropout,
            target_modules=list(self.targets) if self.targets is not None else None,
            task_type=TaskType.SEQ_CLS if head else None,
        )
        with torch_seeded(derive(seed, "lora")):
            try:
                inject_adapter_in_model(config, model)
            except ValueError as error:
                reason = str(error).splitlines()[0]
                if self.targets is None:
                    reason = f"peft has no default for {model.config.model_type}; name the modules to adapt"
                raise ModelError(f"tuning.targets: {reason}") from error
        for name, param in model.named_parameters():
            param.requires_grad_("lora_" in name or name in head)
        return model.eval()

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the adapter alone, in peft's format: `PeftModel.from_pretrained(base, folder)` loads it.

        Its config names the base model by the name it was loaded under.
        """
        from peft import LoraConfig
        from peft.utils import get_peft_model_state_dict
        from safetensors.torch import save_file

        config = cast("LoraConfig", model.peft_config["default"])
        state = {name: value.contiguous() for name, value in get_peft_model_state_dict(model).items()}
        if config.task_type is not None:
            trained = ((name, param) for name, param in model.named_parameters() if param.requires_grad)
            state |= {name: param.data for name, param in trained if "lora_" not in name}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {f"base_model.model.{name}": value for name, value in state.items()}, folder / "adapter_model.safetensors"
        )
        saved = LoraConfig(
            **{**config.to_dict(), "base_model_name_or_path": model.name_or_path, "inference_mode": True}
        )
        saved.save_pretrained(str(folder))
