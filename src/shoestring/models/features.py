"""What a frozen model makes of prompts: the state that its output layer reads, pooled states, activations of layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from shoestring.errors import ModelError
from shoestring.models.batch import Batch, batches, collate
from shoestring.models.budget import out_of_memory
from shoestring.models.prompted import forward_only
from shoestring.models.scorers.seq2seq import decoder_start
from shoestring.models.scoring import Reader, full_precision, logits_of, model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.models.prompted import PromptedModel
    from shoestring.prompts.encoding import EncodedPrompt

R = TypeVar("R")
Place = Literal["label-word", "first-token", "mean"]
# The layer behind a feed-forward layer's activation, as the architectures call it. Attention of BERT's family ends in
# an `output.dense` too.
_BEHIND = re.compile(
    r"(?:mlp\.(?:down_proj|c_proj|dense_4h_to_h|fc2|fc_out|Wo)|DenseReluDense\.wo|ffn\.lin2|ffn_output|\bfc2"
    r"|(?<!attention)\.output\.dense)$"
)


def states(
    subject: PromptedModel, inputs: Sequence[EncodedPrompt], place: Place, size: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of each input, in any order, with its features [D] on the CPU; float32, or float64.

    With hidden states h_t of the last layer and L tokens, padding left out:

        label-word:   what the output layer reads where the answer is scored: at the mask (behind the transformation of
                      the head), the last token of a causal prompt, the first place of a decoder; of a model with a
                      classification head, the input of that head's last layer
        first-token:  h_0
        mean:         (1 / L) sum_t h_t

    the latter two of the encoder where there is a decoder too.

    Args:
        subject: the model with its task; passes are counted there.
        inputs: encoded prompts; their variants and calibrations are not looked at.
        place: which.
        size: most inputs of a forward pass, which the budget of tokens bounds too.

    Raises:
        ModelError: if the model has no such state, or memory does not suffice for one input.

    Source: princeton-nlp/MeZO medium_models/src/linearhead_trainer.py (label-word).
    """
    reading = _answers if place == "label-word" else _pooled
    for numbers, found in over_batches(subject, inputs, size, lambda batch: reading(subject, batch, place).cpu()):
        yield from zip(numbers, found, strict=True)


def over_batches(
    subject: PromptedModel, inputs: Sequence[EncodedPrompt], size: int, read: Callable[[Batch], R]
) -> Iterator[tuple[list[int], R]]:
    """Yield the numbers of the inputs of each batch with what `read` makes of it; eval mode, no gradients in `read`.

    When memory runs out, what is left is put into batches of half the tokens.

    Raises:
        ModelError: if memory does not even suffice for one input.
    """
    # A task whose answers are written may teach another input than it asks.
    bare = [replace(prompt, options=(), scored=(), right=(), taught=None) for prompt in inputs]
    left = list(range(len(inputs)))
    device = subject.model.device
    while left:
        done, too_many = set[int](), 0
        for found in batches([bare[number] for number in left], size, subject.budget.on(device)):
            numbers = [left[place] for place in found]
            batch = collate([bare[number] for number in numbers], subject.pad_id)
            tokens = batch["input_ids"].numel()
            try:
                with forward_only(subject.model):
                    value = read({name: tensor.to(device) for name, tensor in batch.items()})
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(numbers) == 1:
                    uid = inputs[numbers[0]].uid
                    raise ModelError(
                        f"memory does not suffice for a single input of {tokens} tokens ({uid}); a smaller "
                        "prompt.max_tokens or model.dtype=bfloat16 helps"
                    ) from error
                too_many = tokens
                break
            subject.passes.forward += 1
            subject.passes.forward_examples += len(numbers)
            done.update(numbers)
            yield numbers, value
        # Behind the handler: while that is active the error's traceback holds the tensors of the pass.
        if too_many:
            subject.budget.halve(too_many, device)
        left = [number for number in left if number not in done]


def answer_activations(subject: PromptedModel, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Return the state that the output layer reads [N, D], and what its feed-forward layers are at the same token.

    Those are the activations [N, F_l] that the second matrix of a feed-forward layer reads, of each layer in the order
    of computation; of the decoder alone where there is one.

    Raises:
        ModelError: if no feed-forward layers are found, or the model has a classification head, and so no such token.
    """
    model = subject.model
    if not subject.scorer.has_vocabulary:
        raise ModelError("a model with a classification head has no token that stands for the answer: use another kind")
    names = [name for name, _ in feed_forwards(model)]
    positions = _positions(subject, batch)
    width = _width(subject, batch)
    layers: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        layers.append(full_precision(_picked(arguments[0], positions, width)))

    with ExitStack() as stack:
        for name in names:
            stack.callback(model.get_submodule(name).register_forward_pre_hook(keep).remove)
        last = _answers(subject, batch)
    return last, layers


def feed_forwards(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Return the second matrices of a model's feed-forward layers by name; the decoder's alone where there is one.

    Raises:
        ModelError: if there are none under a known name.
    """
    modules: list[tuple[str, nn.Module]] = list(model.named_modules())
    found = [(name, module) for name, module in modules if _BEHIND.search(name)]
    if model.config.is_encoder_decoder:
        found = [(name, module) for name, module in found if re.search(r"\bdecoder\.", name)]
    if not found:
        linear = [name for name, module in modules if isinstance(module, nn.Linear)]
        raise ModelError(
            f"{type(model).__name__} has no feed-forward layers under a name that is known here, such as mlp.down_proj "
            f"or fc2; its linear layers end in {', '.join(sorted({name.rpartition('.')[2] for name in linear})[:12])}"
        )
    return found


def _pooled(subject: PromptedModel, batch: Batch, place: Place) -> Tensor:
    model = cast("Any", subject.model)
    inputs = _inputs(subject, batch)
    if model.config.is_encoder_decoder:
        hidden = model.get_encoder()(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
    elif isinstance(subject.scorer, Reader):
        hidden = model.base_model(**inputs, use_cache=False)[0]
    else:
        hidden = model.base_model(**inputs)[0]
    hidden = full_precision(hidden)
    if place == "first-token":
        return hidden[:, 0]
    mask = batch["attention_mask"][..., None]
    return (hidden * mask).sum(1) / mask.sum(1)


def _answers(subject: PromptedModel, batch: Batch, _: Place = "label-word") -> Tensor:
    """Return what the output layer reads where the answer is scored [N, D]; it is applied there alone."""
    positions, width = _positions(subject, batch), _width(subject, batch)
    with _reading(output_layer(subject), positions, width, narrow=subject.scorer.has_vocabulary) as found:
        _forward(subject, batch)
    return full_precision(found[-1])


@contextmanager
def _reading(layer: nn.Module, positions: Tensor, width: int, *, narrow: bool) -> Iterator[list[Tensor]]:
    found: list[Tensor] = []

    def read(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        states = arguments[0]
        found.append(states if states.ndim == 2 and not narrow else _picked(states, positions, width))
        return (found[-1][:, None], *arguments[1:]) if narrow else None

    handle = layer.register_forward_pre_hook(read)
    try:
        yield found
    finally:
        handle.remove()


def output_layer(subject: PromptedModel) -> nn.Module:
    """Return the last layer of all: the output embedding, or the last layer of a classification head.

    Raises:
        ModelError: if it is not found.
    """
    model = subject.model
    if subject.scorer.has_vocabulary:
        if (layer := model.get_output_embeddings()) is None:
            raise ModelError(f"{type(model).__name__} has no output embedding, so there is nothing that it reads")
        return layer
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    if last.out_features != model.config.num_labels:
        raise ModelError(
            f"{type(model).__name__}: its last linear layer has {last.out_features} outputs where there are "
            f"{model.config.num_labels} labels, so it is not its classifier; use features='mean'"
        )
    return last


def _forward(subject: PromptedModel, batch: Batch) -> None:
    model, inputs = cast("Any", subject.model), _inputs(subject, batch)
    if subject.scorer.has_vocabulary and model.config.is_encoder_decoder:
        start = torch.tensor([decoder_start(model)], device=batch["input_ids"].device)
        model(**inputs, decoder_input_ids=start.expand(len(batch["input_ids"]), -1), use_cache=False)
    else:
        logits_of(model, inputs)


def _inputs(subject: PromptedModel, batch: Batch) -> Batch:
    """Return what the scorer gives the model: causal models do without a mask, for padding stands behind."""
    if isinstance(subject.scorer, Reader):
        return {"input_ids": batch["input_ids"], "attention_mask": torch.ones_like(batch["input_ids"])}
    if subject.model.config.is_encoder_decoder:
        return {name: batch[name] for name in ("input_ids", "attention_mask")}
    return model_inputs(subject.model, batch)


def _positions(subject: PromptedModel, batch: Batch) -> Tensor:
    """Return the token [N] from whose state the answer is scored."""
    if not subject.scorer.has_vocabulary:
        return batch["attention_mask"].sum(1) - 1
    if subject.model.config.is_encoder_decoder:
        return torch.full_like(batch["input_ids"][:, 0], len(decoder_start(subject.model)) - 1)
    return batch["position"]


def _width(subject: PromptedModel, batch: Batch) -> int:
    """Return how many tokens the states have in which positions are counted."""
    if subject.scorer.has_vocabulary and subject.model.config.is_encoder_decoder:
        return len(decoder_start(subject.model))
    return batch["input_ids"].shape[1]


def _picked(states: Tensor, positions: Tensor, width: int) -> Tensor:
    """Return the states [N, D] at positions, of [N, L, D], or [N * L, D] as some feed-forward layers have it.

    Whatever a tuning puts before the input's `width` tokens is stepped over.
    """
    rows = states.reshape(len(positions), -1, states.shape[-1])
    return rows[torch.arange(len(positions), device=rows.device), positions + rows.shape[1] - width]
