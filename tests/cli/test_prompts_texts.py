"""`shoestring prompts` and `shoestring tasks check` with text forms, demonstrations, templates in turn, calibration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from cli.conftest import Shell

MOVIE = """
name = "movie"
sentences = ["text"]
labels = [{ name = "0", word = "terrible" }, { name = "1", word = "great" }]
[templates.plain]
causal = "*sent_0*_So"
[templates.plain.text]
prompt = "{{ text }} It was"
calibration = "It was"
[templates.asked.text]
prompt = "Is {{ text }} good?\\n"
answer = "{{ candidate }}"
[limits]
max_tokens = 60
[sources.files]
folder = "movie"
format = "jsonl"
sentences = ["text"]
label = "label"
files = { train = "train.jsonl", test = "test.jsonl" }
[[golden]]
sentences = ["a film"]
text = "a film It was"
"""
CHOICE = """
name = "cause"
kind = "multiple-choice"
sentences = ["text"]
[templates.plain.text]
prompt = "{{ text }} because"
answer = " {{ candidate }}"
[[golden]]
sentences = ["It fell"]
candidates = ["it was great", "it rained"]
text = "It fell because"
"""
SHOWN = ("prompt.demonstrations.kind=in-context", "prompt.demonstrations.count=2", "prompt.demonstrations.order=given")


@pytest.fixture
def movie(shell: Shell) -> str:
    Path("movie.toml").write_text(MOVIE)
    Path("movie").mkdir()
    for name in ("train", "test"):
        rows = (json.dumps({"text": f"film {n}", "label": str(n % 2)}) for n in range(12))
        Path(f"movie/{name}.jsonl").write_text("\n".join(rows))
    return "movie.toml"


def test_the_question_and_its_answers_are_shown(shell: Shell, movie: str) -> None:
    out, _ = shell("prompts", movie)
    assert out.startswith("movie, causal\n")
    assert "  text     a film It was\n  answers  ' terrible'  0\n           ' great'  1\n" in out
    assert "Is a film good?⏎" in shell("prompts", movie, "--template", "asked")[0]
    assert "So a film?\n" in shell("prompts", movie, "--template", "So {{ text }}?")[0]


def test_what_asks_about_nothing_is_shown(shell: Shell, movie: str, tiny_causal_folder: Path) -> None:
    out, _ = shell("prompts", movie, "prompt.calibration=contextual", "prompt.template=asked")
    assert "nothing  Is N/A good?⏎  'terrible' | 'great'" in out
    assert out.count("nothing") == 3
    out, _ = shell("prompts", movie, "prompt.calibration=surface-form", "--model", tiny_causal_folder)
    assert "  nothing  It was  ' terrible' | ' great'\n" in out
    assert "<s> It Ġwas" in out


def test_demonstrations_are_drawn_from_the_data(shell: Shell, movie: str, tiny_causal_folder: Path) -> None:
    data = ("--data", ".", "--k", 2, "--split", "test", "-n", 1)
    for model in ((), ("--model", tiny_causal_folder)):
        out, _ = shell("prompts", movie, *data, *SHOWN, *model)
        assert "It was terrible⏎⏎film" in out
        assert "test 1, test:0" in out
        assert "' great'" in out
        assert "<- label" in out
    more, _ = shell("prompts", movie, *data, *SHOWN, "prompt.demonstrations.samples=3", "--model", tiny_causal_folder)
    assert "and 2 more draws of demonstrations" in more
    assert "prompt.demonstrations: are drawn from training examples; give --data" in shell.error(
        "prompts", movie, *SHOWN
    )


def test_templates_in_turn_are_shown_one_after_another(shell: Shell, movie: str, tiny_causal_folder: Path) -> None:
    for model in ((), ("--model", tiny_causal_folder)):
        out, _ = shell("prompts", movie, 'prompt.templates=["plain", "asked"]', *model)
        assert out.index("a film It was") < out.index("or by asked") < out.index("Is a film good?⏎")


def test_demonstrations_of_lm_bff_are_shown_with_a_tokenizer(
    shell: Shell, tiny_original: Path, tiny_masked_folder: Path
) -> None:
    arguments = ("prompts", "SST-2", "--data", tiny_original, "--k", 4, "prompt.demonstrations.kind=per-label", "-n", 1)
    assert "prompt.demonstrations: are shown with a tokenizer; give --model" in shell.error(*arguments)
    out, _ = shell(*arguments, "prompt.max_tokens=64", "--model", tiny_masked_folder)
    assert "It was<mask>.<sep>" in out
    assert "It was terrible.<sep>" in out
    assert "and 15 more draws of demonstrations" in out


def test_json_has_every_input_and_what_of_it_is_scored(shell: Shell, movie: str, tiny_causal_folder: Path) -> None:
    arguments = (*SHOWN, "prompt.demonstrations.samples=2", "prompt.calibration=surface-form")
    data = ("--data", ".", "--k", 2, "--split", "test", "-n", 2, "--model", tiny_causal_folder, "--json")
    rows = json.loads(shell("prompts", movie, *data, *arguments)[0])
    tokenizer = tiny.bpe_tokenizer()
    for row in rows:
        assert len(row["variants"]) == 1
        for way in (row, *row["variants"]):
            for found in (way, *way["calibrations"]):
                assert found["position"] == len(found["ids"]) - 1
                for option, span in zip(found["option_ids"], found["spans"], strict=True):
                    assert [*found["ids"], *option][slice(*span)] == option[-(span[1] - span[0]) :]
        whole = [*row["ids"], *row["option_ids"][1]]
        assert tokenizer.decode(whole) == f"<s>{row['text']} great"
        assert row["text"].startswith("film")
        assert row["option_lengths"] == [len(option) for option in row["option_ids"]]
        assert row["taught"] is None
    (cut,) = json.loads(shell("prompts", movie, "prompt.max_tokens=4", "--model", tiny_causal_folder, "--json")[0])
    assert cut["truncated"] > 0
    lengths = [len(cut["ids"]) + len(option) for option in cut["option_ids"]]
    assert lengths == [end for _, end in cut["spans"]]


def test_json_of_candidates_of_an_examples_own(shell: Shell, tiny_causal_folder: Path) -> None:
    Path("cause.toml").write_text(CHOICE)
    (row,) = json.loads(shell("prompts", "cause.toml", "--model", tiny_causal_folder, "--json")[0])
    assert row["candidates"] == ["it was great", "it rained"]
    assert row["right"] is None  # The task file's own example says nothing of it.
    assert "' it rained'" in shell("prompts", "cause.toml", "--model", tiny_causal_folder)[0]


def test_written_answers_are_shown_with_all_that_are_right(shell: Shell, tiny_causal_folder: Path) -> None:
    for model in ((), ("--model", tiny_causal_folder)):
        out, _ = shell("prompts", "SQuAD", *model)
        assert "Answer:" in out
        assert "answer   ' the Tiber\\n'" in out
        assert "answers" not in out
    (row,) = json.loads(shell("prompts", "SQuAD", "prompt.max_tokens=60", "--model", tiny_causal_folder, "--json")[0])
    assert row["taught"]["ids"] != row["ids"]
    assert row["taught"]["option_ids"] == row["option_ids"]
    assert row["golds"] == ["the Tiber"]


def test_a_folder_of_a_tokenizer_alone_will_do(shell: Shell, movie: str) -> None:
    tiny.bpe_tokenizer().save_pretrained("tokenizer")
    assert "movie, causal for tokenizer" in shell("prompts", movie, "--model", "tokenizer")[0]
    assert "movie, seq2seq for" in shell("prompts", movie, "--model", "tokenizer", "--kind", "seq2seq")[0]
    assert (
        f"{movie}: ok with the tokenizer of tokenizer (causal)"
        in shell("tasks", "check", movie, "--model", "tokenizer")[0]
    )
    Path("empty").mkdir()
    assert "the tokenizer cannot be loaded" in shell.error("prompts", movie, "--model", "empty")


def test_tasks_of_several_kinds_are_checked_together(shell: Shell, movie: str, tiny_masked_folder: Path) -> None:
    out, _ = shell("tasks", "check", movie, "--model", tiny_masked_folder)
    assert "(causal)" in out
    assert "ok with" in shell("tasks", "check", movie, "--model", tiny_masked_folder, "--kind", "seq2seq")[0]
    Path("bad.toml").write_text(MOVIE.replace("{{ text }} It was", "{{ txt }} It was"))
    out, _ = shell("tasks", "check", "bad.toml", movie, code=1)
    assert "task movie, template 'plain' (text.prompt): 'txt' is no text of the task; did you mean 'text'" in out
    assert f"{movie}: ok" in out


def test_settings_that_cannot_be_had_are_named_at_once(shell: Shell, movie: str) -> None:
    error = shell.error("prompts", movie, *SHOWN, "prompt.truncate=sentence", "prompt.label_words={2='x'}")
    assert "prompt.label_words: unknown label '2'" in error
    assert "prompt.truncate=sentence cuts sentences" in error
    error = shell.error("prompts", movie, "prompt.demonstrations=in-context")
    assert "write prompt.demonstrations.kind=in-context. Allowed: gpt3, in-context, per-label" in error
    assert "prompt.demonstrations.kind: is required. Allowed: gpt3" in shell.error(
        "prompts", movie, "prompt.demonstrations.count=2"
    )
