from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import pytest

from report import made
from runs.records import record
from shoestring.errors import MissingPackageError, OutputError, RunFolderError, UnknownNameError
from shoestring.report.drawing import COLOURS, SHAPES, drawn, format_of, save
from shoestring.report.figures import cost_figure
from shoestring.report.page import __file__ as page_file
from shoestring.report.plot import figure_of
from shoestring.report.series import AXES, COSTS, Figure
from shoestring.tables.table import arrange

STARTS = {"png": b"\x89PNG\r\n", "svg": b"<?xml", "pdf": b"%PDF-"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("studies") / "runs"
    made.study(place, seeds=(13, 21))
    return place


@pytest.mark.parametrize("form", STARTS)
def test_a_figure_becomes_a_file_of_the_format_its_name_ends_in_and_the_same_one_again(
    form: str, runs: Path, tmp_path: Path
) -> None:
    figure = figure_of([runs], "weights", kind="lines", lines=["chance", "adam", "full=80"])
    place = tmp_path / "new" / f"figure.{form}"
    save(figure, place)
    content = place.read_bytes()
    assert content.startswith(STARTS[form])
    assert drawn(figure, form) == content


def test_what_is_drawn_is_what_the_data_says(runs: Path) -> None:
    figure = figure_of([runs], "weights", kind="lines", lines=["chance"])
    text = drawn(figure, "svg").decode()
    for word in ("SST-2", "trec", "trained weights", "accuracy on test × 100", "adam + lora", "chance"):  # noqa: RUF001
        assert word in text, word


@pytest.mark.parametrize("x", AXES)
def test_every_axis_has_a_figure(x: str, runs: Path) -> None:
    figure = figure_of([runs], x)
    assert figure.x.name == x
    assert figure.joined == (x == "steps")
    assert drawn(figure, "png")


def texts_of(figure: Figure) -> tuple[list[tuple[str, float, float]], float]:
    """Return each text of a drawn figure with its left and right end in points, and the figure's width."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.text import Text

    found: list[Canvas] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Canvas, "savefig", lambda self, *_, **__: found.append(self))
        drawn(figure, "png")
    (canvas,) = found
    paper = FigureCanvasAgg(canvas)
    paper.draw()
    pen = paper.get_renderer()
    shown = [one for one in canvas.findobj(Text) if isinstance(one, Text) and one.get_visible() and one.get_text()]
    boxes = [(one.get_text(), one.get_window_extent(pen)) for one in shown]
    return [(text, box.x0, box.x1) for text, box in boxes], canvas.bbox.width


@pytest.mark.parametrize("length", [12, 90])
def test_a_legend_of_twenty_rows_is_not_cut_off(length: int, tmp_path: Path) -> None:
    for at in range(20):
        made.put(tmp_path, record(model__name=f"{at:02d}{'m' * length}"))
    texts, width = texts_of(figure_of([tmp_path], "seconds"))
    legend = [(left, right) for text, left, right in texts if "mmm" in text]
    assert len(legend) == 20
    assert min(left for left, _ in legend) > 0
    assert max(right for _, right in legend) < width


@pytest.mark.parametrize("peaks", [(4, 9, 75), (5, 6), (159, 160), (7,), (1, 10**6)])
def test_labels_below_an_axis_do_not_run_into_each_other(peaks: tuple[int, ...], tmp_path: Path) -> None:
    for at, peak in enumerate(peaks):
        run = record(seed=at, model__name=f"m{at}")
        assert run.memory is not None
        made.put(tmp_path, run.model_copy(update={"memory": run.memory.model_copy(update={"fit": peak << 20})}))
    texts, _ = texts_of(figure_of([tmp_path], "memory"))
    labels = sorted((left, right) for text, left, right in texts if text.rstrip("kM").replace(".", "").isdigit())
    ticks = [pair for pair in labels if pair[0] > labels[0][1]]  # Not those of the vertical axis.
    assert len(ticks) >= 2
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ticks))


def test_where_nothing_cost_anything_there_is_one_place_to_be(tmp_path: Path) -> None:
    made.put(tmp_path, record(0.6, method="zero-shot"))
    texts, width = texts_of(figure_of([tmp_path], "forward-passes"))
    (place,) = ((left, right) for text, left, right in texts if text == "0")
    assert 0.4 * width < place[0] < place[1] < 0.7 * width


def test_steps_are_whole(tmp_path: Path) -> None:
    made.put(tmp_path, record(), curve=made.curve(4, 1, 0.8))
    texts, _ = texts_of(figure_of([tmp_path], "steps"))
    assert {"0", "1", "2", "3", "4"} <= {text for text, *_ in texts}
    assert not [text for text, *_ in texts if text.endswith(".5")]


@pytest.mark.parametrize("name", ["$x$", r"$\frac$", "_a", "a_b^c"])
def test_a_name_is_drawn_as_it_is(name: str, tmp_path: Path) -> None:
    made.put(tmp_path, record(model__name=name))
    made.put(tmp_path, record(model__name="other"))
    assert f">{name}<" in drawn(figure_of([tmp_path], "seconds", lines=[f"{name}=50"]), "svg").decode()


def test_points_are_those_of_the_page(runs: Path) -> None:
    logs = made.logs(runs)
    assert figure_of([runs], "seconds") == cost_figure(arrange(logs.found.records), COSTS["seconds"])


def test_curves_go_over_forward_passes_too_and_show_any_metric(runs: Path) -> None:
    figure = figure_of([runs], "forward-passes", kind="curves")
    assert [point.x for point in figure.panels[0].series[0].points] == [4000, 8000, 12000, 16000]
    assert figure_of([runs], "steps", "train-loss").panels[0].y == "loss on training batches"
    assert figure_of([runs], "steps", "loss", lines=["full=0.5"]).panels[0].lines[0].y == 0.5


def test_one_run_without_costs_of_its_own_is_drawn(tmp_path: Path) -> None:
    made.put(tmp_path, record(method="zero-shot"))
    for x in COSTS:
        assert drawn(figure_of([tmp_path], x), "png")


def test_colours_and_shapes_are_those_of_the_page() -> None:
    style = (Path(page_file).parent / "page" / "style.css").read_text(encoding="utf-8")
    for number, colour in enumerate(COLOURS):
        assert f"--s{number}: light-dark({colour}," in style
    marks = (Path(page_file).parent / "page" / "2-marks.js").read_text(encoding="utf-8")
    assert f"const COLOURS = {len(COLOURS)};" in marks
    assert marks.count("(r) =>") == len(SHAPES)


# -- refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"x": "second"}, "unknown axis 'second'; did you mean 'seconds'"),
        ({"x": "seconds", "kind": "lines"}, "unknown axis of lines 'seconds'.*Allowed: forward-passes, weights"),
        ({"x": "memory", "kind": "curves"}, "unknown axis of curves 'memory'.*Allowed: forward-passes, steps"),
        ({"x": "steps", "kind": "points"}, "unknown axis of points 'steps'"),
        ({"x": "weights", "y": "accurcy"}, "unknown metric 'accurcy'; did you mean 'accuracy'"),
        ({"x": "steps", "y": "train-los"}, "unknown metric 'train-los'; did you mean 'train-loss'"),
        ({"x": "weights", "y": "train-loss"}, "unknown metric 'train-loss'"),
        ({"x": "weights", "lines": ["adm"]}, "unknown line 'adm'; did you mean 'adam'"),
        ({"x": "steps", "lines": ["adam"]}, "unknown line of curves 'adam'"),
    ],
)
def test_an_axis_a_metric_or_a_line_that_is_none_names_the_nearest(
    settings: dict[str, Any], message: str, runs: Path
) -> None:
    with pytest.raises(UnknownNameError, match=message):
        figure_of([runs], **settings)


def test_runs_that_are_not_drawn_are_told(tmp_path: Path) -> None:
    made.put(tmp_path, record(seed=13))
    (tmp_path / "killed").mkdir()
    for name in ("config.json", ".lock"):
        (tmp_path / "killed" / name).write_text("{}")
    (note,) = figure_of([tmp_path], "seconds").notes
    assert note.startswith("1 run has not ended (still running, or killed): ")


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    made.put(tmp_path, record(method="zero-shot"))
    with pytest.raises(RunFolderError, match=r"no run that counts logged its metric on dev .*method\.eval_every"):
        figure_of([tmp_path], "steps")
    bare = record(seed=21).model_copy(update={"passes": None})
    made.put(tmp_path / "bare", bare)
    with pytest.raises(RunFolderError, match="no run that counts says what it cost in forward-passes"):
        figure_of([tmp_path / "bare"], "forward-passes")


def test_runs_that_did_not_finish_are_refused_with_what_is_known_of_them(tmp_path: Path) -> None:
    made.put(tmp_path, record(status="failed", error="the loss is nan"))
    bad = made.put(tmp_path, record(seed=21))
    (tmp_path / bad.run_id / "result.json").write_text("{")
    with pytest.raises(RunFolderError, match="the loss is nan") as refused:
        figure_of([tmp_path], "weights")
    assert any(bad.run_id in note for note in refused.value.__notes__)


@pytest.mark.parametrize("name", ["figure.jpeg", "figure"])
def test_a_name_that_asks_for_no_format_is_refused(name: str) -> None:
    with pytest.raises(OutputError, match=r"a figure's name ends in one of \.png, \.svg, \.pdf"):
        format_of(Path(name))


def test_without_matplotlib_it_is_said_how_to_get_it(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    with pytest.raises(MissingPackageError, match=r"pip install 'shoestring\[plot\]'"):
        save(figure_of([runs], "weights"), tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_and_nothing_stays(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot be written: .*; choose another place with --out$"):
        save(figure_of([runs], "weights"), tmp_path / "file" / "figure.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
