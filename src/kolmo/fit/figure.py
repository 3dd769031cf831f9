"""The figure of a fit, as in the paper: one point per model, the line, and the prediction interval for one more model.

One large panel shows the name of every model, and a small one each area or corpus. Families differ in colour and
marker; models without a score are hollow markers on the line. `fit.labels` places the names.
What it is not: the statistics; all numbers come from `fit.areas`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from kolmo.errors import MissingExtraError
from kolmo.fit.labels import Box, Label, place
from kolmo.installing import install

if TYPE_CHECKING:
    from kolmo.fit.areas import Point, Studies, Study

FORMATS = ("png", "svg")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#5c5c5c")  # after Okabe, Ito
MARKERS = "osD^vPX<>hp"
WIDTH_INCHES = 10.0  # width of the figure
LARGE_INCHES = 5.8  # height of the large panel
SMALL_INCHES = 2.9  # height of a row of small panels
PANELS_PER_ROW = 3  # small panels in a row
MAX_LEGEND_ROWS = 16  # families in a column of the legend
MAX_NAMED_MODELS = 60  # if there are more models, none is named
CURVE_STEPS = 100  # segments of the curve of the interval
MAX_NAME_CHARACTERS = 40  # of a model's name
GREY, BAND = "0.45", "0.93"
RHO = "\N{GREEK SMALL LETTER RHO}"

Look = dict[str, Any]  # colour and marker of a family


def draw(
    studies: Studies,
    file: IO[bytes],
    *,
    format: str,
    level: float = 0.95,
    title: str = "",
    also: Sequence[Point] = (),
) -> None:
    """Draw the figure, and write it to a file.

    Args:
        studies: the lines to show.
        file: the file to write to.
        format: `png` or `svg`.
        level: the confidence level of the interval.
        title: the title above the large panel.
        also: further models without a score, for the large panel.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            f"a figure needs matplotlib, which cannot be imported ({error}); {install('report')}"
        ) from None
    overall = replace(studies.overall, others=(*studies.overall.others, *also))
    rows = math.ceil(len(studies.parts) / PANELS_PER_ROW)
    heights = [LARGE_INCHES, rows * SMALL_INCHES] if rows else [LARGE_INCHES]
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "kolmo", "text.parse_math": False}):
        warnings.simplefilter("ignore")  # about glyphs that the font lacks
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), dpi=120, layout="constrained")
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        looks = _looks([overall, *studies.parts])
        large = parts[0].add_subplot()
        numbers = _panel(large, overall, looks, level)
        legend = _legend(large, overall, looks, level)
        large.set(title=title, ylabel=f"score ({_columns(overall.scores)})")
        large.set_xlabel(f"bits per character ({_mean(overall.bpc)})")
        if rows:
            _small_panels(parts[1], studies, looks, level, rows)
        figure.draw_without_rendering()  # computes the layout, on which the positions of names depend
        _name_models(figure, large, overall, [numbers, legend])
        stamp = {"Software": None} if format == "png" else {"Date": None}  # so that equal runs write equal bytes
        figure.savefig(file, format=format, metadata=stamp)


def _looks(studies: Sequence[Study]) -> dict[str, Look]:
    families = dict.fromkeys(point.family for study in studies for point in (*study.points, *study.others))
    return {
        family: {"color": COLOURS[n % len(COLOURS)], "marker": MARKERS[n % len(MARKERS)]}
        for n, family in enumerate(families)
    }


def _small_panels(part: Any, studies: Studies, looks: dict[str, Look], level: float, rows: int) -> None:
    if not studies.own_scores:
        score = _columns(studies.overall.scores)
        part.suptitle(f"Each corpus alone, against the same {score}: the table has no scores of areas", fontsize=9)
    grid = part.subplots(rows, min(PANELS_PER_ROW, len(studies.parts)), squeeze=False, sharey=not studies.own_scores)
    for n, axes in enumerate(grid.flat):
        if n >= len(studies.parts):
            axes.set_axis_off()
            continue
        study = studies.parts[n]
        _panel(axes, study, looks, level, small=True)
        axes.set_title(study.name, fontsize=10)
        axes.set_xlabel(f"BPC ({_mean(study.bpc)})" if study.bpc != (study.name,) else "BPC", fontsize=8)
        if n % PANELS_PER_ROW == 0:
            axes.set_ylabel("score", fontsize=8)


def _panel(axes: Any, study: Study, looks: dict[str, Look], level: float, *, small: bool = False) -> Any:
    """Draw the line, the interval, the points and a text with numbers, and return the text."""
    others = () if small else study.others
    everything = [point.bpc for point in (*study.points, *others)]
    margin = 0.04 * (max(everything) - min(everything))
    left, right = min(everything) - margin, max(everything) + margin
    x = [left + (right - left) * n / CURVE_STEPS for n in range(CURVE_STEPS + 1)]
    band = [study.fit.predict(value, level) for value in x]
    axes.fill_between(x, [p.low for p in band], [p.high for p in band], color=BAND, zorder=0, linewidth=0)
    axes.plot(x, [p.score for p in band], color="0.3", linewidth=1.2, zorder=1)
    size = 18 if small else 42
    for point in others:
        look = looks[point.family]
        hollow = {"facecolors": "white", "edgecolors": look["color"], "linewidths": 1.2}
        axes.scatter(point.bpc, _height(study, point), marker=look["marker"], s=size * 0.7, zorder=2, **hollow)
    for point in study.points:
        axes.scatter(point.bpc, point.score, **looks[point.family], s=size, zorder=3, linewidths=0)
    axes.set_xlim(left, right)
    axes.locator_params(axis="x", nbins=5 if small else 8)
    axes.grid(True, color="0.94", linewidth=0.6, zorder=-1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8 if small else 9, colors="0.3")
    numbers = [f"{RHO} = {study.fit.rho:.3f}", f"e = {_rounded(study.fit.error)}"]
    text = "   ".join(numbers) if small else "\n".join([str(study.fit), *numbers, f"{study.fit.count} models"])
    x_text, side = (0.98, "right") if study.fit.slope < 0 else (0.02, "left")  # the corner that the line does not cross
    style = {"ha": side, "va": "top", "fontsize": 8 if small else 10, "linespacing": 1.4}
    return axes.text(x_text, 0.97, text.replace("-", "\N{MINUS SIGN}"), transform=axes.transAxes, **style)


def _legend(axes: Any, study: Study, looks: dict[str, Look], level: float) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown = dict.fromkeys(point.family for point in (*study.points, *study.others))
    handles: list[Any] = [Line2D([], [], linestyle="", markersize=6, **looks[name]) for name in shown]
    labels = [name.lstrip("_") for name in shown]  # matplotlib hides labels that begin with _
    handles.append(Patch(color=BAND))
    labels.append(f"{100 * level:g} % of new models")
    if study.others:
        hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": GREY, "marker": "o"}
        handles.append(Line2D([], [], linestyle="", markersize=5, **hollow))
        labels.append("no score: predicted")
    where = "lower left" if study.fit.slope < 0 else "lower right"
    columns = math.ceil(len(handles) / MAX_LEGEND_ROWS)
    style = {"fontsize": 9, "frameon": False, "handletextpad": 0.5, "labelspacing": 0.35, "ncols": columns}
    return axes.legend(handles, labels, loc=where, **style)


def _name_models(figure: Any, axes: Any, study: Study, notes: Sequence[Any]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    points = [*study.points, *study.others]
    if len(points) > MAX_NAMED_MODELS:
        return
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    spots = [tuple(axes.transData.transform((point.bpc, _height(study, point)))) for point in points]
    names = [
        axes.annotate(
            _shown(point.model),
            (point.bpc, _height(study, point)),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8 if point.score is not None else 7,
            color="0.15" if point.score is not None else GREY,
            path_effects=[withStroke(linewidth=2, foreground="white")],
            zorder=4,
        )
        for point in points
    ]
    labels = []
    for name, (x, y) in zip(names, spots, strict=True):
        extent = name.get_window_extent(renderer)
        labels.append(Label(x, y, extent.width, extent.height))
    radius = 4 * figure.dpi / 72
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in spots]
    boxes = [_box(note.get_window_extent(renderer)) for note in notes]
    frame = _box(axes.get_window_extent(renderer))
    placed = place(labels, [*marks, *boxes, *_line(axes, study)], frame)
    unit = 72 / figure.dpi
    for name, label, box in zip(names, labels, placed, strict=True):
        name.set_position(
            (((box.left + box.right) / 2 - label.x) * unit, ((box.bottom + box.top) / 2 - label.y) * unit)
        )
        _draw_leader(axes, label, box)


def _draw_leader(axes: Any, label: Label, box: Box) -> None:
    """Draw a thin line from a point to its name, unless the name is right beside it."""
    x, y = min(max(label.x, box.left), box.right), min(max(label.y, box.bottom), box.top)
    if math.hypot(x - label.x, y - label.y) < 0.9 * label.height:
        return
    ends = axes.transData.inverted().transform([(label.x, label.y), (x, y)])
    axes.plot(ends[:, 0], ends[:, 1], color="0.7", linewidth=0.6, zorder=1.5)


def _line(axes: Any, study: Study) -> list[Box]:
    """Small boxes along the line, which names should not cover."""
    left, right = axes.get_xlim()
    boxes = []
    for n in range(CURVE_STEPS * 2 + 1):
        bpc = left + (right - left) * n / CURVE_STEPS / 2
        x, y = axes.transData.transform((bpc, study.fit.score(bpc)))
        boxes.append(Box(x - 2, y - 2, x + 2, y + 2))
    return boxes


def _height(study: Study, point: Point) -> float:
    return study.fit.score(point.bpc) if point.score is None else point.score


def _box(extent: Any) -> Box:
    return Box(extent.x0, extent.y0, extent.x1, extent.y1)


def _columns(scores: Sequence[Sequence[str]]) -> str:
    return _mean(scores[0]) if len(scores) == 1 else f"mean over {len(scores)} areas"


def _mean(columns: Sequence[str]) -> str:
    return columns[0] if len(columns) == 1 else f"mean of {', '.join(columns)}"


def _rounded(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:#.3g}".rstrip(".")


def _shown(name: str) -> str:
    short = "".join(c for c in name if c.isprintable())
    return short if len(short) <= MAX_NAME_CHARACTERS else short[: MAX_NAME_CHARACTERS - 1] + "…"
