"""Pieces encoded one by one leave no stray space, whatever the tokenizer does with the start of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.data.example import Example
from shoestring.prompts import PromptEncoder, PromptSettings
from shoestring.prompts.codec import Codec
from shoestring.tasks.spec import Label, Task

TASK = Task(
    name="toy",
    sentences=("first", "second"),
    labels=(Label(name="0", word="bad"), Label(name="1", word="good")),
    templates={},
)
TEMPLATE = '*bos**sent_0*_It_was*label_1*,_"*sent_1*"\nSo_*+sentl_0*??'
SENTENCES = st.text("abcdefgh,.?! ILÉ—\n", min_size=1).filter(lambda text: text.strip() == text)


def continued(tokenizer, sentences: tuple[str, str]) -> tuple[str, str]:
    """Return what the pieces join to, and what the whole text is, both with `▁` for a space."""
    encoder = PromptEncoder(TASK, tokenizer, "causal", PromptSettings(template=TEMPLATE, max_tokens=10_000))
    example = Example("a", sentences, "0")
    tokens = tokenizer.convert_ids_to_tokens(list(encoder.encode(example).ids[1:]))
    read = b"".join(bytes([int(t[3:5], 16)]) if t.startswith("<0x") else t.encode() for t in tokens)
    text = encoder.text(example).removeprefix("<bos>").replace(" ", "▁")
    return read.decode(), f"▁{text}"


@given(first=SENTENCES, second=SENTENCES)
def test_pieces_of_a_sentencepiece_tokenizer_join_to_the_text_without_stray_spaces(toy_sentencepiece, first, second):
    read, text = continued(toy_sentencepiece, (first, second))
    assert read == text


@pytest.mark.parametrize(("first", "second"), [("He ran.", "Why?"), ("a", "b c"), ("the film", "éa")])
def test_pieces_of_a_real_llama_style_tokenizer_join_to_the_text(stories, first, second):
    read, text = continued(stories, (first, second))
    assert read == text


def test_llama_prompts_read_as_they_would_in_one_piece(llama):
    settings = PromptSettings(template="*bos**sent_0*_It_was")
    task = TASK.model_copy(update={"sentences": ("text",)})
    prompt = PromptEncoder(task, llama, "causal", settings).encode(Example("a", ("a fine film .",), "0"))
    assert list(prompt.ids[1:]) == llama.encode("a fine film . It was", add_special_tokens=False)
    assert llama.convert_ids_to_tokens([option[0] for option in prompt.options]) == ["▁bad", "▁good"]


def test_which_tokenizers_add_a_space_is_found_by_behaviour(toy_bpe, toy_wordpiece, toy_sentencepiece):
    assert Codec(toy_sentencepiece).adds_space
    assert not Codec(toy_bpe).adds_space
    assert not Codec(toy_wordpiece).adds_space


def test_which_real_tokenizers_add_a_space_is_found_by_behaviour(roberta, bert, stories):
    assert Codec(stories).adds_space
    assert not Codec(roberta).adds_space
    assert not Codec(bert).adds_space


def test_continuing_with_nothing_is_nothing(toy_sentencepiece):
    assert Codec(toy_sentencepiece).continuation("") == []


def test_where_every_anchor_merges_the_text_is_encoded_alone(toy_sentencepiece, monkeypatch):
    codec = Codec(toy_sentencepiece)
    monkeypatch.setattr(codec, "_anchors", (("f", codec.encode("f")),))
    # "film" is one token, so "f" does not survive in front of "ilm".
    assert codec.continuation("ilm") == codec.encode("ilm")
