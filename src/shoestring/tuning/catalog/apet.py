"""APET: any number of weights, anywhere."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import NonNegativeInt, field_validator, model_validator

from shoestring.config import union_of
from shoestring.errors import ModelError
from shoestring.tuning.apet.scorers.random import Random
from shoestring.tuning.apet.scoring import SCORERS
from shoestring.tuning.base import TUNINGS, TuningSettings, head_names, no_place, skeleton
from shoestring.tuning.inserting import Inserting
from shoestring.tuning.names import check_pattern

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.tuning.apet.choose import Choice
    from shoestring.tuning.apet.scoring import Scorer as AnyScorer
    from shoestring.tuning.apet.sites import Site
    from shoestring.tuning.look import Look
else:
    AnyScorer = union_of(entry for _, entry in SCORERS.items())

_WITH_COMPAT = ("kind", "budget", "seed", "compat")


@TUNINGS.register("apet")
class APET(TuningSettings):
    """A budget of weights, chosen by scores and a seed, is trained; a classification head whole, beside it.

    Single chosen weights are kept as positions and values; the model's own stay as they are. Optimizers and noise see
    the values alone, so that training 4,096 weights of a model costs what 4,096 weights cost.

    Source: Su et al. 2023 (PET scaling), section 3.
    Differs: the budget is met to the last weight where `granularity` is "element"; the published code, which
        `compat = "pet-scaling"` follows, chooses whole tensors.
    """

    kind: Literal["apet"] = "apet"
    budget: int | float | str = 4096
    """Weights to train: a number; a fraction of the model's; or as many as the tuning of this name trains."""
    granularity: Literal["element", "row", "tensor", "module"] = "element"
    """What is chosen: single weights, which meet any budget exactly, or portions, as many as a budget pays for."""
    scorer: AnyScorer = Random()
    """What decides: the highest scores are chosen; a `kind` alone may be written as a text."""
    scope: str | None = None
    """Regular expression: only weights with names that it is found in are chosen from."""
    over: Literal["backbone", "inserted", "half"] = "backbone"
    """Whether the model's own weights are chosen from, those that `insert` adds, or half of the budget from each."""
    insert: tuple[str, ...] = ()
    """Tunings, with their defaults, that add the weights to choose from, such as "lora"."""
    compat: Literal["pet-scaling"] | None = None
    """Choose what the paper's code chooses for this budget and seed, among what it inserts and whole tensors."""
    seed: NonNegativeInt | None = None
    """Draws the choice, and what is inserted; by default the run's own seed."""

    _regular = field_validator("scope")(check_pattern)

    @field_validator("scorer", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @field_validator("budget")
    @classmethod
    def _a_number_of_weights(cls, value: int | float | str) -> int | float | str:
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, str):
            return value
        if isinstance(value, float) and value > 1 and value.is_integer():
            raise ValueError(
                f"{value} is a fraction of all weights, which is up to 1.0; a number of weights is written {value:.0f}"
            )
        if value <= 0 or (isinstance(value, float) and value > 1):
            raise ValueError(f"{value} weights: at least 1 is needed, or a fraction above 0 and up to 1.0, or a tuning")
        return value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.compat is not None:
            odd = [name for name in type(self).model_fields if name not in _WITH_COMPAT and self._set(name)]
            if odd:
                raise ValueError(f'compat="{self.compat}" decides what is chosen from, and how: leave out {odd[0]}')
        elif (self.over == "backbone") != (not self.insert):
            raise ValueError(f'over="{self.over}" and insert={list(self.insert)}: only what is inserted is chosen from')
        return self

    def _set(self, name: str) -> bool:
        return getattr(self, name) != type(self).model_fields[name].default

    @property
    def looks(self) -> bool:
        """Whether training examples are looked at."""
        return self.scorer.looks

    @property
    def identity(self) -> bool:
        """Whether outputs stay: where nothing is inserted that changes them."""
        return all(TUNINGS.get(name)().identity for name in self.insert)

    def apply(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Return the model with the chosen weights, and its classification head, trainable.

        Raises:
            ModelError: if the budget is more than there is, or buys nothing; if `scope` matches nothing; if the scorer
                looks at examples, or the model has been tuned already.
        """
        return self._apply(model, seed, None)

    def apply_with(self, model: PreTrainedModel, seed: int, look: Look) -> PreTrainedModel:
        """Do what `apply` does, having looked at training examples where the scorer does."""
        return self._apply(model, seed, look)

    def count(self, model: PreTrainedModel) -> int:
        """Return the number of weights that `apply` would train; of portions other than elements with `seed`, or 0.

        Raises:
            ModelError: as `apply`; single weights are as many whatever scores them, even where that looks at examples.
        """
        from shoestring.tuning.apet.choose import size_of
        from shoestring.tuning.apet.sites import sites_of

        head = head_names(model)
        new = sum(param.numel() for name, param in model.named_parameters() if name in head)
        one = self.model_copy(update={"scorer": Random()}) if self.granularity == "element" else self
        bare = model
        if self.insert or self.compat is not None:
            bare = skeleton(model) if one.scorer.uniform else copy.deepcopy(model)
        choice, _ = one._choice(bare, self.seed or 0, None)
        return size_of(choice, sites_of(bare)) + new

    def size(self, model: PreTrainedModel) -> int:
        """Return the number of weights that the budget means on a base model."""
        from shoestring.tuning.apet.budget import resolve

        return resolve(self.budget, model)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write `delta.safetensors`, positions and values of what was tuned, and `tuning.json`, which says what of."""
        from shoestring.tuning.apet.load import save_delta

        save_delta(self, model, folder)

    def restore(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """Put what was saved onto the base model, in place.

        Raises:
            ModelError: if the file is damaged, or belongs to another base model.
        """
        from shoestring.tuning.apet.load import restore_delta

        return restore_delta(self, model, folder)

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add what was trained to the model's own weights.

        Raises:
            ModelError: if what was inserted cannot be written as weights of the architecture; before anything changes.
        """
        from shoestring.tuning.apet.load import inserted, merge_delta

        tunings = [TUNINGS.get(name)() for name in self.insert]
        stays = self.compat is not None or any(type(one).merge is Inserting.merge for one in tunings)
        if stays and (count := inserted(model)):
            raise no_place(self.kind, count, model)
        model = merge_delta(model)
        for one in tunings:
            model = one.merge(model)
        return model

    def add(self, model: PreTrainedModel, seed: int) -> list[str]:
        """Insert what there is to insert, drawn from `seed`, and return the names of the parameters that are new.

        Raises:
            ModelError: if the architecture does not allow it, or a tuning adds no weights.
        """
        if self.compat is not None:
            from shoestring.tuning.apet.inserted import insert_published

            return insert_published(model, seed)
        before = {id(param) for param in model.parameters()}
        for name in self.insert:
            known = len(list(model.parameters()))
            TUNINGS.get(name)().apply(model, seed)
            if len(list(model.parameters())) == known:
                raise ModelError(f'tuning.insert: {name!r} adds no weights to choose from; "lora" does')
        return [name for name, param in model.named_parameters() if id(param) not in before]

    def _apply(self, model: PreTrainedModel, seed: int, look: Look | None) -> PreTrainedModel:
        from shoestring.tuning.apet.delta import attach
        from shoestring.tuning.apet.load import note, refuse_tuned
        from shoestring.tuning.apet.sites import sites_of

        refuse_tuned(model)
        seed = seed if self.seed is None else self.seed
        choice, added = self._choice(model, seed, look)
        head = head_names(model)
        model.requires_grad_(False)
        sites = sites_of(model)
        attach(sites, {name: places for name, places in choice.items() if places is not None})
        for site in sites:
            site.param.requires_grad_(site.name in head or choice.get(site.name, site) is None)
        note(model, seed, added)
        return model.eval()

    def _choice(self, model: PreTrainedModel, seed: int, look: Look | None) -> tuple[Choice, list[str]]:
        """Return what is chosen in a model, and the names of what has been inserted into it first."""
        from shoestring.tuning.apet.choose import Chooser
        from shoestring.tuning.apet.sites import sites_of, within

        if self.compat is not None:
            return self._published(model, seed)
        budget = self.size(model)
        head = head_names(model)
        added = self.add(model, seed)
        sites = sites_of(model, head_names(model) | head)
        chooser = Chooser(self.granularity, self.scorer, seed, look)
        own = [site for site in sites if site.name not in added]
        new = [site for site in sites if site.name in added]
        parts: list[tuple[list[Site], int]] = [(own, budget)]
        if self.over == "inserted":
            parts = [(new, budget)]
        elif self.over == "half":
            parts = [(new, budget // 2), (own, budget - budget // 2)]
        choice: Choice = {}
        for some, share in parts:
            choice |= chooser.choose(within(some, self.scope), share)
        return choice, added

    def _published(self, model: PreTrainedModel, seed: int) -> tuple[Choice, list[str]]:
        from shoestring.tuning.apet.inserted import published_size
        from shoestring.tuning.apet.published import SCALES, published_budget, published_choice

        budget: int | None = None
        if not isinstance(self.budget, str):
            budget = self.size(model)
        elif self.budget not in SCALES:
            raise ModelError(f'tuning.budget="{self.budget}": PET scaling has {", ".join(SCALES)}; or give a number')
        head = head_names(model)
        added = self.add(model, seed)
        if budget is None:
            scale = str(self.budget)
            budget = published_budget(str(model.name_or_path), scale) or published_size(model, scale)
        sizes = [(name, param.numel()) for name, param in model.named_parameters() if name not in head]
        names = published_choice(sizes, budget, seed)
        if not names:
            raise ModelError(
                f"tuning.budget={budget:,} buys nothing: half of it is for inserted modules, half for whole tensors of "
                f"the model, and the smallest has {min(size for _, size in sizes):,} weights"
            )
        return dict.fromkeys(names), added
