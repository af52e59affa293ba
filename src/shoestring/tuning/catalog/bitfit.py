"""BitFit: only biases move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shoestring.errors import ModelError
from shoestring.tuning.base import TUNINGS, no_place
from shoestring.tuning.choosing import Choosing
from shoestring.tuning.names import tensors

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

# Options by which configs give linear layers biases: Llama has the first two, ModernBERT all of them.
_OPTIONS = ("attention_bias", "mlp_bias", "classifier_bias")


@TUNINGS.register("bitfit")
class BitFit(Choosing):
    """Only the biases are trained, and a classification head whole. Source: Ben Zaken et al. 2022, section 3."""

    kind: Literal["bitfit"] = "bitfit"
    add: bool = False
    """Give a bias of zeros to every linear layer without one, the output embedding excepted: for Llama, Qwen3, Mistral,
    Gemma and T5, which have none."""

    def chosen(self, model: PreTrainedModel) -> set[str]:
        """Return the names of the biases.

        Raises:
            ModelError: if there are none, as in Llama, Qwen3, Mistral, Gemma and T5.
        """
        found = {name for names, _ in tensors(model) for name in names if name.rpartition(".")[2] == "bias"}
        if not found:
            raise ModelError(
                f'tuning.kind="bitfit": {type(model).__name__} has no biases; '
                'try tuning.kind="norms", "ia3" or "lora", or give it some with tuning.add=true'
            )
        return found

    def extend(self, model: PreTrainedModel) -> None:
        """Give linear layers biases of zeros where they have none."""
        import torch
        from torch import nn

        if not self.add:
            return
        for module in _without_bias(model):
            weight = module.weight
            module.bias = nn.Parameter(torch.zeros(len(weight), dtype=weight.dtype, device=weight.device))

    def changes(self, model: PreTrainedModel) -> bool:
        """Return whether there are biases to add, or embeddings to tie or untie."""
        return super().changes(model) or (self.add and bool(_without_bias(model)))

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the model, with a config that says which biases it has.

        Raises:
            ModelError: if there are biases that no option of the config gives the architecture: loading would drop
                them without a word.
        """
        from shoestring.tuning.reloading import dropped, switch_on

        if self.add:
            switch_on(model, _OPTIONS)
            if lost := dropped(model):
                raise no_place(self.kind, sum(param.numel() for param in lost.values()), model)
        return super().merge(model)


def _without_bias(model: PreTrainedModel) -> list[nn.Linear]:
    from torch import nn

    output = model.get_output_embeddings()
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.bias is None and module is not output
    ]
