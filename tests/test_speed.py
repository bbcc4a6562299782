"""Facts about the measured milliseconds of a study's networks; how many they are is measured in benchmarks/."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from invented import grid, run, study

from minirewind import report, speed


@pytest.fixture
def finished_networks(finished, tmp_path):
    """A finished study's folder, for this test alone, and its rows."""
    folder, rows = finished
    return shutil.copytree(folder, tmp_path / "study"), rows


@pytest.fixture
def quick(monkeypatch):
    """Times that are not measured: the order of calls is all that counts here."""
    monkeypatch.setattr(speed, "milliseconds", lambda programs, images, seconds: {
        name: 4.0 if name == "dense" else 2.0 for name in programs})


def test_the_median_run_of_the_best_technique_is_measured_at_the_highest_compression():
    rows = [run(seed, name, delta - 10 * (name == "fine_tuning"), density=density) for density in (0.5, 0.1)
            for name in ("fine_tuning", "lr_rewinding") for seed, delta in enumerate((-3.0, -1.0, -2.0))]
    assert [(row.technique, row.density, row.seed) for row in speed.chosen(rows)] == \
        [("lr_rewinding", 0.5, 2), ("lr_rewinding", 0.1, 2)]


def test_of_many_compressions_a_few_are_measured_and_no_repeat():
    chosen = speed.chosen(grid(3))
    for protocol in ("one_shot", "iterative"):
        assert len([row for row in chosen if row.protocol == protocol]) == speed.CELLS
    assert all(row.stream == 0 for row in chosen)
    assert max(row.compression for row in chosen) == max(row.compression for row in grid(3))


def test_the_programs_take_turns():
    order = []
    times = speed.milliseconds({"a": lambda images: order.append("a"), "b": lambda images: order.append("b")},
                               np.zeros(1), 0)
    assert order[4:] == ["a", "b"] * 3
    assert set(times) == {"a", "b"}


def test_runs_are_measured_once_and_kept(finished_networks, quick, monkeypatch):
    folder, rows = finished_networks
    found = speed.measure(rows, folder)
    assert {s.images for s in found} == set(speed.IMAGES)
    assert all(s.ratio == 2 for s in found)
    assert {(folder / "runs" / s.run / "state.npz").is_file() for s in found} == {True}
    assert {s.compression for s in found} >= {max(row.compression for row in rows)}
    assert speed.read(folder) == found
    monkeypatch.setattr(speed, "timed", lambda *_: pytest.fail("measured again"))
    assert speed.measure(rows, folder) == found


def test_a_speed_is_of_the_run_with_the_rows_accuracy(finished_networks):
    folder, rows = finished_networks
    steps = report.dense_steps(rows)
    for row in rows:
        run = speed.run_of(row, folder, steps)
        assert json.loads((run / "run.json").read_text())["accuracy"] == pytest.approx(row.accuracy, abs=1e-3)


def test_a_run_of_ones_own_technique_is_found_and_no_repeat_is_taken_for_it(tmp_path):
    row = replace(run(0, "own_methods:mine", density=0.5), accuracy=97.0)
    for stream in (1, 0):
        folder = tmp_path / "runs" / f"seed0-mine-t405-one_shot-2.00x{'-stream1' * stream}-0"
        folder.mkdir(parents=True)
        (folder / "state.npz").touch()
        (folder / "run.json").write_text(json.dumps({"accuracy": 97.0, "density": 0.5, "settings": {
            "technique": row.technique, "pruning": row.pruning, "stream": stream}}))
    assert speed.run_of(row, tmp_path, 450) == folder
    assert speed.run_of(replace(row, technique="others:mine"), tmp_path, 450) is None


def test_rows_without_their_states_are_not_measured(tmp_path):
    assert speed.measure(study(1), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"speeds": [{"x": 1}]}', '{"speeds": 3}'])
def test_a_speed_json_that_cannot_be_read_is_none(content, tmp_path):
    (tmp_path / "speed.json").write_text(content)
    assert speed.read(tmp_path) == []
