"""What a study shows: medians and ranges over seeds, paired differences with their intervals, a table, a figure.

Rows are the finished pruned runs of one network on one data set. Every function first says what holds for the rows
alone; drawing comes last. All changes in accuracy are in percentage points, measured from the dense network of the same
seed; `t` is the retraining time, `T` that of the dense training, and t/T a row's `retrain_fraction`.
"""

import io
import math
import os
import textwrap
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from .errors import Error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEEDS_FOR_A_CLAIM = 5
SAFE_ZONE = (0.25, 0.9)         # of t/T: where the paper found both rewinding techniques ahead of fine-tuning


class Row(Protocol):
    """What a report reads of a finished pruned run."""

    @property
    def network(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def technique(self) -> str: ...
    @property
    def pruning(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def density(self) -> float: ...
    @property
    def compression(self) -> float: ...
    @property
    def retrain_fraction(self) -> float: ...
    @property
    def dense_accuracy(self) -> float: ...
    @property
    def validation_accuracy(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def delta(self) -> float: ...


class Point(NamedTuple):
    """One point of a curve: the change in accuracy over n seeds."""

    compression: float
    median: float
    low: float
    high: float
    n: int


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Curve = tuple[str, str, str]                # protocol, technique, pruning
Cell = tuple[str, str, float]               # protocol, pruning, density


# ------------------------------------------------------------------------------------------------ medians and curves


def median_and_range(values: Iterable[float]) -> tuple[float, float, float]:
    """The median, the lowest and the highest value; the paper's way to sum up its trials."""
    values = list(values)
    return float(np.median(values)), float(min(values)), float(max(values))


def best_by_validation(rows: Sequence[Row]) -> list[Row]:
    """The rows at the best t of each (protocol, technique, pruning, density): that of the highest median validation
    accuracy, the shortest of equals. Test accuracy has no say, or the test set would no longer be one.
    """
    def cell(row: Row) -> Curve | tuple:
        return row.protocol, row.technique, row.pruning, row.density

    best = {}
    for name, members in _grouped(rows, cell).items():
        times = _grouped(members, lambda row: row.retrain_fraction)
        best[name] = max(sorted(times), key=lambda t: np.median([row.validation_accuracy for row in times[t]]))
    return [row for row in rows if row.retrain_fraction == best[cell(row)]]


def curves(rows: Sequence[Row]) -> dict[Curve, list[Point]]:
    """The change in accuracy over seeds against compression: a curve per (protocol, technique, pruning), at the best t.
    """
    found = {}
    for name, members in _grouped(best_by_validation(rows), lambda r: (r.protocol, r.technique, r.pruning)).items():
        cells = _grouped(members, lambda row: row.compression)
        found[name] = [Point(compression, *median_and_range(row.delta for row in cells[compression]),
                             len(cells[compression])) for compression in sorted(cells)]
    return found


def safe_zone_share(rows: Sequence[Row], technique: str) -> float | None:
    """In which share of the (protocol, pruning, density, t) cells with t/T in the safe zone, 0.25 to 0.9, the median of
    `technique` is at least that of fine-tuning; None where no cell has both.
    """
    low, high = SAFE_ZONE
    inside = [row for row in rows if low <= round(row.retrain_fraction, 2) <= high]     # t is a whole number of steps
    won = []
    for cell in _grouped(inside, lambda r: (r.protocol, r.pruning, r.density, r.retrain_fraction)).values():
        changes = {name: [row.delta for row in members] for name, members in _grouped(cell, _technique).items()}
        if technique in changes and "fine_tuning" in changes:
            won.append(np.median(changes[technique]) >= np.median(changes["fine_tuning"]) - 1e-9)
    return sum(won) / len(won) if won else None


# ------------------------------------------------------------------------------------------ differences, and how sure


def paired_differences(rows: Sequence[Row], a: str, b: str) -> dict[Cell, dict[int, float]]:
    """Technique a minus technique b, seed by seed, in each (protocol, pruning, density), each at its best t.

    Runs of one seed start from the same dense network: what made it good or bad cancels in the difference. To compare
    at one t, give the rows of that t.
    """
    rows = best_by_validation(rows)
    changes = {name: {(_cell(row), row.seed): row.delta for row in rows if row.technique == name} for name in (a, b)}
    pairs: dict[Cell, dict[int, float]] = {}
    for cell, seed in sorted(changes[a].keys() & changes[b].keys()):
        pairs.setdefault(cell, {})[seed] = changes[a][cell, seed] - changes[b][cell, seed]
    return pairs


def seed_means(pairs: Mapping[Cell, Mapping[int, float]]) -> dict[int, float]:
    """The mean over cells of each seed's differences, for the seeds that are in every cell.

    One number per seed: the cells of a seed share its dense network, so that they are no independent evidence.
    """
    complete = set.intersection(*map(set, pairs.values())) if pairs else set()
    return {seed: float(np.mean([cell[seed] for cell in pairs.values()])) for seed in sorted(complete)}


def interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval for the mean of independent differences; None where there are fewer than two."""
    n = len(differences)
    if n < 2:
        return None
    mean, error = np.mean(differences), np.std(differences, ddof=1) / math.sqrt(n)
    reach = t_quantile(n - 1) * error
    return float(mean - reach), float(mean + reach)


def t_quantile(degrees: int, inside: float = 0.95) -> float:
    """The t between whose minus and plus Student's distribution holds the share `inside`, by bisection."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student(middle, degrees) < inside else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _student(angle: float, degrees: int) -> float:
    """The share of Student's distribution within +-sqrt(degrees) * tan(angle); Abramowitz and Stegun 26.7.3 and 4."""
    odd = degrees % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= k / (k + 1) * math.cos(angle) ** 2
    share = math.sin(angle) * total
    return (angle + share) * 2 / math.pi if odd else share


# -------------------------------------------------------------------------------------------------------- the sentences


def findings(rows: Sequence[Row]) -> list[str]:
    """What the rows show, in sentences as strong as the data allow."""
    several = len({row.pruning for row in rows}) > 1
    panels = {_panel_name(name, several): members for name, members in _panels(rows).items()}
    sentences = [(say(members), name) for say in (_verdict, _safe_zone) for name, members in panels.items()]
    together = _grouped(sentences, lambda pair: pair[0])
    return [f"{_listed([name for _, name in pairs]).capitalize()}: {sentence}" for sentence, pairs in together.items()
            if sentence]


def leader(rows: Sequence[Row]) -> str | None:
    """The technique with the highest median, averaged over the compressions that all of them have."""
    medians = {technique: {point.compression: point.median for point in points}
               for (_, technique, _), points in curves(rows).items()}
    shared = sorted(set.intersection(*map(set, medians.values())))
    return max(medians, key=lambda name: np.mean([medians[name][c] for c in shared])) if shared else None


def _verdict(rows: Sequence[Row]) -> str:
    """One panel's verdict: a winner is ahead of every other technique, each time by a whole interval over enough seeds.
    """
    techniques = _techniques(rows)
    if len(techniques) == 1:
        return f"only {label(techniques[0])} so far, nothing to compare it with."
    best = leader(rows)
    if best is None:
        return "no compression yet at which all techniques are finished."
    gaps = {name: list(seed_means(paired_differences(rows, best, name)).values())
            for name in techniques if name != best}
    seeds = min(map(len, gaps.values()))
    return _unproven(seeds) if seeds < SEEDS_FOR_A_CLAIM else _comparison(best, gaps, seeds)


def _unproven(seeds: int) -> str:
    more = SEEDS_FOR_A_CLAIM - seeds
    return (f"differences are shown, not proven ({_count(seeds, 'complete seed')}); {_count(more, 'more seed')} "
            f"(--seeds {SEEDS_FOR_A_CLAIM}) make{'s' * (more == 1)} a 95 % interval possible.")


def _comparison(best: str, gaps: Mapping[str, Sequence[float]], seeds: int) -> str:
    ahead: list[str] = []
    level: list[str] = []
    for name, differences in gaps.items():
        low, high = interval(differences) or (-math.inf, math.inf)
        text = f"{label(name)} ({np.mean(differences):+z.2f} [{low:+z.2f}, {high:+z.2f}])"
        (ahead if low > 0 else level).append(text)
    means = f"Points, 95 % intervals; {seeds} seeds, paired, averaged over compressions."
    if not ahead:
        return f"no winner; {label(best)} is not told apart from {_listed(level)}. {means}"
    if level:
        return (f"no single winner; {label(best)} is better than {_listed(ahead)}, but not told apart from "
                f"{_listed(level)}. {means}")
    return f"{label(best)} wins: it is better than {_listed(ahead)}. {means}"


def _safe_zone(rows: Sequence[Row]) -> str:
    """How often each technique is at least as good as fine-tuning; empty where one t only was tried."""
    if len({row.retrain_fraction for row in rows}) == 1:
        return ""
    shares = {name: safe_zone_share(rows, name) for name in _techniques(rows) if name != "fine_tuning"}
    texts = [f"{label(name)} in {100 * share:.0f} %" for name, share in shares.items() if share is not None]
    low, high = SAFE_ZONE
    return f"with t/T from {low:g} to {high:g}, at least as good as fine-tuning are {_listed(texts)} of the cells." \
        if texts else ""


# ------------------------------------------------------------------------------------------------------------ the table


def table(rows: Sequence[Row], width: int = 100) -> str:
    """The printed table: a line per compression, a column per technique, `median [lowest, highest]` over seeds.

    The best median of a line has a star. Columns that do not fit into `width` characters follow below.
    """
    if not rows:
        return "No pruned run is finished yet."
    about = [f"{_title(rows)}. The dense network has {_dense(rows):.{_decimals(rows)}f} %.",
             f"Change in accuracy in points, median [lowest, highest seed]; * best of the line; {_times(rows)}."]
    several = len({row.pruning for row in rows}) > 1
    blocks = [_block(_panel_name(name, several), members, width) for name, members in _panels(rows).items()]
    sentences = "\n".join(textwrap.fill(sentence, width) for sentence in findings(rows))
    return "\n\n".join(["\n".join(textwrap.fill(line, width) for line in about), *blocks, sentences]) + "\n"


def _block(name: str, rows: Sequence[Row], width: int) -> str:
    """One panel as text."""
    points = {technique: {point.compression: point for point in points}
              for (_, technique, _), points in curves(rows).items()}
    compressions = sorted({row.compression for row in rows})
    first = _column("", [f"{_compression(c)}x" for c in compressions], str.rjust)
    decimals = _decimals(rows)
    best = {c: _best([line[c].median for line in points.values() if c in line], decimals) for c in compressions}
    columns = [_column(label(technique), [_entry(points[technique].get(c), best[c], decimals) for c in compressions],
                       str.ljust) for technique in _techniques(rows)]
    groups = _folded(columns, width - len(first[0]))
    lines = ["  ".join(line).rstrip() for group in groups for line in zip(first, *group)]
    return "\n".join([name.capitalize(), *lines])


def _column(head: str, entries: list[str], align: Callable[[str, int], str]) -> list[str]:
    """A heading and its entries, all of one width."""
    width = max(map(len, [head, *entries]))
    return [head.ljust(width), *(align(entry, width) for entry in entries)]


def _entry(point: Point | None, best: float | None, decimals: int) -> str:
    """`-1.2* [-1.8, -0.4]`; without a range for a single seed, a dash where no run is finished."""
    if point is None:
        return "-".rjust(decimals + 4)
    median, low, high = (f"{value:+z.{decimals}f}" for value in point[1:4])
    star = "*" if round(point.median, decimals) == best else " "
    spread = f" [{low}, {high}]" if point.n > 1 else ""
    return median.rjust(decimals + 4) + star + spread


def _best(medians: Sequence[float], decimals: int) -> float | None:
    """The highest median as printed, so that equal entries have equal stars; None where there is nothing to compare."""
    return round(max(medians), decimals) if len(medians) > 1 else None


def _folded(columns: list[list[str]], room: int) -> list[list[list[str]]]:
    """The columns in groups, each as many as fit into the room."""
    groups: list[list[list[str]]] = [[]]
    used = 0
    for column in columns:
        needed = len(column[0]) + 2
        if groups[-1] and used + needed > room:
            groups.append([])
            used = 0
        groups[-1].append(column)
        used += needed
    return groups


def _decimals(rows: Sequence[Row]) -> int:
    """One decimal; two where the test set is large enough to tell hundredths of a point."""
    tenths = [10 * value for row in rows for value in (row.accuracy, row.dense_accuracy)]
    return 1 if np.allclose(tenths, np.round(tenths), rtol=0, atol=1e-6) else 2


# ------------------------------------------------------------------------------------------------------ names and words


class Look(NamedTuple):
    """How a technique is called and drawn: a colour of Okabe and Ito, and for black and white a marker and a dash."""

    label: str
    colour: str
    marker: str
    dash: Any


LOOKS = {
    "fine_tuning": Look("fine-tuning", "#D55E00", "o", (0, (5, 2))),
    "weight_rewinding": Look("weight rewinding", "#0072B2", "s", "solid"),
    "lr_rewinding": Look("learning-rate rewinding", "#009E73", "^", (0, (6, 2, 1, 2))),
    "weight_rewinding_low_lr": Look("low-rate weight rewinding", "#56B4E9", "D", (0, (1, 1.5))),
    "reinitialize": Look("reinitialised", "#CC79A7", "v", (0, (3, 1, 1, 1, 1, 1))),
}
SPARE = [("#E69F00", "P", (0, (8, 2))), ("#000000", "X", (0, (2, 2))), ("#999999", "*", (0, (4, 1, 1, 1)))]
PROTOCOLS = ("one_shot", "iterative")


def label(technique: str) -> str:
    """A technique's name in words."""
    return LOOKS[technique].label if technique in LOOKS else technique.replace("_", " ")


def _looks(techniques: Sequence[str]) -> dict[str, Look]:
    """The look of each technique: its own, or for one we do not know the next spare."""
    unknown = [name for name in techniques if name not in LOOKS]
    spare = {name: Look(label(name), *SPARE[i % len(SPARE)]) for i, name in enumerate(unknown)}
    return {name: spare.get(name) or LOOKS[name] for name in techniques}


def _techniques(rows: Iterable[Row]) -> list[str]:
    """The techniques present, the paper's first and in its order."""
    return _ordered({row.technique for row in rows}, LOOKS)


def _panels(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each (pruning, protocol), one-shot before iterative."""
    found = _grouped(rows, lambda row: (row.pruning, row.protocol))
    prunings = _ordered({row.pruning for row in rows}, ["global_magnitude"])
    protocols = _ordered({row.protocol for row in rows}, PROTOCOLS)
    return {(a, b): found[a, b] for a in prunings for b in protocols if (a, b) in found}


def _panel_name(panel: tuple[str, str], several: bool) -> str:
    """`one-shot`; with the pruning method where there are several."""
    pruning, protocol = panel
    protocol = protocol.replace("one_shot", "one-shot")
    return f"{protocol} ({pruning.replace('_', ' ')})" if several else protocol


def _title(rows: Sequence[Row]) -> str:
    """`resnet20 on cifar10, 3 seeds`."""
    subjects = sorted({f"{row.network} on {row.dataset}" for row in rows})
    if len(subjects) != 1:
        raise Error(f"a report is about one network and one data set, got {_listed(subjects) or 'no finished run'}")
    counts = [point.n for points in curves(rows).values() for point in points]
    seeds = _count(max(counts), "seed") if min(counts) == max(counts) else f"{min(counts)} to {max(counts)} seeds"
    return f"{subjects[0]}, {seeds}"


def _times(rows: Sequence[Row]) -> str:
    """Which t/T the numbers belong to."""
    series: dict[tuple, set[float]] = {}
    for row in rows:
        series.setdefault((row.protocol, row.technique, row.pruning), set()).add(row.retrain_fraction)
    if all(len(fractions) == 1 for fractions in series.values()):       # nothing to choose from
        of = {protocol: sorted(set().union(*(f for key, f in series.items() if key[0] == protocol)))
              for protocol in sorted({key[0] for key in series}, reverse=True)}
        if len(set(map(tuple, of.values()))) == 1:
            return "t/T = " + " and ".join(f"{t:.3g}" for t in next(iter(of.values())))
        return "t/T = " + ", ".join(f"{' and '.join(f'{t:.3g}' for t in fractions)} {protocol.replace('_', '-')}"
                                    for protocol, fractions in of.items())
    times = [f"{t:.3g}" for t in sorted({row.retrain_fraction for row in rows})]
    among = ", ".join(times) if len(times) < 5 else f"{len(times)} from {times[0]} to {times[-1]}"
    return f"t/T of the best median validation accuracy among {among}"


def _dense(rows: Sequence[Row]) -> float:
    """The median over seeds of the dense network's accuracy."""
    return float(np.median(list({row.seed: row.dense_accuracy for row in rows}.values())))


def _compression(value: float) -> str:
    return f"{value:.3g}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _ordered(names: Iterable[str], first: Iterable[str]) -> list[str]:
    """The names, those in `first` first and in its order, the others by alphabet."""
    rank = {name: i for i, name in enumerate(first)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def _grouped(items: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    groups: dict[K, list[V]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _technique(row: Row) -> str:
    return row.technique


def _cell(row: Row) -> Cell:
    return row.protocol, row.pruning, row.density


# ----------------------------------------------------------------------------------------------------------- the figure


def write(rows: Sequence[Row], folder: str | os.PathLike) -> tuple[Path, Path]:
    """Draw comparison.png and comparison.svg into the folder."""
    paths = Path(folder) / "comparison.png", Path(folder) / "comparison.svg"
    figure(rows, *paths)
    return paths


def figure(rows: Sequence[Row], path_png: str | os.PathLike, path_svg: str | os.PathLike) -> None:
    """Change in accuracy against compression, a panel per protocol (and a row of panels per pruning method).

    The same rows give the same bytes. Both files are drawn in full before the first is put in its place.
    """
    from matplotlib import style

    with style.context({"svg.hashsalt": "minirewind"}, after_reset=True):
        drawing = _draw(rows)
        png, svg = io.BytesIO(), io.BytesIO()
        drawing.savefig(png, format="png", dpi=200, metadata={"Software": None})
        drawing.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    for path, content in ((path_png, png), (path_svg, svg)):
        _write_whole(Path(path), content.getvalue())


def _write_whole(path: Path, content: bytes) -> None:
    """The old file or the new one, never half of one."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_bytes(content)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def _draw(rows: Sequence[Row]) -> "Figure":
    title, panels, looks = _title(rows), _panels(rows), _looks(_techniques(rows))
    prunings, protocols = (list(dict.fromkeys(names)) for names in zip(*panels))
    drawing = _canvas(len(prunings), len(protocols), len(looks))
    axes = np.array(drawing.axes, dtype=object).reshape(len(prunings), len(protocols))
    _scale(axes[0, 0], rows)
    for i, pruning in enumerate(prunings):
        axes[i, 0].set_ylabel("change in accuracy (points)")
        for j, protocol in enumerate(protocols):
            axes[i, j].set_title(_panel_name((pruning, protocol), len(prunings) > 1), loc="left", fontsize=10.5)
            _draw_panel(axes[i, j], panels.get((pruning, protocol), []), looks)
    for place in axes[-1]:
        place.set_xlabel("compression (16× keeps 1/16 of the weights)")
    axes[0, -1].annotate(f"dense\n{_dense(rows):.{_decimals(rows)}f} %", (1, 0), (4, 0), ha="left", va="center",
                         fontsize=8, color="0.35", xycoords=("axes fraction", "data"), textcoords="offset points")
    _draw_margins(drawing, rows, title, looks)
    return drawing


def _canvas(down: int, across: int, looks: int) -> "Figure":
    """A figure of empty panels with shared axes, and margins of the same inches however many there are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 1 + max(6.0, 4.3 * across)
    above = 0.78 + 0.22 * math.ceil(looks / _keys_in_a_row(width))
    height = 0.92 + above + 3.2 * down
    drawing = Figure(figsize=(width, height))
    FigureCanvasAgg(drawing)
    drawing.subplots(down, across, sharex=True, sharey=True, gridspec_kw={
        "left": 0.8 / width, "right": 1 - 0.55 / width, "bottom": 0.9 / height, "top": 1 - above / height,
        "wspace": 0.06, "hspace": 0.16})
    return drawing


def _scale(axes: "Axes", rows: Sequence[Row]) -> None:
    """The axes that all panels share: compression by doublings, the change without the depths."""
    from matplotlib.ticker import NullLocator

    compressions = sorted({row.compression for row in rows})
    low, high = compressions[0] / 1.15, compressions[-1] * 1.15
    doublings = [2.0 ** k for k in range(20) if low <= 2 ** k <= high]
    ticks = doublings if len(doublings) > 1 else compressions
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{_compression(tick)}×" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(*_limits(rows))


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """The range of changes to draw: three times the worst loss of the best technique, and no more than 20 points.

    A network that a technique has destroyed must not press flat the region in which they differ.
    """
    points = {(*name, point.compression): point for name, line in curves(rows).items() for point in line}
    best: dict[tuple, float] = {}
    for (protocol, _, pruning, compression), point in points.items():
        place = protocol, pruning, compression
        best[place] = max(point.median, best.get(place, -math.inf))
    bottom = max(min(-1.0, *(point.low for point in points.values())), 3 * min(-1.0, *best.values()), -20.0)
    top = max(0.2, *(point.high for point in points.values()))
    margin = 0.08 * (top - bottom)
    return bottom - margin, top + margin


def _draw_panel(axes: "Axes", rows: Sequence[Row], looks: Mapping[str, Look]) -> None:
    """One line per technique, with bars from the lowest to the highest seed."""
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color="0.35", linewidth=1)
    lines = {technique: line for (_, technique, _), line in curves(rows).items()}
    rows_below = 0
    for i, technique in enumerate(_techniques(rows)):
        side = 1.012 ** (2 * i + 1 - len(lines))                      # so that no bar hides another
        x = [side * point.compression for point in lines[technique]]
        _, median, low, high, _ = (np.array(column) for column in zip(*lines[technique]))
        axes.errorbar(x, median, (median - low, high - median), **_stroke(looks[technique]))
        below = [point for point in lines[technique] if point.median < axes.get_ylim()[0]]
        if below:
            _list_below(axes, below, looks[technique], rows_below)
            rows_below += 1


def _stroke(look: Look) -> dict[str, Any]:
    return {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "linewidth": 1.6, "markersize": 5.5,
            "markeredgecolor": "white", "markeredgewidth": 0.6, "elinewidth": 1, "capsize": 2, "label": look.label}


def _list_below(axes: "Axes", points: Sequence[Point], look: Look, place: int) -> None:
    """A line of text along the lower edge: the marker, an arrow, and the medians that lie below the axes."""
    from matplotlib.transforms import ScaledTranslation

    height = 7 + 11 * place                                                 # in typographic points
    shift = ScaledTranslation(-24 / 72, height / 72, axes.figure.dpi_scale_trans)
    axes.plot([points[0].compression], [0], marker=look.marker, markersize=4.5, color=look.colour,
              transform=axes.get_xaxis_transform() + shift)
    words = [(-14, points[0], "↓")] + [(0, point, f"{point.median:.0f}".replace("-", "−")) for point in points]
    for x, point, word in words:
        axes.annotate(word, (point.compression, 0), (x, height), xycoords=("data", "axes fraction"),
                      textcoords="offset points", ha="center", va="center", fontsize=7.5, color=look.colour,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})


def _draw_margins(drawing: "Figure", rows: Sequence[Row], title: str, looks: Mapping[str, Look]) -> None:
    """Title and legend above, how it was made below."""
    width, height = drawing.get_size_inches()
    drawing.text(0.2 / width, 1 - 0.32 / height, f"Accuracy after pruning and retraining: {title}", fontsize=12.5,
                 parse_math=False)
    drawing.legend(handles=[_key(look) for look in looks.values()], loc="upper left", frameon=False, fontsize=9.5,
                   bbox_to_anchor=(0.2 / width, 1 - 0.46 / height), borderpad=0, borderaxespad=0,
                   ncols=_keys_in_a_row(width), columnspacing=1.5, handlelength=3)
    drawing.text(0.2 / width, 0.14 / height, _note(rows), fontsize=8, color="0.35")


def _note(rows: Sequence[Row]) -> str:
    """How lines, bars and arrows were made."""
    points = [point for line in curves(rows).values() for point in line]
    lines = "Lines: median over seeds; bars: lowest and highest seed" if max(p.n for p in points) > 1 else \
        "Lines: one seed, so no bars"
    arrows = "; ↓ medians below the axis" if min(p.median for p in points) < _limits(rows)[0] else ""
    return f"{lines}{arrows}. {_times(rows)}."


def _keys_in_a_row(width: float) -> int:
    return int(width / 1.9)


def _key(look: Look) -> Any:
    from matplotlib.lines import Line2D

    style = {name: value for name, value in _stroke(look).items() if name not in ("elinewidth", "capsize")}
    return Line2D([], [], **style)
