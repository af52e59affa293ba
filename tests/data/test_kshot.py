from __future__ import annotations

import errno
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import kshot_twin
from reference.originals import COLUMNS, MODES, originals
from shoestring.data.kshot import KshotReport, KshotSettings, write_kshot
from shoestring.data.published import SEEDS, small_test
from shoestring.data.settings import DataSettings
from shoestring.data.splits import draw
from shoestring.errors import DataError, OutputError, RunFolderError
from shoestring.tasks.load import load_task

AT_HAND = ("SST-2", "sst-5", "mr", "cr", "mpqa", "subj", "trec", "CoLA", "MRPC", "STS-B", "RTE")


def write(source: Path, out: Path, *tasks: str, **changes: object) -> KshotReport:
    given: dict[str, object] = {"source": str(source), "out": str(out), "tasks": tasks}
    return write_kshot(KshotSettings.model_validate(given | changes))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task", ["SST-2", "trec", "CoLA"])
def test_the_published_files_are_written_byte_for_byte(task: str, shared: Path, tmp_path: Path) -> None:
    write(shared / "lm-bff", tmp_path, task, seeds=(13, 21, 42, 87, 100))
    published = contents(shared / "lm-bff" / task / "k-shot")
    ours = contents(tmp_path / "k-shot" / task)
    assert len(published) == 10
    assert {name: ours[name] for name in published} == published


@pytest.mark.parametrize("task", AT_HAND)
def test_every_mode_of_the_real_tasks_equals_the_twin(task: str, shared: Path, tmp_path: Path) -> None:
    original = shared / "lm-bff" / task / "original"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / task).symlink_to(original)
    for mode, k in zip(MODES, (16, 30, 8), strict=True):
        kshot_twin.publish(tmp_path / "data", tmp_path / "twin", task, k, mode, list(SEEDS))
        write(original, tmp_path / "ours", task, k=k, mode=mode)
    assert contents(tmp_path / "ours") == contents(tmp_path / "twin")


def own_sst2(path: Path, **changes: str) -> str:
    """Write a task file for the files of SST-2, under another name."""
    text = resources.files("shoestring.tasks").joinpath("catalog", "SST-2.toml").read_text(encoding="utf-8")
    for old, new in {'name = "SST-2"': 'name = "own"', **changes}.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return str(path)


def test_a_folder_is_where_its_task_looks_for_it_whatever_the_tasks_name(tmp_path: Path) -> None:
    originals(tmp_path / "SST-2", "SST-2", train=40, dev=9, seed=4)
    task = own_sst2(tmp_path / "own.toml")
    assert len(write(tmp_path, tmp_path / "out", task, "SST-2", k=2, seeds=(13,)).written) == 1
    given = DataSettings(source=str(tmp_path / "out"), mode="given", k=2)
    assert len(draw(load_task(task), given, 13).train) == 4


def test_tasks_that_want_different_files_in_one_folder_are_refused(tmp_path: Path) -> None:
    originals(tmp_path / "SST-2", "SST-2", train=40, dev=9, seed=4)
    other = own_sst2(tmp_path / "other.toml", **{'test = "dev.tsv"': 'test = "train.tsv"'})
    with pytest.raises(RunFolderError, match=r"SST-2.2-13: task .*other\.toml would have other contents there"):
        write(tmp_path, tmp_path / "out", "SST-2", other, k=2, seeds=(13,))
    assert not (tmp_path / "out").exists()


def test_cola_has_999_lines_and_one_glued_row_in_the_small_test(shared: Path, tmp_path: Path) -> None:
    report = write(shared / "lm-bff", tmp_path, "CoLA", mode="k-shot-1k-test")
    tests = [folder.joinpath("test.tsv").read_text().split("\n") for folder in report.written]
    for lines in tests:
        assert len(lines) == 1000
        assert lines[-1] == ""
        assert sorted({line.count("\t") for line in lines[:-1]}) == [3, 6]
    assert len({tuple(lines) for lines in tests}) == 5
    assert any("dev.tsv has no final newline" in text for text in report.warnings)


@pytest.mark.parametrize("task", COLUMNS)
def test_synthetic_originals_of_every_tsv_task_give_the_twins_files(task: str, tmp_path: Path) -> None:
    for seed, (train, dev) in enumerate([(60, 12), (40, 1005), (300, 1003)], start=1):
        data = tmp_path / str(seed)
        originals(data / task, task, train=train, dev=dev, seed=seed)
        for mode in MODES:
            kshot_twin.publish(data, data / "twin", task, 4, mode, list(SEEDS))
            write(data, data / "ours", task, k=4, mode=mode)
        assert contents(data / "ours") == contents(data / "twin")


texts = st.text(st.sampled_from('ab,"\n é'), min_size=1, max_size=8).filter(lambda text: not text.isspace())


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5), texts | st.sampled_from(["NA", "null", "None"])), min_size=2, max_size=60
    )
)
def test_any_csv_gives_the_twins_files(rows: list[tuple[int, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    import csv

    # pandas 3 reads "None" as missing, unlike the version of the published splits; "x" keeps the column text.
    rows = [*((label, "none" if text == "None" else text) for label, text in rows), (0, "x")]
    folder = tmp_path_factory.mktemp("csv")
    (folder / "trec").mkdir()
    for name in ("train", "test"):
        with (folder / "trec" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    kshot_twin.publish(folder, folder / "twin", "trec", 2, "k-shot", [13, 42])
    write(folder, folder / "ours", "trec", k=2, seeds=(13, 42))
    assert contents(folder / "ours") == contents(folder / "twin")


def test_the_small_csv_test_is_what_pandas_samples() -> None:
    pandas = pytest.importorskip("pandas")
    for count in (1001, 2210):
        frame = pandas.DataFrame({"row": range(count)})
        assert small_test(count, tsv=False) == frame.sample(n=1000, random_state=42)["row"].tolist()


# ---- behaviour ----


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for task in ("SST-2", "CoLA", "RTE"):
        originals(tmp_path / "data" / task, task, train=80, dev=10, seed=2)
    return tmp_path / "data"


def test_the_order_and_choice_of_seeds_make_no_difference(data: Path, tmp_path: Path) -> None:
    write(data, tmp_path / "all", "CoLA", k=4)
    write(data, tmp_path / "some", "CoLA", k=4, seeds=(87, 13))
    everything = contents(tmp_path / "all")
    some = contents(tmp_path / "some")
    assert len(some) == 6
    assert {name: everything[name] for name in some} == some


def test_a_seed_that_is_not_published_is_drawn_alone(data: Path, tmp_path: Path) -> None:
    kshot_twin.publish(data, tmp_path / "twin", "CoLA", 4, "k-shot", [7])
    write(data, tmp_path / "ours", "CoLA", k=4, seeds=(13, 7))
    twin, ours = contents(tmp_path / "twin"), contents(tmp_path / "ours")
    assert {name: ours[name] for name in twin} == twin


def test_labels_with_too_few_rows_are_written_as_published_and_reported(data: Path, tmp_path: Path) -> None:
    kshot_twin.publish(data, tmp_path / "twin", "SST-2", 32, "k-shot", [13])
    report = write(data, tmp_path / "ours", "SST-2", k=32, seeds=(13,))
    assert contents(tmp_path / "ours") == contents(tmp_path / "twin")
    assert any("rows, 64 are needed; train holds 32 of 32 and dev" in text for text in report.warnings)
    assert write(data, tmp_path / "fine", "SST-2", k=2, seeds=(13,)).warnings == ()


def test_rows_too_short_to_read_are_reported(tmp_path: Path) -> None:
    originals(tmp_path / "QQP", "QQP", train=200, dev=10, seed=2)
    report = write(tmp_path, tmp_path / "out", "QQP", k=2, seeds=(13,))
    assert any("too short to read" in text for text in report.warnings)


def test_a_train_file_without_final_newline_is_reported(tmp_path: Path) -> None:
    originals(tmp_path / "RTE", "RTE", train=40, dev=10, seed=3)
    report = write(tmp_path, tmp_path / "out", "RTE", k=2, seeds=(13,))
    assert any("train.tsv has no final newline" in text for text in report.warnings)


def test_each_finished_folder_is_told(data: Path, tmp_path: Path) -> None:
    told: list[Path] = []
    given = KshotSettings(source=str(data), out=str(tmp_path / "out"), tasks=("RTE", "SST-2"), k=2, seeds=(1, 2))
    report = write_kshot(given, told.append)
    assert tuple(told) == report.written
    assert told[0] == tmp_path / "out" / "k-shot" / "RTE" / "2-1"


def test_the_same_again_changes_nothing(data: Path, tmp_path: Path) -> None:
    first = write(data, tmp_path / "out", "RTE", k=2)
    again = write(data, tmp_path / "out", "RTE", k=2)
    assert again.written == ()
    assert again.unchanged == first.written


def test_other_contents_are_refused_before_anything_is_written_and_replaced_by_force(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "k-shot" / "RTE" / "2-42"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"RTE/2-42: there already, with other contents; --force replaces"):
        write(data, tmp_path / "out", "RTE", k=2)
    assert contents(tmp_path / "out") == {"k-shot/RTE/2-42/notes.txt": b"mine"}
    report = write(data, tmp_path / "out", "RTE", k=2, force=True)
    assert len(report.written) == 5
    assert sorted(path.name for path in folder.iterdir()) == ["dev.tsv", "test.tsv", "train.tsv"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["2-100", "2-13", "2-21", "2-42", "2-87"]


def test_a_folder_that_holds_folders_is_other_contents(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "k-shot" / "RTE" / "2-42" / "inside").mkdir(parents=True)
    with pytest.raises(RunFolderError, match="with other contents"):
        write(data, tmp_path / "out", "RTE", k=2)


def test_a_full_disk_leaves_nothing_half_written(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(data, tmp_path / "out", "RTE", k=2, seeds=(1,))
    before = contents(tmp_path / "out")
    written = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.name == "dev.tsv":
            written(self, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"RTE/2-2: cannot be written: No space left on device"):
        write(data, tmp_path / "out", "RTE", k=2, seeds=(1, 2))
    with pytest.raises(OutputError, match="No space left on device"):
        write(data, tmp_path / "out", "RTE", k=2, seeds=(1,), mode="k-shot-10x")
    assert contents(tmp_path / "out") == before
    assert [path.name for path in (tmp_path / "out" / "k-shot" / "RTE").iterdir()] == ["2-1"]


def test_a_failed_replacement_puts_the_old_folder_back(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / "k-shot" / "RTE" / "2-1"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if ".new-" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="Input/output error"):
        write(data, tmp_path / "out", "RTE", k=2, seeds=(1,), force=True)
    assert contents(tmp_path / "out") == {"k-shot/RTE/2-1/notes.txt": b"mine"}
    assert [path.name for path in folder.parent.iterdir()] == ["2-1"]


def test_an_output_that_is_a_file_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written: Not a directory"):
        write(data, tmp_path / "out", "RTE", k=2)


def test_a_malformed_original_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    with (data / "SST-2" / "train.tsv").open("a") as file:
        file.write("no label here\n")
    with pytest.raises(DataError, match=r"SST-2/train.tsv, line 82: the row has 1 column, not 2"):
        write(data, tmp_path / "out", "RTE", "SST-2", k=2)
    assert not (tmp_path / "out").exists()


def test_a_source_without_the_task_says_where_it_looked(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"holds no files of SNLI: looked for SNLI/original/train.tsv, .*; there is CoLA, RTE, SST-2"
    ):
        write(data, tmp_path / "out", "SNLI")
    with pytest.raises(DataError, match="there is no such folder; did you mean 'data'"):
        write(data.parent / "dada", tmp_path / "out", "SST-2")


def test_a_task_without_original_files_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "bare.toml").write_text(
        'name = "bare"\nsentences = ["t"]\nlabels = [{ name = "a", word = "x" }, { name = "b", word = "y" }]\n'
    )
    with pytest.raises(DataError, match="task bare: has no original tsv or csv files"):
        write(data, tmp_path / "out", str(tmp_path / "bare.toml"))


def test_a_seed_numpy_does_not_take_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the seed -1 is not between 0 and 4294967295"):
        write(data, tmp_path / "out", "RTE", k=2, seeds=(-1,))
