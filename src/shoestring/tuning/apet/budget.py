"""Budgets: a number of weights, a share of the model's, or as many as another tuning trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoestring.errors import ModelError
from shoestring.tuning.base import TUNINGS, head_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Budget = int | float | str


def resolve(budget: Budget, model: PreTrainedModel) -> int:
    """Return the number of weights that a budget means on a base model; those of a new head count in none of them.

    A whole number is meant as it is; a fraction is of the model's weights, tied ones once, to the nearest whole number
    and at least one; a name is that of a tuning, with its defaults.

    Raises:
        UnknownNameError: if there is no tuning of that name.
        ModelError: if the model cannot have that tuning.
    """
    head = head_names(model)
    if isinstance(budget, int):
        return budget
    if isinstance(budget, float):
        return max(
            1, round(budget * sum(param.numel() for name, param in model.named_parameters() if name not in head))
        )
    if budget == "apet":
        raise ModelError('tuning.budget="apet" is its own budget; give a number, a fraction or another tuning\'s name')
    whole = sum(param.numel() for name, param in model.named_parameters() if name in head)
    return TUNINGS.get(budget)().count(model) - whole
