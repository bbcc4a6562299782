"""What a study shows: medians and ranges over seeds, paired differences with their intervals, sentences, a table.

Rows are the finished pruned runs of one network on one data set. All changes in accuracy are in percentage points,
measured from the dense network of the same seed; `t` is the retraining time, `T` that of the dense training, and t/T a
row's `retrain_fraction`. figures.py draws what is computed here, page.py puts it on a page.
"""

import math
import textwrap
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from .errors import Error

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
    def stream(self) -> int: ...
    @property
    def round(self) -> int: ...
    @property
    def density(self) -> float: ...
    @property
    def compression(self) -> float: ...
    @property
    def retrain_fraction(self) -> float: ...
    @property
    def retrain_steps(self) -> int: ...
    @property
    def search_steps(self) -> int: ...
    @property
    def dense_accuracy(self) -> float: ...
    @property
    def validation_accuracy(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def delta(self) -> float: ...
    @property
    def multiply_adds(self) -> int: ...
    @property
    def dense_multiply_adds(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Point(NamedTuple):
    """One point of a curve: the change in accuracy over n seeds."""

    compression: float
    median: float
    low: float
    high: float
    n: int


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R", bound=Row)
Curve = tuple[str, str, str]                # protocol, technique, pruning
Cell = tuple[str, str, float]               # protocol, pruning, density


# ------------------------------------------------------------------------------------------------ medians and curves


def first_runs(rows: Sequence[R]) -> list[R]:
    """The rows without the A/A repeats, which only say how large the noise is."""
    return [row for row in rows if row.stream == 0]


def median_and_range(values: Iterable[float]) -> tuple[float, float, float]:
    """The median, the lowest and the highest value; the paper's way to sum up its trials."""
    values = list(values)
    return float(np.median(values)), float(min(values)), float(max(values))


def best_by_validation(rows: Sequence[Row]) -> list[Row]:
    """The rows at the best t of each (protocol, technique, pruning, density): that of the highest median validation
    accuracy, the shortest of equals. Test accuracy has no say, or the test set would no longer be one. While a study is
    unfinished, a t has a say once as many seeds are finished at it as at any other: one lucky seed is no median.
    """
    def cell(row: Row) -> Curve | tuple:
        return row.protocol, row.technique, row.pruning, row.density

    rows, best = first_runs(rows), {}
    for name, members in grouped(rows, cell).items():
        times = grouped(members, lambda row: row.retrain_fraction)
        complete = [t for t in sorted(times) if len(times[t]) == max(map(len, times.values()))]
        best[name] = max(complete, key=lambda t: np.median([row.validation_accuracy for row in times[t]]))
    return [row for row in rows if row.retrain_fraction == best[cell(row)]]


def curves(rows: Sequence[Row]) -> dict[Curve, list[Point]]:
    """The change in accuracy over seeds against compression: a curve per (protocol, technique, pruning), at the best t.
    """
    found = {}
    for name, members in grouped(best_by_validation(rows), curve_of).items():
        cells = grouped(members, lambda row: row.compression)
        found[name] = [Point(compression, *median_and_range(row.delta for row in cells[compression]),
                             len(cells[compression])) for compression in sorted(cells)]
    return found


def safe_zone_share(rows: Sequence[Row], technique: str) -> float | None:
    """In which share of the (protocol, pruning, density, t) cells with t/T in the safe zone, 0.25 to 0.9, the median of
    `technique` is at least that of fine-tuning, over the seeds that have both; None where no cell has any.
    """
    low, high = SAFE_ZONE
    inside = [row for row in first_runs(rows)
              if low <= round(row.retrain_fraction, 2) <= high]                         # t is a whole number of steps
    won = []
    for cell in grouped(inside, lambda r: (r.protocol, r.pruning, r.density, r.retrain_fraction)).values():
        mine, usual = ({row.seed: row.delta for row in cell if row.technique == name}
                       for name in (technique, "fine_tuning"))
        if both := mine.keys() & usual.keys():
            won.append(np.median([mine[seed] for seed in both]) >= np.median([usual[seed] for seed in both]) - 1e-9)
    return sum(won) / len(won) if won else None


def at_each_t(rows: Sequence[Row]) -> dict[Cell, dict[str, list[Point]]]:
    """The change in accuracy over seeds against t/T: in each (protocol, pruning, density) a curve per technique, its
    points (t/T, median, lowest, highest, n). Only cells in which a technique was tried at two times or more.
    """
    found = {}
    for cell, members in grouped(first_runs(rows), cell_of).items():
        lines = {}
        for technique in techniques_of(members):
            times = grouped([row for row in members if row.technique == technique], lambda row: row.retrain_fraction)
            lines[technique] = [Point(t, *median_and_range(row.delta for row in times[t]), len(times[t]))
                                for t in sorted(times)]
        if max(map(len, lines.values())) > 1:
            found[cell] = lines
    return found


def the_algorithm(rows: Sequence[Row]) -> list[Row]:
    """The rows of the paper's algorithm: iterative learning-rate rewinding with t = T, 20 % by magnitude a round."""
    return [row for row in first_runs(rows) if row.retrain_fraction == 1
            and (row.protocol, row.technique, row.pruning) == ("iterative", "lr_rewinding", "global_magnitude")]


def speed_ups(rows: Sequence[Row]) -> dict[Curve, list[Point]]:
    """The dense network's multiply-adds by the pruned network's, over seeds against compression, at the best t.

    Multiplications by a pruned weight are not counted: what could be gained, were skipping them free.
    """
    found = {}
    for name, members in grouped(best_by_validation(rows), curve_of).items():
        cells = grouped(members, lambda row: row.compression)
        found[name] = [Point(c, *median_and_range(row.dense_multiply_adds / max(1, row.multiply_adds)
                                                  for row in cells[c]), len(cells[c])) for c in sorted(cells)]
    return found


# ------------------------------------------------------------------------------------------ differences, and how sure


def paired_differences(rows: Sequence[Row], a: str, b: str) -> dict[Cell, dict[int, float]]:
    """Technique a minus technique b, seed by seed, in each (protocol, pruning, density), each at its best t.

    Runs of one seed start from the same dense network: what made it good or bad cancels in the difference. To compare
    at one t, give the rows of that t.
    """
    rows = best_by_validation(rows)
    changes = {name: {(cell_of(row), row.seed): row.delta for row in rows if row.technique == name} for name in (a, b)}
    pairs: dict[Cell, dict[int, float]] = {}
    for cell, seed in sorted(changes[a].keys() & changes[b].keys()):
        pairs.setdefault(cell, {})[seed] = changes[a][cell, seed] - changes[b][cell, seed]
    return pairs


def noise(rows: Sequence[Row]) -> dict[int, float]:
    """What chance alone does, seed by seed: the mean over its A/A pairs of the second run's accuracy minus the first's.

    The two runs of a pair start from one dense network and one mask and see the data in another order.
    """
    def pair(row: Row) -> tuple:
        return row.seed, row.protocol, row.technique, row.pruning, row.density, row.retrain_fraction

    first = {pair(row): row.delta for row in first_runs(rows)}
    gaps = [(row.seed, row.delta - first[pair(row)]) for row in rows if row.stream != 0 and pair(row) in first]
    return {seed: float(np.mean([gap for _, gap in pairs]))
            for seed, pairs in sorted(grouped(gaps, lambda gap: gap[0]).items())}


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
    panels = {panel_name(name, several): members for name, members in panels_of(first_runs(rows)).items()}
    sentences = [(say(members), name) for say in (_verdict, _safe_zone) for name, members in panels.items()]
    together = grouped(sentences, lambda pair: pair[0])
    return [f"{listed([name for _, name in pairs]).capitalize()}: {sentence}" for sentence, pairs in together.items()
            if sentence] + list(filter(None, [_noise(rows)]))


def headline(rows: Sequence[Row]) -> str:
    """What the first panel shows at the highest compression that all its techniques have, in one sentence."""
    panel, members = next(iter(panels_of(first_runs(rows)).items()))
    medians = {technique: {point.compression: point.median for point in points}
               for (_, technique, _), points in curves(members).items()}
    shared = set.intersection(*map(set, medians.values())) or {max(row.compression for row in members)}
    at, decimals = max(shared), decimals_of(rows)
    there = sorted(((line[at], name) for name, line in medians.items() if at in line), reverse=True)
    if len(there) > 1 and max(there)[0] < -0.05:                                        # all lose: say so once
        (first, name), *others = there
        changes = [f"{label(name)} {_change(first, decimals)}",
                   *(f"{label(name)} {-value:.{decimals}f}" for value, name in others)]
    else:
        changes = [f"{label(name)} {_change(value, decimals)}" for value, name in there]
    return f"{panel_name(panel, False).capitalize()}, with {short(at)} times fewer weights, {listed(changes)}."


def _change(points: float, decimals: int) -> str:
    """`loses 1.2 points`, `gains 0.3 points`"""
    size = f"{abs(points):.{decimals}f}"
    if float(size) == 0:
        return "changes nothing"
    return f"{'loses' if points < 0 else 'gains'} {size} point{'' if float(size) == 1 else 's'}"


def _noise(rows: Sequence[Row]) -> str:
    """The A/A pairs in a sentence; empty where none were run."""
    gaps = list(noise(rows).values())
    if not gaps:
        return ""
    spread = f", standard deviation {np.std(gaps, ddof=1):.2f}" if len(gaps) > 1 else ""
    return (f"Noise: the same run with its data in another order changes by {np.mean(gaps):+z.2f} points on average"
            f"{spread}, from {min(gaps):+z.2f} to {max(gaps):+z.2f} ({counted(len(gaps), 'seed')}, A/A).")


def leader(rows: Sequence[Row]) -> str | None:
    """The technique with the highest median, averaged over the compressions that all of them have."""
    medians = {technique: {point.compression: point.median for point in points}
               for (_, technique, _), points in curves(rows).items()}
    shared = sorted(set.intersection(*map(set, medians.values())))
    return max(medians, key=lambda name: np.mean([medians[name][c] for c in shared])) if shared else None


def _verdict(rows: Sequence[Row]) -> str:
    """One panel's verdict: a winner is ahead of every other technique, each time by a whole interval over enough seeds.
    """
    techniques = techniques_of(rows)
    if len(techniques) == 1:
        last, decimals = next(iter(curves(rows).values()))[-1], decimals_of(rows)
        return (f"{label(techniques[0])} alone {_change(last.median, decimals)} at {short(last.compression)}x "
                f"(median over {counted(last.n, 'seed')}).")
    best = leader(rows)
    if best is None:
        return "no compression yet at which all techniques are finished."
    gaps = {name: list(seed_means(paired_differences(rows, best, name)).values())
            for name in techniques if name != best}
    seeds = min(map(len, gaps.values()))
    return _unproven(seeds) if seeds < SEEDS_FOR_A_CLAIM else _comparison(best, gaps, seeds)


def _unproven(seeds: int) -> str:
    more = SEEDS_FOR_A_CLAIM - seeds
    return (f"differences are shown, not proven ({counted(seeds, 'complete seed')}); {counted(more, 'more seed')} "
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
        return f"no winner; {label(best)} is not told apart from {listed(level)}. {means}"
    if level:
        return (f"no single winner; {label(best)} is better than {listed(ahead)}, but not told apart from "
                f"{listed(level)}. {means}")
    return f"{label(best)} wins: it is better than {listed(ahead)}. {means}"


def _safe_zone(rows: Sequence[Row]) -> str:
    """How often each technique is at least as good as fine-tuning; empty where one t only was tried."""
    if len({row.retrain_fraction for row in rows}) == 1:
        return ""
    shares = {name: safe_zone_share(rows, name) for name in techniques_of(rows) if name != "fine_tuning"}
    texts = [f"{label(name)} in {100 * share:.0f} %" for name, share in shares.items() if share is not None]
    low, high = SAFE_ZONE
    return f"with t/T from {low:g} to {high:g}, at least as good as fine-tuning are {listed(texts)} of the cells." \
        if texts else ""


# ------------------------------------------------------------------------------------------------------------ the table


def table(rows: Sequence[Row], width: int = 100) -> str:
    """The printed table: a line per compression, a column per technique, `median [lowest, highest]` over seeds.

    The best median of a line has a star. Columns that do not fit into `width` characters follow below.
    """
    if not first_runs(rows):
        return "No pruned run is finished yet."
    everything, rows = rows, first_runs(rows)
    about = [f"{title_of(rows)}. The dense network has {dense_accuracy(rows):.{decimals_of(rows)}f} %.",
             f"Change in accuracy in points, median [lowest, highest seed]; * best of the line; {times_of(rows)}."]
    several = len({row.pruning for row in rows}) > 1
    blocks = [_block(panel_name(name, several), members, width) for name, members in panels_of(rows).items()]
    sentences = "\n".join(textwrap.fill(sentence, width) for sentence in findings(everything))
    return "\n\n".join(["\n".join(textwrap.fill(line, width) for line in about), *blocks, sentences]) + "\n"


def _block(name: str, rows: Sequence[Row], width: int) -> str:
    """One panel as text."""
    points = {technique: {point.compression: point for point in points}
              for (_, technique, _), points in curves(rows).items()}
    compressions = sorted({row.compression for row in rows})
    first = _column("", [f"{short(c)}x" for c in compressions], str.rjust)
    decimals = decimals_of(rows)
    best = {c: best_of([line[c].median for line in points.values() if c in line], decimals) for c in compressions}
    columns = [_column(label(technique), [_entry(points[technique].get(c), best[c], decimals) for c in compressions],
                       str.ljust) for technique in techniques_of(rows)]
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


def best_of(medians: Sequence[float], decimals: int) -> float | None:
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


def decimals_of(rows: Sequence[Row]) -> int:
    """One decimal; two where the test set is large enough to tell hundredths of a point."""
    tenths = [10 * value for row in rows for value in (row.accuracy, row.dense_accuracy)]
    return 1 if np.allclose(tenths, np.round(tenths), rtol=0, atol=1e-6) else 2


# -------------------------------------------------------------------------------------------------------- what it costs


class Cost(NamedTuple):
    """What one technique costs at one compression: medians over seeds, at the best t."""

    protocol: str
    technique: str
    pruning: str
    compression: float
    density: float
    search_steps: int           # of all rounds, the dense training not counted
    trainings: float            # the same in dense trainings of T steps
    multiply_adds: int          # for one image
    dense_multiply_adds: int


def costs(rows: Sequence[Row]) -> list[Cost]:
    """Each technique's costs at the highest compression it has, in each panel."""
    found = []
    for (pruning, protocol), members in panels_of(best_by_validation(rows)).items():
        for technique in techniques_of(members):
            highest = max(row.compression for row in members if row.technique == technique)
            last = [row for row in members if (row.technique, row.compression) == (technique, highest)]
            search, kept, whole = (int(np.median([getattr(row, name) for row in last]))
                                   for name in ("search_steps", "multiply_adds", "dense_multiply_adds"))
            found.append(Cost(protocol, technique, pruning, highest, last[0].density, search,
                              search / dense_steps(rows), kept, whole))
    return found


def dense_steps(rows: Sequence[Row]) -> int:
    """T: the steps of the dense training, from the longest t, whose rounding counts least; a reinitialised run takes T
    more than its t.
    """
    longest = max(rows, key=lambda row: row.retrain_fraction)
    return round(longest.retrain_steps / (longest.retrain_fraction + (longest.technique == "reinitialize")))


# ------------------------------------------------------------------------------------------------------ names and words


class Look(NamedTuple):
    """How a technique is called and drawn: a colour that the colour-blind tell apart (Okabe and Ito's, then Tol's), and
    for black and white a marker and a dash.
    """

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
    "slr": Look("scaled restart (SLR)", "#E69F00", "P", (0, (8, 2))),
    "clr": Look("cyclic restart (CLR)", "#882255", "X", (0, (2, 2))),
    "llr": Look("linear restart (LLR)", "#332288", "<", (0, (4, 1, 1, 1))),
    "allr": Look("adaptive linear restart (ALLR)", "#999933", ">", (0, (10, 2, 2, 2))),
}
SPARE = [("#000000", "p", (0, (1, 3))), ("#999999", "h", (0, (12, 3))), ("#44AA99", "*", (0, (6, 1, 1, 1, 1, 1, 1, 1)))]
PROTOCOLS = ("one_shot", "iterative")


def label(technique: str) -> str:
    """A technique's name in words."""
    return LOOKS[technique].label if technique in LOOKS else plain(technique)


def plain(name: str) -> str:
    """A name from code in words; of `package.module:function` the function."""
    return name.rpartition(":")[2].replace("_", " ")


def looks_of(techniques: Sequence[str]) -> dict[str, Look]:
    """The look of each technique: its own, or for one we do not know the next spare."""
    unknown = [name for name in techniques if name not in LOOKS]
    spare = {name: Look(label(name), *SPARE[i % len(SPARE)]) for i, name in enumerate(unknown)}
    return {name: spare.get(name) or LOOKS[name] for name in techniques}


def techniques_of(rows: Iterable[Row]) -> list[str]:
    """The techniques present, the paper's first and in its order."""
    return _ordered({row.technique for row in rows}, LOOKS)


def panels_of(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each (pruning, protocol), one-shot before iterative."""
    found = grouped(rows, lambda row: (row.pruning, row.protocol))
    prunings = _ordered({row.pruning for row in rows}, ["global_magnitude"])
    protocols = _ordered({row.protocol for row in rows}, PROTOCOLS)
    return {(a, b): found[a, b] for a in prunings for b in protocols if (a, b) in found}


def panel_name(panel: tuple[str, str], several: bool) -> str:
    """`one-shot`; with the pruning method where there are several."""
    pruning, protocol = panel
    protocol = protocol.replace("one_shot", "one-shot")
    return f"{protocol} ({plain(pruning)})" if several else protocol


def title_of(rows: Sequence[Row]) -> str:
    """`resnet20 on cifar10, 3 seeds`."""
    subjects = sorted({f"{row.network} on {row.dataset}" for row in rows})
    if len(subjects) != 1:
        raise Error(f"a report is about one network and one data set, got {listed(subjects) or 'no finished run'}")
    counts = [point.n for points in curves(rows).values() for point in points]
    seeds = counted(max(counts), "seed") if min(counts) == max(counts) else f"{min(counts)} to {max(counts)} seeds"
    return f"{subjects[0]}, {seeds}"


def times_of(rows: Sequence[Row]) -> str:
    """Which t/T the numbers belong to."""
    series: dict[tuple, set[float]] = {}
    for row in rows:
        series.setdefault((row.protocol, row.technique, row.pruning), set()).add(row.retrain_fraction)
    if all(len(fractions) == 1 for fractions in series.values()):       # nothing to choose from
        of = {protocol: sorted(set().union(*(f for key, f in series.items() if key[0] == protocol)))
              for protocol in sorted({key[0] for key in series}, reverse=True)}
        if len(used := set().union(*of.values())) == 1:
            return f"t/T = {min(used):.3g}"
        if all(len(fractions) == 1 for fractions in of.values()):
            return "t/T = " + ", ".join(f"{t:.3g} {protocol.replace('_', '-')}" for protocol, (t,) in of.items())
        return f"t/T: {_choices(rows)}"
    return f"t/T of the best median validation accuracy among {_choices(rows)}"


def _choices(rows: Sequence[Row]) -> str:
    """The t/T there were to choose from: `0.5, 0.9`; where not all series had the same, `one-shot 0.5, 0.9; ...`."""
    def told(times: Iterable[float]) -> str:
        words = [f"{t:.3g}" for t in sorted(times)]
        return ", ".join(words) if len(words) < 5 else f"{len(words)} from {words[0]} to {words[-1]}"

    def choices(members: Iterable[Row]) -> set[tuple[float, ...]]:
        series = grouped(members, curve_of).values()
        return {tuple(sorted({row.retrain_fraction for row in one})) for one in series}

    texts = []
    for protocol in _ordered({row.protocol for row in rows}, PROTOCOLS):
        members = [row for row in rows if row.protocol == protocol]
        by_choice: dict[tuple[float, ...], list[str]] = {}
        for technique in techniques_of(members):
            for times in sorted(choices(row for row in members if row.technique == technique)):
                by_choice.setdefault(times, []).append(label(technique))
        texts.append((protocol, told(next(iter(by_choice))) if len(by_choice) == 1 else
                      ", ".join(f"{told(times)} ({listed(names)})" for times, names in by_choice.items())))
    if len({text for _, text in texts}) == 1:
        return texts[0][1]
    return "; ".join(f"{protocol.replace('_', '-')} {text}" for protocol, text in texts)


def dense_accuracy(rows: Sequence[Row]) -> float:
    """The median over seeds of the dense network's accuracy."""
    return float(np.median(list({row.seed: row.dense_accuracy for row in rows}.values())))


def short(value: float) -> str:
    """Three digits, never as a power of ten: 1.95, 28.4, 1060."""
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")


def counted(n: int, noun: str) -> str:
    """`1 seed`, `2 seeds`"""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _ordered(names: Iterable[str], first: Iterable[str]) -> list[str]:
    """The names, those in `first` first and in its order, the others by alphabet."""
    rank = {name: i for i, name in enumerate(first)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def grouped(items: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    """The items of each key, in the order in which they come."""
    groups: dict[K, list[V]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def spread(items: Sequence[V], count: int) -> list[V]:
    """At most `count` of the items, evenly, the last always among them."""
    if len(items) <= count:
        return list(items)
    return [items[round((i + 1) * len(items) / count) - 1] for i in range(count)]


def _technique(row: Row) -> str:
    return row.technique


def curve_of(row: Row) -> Curve:
    """The curve a row belongs to: protocol, technique, pruning."""
    return row.protocol, row.technique, row.pruning


def cell_of(row: Row) -> Cell:
    """What the runs of a pair have in common: protocol, pruning, density."""
    return row.protocol, row.pruning, row.density
