from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from report import made
from runs.records import record
from shoestring.errors import OutputError, RunFolderError, UnknownNameError
from shoestring.report import page as page_module
from shoestring.report.data import Limits, page_data
from shoestring.report.page import embedded, render
from shoestring.report.write import write_report
from shoestring.tables.table import Layout, tabulate

PAGE = Path(page_module.__file__).parent / "page"


class Reader(HTMLParser):
    """Reads a page: the texts of its table by row, its scripts, its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.scripts = 0
        self.addresses: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside.append(tag)
        self.scripts += tag == "script"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "poster")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if any(tag in ("td", "th") for tag in self._inside):
            self.rows[-1][-1] += data


def written(place: Path, out: Path, **more: Any) -> str:
    return write_report([place], out, **more).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("studies") / "my runs"
    made.study(place)
    return place


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(runs, tmp_path_factory.mktemp("page"))


# -- the same numbers


def test_the_pages_table_is_that_of_the_command_cell_by_cell(runs: Path, page: str) -> None:
    table = tabulate(made.logs(runs).found.records)
    reader = Reader(page)
    assert reader.rows[0] == [column.head for column in table.columns]
    assert reader.rows[1:] == [[cell.text for cell in row] for row in table.rows]
    data = made.data_of(page)
    shown = [[(cell["text"], tuple(cell["values"])) for cell in row] for row in data["table"]["rows"]]
    assert shown == [[(cell.text, cell.values) for cell in row] for row in table.rows]
    assert set(table.notes) <= set(data["notes"])


def test_cells_are_sorted_by_the_number_behind_their_text(page: str) -> None:
    table = re.search(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
    assert table is not None
    keys = [float(key) for key in re.findall(r'<td class="right" data-value="([^"]*)">[\d.]+ \(', table[1])]
    texts = re.findall(r'<td class="right" data-value="[^"]*">([\d.]+) \(', table[1])
    assert len(keys) == 8
    assert [f"{100 * key:.1f}" for key in keys] == texts


def test_points_of_the_page_are_cells_of_its_table(page: str) -> None:
    data = made.data_of(page)
    for figure in data["costs"]:
        for number, panel in enumerate(figure["panels"]):
            for series in panel["series"]:
                cell = data["table"]["rows"][series["row"]][2 + number]["values"]
                (_, mean, spread, count) = series["points"][0]
                assert (mean, spread, count) == pytest.approx(tuple(cell), rel=1e-5)


def test_confusions_of_the_page_give_the_accuracy_of_its_table(page: str) -> None:
    data = made.data_of(page)
    assert [task["title"] for task in data["classes"]] == ["SST-2", "trec"]
    for number, task in enumerate(data["classes"]):
        assert len(task["rows"]) == 4
        for one in task["rows"]:
            counts = one["counts"]
            right = sum(counts[at][at] for at in range(len(counts))) / sum(map(sum, counts))
            assert right == pytest.approx(data["table"]["rows"][one["row"]][2 + number]["values"][0])


def test_curves_and_scaling_are_there_with_all_rows_that_have_them(page: str) -> None:
    data = made.data_of(page)
    assert [figure["name"] for figure in data["curves"]] == ["metric on dev", "loss on dev", "loss in training"]
    rows = [[data["names"][series["row"]] for series in panel["series"]] for panel in data["curves"][0]["panels"]]
    assert rows == [["mezo", "adam", "adam + lora"]] * 2
    lines = {data["names"][one["row"]]: one["points"] for one in data["scaling"]["panels"][0]["series"]}
    assert [point[0] for point in lines["adam + lora"]] == [1000, 4000, 16000]
    assert data["scaling"]["panels"][1]["lines"] == [{"label": "chance", "y": pytest.approx(1 / 6), "sd": None}]


def test_the_hardest_examples_stand_with_their_prompts_and_every_rows_scores(page: str) -> None:
    data = made.data_of(page)
    examples = data["examples"][0]["examples"]
    assert {hard["uid"] for hard in examples[:3]} == {"test:0", "test:1", "test:2"}
    assert examples[0]["prompt"] == made.EVIL
    assert [one["row"] for one in examples[0]["answers"]] == [0, 1, 2, 3]
    assert all(sum(one["shares"]) == pytest.approx(1) for one in examples[0]["answers"])
    assert [hard["prompt"] for hard in examples[3:4]] == [None]


def test_runs_say_what_they_differ_in_and_what_they_share(page: str) -> None:
    runs = made.data_of(page)["runs"]
    assert runs["total"] == len(runs["runs"]) == 48
    assert {"method.kind", "method.lr", "tuning.kind", "tuning.r"} <= set(runs["settings"]["keys"])
    assert runs["settings"]["common"]["model.name"] == "models/minilm-mlm"
    assert sum(run["counted"] for run in runs["runs"]) == 2 * 3 * 4
    assert runs["runs"][0]["numbers"]["forward"] == "1,000"


# -- a page of its own, whatever is in it


def test_texts_of_the_data_never_become_markup(runs: Path, page: str, tmp_path: Path) -> None:
    assert Reader(page).scripts == 2
    assert "<script>alert" not in page
    assert "\u2028" not in page.partition('id="data">')[2]
    evil = '<img src=x onerror="1">{{data}}'
    text = written(runs, tmp_path, title=evil)
    assert evil not in text
    assert "&lt;img src=x" in text
    assert Reader(text).scripts == 2


def test_names_in_the_table_are_escaped(tmp_path: Path) -> None:
    made.put(tmp_path / "runs", record(model__name="<b>&bold</b>"))
    made.put(tmp_path / "runs", record(model__name='" onclick="x', seed=21))
    text = written(tmp_path / "runs", tmp_path / "page.html")
    table = text.partition("<tbody>")[2].partition("</tbody>")[0]
    assert "&lt;b&gt;" not in table  # The label is the path's last part ...
    assert "&amp;bold" not in table
    assert "b&gt;" in table  # ... "b>".
    assert '&quot; onclick=&quot;x"' in table


def test_embedded_json_has_nothing_that_html_reads() -> None:
    text = embedded({"a": "</script><!--&\u2028\u2029"})
    assert re.findall(r"[<>&\u2028\u2029]", text) == []
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded({"a": float("nan")})


def test_the_page_asks_nothing_of_any_network(page: str) -> None:
    assert "default-src 'none'" in page
    assert [address for address in Reader(page).addresses if not address.startswith(("#", "data:"))] == []
    code = page.partition('<script type="application/json"')[0] + page.partition("</script>")[2]
    assert re.findall(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[\w.]+\.\w+/|@import|url\(", code) == []
    assert "fetch(" not in code
    assert "innerHTML" not in code


def test_the_same_runs_make_the_same_page(runs: Path, page: str, tmp_path: Path) -> None:
    assert written(runs, tmp_path) == page


def test_the_page_is_one_file_in_a_folder_or_by_its_name(runs: Path, tmp_path: Path) -> None:
    assert write_report([runs], tmp_path / "a" / "b") == tmp_path / "a" / "b" / "index.html"
    assert write_report([runs], tmp_path / "c.html") == tmp_path / "c.html"
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["c.html", "index.html"]


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_the_paper(scheme: int) -> None:
    """WCAG 2.2: text at least 4.5:1 (1.4.3), marks and edges of controls at least 3:1 (1.4.11)."""
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colours = {name: (light, dark)[scheme] for name, light, dark in pairs}
    assert len(colours) == 18

    def contrast(name: str, ground: str) -> float:
        high, low = sorted((_luminance(colours[name]), _luminance(colours[ground])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for ground in ("paper", "raised", "wash"):
        for name in ("ink", "soft", "accent", "good", "bad"):
            assert contrast(name, ground) >= 4.5, (name, ground)
    for name in ("edge", *(f"s{number}" for number in range(8))):
        assert contrast(name, "paper") >= 3, name


# -- odd runs


def test_failed_runs_runs_without_logs_and_tasks_without_classes_have_a_page(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    made.put(place, record(0.5, task="STS-B"))
    made.put(place, record(0.5, task="SQuAD", seed=21))
    made.put(place, record(status="failed", error="step 3: <nan>", seed=42))
    (place / "half").mkdir()
    (place / "half" / "config.json").write_text("{}")
    (place / "half" / ".lock").touch()
    data = made.data_of(written(place, tmp_path / "out"))
    assert (data["curves"], data["classes"], data["examples"], data["scaling"]) == ([], [], [], None)
    first = data["runs"]["runs"][0]
    assert (first["status"], first["error"], first["dev"], first["counted"]) == ("failed", "step 3: <nan>", None, False)
    assert any("1 run has not ended" in note for note in data["notes"])
    assert any("1 failed run is not in the table" in note for note in data["notes"])


def test_one_run_of_one_class_has_a_page(tmp_path: Path) -> None:
    rows = [{"split": "test", "uid": "test:0", "label": "1", "prediction": "1", "scores": [0.0, 1.0]}]
    made.put(tmp_path / "runs", record(1.0), rows=rows)
    data = made.data_of(written(tmp_path / "runs", tmp_path))
    assert data["classes"][0]["rows"][0]["counts"] == [[0, 0], [0, 1]]
    assert data["runs"]["settings"]["keys"] == []
    assert data["runs"]["settings"]["rows"] == [[]]


def test_written_answers_and_values_have_examples(tmp_path: Path) -> None:
    answer = {"split": "test", "uid": "test:0", "golds": ["Rome"], "prediction": "", "score": -1.0, "prompt": "Where?"}
    made.put(tmp_path / "runs", record(0.5, task="SQuAD"), rows=[answer])
    value = {"split": "test", "uid": "test:0", "label": 2.0, "prediction": 1.5, "scores": [0.0, 1.0]}
    made.put(tmp_path / "runs", record(0.5, task="STS-B"), rows=[value])
    data = made.data_of(written(tmp_path / "runs", tmp_path))
    kinds = {one["title"].split()[0]: one for one in data["examples"]}
    assert kinds["mezo/SQuAD"]["kind"] == "generation"
    assert kinds["mezo/SQuAD"]["examples"][0]["answers"][0]["said"] == [["", 1]]
    assert kinds["STS-B"]["examples"][0]["trouble"] == 0.5


def test_what_is_left_out_of_many_runs_is_said(runs: Path) -> None:
    logs = made.logs(runs)
    data = page_data(logs.found.records, logs, Layout(), Limits(rows=2, predictions=5, examples=1, runs=7))
    assert len(data["runs"]["runs"]) == 7
    assert data["runs"]["total"] == 48
    assert len(data["table"]["rows"]) == 4
    assert {data["names"][series["row"]] for series in data["costs"][0]["panels"][0]["series"]} == {
        "adam",
        "adam + lora",
    }
    assert data["styles"] == [None, None, 0, 1]
    assert len(data["examples"][0]["examples"]) == 1
    assert any("show the 2 of 4 rows that do best on dev" in note for note in data["notes"])
    assert any("predictions of 7 more runs were not read" in note for note in data["notes"])
    assert "48 runs, 2 tasks, 3 seeds<" in render(data, "many")


def test_a_column_without_any_of_the_rows_that_fit_has_no_panel(tmp_path: Path) -> None:
    for run in (record(dev=0.9), record(dev=0.9, task="RTE"), record(method="adam", task="trec")):
        made.put(tmp_path, run)
    logs = made.logs(tmp_path)
    data = page_data(logs.found.records, logs, Layout(), Limits(rows=1))
    assert [panel["title"] for panel in data["costs"][0]["panels"]] == ["RTE", "SST-2"]
    assert [data["names"][series["row"]] for series in data["costs"][0]["panels"][0]["series"]] == ["mezo"]
    assert len(data["table"]["rows"]) == 2


def test_hundreds_of_runs_make_a_page_that_stays_small(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    made.study(place, tasks=("SST-2", "trec", "RTE", "MNLI"), seeds=range(10))
    page = write_report([place], tmp_path)
    assert made.data_of(page.read_text(encoding="utf-8"))["runs"]["total"] == 320
    assert page.stat().st_size < 1_000_000


# -- refused


def test_a_folder_without_runs_and_runs_that_did_not_finish_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="empty holds no runs"):
        write_report([tmp_path / "empty"], tmp_path / "out")
    made.put(tmp_path / "runs", record(status="failed", error="the loss is nan"))
    with pytest.raises(RunFolderError, match=r"no finished run to make a table of; the others:\n.*the loss is nan"):
        write_report([tmp_path / "runs"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_record_is_named_as_the_table_names_it(tmp_path: Path) -> None:
    made.put(tmp_path / "runs", record())
    bad = made.put(tmp_path / "runs", record(seed=21))
    (tmp_path / "runs" / bad.run_id / "result.json").write_text("{")
    data = made.data_of(written(tmp_path / "runs", tmp_path / "out"))
    assert any(note.startswith("left out: ") and bad.run_id in note for note in data["notes"])
    assert data["runs"]["total"] == 1


def test_unknown_keys_and_metrics_name_the_nearest(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown key 'modle'; did you mean 'model'"):
        write_report([runs], tmp_path / "out", Layout(by=("modle",)))
    with pytest.raises(UnknownNameError, match="unknown metric 'accurcy'; did you mean 'accuracy'"):
        write_report([runs], tmp_path / "out", Layout(metric="accurcy"))


def test_a_place_that_cannot_be_written_is_refused_and_nothing_stays(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        OutputError, match=r"file cannot be written: a file of this name is there; choose another place with --html$"
    ):
        write_report([runs], tmp_path / "file")
    with pytest.raises(
        OutputError, match=r"file cannot be written: a file of this name is there; choose another place"
    ):
        write_report([runs], tmp_path / "file" / "page.html")
    (tmp_path / "out" / "index.html").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"index.html cannot be written: Is a directory"):
        write_report([runs], tmp_path / "out")
    assert (tmp_path / "file").read_text() == "mine"
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["index.html"]
