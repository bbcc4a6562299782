"""The figures of a study: accuracy against compression and against t, the paper's algorithm, the speed-up.

A chart is a few panels. The same panels are drawn side by side into a file, and one by one into the page, where they
stand beside or under each other as the screen allows. Published curves lie behind, thin.
"""

import html
import io
import math
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import files, published, report
from .report import Look, Point, Row
from .speed import Speed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, ZONE, PAPER = "#262626", "#5a5a5a", "#ebebeb", "#f3f1ea", "#ffffff"
GREY = "#8c8c8c"                # what others have published
PANELS = 4                      # so many compressions are shown one by one
MEASURED = {1: "D", 128: "s"}   # the markers of measured speed-ups, by the number of images


class Key(NamedTuple):
    """An entry of the legend: what Line2D draws, and its name."""

    label: str
    style: Mapping[str, Any]


class Panel(NamedTuple):
    """One pair of axes: its title, what it shows in words, and what draws it."""

    title: str
    words: str
    draw: Callable[["Axes"], None]


class Chart(NamedTuple):
    """Rows of panels under one title, with a legend and a note on how they were made."""

    name: str
    title: str
    note: str
    keys: list[Key]
    panels: list[list[Panel]]
    shared: bool                # whether all panels have the same axes


def charts(rows: Sequence[Row], speeds: Sequence[Speed] = ()) -> list[Chart]:
    """The charts for which these rows hold something to show."""
    subject, rows = report.title_of(rows), report.first_runs(rows)
    made = (comparison(rows, subject), times(rows, subject), algorithm(rows, subject), speed_up(rows, subject, speeds))
    return [chart for chart in made if chart.panels]


# ------------------------------------------------------------------------------------- accuracy against compression


def comparison(rows: Sequence[Row], subject: str) -> Chart:
    """Change in accuracy against compression, a panel per protocol, a row of panels per pruning method."""
    panels, looks = report.panels_of(rows), report.looks_of(report.techniques_of(rows))
    prunings = list(dict.fromkeys(pruning for pruning, _ in panels))
    beside = published.network_beside(rows[0].network, rows[0].dataset)
    dense = f"dense\n{report.dense_accuracy(rows):.{report.decimals_of(rows)}f} %"
    ends = [limits_of([point for line in report.curves(members).values() for point in line])
            for members in panels.values()]
    limits = min(low for low, _ in ends), max(high for _, high in ends)

    def panel(pruning: str, protocol: str) -> Panel:
        members = panels[pruning, protocol]
        lines = {technique: points for (_, technique, _), points in report.curves(members).items()}

        def draw(axes: "Axes") -> None:
            by_compression(axes, [row.compression for row in rows])
            changes(axes, limits, dense)
            if pruning == "global_magnitude":
                behind(axes, beside, protocol, looks)
            spread_lines(axes, lines, looks)

        title = report.panel_name((pruning, protocol), len(prunings) > 1)
        return Panel(title, in_words(title, "compression", lines, "x"), draw)

    grid = [[panel(*name) for name in panels if name[0] == pruning] for pruning in prunings]
    note = f"{how_drawn(rows, limits)} {report.times_of(rows)}."
    return Chart("comparison", f"Accuracy after pruning and retraining: {subject}", note,
                 [*map(key, looks.values()), *published_keys(beside, {protocol for _, protocol in panels})], grid, True)


def behind(axes: "Axes", network: str | None, protocol: str, looks: Mapping[str, Look]) -> None:
    """The paper's curves, thin, and the reproduction's points, open."""
    for technique, look in looks.items():
        for source, style in ((published.PAPER, thin(look)), (published.REPRODUCTION, open_marks(look))):
            line = published.curve(source, network, protocol, technique)
            axes.plot([p.compression for p in line], [p.median for p in line], **style)


def published_keys(network: str | None, protocols: Iterable[str]) -> list[Key]:
    """What the legend says of the published numbers that are drawn."""
    if network is None:
        return []
    name = published.NAMES[network]
    drawn = {source for source in (published.PAPER, published.REPRODUCTION) for protocol in protocols
             if published.curve(source, network, protocol, "lr_rewinding")}
    keys = {published.PAPER: Key(f"thin: the paper's {name}", {"color": GREY, "linewidth": 1}),
            published.REPRODUCTION: Key("open: its reproduction", {"color": GREY, "linewidth": 0, "marker": "o",
                                        "markersize": 4, "markerfacecolor": "none"})}
    return [keys[source] for source in keys if source in drawn]


# --------------------------------------------------------------------------------------------------- accuracy against t


def times(rows: Sequence[Row], subject: str) -> Chart:
    """Change in accuracy against the retraining time, a panel per compression, the paper's safe zone shaded."""
    looks = report.looks_of(report.techniques_of(rows))
    beside = published.network_beside(rows[0].network, rows[0].dataset)
    several = len({row.pruning for row in rows}) > 1
    cells = report.at_each_t(rows)
    compression = {report.cell_of(row): row.compression for row in rows}

    def panel(cell: tuple[str, str, float]) -> Panel:
        protocol, pruning, _ = cell
        lines, limits = cells[cell], limits_of([point for line in cells[cell].values() for point in line])

        def draw(axes: "Axes") -> None:
            by_time(axes)
            changes(axes, limits)
            if pruning == "global_magnitude":
                for technique, look in looks.items():
                    line = published.sweep(beside, protocol, technique, compression[cell])
                    axes.plot([100 * p.retrain_fraction for p in line], [p.median for p in line], **thin(look))
            spread_lines(axes, {name: [p._replace(compression=100 * p.compression) for p in line]
                                for name, line in lines.items()}, looks, apart=0.6)

        title = f"{report.short(compression[cell])}×, {report.panel_name((pruning, protocol), several)}"
        return Panel(title, in_words(title, "t/T", lines, ""), draw)

    grid = []
    for pruning, protocol in report.panels_of(rows):
        mine = sorted((cell for cell in cells if cell[:2] == (protocol, pruning)), key=lambda cell: -cell[2])
        grid += [[panel(cell) for cell in report.spread(mine, PANELS)]] if mine else []
    drawn = [p for protocol, _, d in cells for p in published.sweep(beside, protocol, "lr_rewinding", 1 / d)]
    keys = [*map(key, looks.values()), *(published_keys(beside, ["one_shot"])[:1] if drawn else []),
            Key("the paper's safe zone, 25 to 90 %", {"color": ZONE, "linewidth": 9})]
    medians = {cell: [point for line in lines.values() for point in line] for cell, lines in cells.items()}
    arrows = "; ↓ medians below the axis" if any(
        min(p.median for p in points) < limits_of(points)[0] for points in medians.values()) else ""
    note = f"Lines: median over seeds; bars: lowest and highest seed{arrows}. Every run at its own t, none chosen."
    return Chart("times", f"Accuracy against retraining time: {subject}", note, keys, grid, False)


def by_time(axes: "Axes") -> None:
    """The axis of t in percent of T, with the zone of 25 to 90 %."""
    low, high = (100 * edge for edge in report.SAFE_ZONE)
    axes.axvspan(low, high, color=ZONE, linewidth=0, zorder=0)
    axes.set_xlim(0, 104)
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.set_xlabel("retraining time t, share of the training T")


# ---------------------------------------------------------------------------- the paper's algorithm and the literature


def algorithm(rows: Sequence[Row], subject: str) -> Chart:
    """Iterative learning-rate rewinding with t = T beside the paper's own curve and the literature's points."""
    ours = [p for line in report.curves(report.the_algorithm(rows)).values() for p in line]
    beside = {published.network_beside(rows[0].network, rows[0].dataset), published.ALGORITHM} - {None}
    theirs = {network: published.algorithm(network) for network in published.NAMES if network in beside}
    look = report.LOOKS["lr_rewinding"]

    def draw(axes: "Axes") -> None:
        known = [p for line in [*theirs.values(), *published.literature().values()] for p in line]
        by_compression(axes, [1.0, *(p.compression for p in ours), *(p.compression for p in known)])
        changes(axes, limits_of([*ours, *(Point(p.compression, p.median, p.low, p.high, 1) for p in known)]))
        for (network, points), dash in zip(theirs.items(), ("solid", (0, (4, 2)))):
            axes.plot([p.compression for p in points], [p.median for p in points], color=GREY, linewidth=1.2,
                      linestyle=dash)
            axes.annotate(f"the paper's {published.NAMES[network]}", (points[-1].compression, points[-1].median),
                          (0, -8), textcoords="offset points", ha="right", va="top", fontsize=8, color=MUTED)
        for points in published.literature().values():
            axes.plot([p.compression for p in points], [p.median for p in points], color=GREY, linewidth=0,
                      marker="X", markersize=7)
        spread_lines(axes, {"lr_rewinding": ours}, {"lr_rewinding": look})

    words = in_words("iterative learning-rate rewinding with t = T", "compression", {"lr_rewinding": ours}, "x")
    keys = [key(look._replace(label=subject)), Key("the paper's, CIFAR-10", {"color": GREY, "linewidth": 1.2}),
            *(Key(f"{author}, ResNet-56, CIFAR-10", {"color": GREY, "linewidth": 0, "marker": "X", "markersize": 7})
              for author in published.literature())]
    note = ("Prune 20 % by magnitude, retrain with the whole learning-rate schedule, repeat: nothing to choose. "
            "Where network and data differ, compare shapes, not heights.")
    return Chart("algorithm", "The paper's algorithm, and what others had published", note, keys,
                 [[Panel("iterative, t = T", words, draw)]] if ours else [], True)


# --------------------------------------------------------------------------------------------------------- the speed-up


def speed_up(rows: Sequence[Row], subject: str, speeds: Sequence[Speed]) -> Chart:
    """Multiplications saved against compression, and the time really saved where it was measured."""
    counted = [row for row in rows if row.dense_multiply_adds]
    panels, looks = report.panels_of(counted), report.looks_of(report.techniques_of(rows))
    several = len({row.pruning for row in rows}) > 1
    ratios = [p.median for line in report.speed_ups(counted).values() for p in line] + [s.ratio for s in speeds]

    def panel(pruning: str, protocol: str) -> Panel:
        members = panels[pruning, protocol]
        lines = {technique: points for (_, technique, _), points in report.speed_ups(members).items()}
        measured = [speed for speed in speeds if (speed.pruning, speed.protocol) == (pruning, protocol)]

        def draw(axes: "Axes") -> None:
            by_compression(axes, [1.0, *(row.compression for row in counted)])
            frame(axes)
            axes.set_yscale("log")
            axes.set_ylim(min([0.9, *(0.9 * ratio for ratio in ratios)]), 1.25 * max([2.0, *ratios]))
            doublings(axes.yaxis, *axes.get_ylim())
            axes.set_ylabel("dense network ÷ pruned network")
            axes.axhline(1, color=INK, linewidth=1)
            ends = axes.get_xlim()
            axes.plot(ends, ends, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
            spread_lines(axes, lines, looks)
            for images, marker in MEASURED.items():
                mine = sorted((s.compression, s.ratio) for s in measured if s.images == images)
                axes.plot([x for x, _ in mine], [y for _, y in mine], color=INK, linewidth=0.8, marker=marker,
                          markersize=5, markerfacecolor=PAPER if images == 1 else INK, zorder=4)

        title = report.panel_name((pruning, protocol), several)
        times = ", ".join(f"{s.ratio:.2g} times faster for {report.counted(s.images, 'image')} at "
                          f"{report.short(s.compression)}x" for s in measured)
        return Panel(title, in_words(title, "compression", lines, "x", "times fewer multiplications") +
                     (f" Measured: {times}." if times else ""), draw)

    grid = [[panel(pruning, protocol) for pruning, protocol in panels if pruning == name]
            for name in dict.fromkeys(pruning for pruning, _ in panels)]
    keys = [key(look) for look in looks.values()]
    keys += [Key("as many times as weights", {"color": GREY, "linewidth": 1, "linestyle": (0, (1, 2))})]
    keys += [Key(f"measured, {report.counted(images, 'image')}", {
        "color": INK, "linewidth": 0.8, "marker": marker, "markersize": 5,
        "markerfacecolor": PAPER if images == 1 else INK}) for images, marker in MEASURED.items()
        if any(s.images == images for s in speeds)]
    note = ("Lines: the dense network's multiply-adds by the pruned one's, median over seeds. Measured: milliseconds "
            "of the dense program by those of the pruned one.") if speeds else \
        "The dense network's multiply-adds by the pruned one's, median over seeds; pruned weights are not multiplied."
    return Chart("speedup", f"What pruning saves: {subject}", note, keys, grid, True)


# ------------------------------------------------------------------------------------------------- the parts of a panel


def frame(axes: "Axes") -> None:
    """The look of every pair of axes."""
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=9)


def changes(axes: "Axes", limits: tuple[float, float], dense: str = "") -> None:
    """The axis of changes in accuracy; its zero is the dense network."""
    frame(axes)
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_ylim(*limits)
    axes.set_ylabel("change in accuracy (points)")
    if dense:
        axes.annotate(dense, (1, 0), (4, 0), ha="left", va="center", fontsize=8, color=MUTED, gid="margin",
                      xycoords=("axes fraction", "data"), textcoords="offset points", annotation_clip=False)


def limits_of(points: Sequence[Point]) -> tuple[float, float]:
    """The range of changes to draw: three times the worst loss of the best technique, and no more than 20 points.

    A network that a technique has destroyed must not press flat the region in which they differ.
    """
    best: dict[float, float] = {}
    for point in points:
        best[point.compression] = max(point.median, best.get(point.compression, -math.inf))
    bottom = max(min(-1.0, *(point.low for point in points)), 3 * min(-1.0, *best.values()), -20.0)
    top = max(0.2, *(point.high for point in points))
    margin = 0.08 * (top - bottom)
    return bottom - margin, top + margin


def by_compression(axes: "Axes", compressions: Iterable[float]) -> None:
    """The axis of compressions, by doublings."""
    compressions = sorted(set(compressions))
    axes.set_xscale("log")
    axes.set_xlim(compressions[0] / 1.15, compressions[-1] * 1.15)
    doublings(axes.xaxis, *axes.get_xlim(), compressions)
    axes.set_xlabel("compression (16× keeps 1/16 of the weights)")


def doublings(axis: Any, low: float, high: float, otherwise: Sequence[float] = ()) -> None:
    """Ticks at the powers of two, or where there are fewer than two of them, at given numbers."""
    from matplotlib.ticker import NullLocator

    ticks = [2.0 ** k for k in range(40) if low <= 2 ** k <= high]
    ticks = ticks if len(ticks) > 1 or not otherwise else list(otherwise)
    ticks = ticks[:: math.ceil(len(ticks) / 9)]
    axis.set_ticks(ticks, [f"{report.short(tick)}×" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def spread_lines(axes: "Axes", lines: Mapping[str, Sequence[Point]], looks: Mapping[str, Look],
                 apart: float = 0.0) -> None:
    """One line per technique, with bars from the lowest to the highest seed, set apart so that no bar hides another:
    by `apart` on a plain axis, by a factor on one of doublings.
    """
    below = 0
    for i, (technique, line) in enumerate(lines.items()):
        side = 2 * i + 1 - len(lines)
        x = [p.compression + apart * side if apart else p.compression * 1.012**side for p in line]
        _, median, low, high, _ = (np.array(column) for column in zip(*line))
        axes.errorbar(x, median, (median - low, high - median), **stroke(looks[technique]))
        if lost := [point for point in line if point.median < axes.get_ylim()[0]]:
            list_below(axes, lost, looks[technique], below)
            below += 1


def list_below(axes: "Axes", points: Sequence[Point], look: Look, place: int) -> None:
    """A line of text along the lower edge: the marker, an arrow, and the medians that lie below the axes."""
    from matplotlib.transforms import ScaledTranslation

    height = 7 + 11 * place                                                 # in typographic points
    shift = ScaledTranslation(-24 / 72, height / 72, axes.figure.dpi_scale_trans)
    axes.plot([points[0].compression], [0], marker=look.marker, markersize=4.5, color=look.colour,
              transform=axes.get_xaxis_transform() + shift)
    words, left = [(-14, points[0], "↓")], math.inf
    for point in points[::-1]:
        x = axes.transData.transform((point.compression, 0))[0] * 72 / axes.figure.dpi
        if left - x > 16:                                                   # where there is no room, the last counts
            words.append((0, point, f"{point.median:.0f}".replace("-", "−")))
            left = x
    for shifted, point, word in words:
        axes.annotate(word, (point.compression, 0), (shifted, height), xycoords=("data", "axes fraction"),
                      textcoords="offset points", ha="center", va="center", fontsize=7.5, color=look.colour, zorder=5,
                      bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6})


def stroke(look: Look) -> dict[str, Any]:
    """A technique's line and markers."""
    return {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "linewidth": 1.6, "markersize": 5.5,
            "markeredgecolor": PAPER, "markeredgewidth": 0.6, "elinewidth": 1, "capsize": 2, "zorder": 3}


def thin(look: Look) -> dict[str, Any]:
    """A published line of the same technique."""
    return {"color": look.colour, "linestyle": look.dash, "linewidth": 0.9, "alpha": 0.55, "zorder": 2}


def open_marks(look: Look) -> dict[str, Any]:
    """Published points of the same technique."""
    return {"color": look.colour, "linewidth": 0, "marker": look.marker, "markersize": 4, "markerfacecolor": "none",
            "markeredgewidth": 0.8, "alpha": 0.7, "zorder": 2}


def key(look: Look) -> Key:
    """A technique's entry in the legend."""
    style = {name: value for name, value in stroke(look).items() if name not in ("elinewidth", "capsize", "zorder")}
    return Key(look.label, style)


def in_words(title: str, axis: str, lines: Mapping[str, Sequence[Point]], unit: str,
             what: str = "points of accuracy") -> str:
    """A panel for those who cannot see it: its axes, and where its lines end."""
    places = sorted({point.compression for line in lines.values() for point in line})
    if not places:
        return title
    sign = "+" if what == "points of accuracy" else ""
    ends = "; ".join(f"{report.label(name)} {format(line[-1].median, sign + 'z.1f')} at "
                     f"{report.short(line[-1].compression)}{unit}" for name, line in lines.items())
    span = f"{report.short(places[0])}{unit} to {report.short(places[-1])}{unit}" if len(places) > 1 else \
        f"{report.short(places[0])}{unit}"
    return f"{title}: {what} against {axis}, {span}. {ends}."


def how_drawn(rows: Sequence[Row], limits: tuple[float, float]) -> str:
    """How lines, bars and arrows were made."""
    points = [point for line in report.curves(rows).values() for point in line]
    lines = "Lines: median over seeds; bars: lowest and highest seed" if max(p.n for p in points) > 1 else \
        "Lines: one seed, so no bars"
    arrows = "; ↓ medians below the axis" if min(p.median for p in points) < limits[0] else ""
    return f"{lines}{arrows}."


# ------------------------------------------------------------------------------------------------------------- to files


def write(rows: Sequence[Row], folder: str | os.PathLike, speeds: Sequence[Speed] = ()) -> list[Path]:
    """Draw every chart into the folder, as NAME.png and NAME.svg.

    The same rows give the same bytes. All files are drawn in full before the first is put in its place.
    """
    contents = {}
    for chart in charts(rows, speeds):
        drawing = whole(chart)
        for kind, settings in (("png", {"dpi": 200, "metadata": {"Software": None}}),
                               ("svg", {"metadata": {"Date": None, "Creator": None}})):
            contents[Path(folder) / f"{chart.name}.{kind}"] = saved(drawing, kind, settings)
    for path, content in contents.items():
        files.write_atomically(path, content)
    return list(contents)


def saved(drawing: "Figure", kind: str, settings: Mapping[str, Any], **style: Any) -> bytes:
    """A figure as the bytes of a file, whatever the user's own settings are."""
    from matplotlib import style as styles

    buffer = io.BytesIO()
    with styles.context({"svg.hashsalt": "minirewind", **style}, after_reset=True):
        drawing.savefig(buffer, format=kind, **settings)
    return buffer.getvalue()


def whole(chart: Chart) -> "Figure":
    """All panels of a chart in one figure, title and legend above, how it was made below."""
    from matplotlib import style

    with style.context("default", after_reset=True):
        drawing, grid = canvas(chart)
        for line, places in zip(chart.panels, grid):
            for panel, axes in zip(line, places):
                panel.draw(axes)
                axes.set_title(panel.title, loc="left", fontsize=10.5, color=INK)
        inner_labels(chart, grid)
        margins(drawing, chart)
    return drawing


def canvas(chart: Chart) -> tuple["Figure", Any]:
    """A figure of empty panels, and margins of the same inches however many there are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    down, across = len(chart.panels), max(map(len, chart.panels))
    width = 1 + max(6.0, (4.3 if across < 3 else 3.2) * across)
    above = 0.78 + 0.22 * math.ceil(len(chart.keys) / keys_in_a_row(chart, width))
    below = 0.77 + 0.15 * (1 + wrapped(chart.note, width).count("\n"))
    height = below + above + (3.2 if across < 3 else 2.7) * down + 0.3 * (down - 1)
    drawing = Figure(figsize=(width, height))
    FigureCanvasAgg(drawing)
    grid = drawing.subplots(down, across, squeeze=False, gridspec_kw={
        "left": 0.8 / width, "right": 1 - 0.55 / width, "bottom": below / height, "top": 1 - above / height,
        "wspace": 0.06 if chart.shared else 0.22, "hspace": 0.26})
    for line, places in zip(chart.panels, grid):
        for axes in places[len(line):]:
            axes.remove()
    return drawing, grid


def inner_labels(chart: Chart, grid: Any) -> None:
    """Only the outer panels are labelled, and what stands in the right margin stands there once."""
    for i, line in enumerate(chart.panels):
        for j, axes in enumerate(grid[i][:len(line)]):
            under = i + 1 < len(chart.panels) and j < len(chart.panels[i + 1])
            if under:
                axes.set_xlabel("")
            if j:
                axes.set_ylabel("")
                if chart.shared:
                    axes.tick_params(labelleft=False)
            if j + 1 < len(line):
                for text in [text for text in axes.texts if text.get_gid() == "margin"]:
                    text.remove()


def margins(drawing: "Figure", chart: Chart) -> None:
    """Title and legend above, the note below."""
    from matplotlib.lines import Line2D

    width, height = drawing.get_size_inches()
    drawing.text(0.2 / width, 1 - 0.32 / height, chart.title, fontsize=12.5, parse_math=False, color=INK)
    drawing.legend(handles=[Line2D([], [], label=entry.label, **entry.style) for entry in chart.keys],
                   loc="upper left", frameon=False, fontsize=9.5, labelcolor=INK, borderpad=0, borderaxespad=0,
                   bbox_to_anchor=(0.2 / width, 1 - 0.46 / height), ncols=keys_in_a_row(chart, width),
                   columnspacing=1.5, handlelength=3)
    drawing.text(0.2 / width, 0.14 / height, wrapped(chart.note, width), fontsize=8, color=MUTED, parse_math=False,
                 linespacing=1.35)


def wrapped(note: str, width: float) -> str:
    """The note in lines that fit into so many inches."""
    return textwrap.fill(note, int(15.5 * width))


def keys_in_a_row(chart: Chart, width: float) -> int:
    """How many entries of the legend fit into so many inches."""
    return max(1, int(width / (0.75 + 0.077 * max(len(entry.label) for entry in chart.keys))))


# -------------------------------------------------------------------------------------------------------- into the page


def panel_svg(panel: Panel, salt: str) -> str:
    """One panel as an SVG element for a page: its text is text, its colours are the page's (`var(--262626)`), its ids
    begin with `salt`, so that many may stand in one page.
    """
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context("default", after_reset=True):
        drawing = Figure(figsize=(4.4, 3.1), facecolor="none")
        FigureCanvasAgg(drawing)
        axes = drawing.add_axes((0.13, 0.155, 0.745, 0.81), facecolor="none")
        panel.draw(axes)
    return themed(drawing, salt, panel.words)


def key_svg(entry: Key) -> str:
    """The sample of line and marker beside an entry of the legend, 36 x 13 points."""
    from matplotlib.markers import MarkerStyle

    style, drawn = entry.style, ""
    if width := style.get("linewidth", 0):
        dash = style.get("linestyle", "solid")
        dashes = "" if isinstance(dash, str) else \
            f' stroke-dasharray="{" ".join(f"{part * width:g}" for part in dash[1])}"'
        drawn = f'<path d="M1 6.5H35" style="stroke:{style["color"]}" stroke-width="{width}"{dashes}/>'
    if "marker" in style:
        marker = MarkerStyle(style["marker"])
        outline = marker.get_path().transformed(marker.get_transform()).to_polygons()[0]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in
                          np.asarray(outline) * (style["markersize"], -style["markersize"]) + (18, 6.5))
        fill, edge = (style.get(f"marker{part}color", style["color"]) for part in ("face", "edge"))
        drawn += (f'<polygon points="{points}" style="fill:{fill};stroke:{edge}" '
                  f'stroke-width="{style.get("markeredgewidth", 0.8)}"/>')
    return f'<svg aria-hidden="true" viewBox="0 0 36 13">{in_variables(drawn)}</svg>'


def themed(drawing: "Figure", salt: str, words: str) -> str:
    """The figure as an SVG element whose colours a page's style sheet decides; `words` say what is in it."""
    text = saved(drawing, "svg", {"metadata": {"Date": None, "Creator": None}, "transparent": True},
                 **{"svg.fonttype": "none"}).decode()
    start, rest = text[text.index("<svg"):].strip().split(">", 1)
    start = re.sub(r' (?:xmlns(?::\w+)?|version)="[^"]*"', "", start).replace("xlink:href", "href")
    rest = re.sub(r"<metadata>.*?</metadata>\s*", "", rest, flags=re.DOTALL).replace("xlink:href", "href")
    rest = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{salt}-", rest)
    return f'{start} role="img" aria-label="{html.escape(words)}">{in_variables(rest)}'


def in_variables(svg: str) -> str:
    """The drawing with each colour #rrggbb as the page's variable --rrggbb."""
    return re.sub(r"(?<=[:\s])#([0-9a-fA-F]{6})\b", lambda match: f"var(--{match[1].lower()})", svg)
