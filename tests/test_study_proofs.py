"""Slow proofs about studies: killed at any moment, a disk that is full at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from small_study import states, tiny, without_seconds

from minirewind import cli, files, study
from minirewind.study import work

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import small_study
from minirewind import retrain, study, train
from minirewind.study import work

if __name__ == "__main__":
    work.PARTIAL_EVERY = -1                         # a half-done state at every report, and a report every 3 steps
    train.train.__kwdefaults__["report_every"] = retrain.one_round.__kwdefaults__["report_every"] = 3
    study.run(small_study.tiny(seeds=40), {folder!r}, progress=False)
"""


def unreadable(folder):
    """Which files of a folder cannot be read now. One that is gone meanwhile was half-done work."""
    bad = []
    for path in [Path(top) / name for top, _, names in os.walk(folder) for name in names]:
        try:
            if path.name == "state.npz" or (path.suffix == ".npz" and path.parent.name == "partial"):
                files.read_state(path)
            elif path.suffix == ".json" and not path.name.startswith("."):
                json.loads(path.read_text())
            elif path.name == "results.csv":
                study.read_results(path)
        except Exception:
            if path.exists() and ".writing-" not in str(path):
                bad.append(path)
    return bad


@pytest.mark.slow
def test_a_study_killed_twenty_five_times_ends_in_the_same_bits_and_no_file_is_unreadable_at_any_moment(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    expected = study.run(tiny(seeds=40), whole, progress=False)
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=os.path.dirname(__file__), folder=str(folder))))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    chance, kills = random.Random(0), 0
    nodes = len(states(whole))
    while kills < 25:
        done = len(list(folder.glob("runs/seed*")))
        assert done < nodes, f"finished after {kills} kills"
        process = subprocess.Popen([sys.executable, script], env=environment)
        wait = chance.choice((chance.randint(1, 9), None))                  # a count of nodes, or a time
        until = time.monotonic() + (60 if wait else chance.uniform(0.5, 4))
        while time.monotonic() < until and process.poll() is None:
            if wait and len(list(folder.glob("runs/seed*"))) >= min(done + wait, nodes - 1):
                time.sleep(chance.uniform(0, 0.05))
                break
            assert unreadable(folder) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        assert unreadable(folder) == []
    rows = study.run(tiny(seeds=40), folder, progress=False)
    assert without_seconds(rows) == without_seconds(expected)
    assert states(folder) == states(whole)
    assert not list(folder.glob("partial/*"))


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "least"), [(1, 5), (2, 2)])
def test_a_disk_that_is_full_at_any_file_is_one_clear_error_and_nothing_is_lost(finished, tmp_path, workers, least,
                                                                              capsys, monkeypatch):
    """Writes fail at another file each time, until none fails: those of this process, with two workers the driver's."""
    monkeypatch.setattr(work, "PARTIAL_EVERY", -1)
    original, left = os.fsync, [0]

    def full(handle):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        return original(handle)

    monkeypatch.setattr(cli.study, "made", lambda *_: tiny())
    folder = tmp_path / "full"
    fails = 0
    while True:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            left[0] = 3 * fails + 1
            try:
                cli.main(["compare", "--out", str(folder), "--workers", str(workers)])
                break
            except SystemExit:
                pass
        fails += 1
        said = capsys.readouterr().err.splitlines()[-1]                     # the progress stands above it
        assert said.startswith("minirewind: ")
        assert said.endswith("No space left on device")
        assert str(folder) in said
        assert unreadable(folder) == []
    assert fails >= least
    assert without_seconds(study.read_results(folder / "results.csv")) == without_seconds(finished[1])
    assert states(folder) == states(finished[0])
