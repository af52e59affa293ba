"""A slow, obvious twin of the prompt encoding, written from the published rules alone (research/prompts.md, section 2).

It knows nothing of the package's own parser or encoder: it takes the template apart as a string, token name by token
name, and asks the tokenizer about one piece at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Twin:
    ids: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    mask: int | None = None
    cut: int = 0


def encode(  # noqa: C901, PLR0912 (one flat list of cases, as the rules have it)
    template: str,
    sentences: list[str],
    tokenizer,
    *,
    words: list[list[int]],
    demonstration_labels: list[int] | None = None,
    first_limit: int | None = None,
    other_limit: int | None = None,
    max_tokens: int,
) -> Twin:
    """Encode a template by the published rules; the mask is None where it was cut off."""
    result = Twin()
    segment = 0
    for number, piece in enumerate(template.split("*")):
        next_segment = segment
        if number % 2 == 0:
            text = piece.replace("_", " ")
            if len(text) == 1:
                tokens = [tokenizer.convert_tokens_to_ids(text)]
            else:
                tokens = tokenizer.encode(text, add_special_tokens=False)
        elif piece == "cls":
            tokens = [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id]
        elif piece == "bos":
            tokens = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        elif piece == "eos":
            tokens = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        elif piece == "mask":
            tokens = [tokenizer.mask_token_id]
        elif piece == "sep":
            tokens = [tokenizer.sep_token_id]
        elif piece == "sep+":
            tokens = [tokenizer.sep_token_id]
            next_segment = segment + 1
        else:
            name, index_text = piece.split("_")
            index = int(index_text)
            if name == "label":
                tokens = words[index]
            elif name == "labelx":
                assert demonstration_labels is not None
                tokens = words[demonstration_labels[index]]
            else:
                tokens, cut = sentence(name, index, sentences, tokenizer, first_limit, other_limit)
                result.cut += cut
        for token in tokens:
            result.ids.append(token)
            result.segments.append(segment)
        segment = next_segment
    while len(result.ids) > max_tokens:
        result.ids.pop()
        result.segments.pop()
        result.cut += 1
    for place, token in enumerate(result.ids):
        if token == tokenizer.mask_token_id:
            result.mask = place
            break
    return result


def sentence(name, index, sentences, tokenizer, first_limit, other_limit):  # noqa: C901
    text = sentences[index]
    if name == "sent":
        pass
    elif name == "sent-":
        text = text[:-1]
    elif name == "sentl":
        text = lower_first(text)
    elif name == "sentl-":
        text = lower_first(text)[:-1]
    elif name == "sentu":
        text = upper_first(text)
    elif name == "+sent":
        text = " " + text
    elif name == "+sentl":
        text = " " + lower_first(text)
    elif name == "+sentu":
        text = " " + upper_first(text)
    elif name == "+sentu-":
        text = " " + upper_first(text)[:-1]
    else:
        raise AssertionError(name)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    limit = first_limit if index == 0 else other_limit
    if limit is None:
        return tokens, 0
    return tokens[:limit], max(0, len(tokens) - limit)


def lower_first(text):
    return "" if text == "" else text[0].lower() + text[1:]


def upper_first(text):
    return "" if text == "" else text[0].upper() + text[1:]


def encode_head(sentences: list[str], tokenizer, max_tokens: int) -> Twin:
    """Encode bare sentences: `[CLS] a [SEP] b [SEP]`, segment i for sentence i, the tail cut."""
    result = Twin(ids=[tokenizer.cls_token_id], segments=[0])
    for index, text in enumerate(sentences):
        for token in [*tokenizer.encode(text, add_special_tokens=False), tokenizer.sep_token_id]:
            result.ids.append(token)
            result.segments.append(index)
    result.cut = max(0, len(result.ids) - max_tokens)
    result.ids, result.segments = result.ids[:max_tokens], result.segments[:max_tokens]
    return result
