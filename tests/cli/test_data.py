from __future__ import annotations

from pathlib import Path

from cli.conftest import Shell


def kshot(source: Path, *more: object) -> list[object]:
    return ["data", "kshot", "--source", source, "--out", "drawn", "--k", 4, "--seeds", "13,21", *more]


def test_folders_are_written_once_and_named(shell: Shell, tiny_original: Path) -> None:
    out, _ = shell(*kshot(tiny_original, "--task", "SST-2"))
    assert out.splitlines() == ["written\tdrawn/k-shot/SST-2/4-13", "written\tdrawn/k-shot/SST-2/4-21"]
    assert sorted(path.name for path in Path("drawn/k-shot/SST-2/4-13").iterdir()) == [
        "dev.tsv",
        "test.tsv",
        "train.tsv",
    ]
    again, _ = shell(*kshot(tiny_original, "--task", "sst-2"))
    assert again.splitlines()[0] == "unchanged\tdrawn/k-shot/SST-2/4-13"


def test_other_contents_are_replaced_only_by_force(shell: Shell, tiny_original: Path) -> None:
    folder = Path("drawn/k-shot/SST-2/4-13")
    folder.mkdir(parents=True)
    (folder / "train.tsv").write_text("mine")
    assert "there already, with other contents; --force replaces" in shell.error(
        *kshot(tiny_original, "--task", "SST-2")
    )
    assert (folder / "train.tsv").read_text() == "mine"
    shell(*kshot(tiny_original, "--task", "SST-2", "--force"))
    assert (folder / "train.tsv").read_text().startswith("sentence\tlabel\n")


def test_all_draws_what_is_there_and_names_what_is_not(shell: Shell, tiny_original: Path) -> None:
    out, err = shell(*kshot(tiny_original, "--task", "all"))
    assert {line.split("/")[2] for line in out.splitlines()} == {"SST-2"}
    assert "not in" in err
    assert "trec" in err


def test_all_refuses_the_folder_of_one_task_and_an_empty_one(shell: Shell, tiny_original: Path) -> None:
    assert "holds the files of one task" in shell.error(*kshot(tiny_original / "SST-2", "--task", "all"))
    Path("empty").mkdir()
    assert "holds the original files of no task" in shell.error(*kshot(Path("empty"), "--task", "all"))
    assert "there is no such folder" in shell.error(*kshot(Path("none"), "--task", "all"))


def test_scarce_labels_are_warned_of_on_stderr(shell: Shell, tiny_original: Path) -> None:
    arguments = ["data", "kshot", "--source", tiny_original, "--out", "drawn", "--k", 30, "--seeds", "13"]
    out, err = shell(*arguments, "--task", "SST-2")
    assert "note: SST-2, k=30: label" in err
    assert "note" not in out
