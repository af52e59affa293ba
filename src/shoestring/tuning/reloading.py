"""What transformers makes of a model's class and config when it loads the model, beside what the model is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoestring.tuning.base import hollow
from shoestring.tuning.names import tensors

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def dropped(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Return the parameters, by name, that loading would drop: class and config have none of these names."""
    known = {name for name, _ in hollow(model).named_parameters(remove_duplicate=False)}
    return {name: param for name, param in model.named_parameters() if name not in known}


def switch_on(model: PreTrainedModel, options: tuple[str, ...]) -> None:
    """Set options of the config by which loading drops nothing; where there are none, the config stays as it is."""
    if not dropped(model):
        return
    off = [name for name in options if getattr(model.config, name, None) is False]
    for name in off:
        setattr(model.config, name, True)
    made = {name for name, _ in hollow(model).named_parameters(remove_duplicate=False)}
    if made == {name for name, _ in model.named_parameters(remove_duplicate=False)}:
        return
    for name in off:
        setattr(model.config, name, False)


def separate(model: PreTrainedModel) -> None:
    """Give every name a tensor of its own that loading gives one, a copy where the model has one tensor for several.

    RoBERTa has one bias under two names. Transformers saves it once, and told by the config that nothing is tied it
    looks for both when it loads.
    """
    from torch import nn

    made = {name: id(param) for name, param in hollow(model).named_parameters(remove_duplicate=False)}
    for names, param in tensors(model):
        owners = {made.get(names[0]): param}
        for name in names[1:]:
            if (key := made.get(name)) not in owners:
                owners[key] = nn.Parameter(param.detach().clone(), param.requires_grad)
            place, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(place), attribute, owners[key])
