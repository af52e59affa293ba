"""The template language: every token is read, everything unclear is refused with its place."""

from __future__ import annotations

import pytest

from shoestring.errors import TemplateError
from shoestring.prompts.template import (
    SENTENCES,
    SPECIALS,
    DemonstrationWord,
    LabelWord,
    Sentence,
    Shape,
    Special,
    Text,
    parse,
)

MASKED = Shape("masked", sentences=1, labels=2)
CAUSAL = Shape("causal", sentences=1, labels=2)
PAIR = Shape("masked", sentences=2, labels=3)


def test_the_published_single_sentence_template_is_read():
    assert parse("*cls**sent_0*_It_was*mask*.*sep+*", MASKED) == (
        Special("cls"),
        Sentence(0),
        Text(" It was"),
        Special("mask"),
        Text("."),
        Special("sep+"),
    )


def test_the_published_pair_template_is_read():
    assert parse("*cls**sent-_0*?*mask*,*+sentl_1**sep+*", PAIR) == (
        Special("cls"),
        Sentence(0, drop_last=True),
        Text("?"),
        Special("mask"),
        Text(","),
        Sentence(1, space=True, case="lower"),
        Special("sep+"),
    )


@pytest.mark.parametrize("name", [name for name in SPECIALS if name != "mask"])
def test_every_special_token_is_read(name):
    assert parse(f"*mask**{name}*", MASKED)[1] == Special(SPECIALS[name])


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("sent", "Go on."),
        ("sent-", "Go on"),
        ("sentl", "go on."),
        ("sentl-", "go on"),
        ("sentu", "Go on."),
        ("+sent", " Go on."),
        ("+sentl", " go on."),
        ("+sentu", " Go on."),
        ("+sentu-", " Go on"),
    ],
)
def test_every_sentence_token_is_read_and_does_what_its_name_says(token, text):
    piece = parse(f"*{token}_0**mask*", MASKED)[0]
    assert isinstance(piece, Sentence)
    assert piece.render(["Go on."]) == text


def test_upper_casing_changes_the_first_character_only():
    assert Sentence(0, case="upper").render(["go ON."]) == "Go ON."


@pytest.mark.parametrize("token", SENTENCES)
def test_an_empty_sentence_stays_empty(token):
    piece = parse(f"*{token}_0**mask*", MASKED)[0]
    assert isinstance(piece, Sentence)
    assert piece.render([""]).strip() == ""


def test_demonstrations_are_read_when_the_shape_has_them():
    shape = Shape("masked", sentences=1, labels=2, demonstrations=2)
    template = "*cls**sent_0*_It_was*mask*.*sep+**sent_1*_It_was*label_0*.*sep+**sent_2*_It_was*labelx_1*.*sep+*"
    pieces = parse(template, shape)
    assert pieces[6:9] == (Sentence(1), Text(" It was"), LabelWord(0))
    assert DemonstrationWord(1) in pieces


def test_line_breaks_and_plain_spaces_are_text():
    assert parse("*sent_0*\nIs it_so?\n", CAUSAL) == (Sentence(0), Text("\nIs it so?\n"))


def test_text_that_merely_begins_like_a_token_is_text():
    assert parse("sentence:*+sent_0*_label:*mask*", MASKED)[0] == Text("sentence:")


@pytest.mark.parametrize(
    ("template", "shape", "message"),
    [
        ("*cls**snt_0**mask*", MASKED, r"there is no token `\*snt_0\*`; did you mean '\*sent_0\*'\?"),
        ("*cls**msk*", MASKED, r"there is no token `\*msk\*`; did you mean '\*mask\*'\?"),
        ("*sentu-_0**mask*", MASKED, r"there is no token `\*sentu-_0\*`; did you mean '\*\+sentu-_0\*'\?"),
        ("*+sent-_0**mask*", MASKED, r"there is no token `\*\+sent-_0\*`; did you mean"),
        ("*+sentl-_0**mask*", MASKED, r"there is no token `\*\+sentl-_0\*`; did you mean"),
        ("*sent_0_1**mask*", MASKED, r"there is no token `\*sent_0_1\*`"),
        ("*sent_-1**mask*", MASKED, r"there is no token `\*sent_-1\*`"),
        ("*cls**sent_0*_It_was*mask.*sep+*", MASKED, r"there is no token `\*mask\.\*` \(its 7 stars do not pair up\)"),
        ("*cls**sent_0**mask*.*", MASKED, "its 7 stars do not pair up"),
        ("*sent_0**mask", MASKED, "its 3 stars do not pair up"),
        ("*cls*mask*sep*", MASKED, "`mask` stands outside of stars but reads like a token"),
        ("sent_0*mask*", MASKED, r"`sent_0` stands outside of stars .* put stars around it: `\*sent_0\*`"),
        ("*mask*label_1", MASKED, "`label_1` stands outside of stars"),
        ("*sent_5**mask*", MASKED, r"`\*sent_5\*` is out of range: there is 1 sentence \(0 to 0\)"),
        ("*sent_0**mask**sent_1*", MASKED, r"`\*sent_1\*` is out of range"),
        ("*mask**label_2*", MASKED, r"`\*label_2\*` is out of range: there are 2 labels \(0 to 1\)"),
        ("*mask**labelx_0*", MASKED, r"`\*labelx_0\*` is out of range: there are 0 demonstrations"),
        ("*sent_0*_*mask*", MASKED, r"a lone space is not a token .* `\*\+sent_1\*`"),
        ("*mask**sent_0**mask*", MASKED, "it has 2 masks; exactly one is read"),
        ("*cls**sent_0*", MASKED, r"it has no `\*mask\*`"),
        ("*sent_0**mask*", CAUSAL, r"a causal template ends where the answer begins and has no `\*mask\*`"),
        ("*sent_0*_It_was_", CAUSAL, "it ends in a space, which splits the answer's first token"),
        ("", CAUSAL, "it is empty"),
    ],
)
def test_what_is_unknown_or_ambiguous_is_refused(template, shape, message):
    with pytest.raises(TemplateError, match=message):
        parse(template, shape)


def test_the_message_shows_the_template_and_points_at_the_piece():
    with pytest.raises(TemplateError, match="task x") as caught:
        parse("*cls*\n*snt_0**mask*", MASKED, where="task x")
    _, template, pointer = str(caught.value).splitlines()
    assert template == "    *cls*⏎*snt_0**mask*"
    assert pointer == "          ^^^^^^^"
