"""Whether a model has an embedding for the tokens that it is given, and for their segments.

A tokenizer may have had tokens added to it; a template may have more segments than a BERT tells apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from shoestring.errors import ModelError
from shoestring.models.scoring import segment_count

if TYPE_CHECKING:
    from shoestring.models.loading import LoadedModel
    from shoestring.prompts.encoding import EncodedPrompt

_REMEDY = (
    "use the tokenizer that the model was trained with, or call model.resize_token_embeddings(len(tokenizer)) in "
    "transformers and save both again"
)


def pad_id(loaded: LoadedModel) -> int:
    """Return the id to pad with.

    Padding is masked out, so any would do that has an embedding, were it not for the heads of causal models: they read
    the last token that is not the padding named in the model's config.

    Raises:
        ModelError: if a head has no padding token, or one without an embedding.
    """
    tokenizer, rows = loaded.tokenizer, _rows(loaded)
    if loaded.settings.kind != "head":
        # An added "[PAD]" often comes without a row of the embedding.
        known = [int(str(token or 0)) for token in (tokenizer.pad_token_id, tokenizer.eos_token_id)]
        return next((token for token in known if rows is None or token < rows), 0)
    pad = loaded.model.config.pad_token_id
    if pad is None:
        name = loaded.settings.name
        raise ModelError(f"model.name={name!r} has no padding token, which a classification head needs")
    if rows is not None and int(pad) >= rows:
        raise ModelError(f"{_named(loaded, int(pad), rows)}; a classification head needs its padding; {_REMEDY}")
    return int(pad)


def forget_padding(loaded: LoadedModel) -> None:
    """Let a model's config name no padding that has no embedding: a folder with such a config cannot be loaded."""
    config, rows = loaded.model.config, _rows(loaded)
    if loaded.settings.kind != "head" and rows is not None and (config.pad_token_id or 0) >= rows:
        config.pad_token_id = None


def check_ids(loaded: LoadedModel, prompts: Iterable[EncodedPrompt]) -> None:
    """Check that the model has an embedding for every token and segment of encoded prompts, and of their answers.

    Raises:
        ModelError: if it has none for one; names the example, what it has too much, and both sizes.
    """
    rows, segments = _rows(loaded), segment_count(loaded.model)
    # Prompts are many, and of nearly all tokenizers none can have such a token.
    tokens = rows is not None and max(loaded.tokenizer.get_vocab().values(), default=0) >= rows
    if not tokens and not segments:
        return
    for prompt in prompts:
        if tokens and rows is not None and (largest := max(_largest(prompt), default=0)) >= rows:
            raise ModelError(f"{_named(loaded, largest, rows)}; it is in example {prompt.uid}; {_REMEDY}")
        if segments and (needed := max(_segments(prompt))) > segments:
            raise ModelError(_too_many(loaded, prompt.uid, needed, segments))


def _largest(prompt: EncodedPrompt) -> Iterator[int]:
    """Yield the largest ids of the parts of a prompt."""
    for one in _inputs(prompt):
        yield max(one.ids, default=0)
        yield from (max(option, default=0) for option in one.options)


def _segments(prompt: EncodedPrompt) -> Iterator[int]:
    """Yield how many segments each input of a prompt needs."""
    return (1 + max(one.segment_ids, default=0) for one in _inputs(prompt))


def _inputs(prompt: EncodedPrompt) -> Iterator[EncodedPrompt]:
    """Yield a prompt and everything else that is asked along with it."""
    yield prompt
    for other in (*([prompt.taught] if prompt.taught is not None else []), *prompt.variants, *prompt.calibrations):
        yield from _inputs(other)


def _too_many(loaded: LoadedModel, uid: str, needed: int, segments: int) -> str:
    what = f"model.name={loaded.settings.name!r} tells {segments} segments apart, and example {uid} has {needed}"
    if loaded.settings.kind == "head":
        return f"{what}, one for each of its texts; take a model that does not read segments, such as RoBERTa"
    return (
        f"{what}: each *sep+* of a template, and of its demonstrations, begins another; write *sep* in its place, or "
        "take a model that does not read segments, such as RoBERTa"
    )


def _rows(loaded: LoadedModel) -> int | None:
    """Return the number of tokens that the model has an embedding for, where its embedding says so."""
    rows = getattr(loaded.model.get_input_embeddings(), "num_embeddings", None)
    return rows if isinstance(rows, int) else None


def _named(loaded: LoadedModel, token: int, rows: int) -> str:
    tokenizer, name = loaded.tokenizer, loaded.settings.name
    return (
        f"model.name={name!r}: its tokenizer ({type(tokenizer).__name__}, {len(tokenizer)} tokens) has "
        f"{tokenizer.convert_ids_to_tokens(token)!r} as token {token}, and the model's embedding has {rows} tokens, "
        f"0 to {rows - 1}"
    )
