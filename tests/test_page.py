"""Facts about the page of a study."""

import csv
import html
import json
import re
import shutil
import socket
import statistics
import subprocess
import threading
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest
from invented import STUDIES, grid, run

from minirewind import figures, page, report, retrain
from minirewind.speed import Speed

HOSTILE = '"><script>alert(1)</script>&amp;<img src=x onerror=y>'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
LOADS = {"src", "srcset", "data", "poster", "background", "xlink:href", "action", "formaction"}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Seen(HTMLParser):
    """Every tag and attribute of a page, its texts, and whether each tag is closed where it must be."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, words):
        self.words.append(words)


@pytest.fixture
def without_figures(monkeypatch):
    """Pages whose panels are empty: drawing is another file's subject, and slow."""
    monkeypatch.setattr(figures, "panel_svg", lambda panel, salt: f'<svg role="img" aria-label="{salt}"></svg>')


@pytest.fixture(scope="module")
def whole():
    return page.page(grid(), SETTINGS, MADE, SPEEDS, {"machine": {"cpu": "a CPU"}, "versions": {"numpy": "2.1"}})


SETTINGS = {"network": "resnet20", "dataset": "cifar10", "input_shape": [3, 32, 32], "classes": 10,
            "parameters": ["conv1.weight (16, 3, 3, 3)", "bn1.weight (16,)", "fc.weight (10, 64)"],
            "recipe": {"steps": 450, "batch_size": 64, "rate": 0.1, "schedule": "cosine"},
            "axes": {"protocols": ["one_shot"], "techniques": ["fine_tuning", "lr_rewinding"], "rounds": [3, 6],
                     "densities": [], "retrain_fractions": [0.5, 1.0], "seeds": [0, 1, 2, 3, 4],
                     "pruning": ["global_magnitude"]}}
MADE = [{"date": "2026-11-25", "rows": 3, "device": "cpu", "machine": {"cpu": "a CPU", "cores": 2}, "versions": {}}]
SPEEDS = [Speed("one_shot", "lr_rewinding", "global_magnitude", 0, 1 / 0.8**16, "x", n, 8.0, 2.0) for n in (1, 128)]


def test_the_page_holds_everything_and_fetches_nothing(whole):
    seen = Seen(whole)
    assert not {"script", "link", "img", "iframe", "object", "image", "base"} & {tag for tag, _ in seen.tags}
    for tag, attributes in seen.tags:
        assert not LOADS & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        target = attributes.get("href", "#")
        assert target.startswith("#") or tag == "a"
    assert set(re.findall(r"url\(.", whole)) <= {"url(#"}
    assert "@import" not in whole
    assert len(whole) < 1_500_000


def test_every_figure_has_words_every_table_a_caption_and_heads_and_every_id_is_its_own(whole):
    seen = Seen(whole)
    for tag, attributes in seen.tags:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
    names = [tag for tag, _ in seen.tags]
    assert names.count("table") == names.count("caption") == names.count("thead") > 3
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert dict(seen.tags)["html"] == {"lang": "en"}
    assert [tag for tag in names if tag in ("h1", "h2")].count("h1") == 1


def test_a_colour_has_a_value_by_day_and_by_night(whole):
    used = set(re.findall(r"var\((--[0-9a-f]{6})\)", whole))
    light, dark = whole.split("@media screen and (prefers-color-scheme: dark)")
    assert used
    for name in used:
        assert re.search(rf"{name}: #[0-9a-f]{{6}};", light)
        assert re.search(rf"{name}: #[0-9a-f]{{6}};", dark)


def test_names_that_are_markup_are_shown_and_never_obeyed(without_figures):
    rows = [replace(run(seed, technique), network=HOSTILE, dataset=HOSTILE, pruning=pruning)
            for seed in range(2) for technique in ("fine_tuning", f"x{HOSTILE}") for pruning in ("a", f"b{HOSTILE}")]
    settings = SETTINGS | {"network": HOSTILE, "dataset": HOSTILE, "classes": HOSTILE,
                           "recipe": SETTINGS["recipe"] | {"schedule": HOSTILE}}
    made = [{"date": HOSTILE, "machine": {"cpu": HOSTILE}, "versions": {HOSTILE: HOSTILE}, "rows": 1}]
    seen = Seen(page.page(rows, settings, made, SPEEDS, {"machine": {"cpu": HOSTILE}, "versions": {}}))
    assert not {"script", "img"} & {tag for tag, _ in seen.tags}
    assert "alert(1)" in "".join(seen.words)
    for chart in figures.charts(rows):
        for entry in chart.keys:
            Seen(figures.key_svg(entry))


def test_a_hostile_name_stays_a_name_in_a_drawing():
    [chart, *_] = figures.charts([replace(run(), network=HOSTILE, technique=HOSTILE)])
    seen = Seen(figures.panel_svg(chart.panels[0][0], "x"))
    assert not {"script", "img"} & {tag for tag, _ in seen.tags}


@pytest.mark.parametrize("name", ["one row", "one seed", "five techniques", "two pruning methods"])
def test_every_study_has_a_page(name, without_figures):
    Seen(page.page(STUDIES[name]))


def test_the_same_rows_make_the_same_page(without_figures):
    assert page.page(grid(2), SETTINGS, MADE, SPEEDS) == page.page(grid(2)[::-1][::-1], SETTINGS, MADE, SPEEDS)


def test_a_winner_is_bold_from_five_seeds_on_only(without_figures):
    def bold(seeds):
        rows = [run(seed, name, change + seed % 2 / 10) for seed in range(seeds)
                for name, change in (("fine_tuning", -9.0), ("lr_rewinding", 0.0))]
        return "<strong>+9.00</strong>" in page.differences(rows)

    assert bold(5)
    assert not bold(4)


def test_the_command_repeats_what_study_json_says():
    assert page.command_for(SETTINGS).replace(" \\\n ", "") == (
        "minirewind compare --network resnet20 --dataset cifar10 --seeds 5 --protocols one_shot "
        "--techniques fine_tuning lr_rewinding --rounds 3 6 --retrain-fractions 0.5 1.0 --recipe.steps 450 "
        "--recipe.batch_size 64 --recipe.schedule cosine")
    assert page.command_for(SETTINGS | {"dataset": "own"}) == ""
    assert page.command_for({}) == ""
    assert page.command_for(SETTINGS, noise=True).endswith("--noise")
    assert "'a; rm'" in page.command_for(SETTINGS | {"network": "a; rm"})


def test_a_copy_of_the_data_is_called_one():
    rows = [replace(run(), dataset="cifar10")]
    assert {row.dataset for row in page.named(rows, {"data": next(iter(page.COPIES))})} == {"cifar10 (JPEG copy)"}
    assert page.named(rows, {"data": "other"}) == rows


def test_parameters_are_counted_from_the_shapes():
    assert page.parameters(SETTINGS) == (432 + 16 + 640, 432 + 640)


def test_the_page_says_what_each_technique_is_in_the_words_of_its_function(without_figures):
    shown = html.unescape(page.page(STUDIES["five techniques"]))
    for technique in ("fine_tuning", "weight_rewinding", "lr_rewinding", "weight_rewinding_low_lr", "reinitialize"):
        first, *_ = getattr(retrain, technique).__doc__.strip().splitlines()
        assert f"<dd>{first.replace(' - ', ' − ')}</dd>" in shown


def test_nothing_is_said_of_pairs_that_were_not_run(without_figures):
    assert "pair of this kind" in page.page(grid())
    assert "pair of this kind" not in page.page(STUDIES["a whole study"])


@pytest.mark.parametrize(("count", "shown"), [(3.7188, "3.72"), (27, "27"), (449.28, "449"), (1820, "1,820")])
def test_a_few_epochs_are_not_rounded_to_whole_ones(count, shown):
    assert page.epochs(count) == shown


def test_the_page_and_the_table_have_the_numbers_of_results_csv(tmp_path, without_figures):
    """An independent way: csv and statistics alone."""
    rows = grid()
    with open(tmp_path / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    with open(tmp_path / "results.csv", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["stream"] == "0"]
    shown, printed = html.unescape(re.sub(r"<[^>]+>", "", page.page(rows))), report.table(rows)
    for protocol, technique, density in {(r["protocol"], r["technique"], r["density"]) for r in lines}:
        cell = [r for r in lines if (r["protocol"], r["technique"], r["density"]) == (protocol, technique, density)]
        times = sorted({float(r["retrain_fraction"]) for r in cell})
        best = max(times, key=lambda t: statistics.median(
            float(r["validation_accuracy"]) for r in cell if float(r["retrain_fraction"]) == t))
        deltas = [float(r["delta"]) for r in cell if float(r["retrain_fraction"]) == best]
        entry = f"{statistics.median(deltas):+z.1f}* [{min(deltas):+z.1f}, {max(deltas):+z.1f}]"
        assert entry.replace("* [", " [").replace("-", "−") in shown
        assert entry in printed or entry.replace("* [", "  [") in printed


def test_the_shares_the_differences_and_the_noise_of_the_page_follow_from_results_csv(without_figures):
    """Once more an independent way: plain loops, statistics, and t = 2.776 from a printed table (four degrees)."""
    rows = grid()
    shown = html.unescape(re.sub(r"<[^>]+>", "", page.page(rows)))

    def signed(value):
        return f"{value:+z.2f}".replace("-", "−")

    def median(kind, *cell):
        return statistics.median(getattr(r, kind) for r in first if (r.protocol, r.technique, r.density,
                                                                     r.retrain_fraction) == cell)

    first = [r for r in rows if r.stream == 0]
    times, densities = {r.retrain_fraction for r in first}, {r.density for r in first}
    for protocol in ("one_shot", "iterative"):
        shares = []
        for technique in ("weight_rewinding", "lr_rewinding"):
            won = [median("delta", protocol, technique, d, t) >= median("delta", protocol, "fine_tuning", d, t)
                   for d in densities for t in (0.495, 0.824)]                        # the times within [0.25, 0.9]
            shares.append(f"{100 * sum(won) / len(won):.0f} %")
        assert "".join(shares) in re.sub(r"\s", "", shown).replace("%", " %")
        for density in densities:
            deltas = {}
            for technique in ("lr_rewinding", "fine_tuning"):
                best = max(sorted(times), key=lambda t: median("validation_accuracy", protocol, technique, density, t))
                deltas[technique] = [r.delta for seed in range(5) for r in first if r.seed == seed and (
                    r.protocol, r.technique, r.density, r.retrain_fraction) == (protocol, technique, density, best)]
            gaps = [a - b for a, b in zip(deltas["lr_rewinding"], deltas["fine_tuning"], strict=True)]
            mean, reach = statistics.mean(gaps), 2.7764 * statistics.stdev(gaps) / 5**0.5
            assert f"{signed(mean)} [{signed(mean - reach)}, {signed(mean + reach)}]" in shown
    twice = [(r.seed, r.delta - next(f.delta for f in first if replace(f, delta=0) == replace(r, stream=0, delta=0)))
             for r in rows if r.stream == 1]
    of_seeds = [statistics.mean(gap for s, gap in twice if s == seed) for seed in range(5)]
    assert f"{statistics.stdev(of_seeds):.2f}" in shown
    assert f"{signed(min(of_seeds))} to {signed(max(of_seeds))}" in shown


def test_write_leaves_the_page_and_the_figures_and_says_where(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "about.json").write_text("no json")
    rows = [replace(run(), dense_multiply_adds=0)]
    path = page.write(rows, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"study.json", "about.json", "report.html", "comparison.png",
                                                    "comparison.svg"}
    before = path.read_bytes()
    assert page.write(rows, tmp_path) == path
    assert path.read_bytes() == before


# --- In a browser ----------------------------------------------------------------------------------------------------

class Proxy(threading.Thread):
    """Notes what a browser asks the network for, and answers nothing."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket, self.asked = socket.create_server(("127.0.0.1", 0)), []
        self.start()

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            with connection:
                connection.settimeout(2)
                try:
                    self.asked.append(connection.recv(4096).split(b"\r\n")[0].decode(errors="replace"))
                except OSError:
                    continue


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_page_without_an_error_and_without_asking_the_network(whole, tmp_path):
    (tmp_path / "report.html").write_text(whole)
    proxy = Proxy()

    def browse(*options):
        return subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--enable-logging=stderr",
             f"--proxy-server=127.0.0.1:{proxy.socket.getsockname()[1]}", f"--user-data-dir={tmp_path / 'profile'}",
             *options, (tmp_path / "report.html").as_uri()],
            capture_output=True, text=True, timeout=120, check=True)

    done = browse("--dump-dom")
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<svg") == whole.count("<svg")
    assert done.stdout.count("<tr>") == whole.count("<tr>")
    hosts = set(re.findall(r"https?://([^/\"]+)", whole))
    assert not [line for line in proxy.asked if any(host in line for host in hosts)]
    browse(f"--screenshot={tmp_path / 'page.png'}", "--window-size=400,3000")
    assert (tmp_path / "page.png").stat().st_size > 30_000
