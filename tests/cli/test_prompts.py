from __future__ import annotations

import json
from pathlib import Path

import tiny
from cli.conftest import Shell

TEMPLATE = "*cls**sent_0*_It_was*mask*.*sep+*"


def own(path: Path) -> list[str]:
    return [
        *("--data", str(path), "--text-columns", "review", "--label-column", "mood"),
        *("--template", TEMPLATE, "--label-words", "0=terrible,1=great"),
    ]


def test_without_data_and_model_the_task_files_own_example_is_shown(shell: Shell) -> None:
    out, _ = shell("prompts", "trec")
    assert "golden:0" in out
    assert "<cls><mask>: What is it ?<sep>" in out
    assert "' Human'  3" in out
    assert "<- label" not in out


def test_a_form_can_be_chosen(shell: Shell) -> None:
    assert "<bos>What is it ?⏎The answer is of type" in shell("prompts", "trec", "--kind", "causal")[0]
    assert "<cls>What is it ?<sep>" in shell("prompts", "trec", "--kind", "head")[0]


def test_a_template_can_be_tried_out(shell: Shell) -> None:
    out, _ = shell("prompts", "SST-2", "--template", "*cls*Is_it*mask*?*+sent_0**sep+*", "--label-words", "0=no,1=yes")
    assert "<cls>Is it<mask>? a fine film .<sep>" in out
    assert "' yes'  1" in out
    assert "<bos>a fine film .⏎Good?" in shell("prompts", "SST-2", "--template", "*bos**sent_0*⏎Good?")[0]


def test_a_named_task_stays_whatever_is_said_of_its_data_and_prompt(shell: Shell) -> None:
    path = tiny.write_csv(Path("moods.csv"))
    for named in ("mr", "task=mr"):
        out, _ = shell("prompts", named, *own(path), "--k", 4)
        assert out.startswith("mr, masked")
        assert "' great'  1" in out
    assert shell("prompts", *own(path), "--k", 4)[0].startswith("moods, masked")
    assert "<cls>" in shell("prompts", "task=trec")[0]


def test_with_data_the_examples_of_a_split_are_shown_with_their_label(shell: Shell, tiny_original: Path) -> None:
    out, _ = shell("prompts", "SST-2", "--data", tiny_original, "--k", 4, "--split", "dev", "-n", 2)
    assert out.count("<- label") == 2
    assert "dev 1, train:" in out
    assert "unknown split 'tset'; did you mean 'test'" in shell.error(
        "prompts", "SST-2", "--data", tiny_original, "--k", 4, "--split", "tset"
    )


def test_with_a_model_the_tokens_are_shown(shell: Shell, tiny_original: Path, tiny_masked_folder: Path) -> None:
    out, _ = shell("prompts", "SST-2", "--data", tiny_original, "--k", 4, "--model", tiny_masked_folder, "-n", 1)
    assert "SST-2, masked for " in out
    assert "of at most 64 tokens" in out
    assert "<s> " in out
    assert " <mask> . </s>" in out


def test_the_kind_is_found_out_from_the_tokenizer(shell: Shell, tiny_bert_folder: Path) -> None:
    assert "SST-2, masked for" in shell("prompts", "SST-2", "--model", tiny_bert_folder)[0]
    assert "SST-2, head for" in shell("prompts", "SST-2", "--model", tiny_bert_folder, "--kind", "head")[0]


def test_json_has_what_the_model_gets(shell: Shell, tiny_original: Path, tiny_masked_folder: Path) -> None:
    arguments = ("prompts", "SST-2", "--data", tiny_original, "--k", 4, "--model", tiny_masked_folder, "--json")
    rows = json.loads(shell(*arguments)[0])
    assert len(rows) == 3
    first = rows[0]
    tokenizer = tiny.bpe_tokenizer()
    assert first["ids"][first["mask_position"]] == tokenizer.mask_token_id
    assert first["length"] == len(first["ids"]) == len(first["tokens"]) == len(first["segment_ids"])
    assert first["option_ids"] == [tokenizer.encode(" terrible", add_special_tokens=False),
                                   tokenizer.encode(" great", add_special_tokens=False)]  # fmt: skip
    assert first["option_lengths"] == [1, 1]
    assert first["label"] == str(first["label_id"])
    assert first["truncated"] == 0


def test_examples_of_the_task_file_have_no_label_in_json(shell: Shell, tiny_masked_folder: Path) -> None:
    (row,) = json.loads(shell("prompts", "SST-2", "--model", tiny_masked_folder, "--json")[0])
    assert (row["label"], row["label_id"], row["split"]) == (None, None, None)


def test_own_data_need_no_task_file(shell: Shell) -> None:
    path = tiny.write_csv(Path("moods.csv"))
    out, _ = shell("prompts", *own(path), "--k", 4, "-n", 1)
    assert out.startswith("moods, masked\n")
    assert " It was<mask>.<sep>" in out


def test_a_recipe_says_it_all(shell: Shell, tiny_original: Path, tiny_masked_folder: Path) -> None:
    Path("r.toml").write_text(
        f'task = "SST-2"\n[data]\nsource = "{tiny_original}"\nk = 4\n'
        f'[model]\nkind = "masked"\nname = "{tiny_masked_folder}"\n[method]\nkind = "zero-shot"\n'
    )
    out, _ = shell("prompts", "r.toml", "prompt.max_tokens=40", "-n", 1)
    assert "of at most 40 tokens" in out
    assert "train 1, train:" in out


def test_a_task_file_without_examples_asks_for_data(shell: Shell) -> None:
    Path("mood.toml").write_text(
        'name = "mood"\nsentences = ["text"]\n'
        'labels = [{ name = "0", word = "bad" }, { name = "1", word = "good" }]\n'
        f'[templates.plain]\nmasked = "{TEMPLATE}"\n'
    )
    assert "task mood: has no examples of its own; give --data" in shell.error("prompts", "mood.toml")
