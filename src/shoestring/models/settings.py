"""Which model a run uses: its family, name, precision and place."""

from __future__ import annotations

from typing import Literal

from shoestring.config import Settings

ModelKind = Literal["masked", "causal", "head"]
DType = Literal["float32", "float64", "bfloat16", "float16"]


class ModelSettings(Settings):
    """What every family of models shares."""

    kind: ModelKind
    """Family: `masked`, `causal`, or `head`."""
    name: str
    """A folder in the transformers format, or a hub id such as `roberta-large`."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; a folder has none."""
    dtype: DType = "float32"
    """Precision of the weights. Losses are computed in float32 (float64 for float64 weights) whatever this says."""
    device: str = "auto"
    """`auto` (CUDA, then MPS, then CPU), or one of them. Of several GPUs a run takes the first it sees."""
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """Attention implementation; `auto` leaves the choice to transformers."""


class MaskedModel(ModelSettings):
    """A masked language model (RoBERTa, BERT): label words are scored at the mask."""

    kind: Literal["masked"] = "masked"  # pyright: ignore[reportIncompatibleVariableOverride]


class CausalModel(ModelSettings):
    """A causal language model (OPT, Llama, GPT-2, ...): candidate answers are scored after the prompt."""

    kind: Literal["causal"] = "causal"  # pyright: ignore[reportIncompatibleVariableOverride]


class HeadModel(ModelSettings):
    """A model with a classification head, without prompts; a missing head is made new from the run's seed."""

    kind: Literal["head"] = "head"  # pyright: ignore[reportIncompatibleVariableOverride]


MODEL_KINDS: tuple[type[ModelSettings], ...] = (MaskedModel, CausalModel, HeadModel)
