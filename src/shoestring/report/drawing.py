"""The figures as files, through matplotlib: the data is that of the page."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, cast

from shoestring.errors import MissingPackageError, OutputError
from shoestring.files import make_folder, write_bytes
from shoestring.report.refusing import elsewhere
from shoestring.report.ticks import apart, log_ticks, short

if TYPE_CHECKING:
    from shoestring.report.series import Figure, Panel, Series

FORMATS = ("png", "svg", "pdf")
# The page's colours and shapes, in its order (report/page/style.css, 2-marks.js).
COLOURS = ("#0b6bab", "#c2500c", "#0a7f5c", "#a34a86", "#8f6400", "#2a87b8", "#5f6368", "#8c2d19")
SHAPES = ("o", "s", "^", "D", "v", "P")
_STYLE: dict[str, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.edgecolor": "#8d877d",
    "axes.labelcolor": "#45413c",
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e3dfd6",
    "xtick.color": "#66615a",
    "ytick.color": "#66615a",
    "font.size": 10,
    "svg.hashsalt": "shoestring",
    "svg.fonttype": "none",
    "text.parse_math": False,  # A dollar in a name is a dollar.
}
_WIDTH, _HEIGHT, _ACROSS, _DPI = 5.2, 3.6, 3, 160
# Inches of the legend: what stands around a name, a line.
_AROUND, _LINE = 0.8, 0.2
_APART = 0.11
"""Least distance of labels below an axis, as a share of its length."""


def format_of(path: Path) -> str:
    """Return the format that a file's name asks for.

    Raises:
        OutputError: if it is none of those that are drawn.
    """
    name = path.suffix.lower().removeprefix(".")
    if name not in FORMATS:
        what = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
        raise OutputError(f"{path} {what}; a figure's name ends in one of .{', .'.join(FORMATS)}")
    return name


def need_matplotlib() -> None:
    """Refuse to go on where matplotlib is not installed.

    Raises:
        MissingPackageError: says how to install it.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise MissingPackageError(
            "figures as files are drawn by matplotlib, which is not installed: pip install 'shoestring[plot]'; "
            "shoestring report draws them in its page without it"
        )


def save(figure: Figure, path: Path) -> None:
    """Draw a figure and write it, whole or not at all; the same figure is the same file.

    Raises:
        MissingPackageError: if matplotlib is not installed.
        OutputError: if the name's ending is no format, or the disk refuses.
    """
    form = format_of(path)
    need_matplotlib()
    content = drawn(figure, form)
    with elsewhere("--out"):
        make_folder(path.parent)
        write_bytes(path, content)


def drawn(figure: Figure, form: str) -> bytes:
    """Return a figure as the content of a file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    panels = [panel for panel in figure.panels if panel.series] or list(figure.panels[:1])
    across = min(_ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    out = io.BytesIO()
    with mpl.rc_context(cast("Any", _STYLE)):
        rows = {series.style: series.label for panel in panels for series in panel.series}
        names, columns, height = _legend([rows[style] for style in sorted(rows)], across)
        canvas = Canvas(figsize=(_WIDTH * across, _HEIGHT * down + 0.3 + height), layout="constrained")
        axes = canvas.subplots(down, across, squeeze=False).flatten()
        handles: dict[int, Any] = {}
        for place, panel in zip(axes, panels, strict=False):
            handles |= _panel(place, panel, figure)
        for place in axes[len(panels) :]:
            place.set_visible(False)
        if len(names) > 1:
            keys = [handles[style] for style in sorted(handles)]
            canvas.legend(keys, names, loc="outside lower center", ncols=columns, frameon=False)
        # Nothing in the file may depend on when it was drawn, or by which version.
        empty = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "Producer": None}}
        canvas.savefig(out, format=form, dpi=_DPI, metadata=empty[form])
    return out.getvalue()


def _legend(names: Sequence[str], across: int) -> tuple[list[str], int, float]:
    """Return the names in lines that fit below so many panels, the number of columns, and the height they take."""
    room = _WIDTH * across
    most = room - _AROUND
    widths = [_inches(name) for name in names]
    broken = [
        fill(name, max(1, int(len(name) * most / wide))) if wide > most else name
        for name, wide in zip(names, widths, strict=True)
    ]
    column = min(max(widths, default=0), most) + _AROUND
    columns = max(1, min(3 * across, len(names), int(room / column)))
    lines = max((name.count("\n") + 1 for name in broken), default=1)
    return broken, columns, _LINE * lines * math.ceil(len(names) / columns)


def _inches(text: str) -> float:
    """Return how wide a text is drawn."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=_STYLE["font.size"])
    points, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(points) / 72


def _panel(axes: Any, panel: Panel, figure: Figure) -> dict[int, Any]:
    handles = {series.style: _series(axes, series, panel, figure) for series in panel.series}
    _horizontal(axes, panel, figure)
    for line in panel.lines:
        axes.axhline(line.y * panel.scale, color="#66615a", linewidth=1.1, linestyle=(0, (5, 4)), zorder=1)
        if line.sd:
            axes.axhspan((line.y - line.sd) * panel.scale, (line.y + line.sd) * panel.scale, color="#66615a", alpha=0.1)
        axes.annotate(
            line.label, (0, line.y * panel.scale), xycoords=("axes fraction", "data"), xytext=(4, 3),
            textcoords="offset points", ha="left", color="#66615a", fontsize="small",
        )  # fmt: skip
    axes.set_title(panel.title)
    axes.set_xlabel(figure.x.title)
    axes.set_ylabel(panel.y.replace(" x 100", " × 100"))  # noqa: RUF001 - as people write it
    return handles


def _series(axes: Any, series: Series, panel: Panel, figure: Figure) -> Any:
    colour, shape = COLOURS[series.style % len(COLOURS)], SHAPES[series.style % len(SHAPES)]
    xs = [point.x for point in series.points]
    means = [point.y * panel.scale for point in series.points]
    spreads = [(point.sd or 0.0) * panel.scale for point in series.points]
    look = {"color": colour, "marker": shape, "markeredgecolor": colour, "markeredgewidth": 1.5, "markersize": 6.5}
    look |= {"markerfacecolor": "white" if series.backward else colour, "zorder": 3}
    if not figure.joined or len(xs) == 1:
        bars = spreads if any(spreads) else None
        return axes.errorbar(xs, means, yerr=bars, linestyle="none", capsize=3, elinewidth=1.3, **look)
    if any(spreads):
        low, high = ([mean + sign * spread for mean, spread in zip(means, spreads, strict=True)] for sign in (-1, 1))
        axes.fill_between(xs, low, high, color=colour, alpha=0.14, linewidth=0, zorder=2)
    every = max(1, len(xs) // 12)
    style = "-" if series.style < len(COLOURS) else (0, (6, 3))
    return axes.plot(xs, means, linestyle=style, linewidth=1.8, markevery=every, **look)[0]


def _horizontal(axes: Any, panel: Panel, figure: Figure) -> None:
    xs = [point.x for series in panel.series for point in series.points]
    positive = [x for x in xs if x > 0]
    if not figure.x.log:
        axes.set_xlim(left=0)
        axes.xaxis.get_major_locator().set_params(integer=True)  # Steps and passes are counted.
        return
    if not positive:  # Where nothing cost anything, there is one place to be.
        axes.set_xlim(-1, 1)
        ticks = [0.0]
    elif len(positive) == len(xs):
        axes.set_xscale("log")
        room = max((max(xs) / min(xs)) ** 0.06, 1.15)
        axes.set_xlim(min(xs) / room, max(xs) * room)
        ticks = log_ticks(*axes.get_xlim())
    else:
        # Zero has a place of its own, left of the smallest cost.
        low = 10 ** math.floor(math.log10(min(positive)))
        axes.set_xscale("symlog", linthresh=low, linscale=0.4)
        axes.set_xlim(left=-0.2 * low)
        ticks = [0.0, *log_ticks(low, axes.get_xlim()[1])]
    _name(axes, ticks)


def _name(axes: Any, ticks: Sequence[float]) -> None:
    """Set the ticks of the horizontal axis, and name as many of them as have room."""
    places = axes.transAxes.inverted().transform(axes.transData.transform([(tick, 0) for tick in ticks]))[:, 0]
    shown = apart(places, _APART)
    axes.set_xticks(ticks, [short(tick) if there else "" for tick, there in zip(ticks, shown, strict=True)])
    axes.set_xticks([], minor=True)
