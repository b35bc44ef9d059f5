"""Plots as SVG that reads on a white page and on a dark one, the same bytes for the same data."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from passes.errors import DeadkvError
from tests.bench.benchmark import Plot, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#797979"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6bd1", "#a6761d")
"""Those of Okabe and Ito, and two more, that have a contrast of 3:1 on #ffffff and on #0d1117."""
MARKERS = "osD^vX"
LABELLED, WIDE = 18, 70
"""Bars that have room for a label above, and characters that have room below all groups."""
SLANTED: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deadkv",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def svg(plot: Plot) -> str:
    """The figure.

    Raises:
        DeadkvError: the plot has more series than there are colours.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if len(plot.series) > len(COLOURS):
        raise DeadkvError(f"plot {plot.name}: {len(plot.series)} series, at most {len(COLOURS)} are told apart")
    written = io.StringIO()
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        _draw(plot, figure.add_subplot())
        figure.savefig(written, format="svg", metadata={"Date": None, "Title": plot.title})
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _draw(plot: Plot, axes: Axes) -> None:
    {"lines": _lines, "bars": _bars}[plot.kind](plot, axes)
    if plot.log_x:
        axes.set_xscale("log")
        _mark_points(plot, axes)
    if plot.log_y:
        axes.set_yscale("log")
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _mark_points(plot: Plot, axes: Axes) -> None:
    """Less than two decades have too few powers of ten: the points themselves are marked."""
    xs = sorted({float(x) for series in plot.series for x, _ in series.points})
    if xs and xs[-1] < 100 * xs[0]:
        axes.set_xticks(xs, [f"{x:,g}" for x in xs])
        axes.set_xticks([], minor=True)


def _lines(plot: Plot, axes: Axes) -> None:
    """Each line has its label at its right end."""
    for series, colour, marker in zip(plot.series, COLOURS, MARKERS, strict=False):
        xs, ys = zip(*series.points, strict=True)
        axes.plot(xs, ys, color=colour, marker=marker, linewidth=2)
    _label_ends(plot, axes)


def _label_ends(plot: Plot, axes: Axes) -> None:
    """A legend beside the axes, from the line that ends highest to the lowest."""
    order = sorted(range(len(plot.series)), key=lambda at: -plot.series[at].points[-1][1])
    lines = axes.get_lines()
    labels = [plot.series[at].label for at in order]
    axes.legend([lines[at] for at in order], labels, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _bars(plot: Plot, axes: Axes) -> None:
    """Groups of bars, each with its height above it where there are few."""
    groups = list(dict.fromkeys(str(x) for series in plot.series for x, _ in series.points))
    width = 0.8 / len(plot.series)
    for at, (series, colour) in enumerate(zip(plot.series, COLOURS, strict=False)):
        offset = (at - (len(plot.series) - 1) / 2) * width
        places = [groups.index(str(x)) + offset for x, _ in series.points]
        bars = axes.bar(places, _heights(series), 0.9 * width, color=colour, label=series.label)
        if len(groups) * len(plot.series) <= LABELLED:
            axes.bar_label(bars, fmt=_short, fontsize=8)
    axes.set_xticks(range(len(groups)), groups, **(SLANTED if len("".join(groups)) > WIDE else {}))
    if len(plot.series) > 1:
        axes.get_figure().legend(loc="outside lower center", ncols=3)


def _short(height: float) -> str:
    """Three digits, or all before the point."""
    return f"{height:,.0f}" if abs(height) >= 100 else f"{height:.3g}"


def _heights(series: Series) -> list[float]:
    return [height for _, height in series.points]
