"""Adapters of peft's: put into a model in place, saved so that peft loads them, loaded, merged."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoestring.errors import ModelError, first_line
from shoestring.seeds import derive, torch_seeded
from shoestring.tuning.base import count_trained, head_names
from shoestring.tuning.delta import check_base, read_tensors, write_note, write_tensors
from shoestring.tuning.inserting import Inserting

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedModel

    from shoestring.tuning.base import Tuning

TENSORS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_ADAPTER = "default"


class PeftTuning(Inserting):
    """Puts adapters of peft's into a model's own modules, in place.

    What is saved is in peft's format, and `PeftModel.from_pretrained(base, folder)` loads it, unless `embeddings` gave
    the model a matrix that the base model has not; `load_tuned` loads all.
    """

    @abstractmethod
    def config(self, model: PreTrainedModel) -> PeftConfig:
        """Return peft's config for a model.

        Raises:
            ModelError: if there is no default for its architecture.
        """

    def insert(self, model: PreTrainedModel, seed: int) -> list[nn.Parameter]:
        """Inject the adapters, drawn from the stream (seed, kind), and return their parameters.

        Raises:
            ModelError: in peft's words, if they do not fit.
        """
        from peft import inject_adapter_in_model

        kind = str(self.model_dump()["kind"])
        config = self.config(model)
        before = {id(param) for param in model.parameters()}
        with torch_seeded(derive(seed, kind)), _calm():
            try:
                inject_adapter_in_model(config, model, _ADAPTER)
            except Exception as error:  # peft's methods raise what they like
                raise ModelError(self.explain(error, model)) from error
        return [param for param in model.parameters() if param.requires_grad and id(param) not in before] + [
            param for name, param in model.named_parameters() if param.requires_grad and id(param) in before
        ]

    def explain(self, error: Exception, model: PreTrainedModel) -> str:
        """Return what an error of peft's means to whoever wrote the settings."""
        return f'tuning.kind="{self.model_dump()["kind"]}": {first_line(error)}'

    def count(self, model: PreTrainedModel) -> int:
        """Return how many weights are trained, counted on a copy: without memory, unless peft must look at values."""
        try:
            return super().count(model)
        except (ModelError, RuntimeError):
            return count_trained(self.apply(copy.deepcopy(model), 0))

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the adapter alone, in peft's format; its config names the base model as it was loaded."""
        from peft.utils import get_peft_model_state_dict

        config = _config_of(model)
        state = dict(get_peft_model_state_dict(model, adapter_name=_ADAPTER))
        state |= {name: param.data for name, param in self.trained(model).items() if f".{_ADAPTER}" not in name}
        write_tensors(folder, {f"{_PREFIX}{name}": value for name, value in state.items()}, TENSORS)
        table = config.to_dict() | {"base_model_name_or_path": model.name_or_path, "inference_mode": True}
        type(config)(**_known(type(config), table)).save_pretrained(str(folder))
        changed = {name for name, _ in model.named_parameters() if f".{_ADAPTER}" in name} | self.trained(model).keys()
        write_note(folder, self.model_dump(mode="json"), model, changed)

    def restore(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """Inject the adapters and give them what was saved.

        Raises:
            ModelError: if the folder is damaged, or of another base model or tuning.
        """
        from peft.utils import set_peft_model_state_dict

        check_base(model, folder)
        saved = {name.removeprefix(_PREFIX): value for name, value in read_tensors(folder, TENSORS).items()}
        tuned = self.apply(model, 0)
        own = {name: param for name, param in self.trained(tuned).items() if f".{_ADAPTER}" not in name}
        if lacking := sorted(own.keys() - saved.keys()):
            raise ModelError(f"{folder}/{TENSORS} lacks {lacking[0]}, which this tuning trains")
        state = {name: value for name, value in saved.items() if name not in own}
        with _calm():
            report: Any = set_peft_model_state_dict(tuned, state, adapter_name=_ADAPTER)
        lost = [name for name in report.missing_keys if f".{_ADAPTER}" in name]
        if odd := [*report.unexpected_keys, *lost]:
            raise ModelError(f"{folder}/{TENSORS} is not of this tuning: {odd[0]}")
        for name, param in own.items():
            param.data.copy_(saved[name])
        return tuned

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Fold the adapters into the weights that they adapt, and take them out.

        Raises:
            ModelError: if the method's adapters cannot be written as weights.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        from shoestring.tuning.reloading import separate

        layers = {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
        wrappers = [name for name, module in model.named_modules() if isinstance(module, AuxiliaryTrainingWrapper)]
        if wrappers:
            raise ModelError(
                f"{wrappers[0]} is wrapped by peft, and merged by peft alone: PeftModel.merge_and_unload()"
            )
        for name, layer in layers.items():
            try:
                layer.merge(safe_merge=True)
            except Exception as error:  # each method of peft's refuses in its own way
                raise ModelError(f"{name} cannot be merged: {first_line(error)}") from error
        for name, layer in layers.items():
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, layer.get_base_layer())
        vars(model).pop("peft_config", None)
        if self.embeddings == "untied":
            separate(model)
        return model


def task_type(model: PreTrainedModel) -> Any:
    """Return peft's name for what a model with a head does, which makes peft keep the head; None for others."""
    from peft import TaskType

    return TaskType.SEQ_CLS if head_names(model) else None


def tuning_of_peft(folder: Path) -> Tuning:
    """Return the tuning that reads an adapter which peft itself saved.

    Raises:
        ModelError: if its config is damaged, or its method is not put into a model in place.
    """
    from peft import PeftConfig, PeftType

    from shoestring.config import build
    from shoestring.errors import ConfigError
    from shoestring.tuning.base import TUNINGS

    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
        if config.peft_type == PeftType.PROMPT_TUNING:
            return TUNINGS.get("prompt-tuning")(length=config.num_virtual_tokens)
        blank = type(config)().to_dict()
    except Exception as error:
        raise ModelError(f"{folder}/adapter_config.json cannot be read: {first_line(error)}") from error
    fields = {name: _plain(value) for name, value in config.to_dict().items() if blank.get(name) != value}
    fields = {name: value for name, value in fields.items() if name not in NOT_SETTINGS}
    table = {"kind": "peft", "method": str(config.peft_type.value).lower(), "fields": fields}
    try:
        return build(TUNINGS.get("peft"), table, str(folder / "adapter_config.json"))
    except ConfigError as error:
        raise ModelError(str(error)) from error


NOT_SETTINGS = frozenset(
    ["peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version"]
)
"""Fields of peft's configs that are not for users of tunings to set."""


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else value


def _known(config: type[PeftConfig], table: dict[str, Any]) -> dict[str, Any]:
    import dataclasses

    names = {field.name for field in dataclasses.fields(config) if field.init}
    return {name: value for name, value in table.items() if name in names}


def _config_of(model: PreTrainedModel) -> PeftConfig:
    configs = getattr(model, "peft_config", None)
    if not configs:
        raise ModelError(f"this {type(model).__name__} carries no adapter of peft's")
    return configs[_ADAPTER]


@contextmanager
def _calm() -> Iterator[None]:
    """Leave out peft's remarks, on what it sets right by itself for the most part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        yield
