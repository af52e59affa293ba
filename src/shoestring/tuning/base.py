"""What a tuning is."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shoestring.config import Settings
from shoestring.errors import ModelError
from shoestring.models.virtual import virtual_tokens
from shoestring.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "TUNINGS",
    "Tuning",
    "TuningSettings",
    "count_trained",
    "head_names",
    "hollow",
    "integers",
    "no_place",
    "skeleton",
    "virtual_tokens",
]


class Tuning(Protocol):
    """Chooses which weights of a model are trained, adding new ones where it needs to."""

    @property
    def kind(self) -> str:
        """Name in the registry."""
        ...

    @property
    def identity(self) -> bool:
        """Whether a model gives the same outputs right after `apply` as before."""
        ...

    def apply(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Change a model in place so that `requires_grad` is set on exactly the trained weights, and return it.

        The model is left in eval mode, and answers as before where `identity` is true. What is drawn comes from streams
        of `seed`; the global generators are left alone.

        Raises:
            ModelError: if the architecture has not what the tuning trains.
        """
        ...

    def count(self, model: PreTrainedModel) -> int:
        """Return how many weights `apply` would make trainable, without changing the model.

        Raises:
            ModelError: as `apply`.
        """
        ...

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write what was tuned, and what it was tuned on, so that `restore` finds both."""
        ...

    def restore(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """Put what `save` wrote onto the base model, in place, and return it as `apply` does.

        Raises:
            ModelError: if `folder` is damaged or of another base model.
        """
        ...

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Turn a tuned model, in place, into an ordinary one that transformers saves and loads.

        Raises:
            ModelError: if what was added cannot be written as weights of the architecture.
        """
        ...


class TuningSettings(Settings):
    """What tunings share: one need only say how it is applied.

    What is saved then is every trained tensor, in one small file that `shoestring.tuning.load.load_tuned` puts onto the
    base model again.
    """

    @property
    def identity(self) -> bool:
        """Whether a model gives the same outputs right after `apply` as before."""
        return True

    @abstractmethod
    def apply(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Change a model in place so that exactly the trained weights require gradients, and return it."""

    def count(self, model: PreTrainedModel) -> int:
        """Return how many weights `apply` would train: counted on a copy of the model without memory."""
        return count_trained(self.apply(skeleton(model), 0))

    def written(self, model: PreTrainedModel) -> set[str]:
        """Return the names of the tensors that `save` writes: those that are trained."""
        return {name for name, param in model.named_parameters() if param.requires_grad}

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the trained tensors, and what they belong to."""
        from shoestring.tuning.delta import save_delta

        save_delta(self, model, folder)

    def restore(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """Put the saved tensors onto the base model, in place."""
        from shoestring.tuning.delta import restore_delta

        return restore_delta(self, model, folder)

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the model: it has the architecture that it had."""
        return model


def count_trained(model: PreTrainedModel) -> int:
    """Return the number of weights that require gradients; tied ones count once."""
    return sum(param.numel() for param in model.parameters() if param.requires_grad)


def skeleton(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model of the same class and config without memory: shapes and names only.

    Raises:
        ModelError: if a model of this class and config has other parameters, as one that a tuning has changed.
    """
    bones = hollow(model)
    shapes = [{name: param.shape for name, param in one.named_parameters()} for one in (model, bones)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"the weights to train can be counted on a base model only, and this {type(model).__name__} has been "
            "changed, by a tuning perhaps"
        )
    return bones


def hollow(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model that transformers makes of the class and config of another, without memory."""
    import copy

    import torch

    from shoestring.models.quiet import quiet

    with quiet(), torch.device("meta"):
        bones: Any = type(model)(copy.deepcopy(model.config))
        return bones.to(model.dtype).eval()


# Names that transformers' classes give to their classification heads, and to the dense layer some put before it.
_HEADS = ("classifier", "pre_classifier", "score", "classification_head")


def head_names(model: PreTrainedModel) -> set[str]:
    """Return the names of the parameters of a classification head; none for a language model.

    A head has no pretrained weights to start from, so every tuning trains it whole.
    """
    if "SequenceClassification" not in type(model).__name__:
        return set()
    return {name for name, _ in model.named_parameters() if name.split(".")[0] in _HEADS}


def integers(kind: str, name: str) -> ModelError:
    """Return the error of a tuning that would train a weight that is kept in integers."""
    return ModelError(
        f'tuning.kind="{kind}": {name} is kept in integers (model.quantization) and cannot be trained; use '
        'tuning.kind="lora", or another that adds weights'
    )


def no_place(kind: str, count: int, model: PreTrainedModel) -> ModelError:
    """Return the error of a tuning whose new weights cannot be written as weights of the architecture."""
    return ModelError(
        f'tuning.kind="{kind}" adds {count} weights that {type(model).__name__} has no place for; '
        "save and load it with the base model instead"
    )


TUNINGS: Registry[type[Any]] = Registry("tuning", "shoestring.tuning.catalog")
"""The tunings, one file each."""
