"""Which model a run uses: its family, name, precision and place; and how it writes answers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from shoestring.config import Settings
from shoestring.prompts.settings import Kind
from shoestring.registry import Registry
from shoestring.tasks.problems import checked
from shoestring.tasks.spec import Generation, Task

ModelKind = Kind
DType = Literal["float32", "float64", "bfloat16", "float16"]


class ModelSettings(Settings):
    """What every family of models shares.

    Attributes:
        loader: the class of transformers that loads such models.
        architectures: transformers' table of the configs that it loads.
        prompted: whether it is asked in words, with a template; otherwise it reads the bare sentences.
        writes: whether it can write answers of its own.
    """

    loader: ClassVar[str]
    architectures: ClassVar[str]
    prompted: ClassVar[bool] = True
    writes: ClassVar[bool] = False

    kind: ModelKind
    """Family: `masked`, `causal`, `seq2seq`, or `head`."""
    name: str = Field(min_length=1)
    """A folder in the transformers format, or a hub id such as `roberta-large`."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; a folder has none."""
    dtype: DType = "float32"
    """Precision of the weights. Losses are computed in float32 (float64 for float64 weights) whatever this says."""
    device: str = "auto"
    """`auto` (CUDA, then MPS, then CPU), or one of them. Of several GPUs a run takes the first it sees; with `auto`, a
    model whose weights are too large for that is spread over all of them, layer by layer."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Keep the matrices of linear layers, but the output embedding, in integers of 8 bits (LLM.int8) or 4 bits (nf4):
    bitsandbytes (`pip install 'shoestring[quantization]'`). Such weights stay as they are: a tuning that adds weights,
    such as `lora`, or that chooses others, such as `norms`, trains beside them."""
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """Attention implementation; `auto` leaves the choice to transformers."""

    @model_validator(mode="after")
    def _integers_are_computed_with_in_single_or_half_precision(self) -> Self:
        if self.quantization is not None and self.dtype == "float64":
            raise ValueError(f"quantization={self.quantization!r} is not for dtype='float64'; use float32 or less")
        return self


MODEL_KINDS: Registry[type[ModelSettings]] = Registry("model kind", package=None)


class MaskedModel(ModelSettings):
    """A masked language model (RoBERTa, BERT): label words are scored at the mask."""

    loader: ClassVar[str] = "AutoModelForMaskedLM"
    architectures: ClassVar[str] = "MODEL_FOR_MASKED_LM_MAPPING"

    kind: Literal["masked"] = "masked"  # pyright: ignore[reportIncompatibleVariableOverride]


MODEL_KINDS.register("masked")(MaskedModel)


class CausalModel(ModelSettings):
    """A causal language model (OPT, Llama, GPT-2, ...): candidate answers are scored after the prompt."""

    loader: ClassVar[str] = "AutoModelForCausalLM"
    architectures: ClassVar[str] = "MODEL_FOR_CAUSAL_LM_MAPPING"
    writes: ClassVar[bool] = True

    kind: Literal["causal"] = "causal"  # pyright: ignore[reportIncompatibleVariableOverride]


MODEL_KINDS.register("causal")(CausalModel)


class Seq2SeqModel(ModelSettings):
    """A sequence-to-sequence model (T5, BART): the encoder reads the prompt, candidates are scored in the decoder."""

    loader: ClassVar[str] = "AutoModelForSeq2SeqLM"
    architectures: ClassVar[str] = "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING"
    writes: ClassVar[bool] = True

    kind: Literal["seq2seq"] = "seq2seq"  # pyright: ignore[reportIncompatibleVariableOverride]


MODEL_KINDS.register("seq2seq")(Seq2SeqModel)


class HeadModel(ModelSettings):
    """A model with a classification head, without prompts; a missing head is made new from the run's seed."""

    loader: ClassVar[str] = "AutoModelForSequenceClassification"
    architectures: ClassVar[str] = "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING"
    prompted: ClassVar[bool] = False

    kind: Literal["head"] = "head"  # pyright: ignore[reportIncompatibleVariableOverride]


MODEL_KINDS.register("head")(HeadModel)


class GenerationSettings(Settings):
    """How answers of generation tasks are written. The defaults are the task file's own, and greedy decoding."""

    max_new_tokens: PositiveInt | None = None
    """Longest answer, in tokens. Without it, the task's own."""
    stop: str | None = None
    """A text whose last token ends an answer, besides the end-of-text token; an empty one: only that token does.
    Without it, the task's own."""
    sampling: bool = False
    """Whether tokens are drawn by their probabilities, from a stream of the run's seed and the example; otherwise the
    likeliest is taken."""
    temperature: PositiveFloat = 1.0
    """With `sampling`: what logits are divided by."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """With `sampling`: only the likeliest tokens are drawn, as many as it takes to have this probability together."""
    beams: PositiveInt = 1
    """Answers that are followed at once (beam search), for the one of highest mean log-probability a token; not with
    `sampling`."""

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        problems: list[str] = []
        if self.sampling and self.beams > 1:
            problems.append("beams look for the likeliest answer and sampling draws one; choose one of them")
        default = type(self).model_fields
        idle = [name for name in ("temperature", "top_p") if getattr(self, name) != default[name].default]
        problems += [f"{name} has no effect without sampling=true" for name in idle if not self.sampling]
        return checked(self, problems)

    def applied_to(self, task: Task) -> Task:
        """Return a task whose answers are as long, and end where, these settings say."""
        changes: dict[str, Any] = {} if self.max_new_tokens is None else {"max_new_tokens": self.max_new_tokens}
        if self.stop is not None:
            changes["stop"] = self.stop or None
        own = task.generation or Generation()
        return task.model_copy(update={"generation": own.model_copy(update=changes)}) if changes else task
