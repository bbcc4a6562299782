"""Facts about the figures."""

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from invented import ONE_SHOT, STUDIES, grid, run, study
from matplotlib.figure import Figure
from PIL import Image

from minirewind import figures, published, report
from minirewind.speed import Speed

COMPARISON = [replace(run(), dense_multiply_adds=0)]            # only this one chart can be made of it


@pytest.mark.parametrize("name", ["two pruning methods", "a technique of one's own"])
def test_the_figure_is_a_png_and_an_svg(name, tmp_path):
    rows = STUDIES[name]
    paths = figures.write(rows, tmp_path)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert {path.name for path in paths} >= {"comparison.png", "comparison.svg"}
    for path in paths:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
            with Image.open(path) as image:
                image.verify()
                assert image.width > 1000
        else:
            assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


DRAW_ELSEWHERE = """
import dataclasses, sys
from minirewind import figures
assert "matplotlib" not in sys.modules
sys.path.insert(0, sys.argv[1])
import invented
figures.write([dataclasses.replace(invented.run(), dense_multiply_adds=0)], sys.argv[2])
assert "matplotlib.pyplot" not in sys.modules
"""


def test_another_process_draws_the_same_bytes_and_never_imports_pyplot(tmp_path):
    (tmp_path / "other").mkdir()
    figures.write(COMPARISON, tmp_path)
    subprocess.run([sys.executable, "-c", DRAW_ELSEWHERE, Path(__file__).parent, tmp_path / "other"], check=True)
    for name in ("comparison.png", "comparison.svg"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_figure_does_not_depend_on_the_users_settings_and_leaves_them_alone(tmp_path):
    (tmp_path / "other").mkdir()
    figures.write(COMPARISON, tmp_path)
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "savefig.dpi": 50}):
        figures.write(COMPARISON, tmp_path / "other")
        assert matplotlib.rcParams["font.size"] == 30
    for name in ("comparison.png", "comparison.svg"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_nothing_is_half_written_when_drawing_fails(tmp_path, monkeypatch):
    figures.write(COMPARISON, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    whole = Figure.savefig

    def fails_at_the_svg(self, file, format, **settings):
        if format == "svg":
            raise MemoryError
        whole(self, file, format=format, **settings)

    monkeypatch.setattr(Figure, "savefig", fails_at_the_svg)
    with pytest.raises(MemoryError):
        figures.write([replace(COMPARISON[0], delta=-1.0)], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_is_half_written_when_the_disk_is_full(tmp_path, monkeypatch):
    figures.write(COMPARISON, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        figures.write([replace(COMPARISON[0], delta=-1.0)], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def drawn(rows, name="comparison", speeds=()):
    """The figure of a chart, and its panels' axes."""
    [chart] = [chart for chart in figures.charts(rows, speeds) if chart.name == name]
    drawing = figures.whole(chart)
    return drawing, drawing.axes


def texts(rows, name="comparison"):
    drawing, panels = drawn(rows, name)
    return [text.get_text() for axes in panels for text in [*axes.texts, *axes.get_xticklabels()]] + \
        [text.get_text() for text in drawing.texts]


def test_a_technique_that_falls_off_a_cliff_does_not_press_the_others_flat():
    rows = study(3, one_shot=ONE_SHOT)
    low, _ = drawn(rows)[1][0].get_ylim()
    assert -23 < low < -15
    fallen = [point.median for point in report.curves(rows)["one_shot", "fine_tuning", "global_magnitude"][-2:]]
    assert f"−{-fallen[-1]:.0f}" in texts(rows)


def test_numbers_below_the_axis_are_left_out_where_they_would_lie_on_each_other():
    rows = [run(0, "fine_tuning", delta, density=density) for delta, density in
            ((0, 0.9), (-50, 0.0101), (-60, 0.01))]
    words = texts(rows)
    assert "−60" in words
    assert "−50" not in words


def test_an_arrow_at_the_lower_edge_is_explained_below_either_figure():
    rows = [run(seed, name, change, t=t) for seed in range(2) for t in (0.5, 0.9)
            for name, change in (("fine_tuning", -60.0), ("lr_rewinding", -2.0))]
    for chart in (figures.comparison(rows, ""), figures.times(rows, "")):
        assert "↓ medians below the axis" in chart.note
    level = [replace(row, delta=-1.0) for row in rows]
    for chart in (figures.comparison(level, ""), figures.times(level, "")):
        assert "↓" not in chart.note


def test_small_losses_are_shown_whole():
    rows = [run(seed, name, change) for seed in range(5)
            for name, change in (("fine_tuning", -2.9), ("lr_rewinding", -1.1))]
    low, high = drawn(rows)[1][0].get_ylim()
    assert low < -2.9
    assert high > 0
    assert not any("↓" in text for text in texts(rows))


def test_the_compressions_are_marked_in_doublings():
    assert {"2×", "4×", "8×", "16×", "32×"} <= set(texts(study(1)))


def test_all_panels_of_the_comparison_share_their_axes():
    a, b = drawn(study(3))[1]
    assert a.get_ylim() == b.get_ylim()
    assert a.get_xlim() == b.get_xlim()


def test_no_two_techniques_share_a_colour_a_marker_or_a_dash():
    looks = list(report.looks_of([*report.LOOKS, "one", "two", "three"]).values())
    for part in ("label", "colour", "marker", "dash"):
        assert len({getattr(look, part) for look in looks}) == len(looks)


def test_a_study_with_one_t_has_no_figure_of_t_and_one_without_the_algorithm_none_of_that():
    names = [chart.name for chart in figures.charts([run(), run(0, "lr_rewinding")])]
    assert names == ["comparison", "speedup"]
    assert [chart.name for chart in figures.charts(grid())] == ["comparison", "times", "algorithm", "speedup"]


def test_the_safe_zone_is_shaded_from_25_to_90_percent():
    for axes in drawn(grid(1), "times")[1]:
        [zone] = axes.patches
        assert (zone.get_x(), zone.get_x() + zone.get_width()) == pytest.approx((25, 90))


def test_of_many_compressions_four_are_shown_the_highest_always():
    rows = [run(0, density=0.8**i, t=t) for i in range(1, 16) for t in (0.5, 1.0)]
    _, panels = drawn(rows, "times")
    assert len(panels) == 4
    assert panels[-1].get_title(loc="left").startswith(report.short(1 / 0.8**15))


def test_the_papers_curve_lies_behind_that_of_the_same_network():
    axes = drawn(grid(1))[1][0]
    curve = [p.median for p in published.curve("paper", "resnet20", "one_shot", "lr_rewinding")]
    assert any(list(line.get_ydata()) == curve for line in axes.lines)


def test_nothing_published_lies_behind_other_data():
    """All that is drawn: the zero, and of each technique its curve and its bars."""
    colours = {line.get_color() for line in drawn(study(1))[1][0].lines} - {figures.INK}
    assert colours == {report.LOOKS[name].colour for name in ONE_SHOT}
    assert not any("paper" in entry.label for entry in figures.charts(study(1))[0].keys)


def test_a_measured_speed_up_stands_at_its_compression():
    speeds = [Speed("one_shot", "fine_tuning", "global_magnitude", 0, 4.0, "a", 1, 3.0, 1.0)]
    axes = drawn(study(1), "speedup", speeds)[1][0]
    assert any(list(line.get_xydata().ravel()) == [4.0, 3.0] for line in axes.lines)


def test_a_figure_in_words_ends_with_its_last_medians():
    [chart, *_] = figures.charts([run(0, "fine_tuning", -4.0), run(0, "lr_rewinding", 1.0)])
    assert chart.panels[0][0].words == ("one-shot: points of accuracy against compression, 2x. "
                                        "fine-tuning -4.0 at 2x; learning-rate rewinding +1.0 at 2x.")


@pytest.mark.parametrize("name", ["one row", "the paper's grid"])
def test_a_panel_of_the_page_has_only_the_pages_colours_and_ids_of_its_own(name):
    for chart in figures.charts(STUDIES[name])[:2]:
        svg = figures.panel_svg(chart.panels[0][0], "x1")
        root = ElementTree.fromstring(svg.replace("xlink:", ""))
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
        assert all(element.get("id", "x1-").startswith("x1-") for element in root.iter())
        assert all(link.startswith("#x1-") for link in re.findall(r'href="([^"]*)"', svg))
