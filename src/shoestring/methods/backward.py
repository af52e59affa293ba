"""Methods that pass backward: what makes their steps cheaper."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat

from shoestring.methods.training import TrainingMethod

if TYPE_CHECKING:
    from shoestring.data.settings import DataSettings
    from shoestring.methods.base import Given, Outcome
    from shoestring.models.settings import ModelSettings
    from shoestring.prompts.settings import PromptSettings
    from shoestring.tasks.spec import Task


class BackwardMethod(TrainingMethod):
    """Fine-tunes with gradients from backpropagation.

    Source: Chen et al. 2016, section 4 (gradient checkpointing); Micikevicius et al. 2018, sections 3.1 and 3.2 (mixed
        precision, loss scaling).
    """

    needs_backward: ClassVar[bool] = True

    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients of larger norm are scaled down to it; 0 switches that off."""
    gradient_checkpointing: bool = False
    """Keep the input of each layer alone, and compute what is inside again in the backward pass: less memory, about a
    third more time, the same numbers."""
    mixed_precision: Literal["bfloat16", "float16"] | None = None
    """Precision of the large products of training steps, while weights (of `model.dtype="float32"`), gradients and
    predictions stay as they are. `float16` needs CUDA; there the loss is scaled, and a step whose gradients overflow is
    skipped."""

    def problems(self, task: Task, data: DataSettings, model: ModelSettings, prompt: PromptSettings) -> list[str]:
        """Return what makes no sense together with the rest of a run."""
        problems = super().problems(task, data, model, prompt)
        if self.mixed_precision is not None and model.dtype != "float32":
            problems.append(
                f"method.mixed_precision={self.mixed_precision!r} is for weights of float32, and model.dtype="
                f"{model.dtype!r}; leave one of them out"
            )
        return problems

    def fit(self, given: Given) -> Outcome:
        """Train the model in place; it is its own predictor.

        Raises:
            ModelError: if the model, or the machine, cannot do what makes steps cheaper.
        """
        from shoestring.errors import ModelError
        from shoestring.models.placing import refuse_backward

        model = given.subject.model
        refuse_backward(model, f"method.kind={self.model_dump()['kind']!r}")
        if self.gradient_checkpointing and not model.supports_gradient_checkpointing:
            raise ModelError(
                f"method.gradient_checkpointing: {type(model).__name__} has no such thing; leave it out, or use "
                "smaller batches with method.accumulate"
            )
        if self.mixed_precision == "float16" and model.device.type != "cuda":
            raise ModelError(
                "method.mixed_precision='float16' needs a CUDA device, and the model is on "
                f"{model.device.type}; use 'bfloat16'"
            )
        return super().fit(given)
