"""The page of a study: report.html, one file that holds its figures, its numbers and how to repeat them.

Everything is in the file: figures as SVG, styles, no script, nothing fetched. What came from a user (names of networks,
data, techniques) is escaped.
"""

import dataclasses
import html
import inspect
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from . import about, figures, files, report, retrain, speed, study
from .report import Row
from .speed import Speed
from .train import Recipe

PAPER = "https://arxiv.org/abs/2003.02389"
REPRODUCTION = "https://arxiv.org/abs/2109.09670"
COPIES = {"c67dd8f47f185606": "JPEG copy"}      # data known by its fingerprint to be a copy that is not the original


def write(rows: Sequence[Row], folder: str | os.PathLike, measure: bool = False) -> Path:
    """Draw the charts (NAME.png, NAME.svg) into the folder and write its report.html; the path of that.

    The same rows in a folder with the same files give the same bytes. With `measure`, milliseconds that speed.json
    lacks are measured first (see speed.measure).
    """
    folder = Path(folder)
    settings = described(folder)
    rows = named(rows, settings)
    speeds = speed.measure(rows, folder) if measure else speed.read(folder)
    figures.write(rows, folder, speeds)
    files.write_atomically(folder / "report.html", page(rows, settings, about.read(folder), speeds,
                                                        speed.described(folder)).encode())
    return folder / "report.html"


def described(folder: Path) -> dict[str, Any]:
    """The folder's study.json; empty where there is none that can be read."""
    try:
        settings = json.loads((folder / "study.json").read_text())
        return settings if isinstance(settings, dict) else {}
    except (OSError, ValueError):
        return {}


def named(rows: Sequence[Any], settings: Mapping[str, Any]) -> Sequence[Row]:
    """The rows, with their data called a copy where they are known to be one: `cifar10 (JPEG copy)`."""
    copy = COPIES.get(str(settings.get("data")))
    return [dataclasses.replace(row, dataset=f"{row.dataset} ({copy})") for row in rows] if copy else rows


# ------------------------------------------------------------------------------------------------------------- the page


def page(rows: Sequence[Row], settings: Mapping[str, Any] = {}, made: Sequence[Mapping[str, Any]] = (),
         speeds: Sequence[Speed] = (), measured: Mapping[str, Any] = {}) -> str:
    """The whole page as text: of the rows, study.json, about.json, and speed.json."""
    subject = report.title_of(rows)
    charts = {chart.name: chart for chart in figures.charts(rows, speeds)}
    parts = [
        head(subject, rows),
        section("What is compared", compared(rows)),
        section("What it shows", said(report.findings(rows))),
        section("Accuracy against compression", chart_of(charts.get("comparison")), together(tables(rows))),
        section("Accuracy against retraining time", chart_of(charts.get("times")), zone(rows)),
        section("The difference, seed by seed", differences(rows)),
        section("The paper's algorithm", chart_of(charts.get("algorithm"))),
        section("What it costs, what it saves", chart_of(charts.get("speedup")),
                cost_tables(rows, speeds, settings, made), on_what(measured) if speeds else ""),
        section("What was run", what_was_run(rows, settings, made)),
        section("What differs from the paper", listed(differing(rows, settings))),
        section("Repeat it", repeat(settings, len(report.first_runs(rows)) < len(rows))),
    ]
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta name="color-scheme" content="light dark">\n<title>{text(subject)}: fine-tune or rewind?</title>\n'
            f'<style>\n{style(rows)}</style>\n</head>\n<body>\n<main>\n{"".join(filter(None, parts))}</main>\n'
            f'</body>\n</html>\n')


def head(subject: str, rows: Sequence[Row]) -> str:
    """Title and headline."""
    return (f'<header>\n<p class="kicker">{text(subject)}</p>\n<h1>Fine-tune, or rewind?</h1>\n'
            f'<p class="headline">{text(report.headline(rows))}</p>\n'
            f'<p class="muted">Medians over seeds; changes in test accuracy in percentage points, from the dense '
            f"network of the same seed ({report.dense_accuracy(rows):.{report.decimals_of(rows)}f} %). The question "
            f'and the three techniques are those of <a href="{PAPER}">Renda, Frankle &amp; Carbin, ICLR 2020</a>.</p>\n'
            f"</header>\n")


def compared(rows: Sequence[Row]) -> str:
    """What T, t and the protocols are, and each of the framework's own techniques in a sentence: its docstring's first.
    """
    own = [name for name in report.techniques_of(rows) if name in report.LOOKS]
    sentences = {name: (inspect.getdoc(getattr(retrain, name)) or "").partition("\n\n")[0].replace(" - ", " − ")
                 for name in own}
    lines = "".join(f"<dt>{text(report.label(name))}</dt><dd>{text(words)}</dd>\n" for name, words in sentences.items())
    protocols = {"one_shot": "<strong>One-shot</strong> takes all the weights at once.",
                 "iterative": "<strong>Iterative</strong> takes 20 % of what is left, trains again, and repeats."}
    used = {row.protocol for row in rows}
    return (f"<p>A network is trained for T steps and then pruned: it loses most of its weights, and much of what it "
            f"knew. What is left is trained again for its last t steps.</p>\n<dl>\n{lines}</dl>\n"
            f"<p>{' '.join(words for name, words in protocols.items() if name in used)}</p>\n")


def section(title: str, *content: str) -> str:
    """A heading and what stands under it; nothing where there is nothing."""
    inside = "".join(filter(None, content))
    return f"<section>\n<h2>{text(title)}</h2>\n{inside}</section>\n" if inside else ""


def said(sentences: Iterable[str]) -> str:
    """Sentences, a paragraph each; what stands before the colon is their subject."""
    pairs = (typeset(text(sentence)).partition(":") for sentence in sentences)
    return "".join(f"<p><strong>{before}:</strong>{after}</p>\n" for before, _, after in pairs)


def typeset(words: str) -> str:
    """Words for a terminal, with the signs of a page: a minus, a times, and what is typed as code."""
    words = re.sub(r"(?<=[\s\[(])-(?=\d)", "−", re.sub(r"(?<=\d)x\b", "×", words))
    return re.sub(r"--seeds \d+", r"<code>\g<0></code>", words)


def chart_of(chart: figures.Chart | None) -> str:
    """A chart: its legend, its panels in rows that fold on a narrow screen, its note."""
    if chart is None:
        return ""
    keys = "".join(f"<li>{figures.key_svg(entry)} {text(entry.label)}</li>" for entry in chart.keys)
    lines = ("".join(f'<div class="panel"><h3>{text(panel.title[:1].upper() + panel.title[1:])}</h3>\n'
                     f"{figures.panel_svg(panel, f'{chart.name}{i}{j}')}\n</div>\n" for j, panel in enumerate(line))
             for i, line in enumerate(chart.panels))
    panels = "".join(f'<div class="panels">\n{line}</div>\n' for line in lines)
    return (f'<figure>\n<ul class="legend">{keys}</ul>\n{panels}<figcaption>{text(chart.note)}</figcaption>\n'
            f"</figure>\n")


# ----------------------------------------------------------------------------------------------------------- the tables


def table(caption: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table whose first column names its lines; the entries are HTML already."""
    top = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = "".join(f'<tr><th scope="row">{first}</th>{"".join(f"<td>{entry}</td>" for entry in rest)}</tr>\n'
                   for first, *rest in lines)
    return (f'<div class="wide" tabindex="0"><table>\n<caption>{text(caption)}</caption>\n'
            f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n") if body else ""


def together(tables: Iterable[str]) -> str:
    """Tables beside each other, as far as the screen allows."""
    return f'<div class="tables">\n{"".join(tables)}</div>\n'


def tables(rows: Sequence[Row]) -> list[str]:
    """A table per panel: a line per compression, a column per technique, median and range over seeds."""
    several, decimals = len({row.pruning for row in rows}) > 1, report.decimals_of(rows)
    found = []
    for name, members in report.panels_of(report.first_runs(rows)).items():
        points = {technique: {point.compression: point for point in line}
                  for (_, technique, _), line in report.curves(members).items()}
        names = report.techniques_of(members)
        lines = []
        for compression in sorted({row.compression for row in members}):
            highest = report.best_of([line[compression].median for line in points.values() if compression in line],
                                     decimals)
            lines.append([f"{report.short(compression)}×",
                          *(entry(points[technique].get(compression), highest, decimals) for technique in names)])
        best = "; bold: the best of the line" * (len(names) > 1)
        caption = (f"{report.panel_name(name, several).capitalize()}: median change in accuracy, in points, and "
                   f"[lowest, highest seed]{best}; {report.times_of(members)}")
        found.append(table(caption, ["compression", *map(report.label, names)], lines))
    return found


def entry(point: report.Point | None, best: float | None, decimals: int) -> str:
    """A median and its range; the best of the line is bold."""
    if point is None:
        return "–"
    number = signed(point.median, decimals)
    number = f"<strong>{number}</strong>" if round(point.median, decimals) == best else number
    spread = f"[{signed(point.low, decimals)}, {signed(point.high, decimals)}]"
    return f"{number} {faded(spread)}" if point.n > 1 else number


def zone(rows: Sequence[Row]) -> str:
    """In how many cells of the safe zone each technique is at least as good as fine-tuning."""
    several, (low, high) = len({row.pruning for row in rows}) > 1, report.SAFE_ZONE
    names = [name for name in report.techniques_of(rows) if name != "fine_tuning"]
    lines = []
    for panel, members in report.panels_of(report.first_runs(rows)).items():
        shares = [report.safe_zone_share(members, name) for name in names]
        if len({row.retrain_fraction for row in members}) > 1 and any(share is not None for share in shares):
            lines.append([text(report.panel_name(panel, several)),
                          *("–" if share is None else f"{100 * share:.0f} %" for share in shares)])
    return table(f"The safe zone, t/T from {low:g} to {high:g}: the share of its cells (a compression at one t) in "
                 f"which the median is at least that of fine-tuning", ["", *map(report.label, names)], lines)


def differences(rows: Sequence[Row]) -> str:
    """Paired differences per cell, each with its interval or its range, and the noise beside them."""
    several, shown = len({row.pruning for row in rows}) > 1, []
    for name, members in report.panels_of(report.first_runs(rows)).items():
        names = report.techniques_of(members)
        pairs = [(a, b) for i, b in enumerate(names[:3]) for a in names[i + 1:] if b in names[:2]]
        if "fine_tuning" in names:
            pairs = [(a, b) for a, b in pairs if b == "fine_tuning" or (a, b) == ("lr_rewinding", "weight_rewinding")]
        found = {pair: report.paired_differences(members, *pair) for pair in pairs}
        cells = sorted({cell for gaps in found.values() for cell in gaps}, key=lambda cell: -cell[2])
        compression = {report.cell_of(row): row.compression for row in members}
        lines = [[f"{report.short(compression[cell])}×", *(gap(found[pair].get(cell, {})) for pair in pairs)]
                 for cell in cells]
        title = report.panel_name(name, several).capitalize()
        shown.append(table(f"{title}: mean difference in points, paired by seed, each technique at its best t",
                           ["compression", *(f"{report.label(a)} − {report.label(b)}" for a, b in pairs)],
                           lines if pairs else []))
    if not any(shown):
        return ""
    seeds = report.SEEDS_FOR_A_CLAIM
    return "".join(shown) + (
        f'<p class="muted">Runs of one seed start from one dense network: what made it good or bad cancels. From '
        f"{seeds} seeds on [Student's 95 % interval], bold where it leaves out 0 (of cells without a difference, one "
        f"in twenty does so by chance); below that (lowest, highest seed), and no claim.</p>\n{noise(rows)}")


def gap(pairs: Mapping[int, float]) -> str:
    """A paired difference: its mean, and its interval over five seeds or more, its range below that."""
    values = list(pairs.values())
    if not values:
        return "–"
    mean = signed(float(np.mean(values)), 2)
    ends = report.interval(values)
    if ends is None:
        return mean
    if len(values) < report.SEEDS_FOR_A_CLAIM:
        return f"{mean} {faded(f'({signed(min(values), 2)}, {signed(max(values), 2)})')}"
    sure = ends[0] > 0 or ends[1] < 0
    return f"{f'<strong>{mean}</strong>' if sure else mean} {faded(f'[{signed(ends[0], 2)}, {signed(ends[1], 2)}]')}"


def noise(rows: Sequence[Row]) -> str:
    """The A/A pairs beside the differences, and why the paper's own estimate is none here."""
    gaps = report.noise(rows)
    if not gaps:
        return ""
    facts = {f"seed {seed}": signed(change, 2) for seed, change in gaps.items()}
    if len(gaps) > 1:
        values = list(gaps.values())
        facts |= {"mean": signed(float(np.mean(values)), 2), "standard deviation": f"{np.std(values, ddof=1):.2f}",
                  "range": f"{signed(min(values), 2)} to {signed(max(values), 2)}"}
    pairs = table("Noise (A/A): the same run made again with its data in another order, its accuracy minus the "
                  "first's, in points", ["", *facts], [["again − first", *facts.values()]])
    return pairs + ('<p class="muted">The paper has a pair of this kind for free: with t so short that the learning '
                    "rate never drops in it, learning-rate rewinding is fine-tuning, run twice. Here those two are one "
                    "run, so that their difference is always 0 and says nothing about noise.</p>\n")


def cost_tables(rows: Sequence[Row], speeds: Sequence[Speed], settings: Mapping[str, Any],
                made: Sequence[Mapping[str, Any]]) -> str:
    """What each technique costs and saves at the highest compression it reached: a table per panel, a column each."""
    several, epoch = len({row.pruning for row in rows}) > 1, steps_of_epoch(settings, made)
    _, prunable = parameters(settings)
    shown = []
    for panel, costs in report.grouped(report.costs(rows), lambda cost: (cost.pruning, cost.protocol)).items():
        columns = []
        for cost in costs:
            ms = {s.images: s for s in speeds if (s.protocol, s.technique, s.pruning, s.compression)
                  == (cost.protocol, cost.technique, cost.pruning, cost.compression)}
            ratio = cost.dense_multiply_adds / max(1, cost.multiply_adds)
            columns.append([
                f"{report.short(cost.compression)}×",
                f"{round(cost.density * prunable):,}" if prunable else f"{100 * cost.density:.2f} %",
                f"{large(cost.multiply_adds)} {faded(f'÷ {ratio:.1f}')}" if cost.dense_multiply_adds else "–",
                *(f"{ms[n].pruned_ms:.3g} ms {faded(f'÷ {ms[n].ratio:.1f}')}" if n in ms else "–"
                  for n in speed.IMAGES),
                f"{cost.search_steps:,}", epochs(cost.search_steps / epoch) if epoch else "–",
                f"{cost.trainings:.3g}"])
        dense = costs[0].dense_multiply_adds
        names = ["compression", f"weights kept{f', of {prunable:,}' if prunable else ''}",
                 f"multiply-adds per image{f', of {large(dense)}' if dense else ''}",
                 *(f"time for {report.counted(n, 'image')}{of_dense(speeds, n)}" for n in speed.IMAGES),
                 "retraining, steps", "retraining, epochs", "retraining, in dense trainings"]
        lines = [[text(name), *entries] for name, *entries in zip(names, *columns) if set(entries) != {"–"}]
        caption = f"{report.panel_name(panel, several).capitalize()}, at the highest compression of each technique"
        shown.append(table(caption, ["", *(report.label(cost.technique) for cost in costs)], lines))
    return together(shown)


def epochs(count: float) -> str:
    """A number of epochs: three digits where it is small."""
    return f"{count:,.0f}" if count >= 100 else report.short(count)


def of_dense(speeds: Sequence[Speed], images: int) -> str:
    """What the dense network takes, median over its turns beside the measured runs."""
    times = [s.dense_ms for s in speeds if s.images == images]
    return f", of {np.median(times):.3g} ms" if times else ""


def faded(words: str) -> str:
    """What stands beside the number that counts."""
    return f'<span class="muted">{text(words)}</span>'


def on_what(measured: Mapping[str, Any]) -> str:
    """Where the milliseconds were measured."""
    machine, versions = measured.get("machine", {}), measured.get("versions", {})
    return (f'<p class="muted">Milliseconds of <code>sparse.compile</code>, the pruned network of the median seed '
            f"and the dense network taking turns, on one thread of {text(machine.get('cpu', 'an unknown machine'))}; "
            f"{text(', '.join(f'{name} {version}' for name, version in versions.items()))}.</p>\n")


# ------------------------------------------------------------------------------------------------ how it was, and again


def what_was_run(rows: Sequence[Row], settings: Mapping[str, Any], made: Sequence[Mapping[str, Any]]) -> str:
    """Network, data, recipe, seeds, versions, machine, date."""
    recipe: Mapping[str, Any] = settings.get("recipe", {})
    seeds = sorted({row.seed for row in rows})
    total, _ = parameters(settings)
    facts = {
        "network": f"{rows[0].network}" + (f", {total:,} parameters" if total else ""),
        "data": rows[0].dataset + (f", {settings['classes']} classes, images "
                                   f"{' × '.join(map(str, settings['input_shape']))}"
                                   if {"classes", "input_shape"} <= set(settings) else ""),
        "training": ", ".join(f"{name.replace('_', ' ')} {word(value)}" for name, value in recipe.items()),
        "seeds": ", ".join(map(str, seeds)),
        "pruned runs": f"{len(rows)}; a dense training takes {report.dense_steps(rows):,} steps",
        "pruning": ", ".join(sorted({report.plain(row.pruning) for row in rows})),
        "t/T": ", ".join(f"{t:.3g}" for t in sorted({row.retrain_fraction for row in rows})),
        "time": f"{duration(sum(row.seconds for row in rows))} of pruned training, added up",
    }
    for i, entry in enumerate(made):
        machine, versions = entry.get("machine", {}), entry.get("versions", {})
        facts["run" if len(made) == 1 else f"run {i + 1}"] = (
            f"{entry.get('date', '')}, {machine.get('cpu', '')}, {report.counted(machine.get('cores', 0), 'core')}, "
            f"{machine.get('system', '')}, device {entry.get('device', 'cpu')}; "
            f"{', '.join(f'{name} {version}' for name, version in versions.items())}; "
            f"{report.counted(entry.get('rows', 0), 'row')} afterwards")
    return "<dl>\n" + "".join(f"<dt>{text(name)}</dt><dd>{text(fact)}</dd>\n"
                              for name, fact in facts.items() if fact) + "</dl>\n"


def differing(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[str]:
    """In what this study is not the paper's."""
    recipe, found = settings.get("recipe", {}), []
    if not (rows[0].network in ("resnet20", "resnet56", "resnet110") and rows[0].dataset == "cifar10"):
        found.append(f"{rows[0].network} on {rows[0].dataset} in place of ResNet-20, 56 and 110 on CIFAR-10, ResNet-34 "
                     f"and 50 on ImageNet, and GNMT on WMT16.")
    if recipe:
        found.append(f"{recipe['steps']:,} steps of {recipe['batch_size']} images; on CIFAR-10 the paper trains 71,108 "
                     f"steps of 128.")
        if recipe["steps"] < 5000:
            found.append("Batch norm's running statistics move by 0.1 a step (the paper: 0.003), as so few steps would "
                         "not settle them.")
    found += [
        "t is chosen on images held out of the training set (the paper: on a fifth of the test set), and the test set "
        "is used whole.",
        "Images are normalised by the mean and deviation of the data set (the paper: each image by its own).",
        "Changes are measured from the dense network of the same seed (the paper: from the mean of all dense "
        "networks), so that they can be compared in pairs.",
        f"{report.counted(len({row.seed for row in rows}), 'seed')} (the paper: three trials).",
    ]
    return found


def repeat(settings: Mapping[str, Any], noise: bool) -> str:
    """The command that does it again, and where the numbers are."""
    command = command_for(settings, noise)
    shown = f"<pre><code>{text(command)}</code></pre>\n" if command else (
        "<p>No single command says it all, as the network, the data or the seeds are a program's own: run that program "
        "again (<code>study.run</code>).</p>\n")
    return (f'{shown}<p>Every run behind this page is a line of <a href="results.csv">results.csv</a>. '
            f"<code>minirewind report DIR</code> makes the page again from it. On one machine the same command gives "
            f"the same numbers to the last bit.</p>\n"
            f'<p class="muted">Published numbers: A. Renda, J. Frankle, M. Carbin, <a href="{PAPER}"><cite>Comparing '
            f"Rewinding and Fine-tuning in Neural Network Pruning</cite></a>, ICLR 2020; S. Mikler, "
            f'<a href="{REPRODUCTION}"><cite>Reproducibility Study: Comparing Rewinding and Fine-tuning in Neural '
            f"Network Pruning</cite></a>, 2021; M. A. Carreira-Perpiñán, Y. Idelbayev, <cite>“Learning-Compression” "
            f"Algorithms for Neural Net Pruning</cite>, CVPR 2018.</p>\n")


def command_for(settings: Mapping[str, Any], noise: bool = False) -> str:
    """The `minirewind compare` that makes this study, with its A/A pairs if it has some; empty where no command can."""
    axes: Mapping[str, Any] = settings.get("axes", {})
    if not axes or settings.get("dataset") in (None, "own") or " with " in str(settings.get("network")):
        return ""
    seeds = list(axes.get("seeds", ()))
    if seeds != list(range(len(seeds))):
        return ""
    options: dict[str, Any] = {"network": settings["network"], "dataset": settings["dataset"], "seeds": len(seeds)}
    for name in study.AXES:
        same = "retrain_fractions" if name == "iterative_fractions" else name
        usual = getattr(study.Study, name) or axes.get(same, ())
        if list(axes.get(name, usual)) != list(usual):
            options[name.replace("_", "-")] = axes[name]
    options |= {f"recipe.{name}": value for name, value in settings.get("recipe", {}).items()
                if name in ("steps", "batch_size") or value != getattr(Recipe, name, None)}
    words = [f"--{name} {' '.join(shlex.quote(word(v)) for v in (value if isinstance(value, list) else [value]))}"
             for name, value in options.items()]
    return " \\\n  ".join(["minirewind compare", *words, *["--noise"] * noise])


def word(value: Any) -> str:
    """A setting as the command line takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parameters(settings: Mapping[str, Any]) -> tuple[int, int]:
    """How many parameters the network has, and how many of them are weights of convolutions and dense layers."""
    total = prunable = 0
    for line in settings.get("parameters", ()):
        shape = [int(n) for n in line[line.rindex("(") + 1:-1].split(",") if n.strip()]
        size = int(np.prod(shape))
        total, prunable = total + size, prunable + size * (len(shape) > 1)
    return total, prunable


def steps_of_epoch(settings: Mapping[str, Any], made: Sequence[Mapping[str, Any]]) -> float | None:
    """The steps of an epoch, where about.json says how many images there are to train on."""
    images = next((entry["train_images"] for entry in made if entry.get("train_images")), None)
    batch = settings.get("recipe", {}).get("batch_size")
    return images / batch if images and batch else None


# ----------------------------------------------------------------------------------------------------- words and styles


def text(value: Any) -> str:
    """Anything as text of a page."""
    return html.escape(str(value), quote=True)


def listed(items: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>\n" + "".join(f"<li>{text(item)}</li>\n" for item in items) + "</ul>\n"


def signed(value: float, decimals: int) -> str:
    """A change with its sign, and a minus that is one."""
    return f"{value:+z.{decimals}f}".replace("-", "−")


def large(count: int) -> str:
    """A count in thousands or millions, three digits."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{report.short(count / size)}{unit}"
    return str(count)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{report.short(seconds / size)} {unit}"
    return f"{seconds:.0f} seconds"


def style(rows: Sequence[Row]) -> str:
    """The style sheet; the figures' colours are variables named by the colour they have in the light."""
    looks = report.looks_of(report.techniques_of(rows)).values()
    colours = {figures.INK: "#e8e6e1", figures.MUTED: "#a9a59c", figures.GRID: "#33322f", figures.ZONE: "#272622",
               figures.PAPER: "#191815", figures.GREY: "#8f8b82", "#000000": "#e8e6e1"}
    colours |= {look.colour.lower(): lighter(look.colour) for look in looks if look.colour != "#000000"}
    light = "".join(f"  --{colour[1:].lower()}: {colour.lower()};\n" for colour in colours)
    dark = "".join(f"  --{colour[1:].lower()}: {other};\n" for colour, other in colours.items())
    return (f":root {{\n  color-scheme: light dark;\n{light}}}\n@media screen and (prefers-color-scheme: dark) {{\n"
            f":root {{\n{dark}}}\n}}\n{resources.files(__package__).joinpath('assets/report.css').read_text()}")


def lighter(colour: str) -> str:
    """A colour for a dark ground: a third of the way to white."""
    parts = (int(colour[i:i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * 0.35):02x}" for part in parts)
