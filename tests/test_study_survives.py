"""Facts about studies: nothing is lost, and the numbers are the same however the work is done."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from small_study import states, tiny, without_seconds

from minirewind import files, models, retrain, study, train
from minirewind.errors import Error
from minirewind.study import Node, store, work

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import small_study
from minirewind import study

if __name__ == "__main__":
    study.run(small_study.tiny(), {folder!r}, workers={workers}, progress=False)
"""


def start(folder, workers=1):
    script = SCRIPT.format(tests=os.path.dirname(__file__), folder=str(folder), workers=workers)
    path = folder.parent / f"{folder.name}-script.py"
    path.write_text(textwrap.dedent(script))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, path], env=environment, start_new_session=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_study_continues_to_the_same_bits(finished, tmp_path, workers):
    folder = tmp_path / "killed"
    for runs in (3, 9):
        process = start(folder, workers)
        until = time.monotonic() + 60
        while len(list(folder.glob("runs/seed*"))) < runs and time.monotonic() < until and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in folder.glob("runs/seed*/run.json"):
            json.loads(path.read_text())
            files.read_state(path.parent / "state.npz")
    rows = study.run(tiny(), folder, progress=False)
    assert without_seconds(rows) == without_seconds(finished[1])
    assert states(folder) == states(finished[0])


def test_a_long_run_continues_from_its_last_report(finished, tmp_path, monkeypatch):
    """Interrupted at every report in turn, and continued: the same bits and the same history."""
    monkeypatch.setattr(work, "PARTIAL_EVERY", -1)
    monkeypatch.setattr(train.train, "__kwdefaults__", train.train.__kwdefaults__ | {"report_every": 2})
    monkeypatch.setattr(retrain.one_round, "__kwdefaults__", retrain.one_round.__kwdefaults__ | {"report_every": 2})
    small = tiny(seeds=1, rounds=(1,), protocols=("one_shot",))
    whole = tmp_path / "whole"
    study.run(small, whole, progress=False)

    original, interrupts = store.Store.save_partial, []

    def interrupted(self, *arguments):
        original(self, *arguments)
        interrupts.append(arguments[0].name)
        raise KeyboardInterrupt

    monkeypatch.setattr(store.Store, "save_partial", interrupted)
    folder = tmp_path / "interrupted"
    for _ in range(100):
        try:
            study.run(small, folder, progress=False)
            break
        except KeyboardInterrupt:
            pass
    assert len(interrupts) > 10
    assert states(folder) == states(whole)
    assert not list((folder / "partial").iterdir())

    def histories(where):
        runs = (json.loads(path.read_text())["history"] for path in sorted(where.glob("runs/*/run.json")))
        return [[{k: v for k, v in record.items() if k != "seconds"} for record in run] for run in runs]

    assert histories(folder) == histories(whole)


def test_a_worker_that_dies_is_replaced_and_its_run_repeated(finished, tmp_path, monkeypatch):
    (tmp_path / "fragile.py").write_text(textwrap.dedent("""
        import multiprocessing, os, pathlib
        from minirewind import models

        def network(**settings):
            marker = pathlib.Path(__file__).with_name("died")
            if multiprocessing.parent_process() is not None and not marker.exists():
                marker.touch()
                os._exit(1)
            return models.resnet(8, 2, **settings)
    """))
    monkeypatch.syspath_prepend(tmp_path)
    fragile = dataclasses.replace(tiny(seeds=1, rounds=(1,), protocols=("one_shot",)), network="fragile:network")
    rows = study.run(fragile, tmp_path / "out", workers=2, progress=False)
    assert (tmp_path / "died").exists()
    assert [row.accuracy for row in rows] == [
        row.accuracy for row in finished[1] if row.protocol == "one_shot" and row.seed == 0 and row.compression < 1.3]


def test_a_network_that_cannot_be_imported_runs_with_one_worker_only(tmp_path):
    local = dataclasses.replace(tiny(), network=lambda **settings: None)
    with pytest.raises(Error, match="workers=1"):
        study.run(local, tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_its_summary_is_made_anew_and_leftovers_are_cleared(finished, tmp_path):
    small = tiny(seeds=1, rounds=(1,), protocols=("one_shot",))
    rows = study.run(small, tmp_path, progress=False)
    next(tmp_path.glob("runs/seed0-lr_rewinding-*/run.json")).unlink()
    (tmp_path / "runs" / ".writing-killed").mkdir()
    (tmp_path / "partial").mkdir(exist_ok=True)
    begun = [tmp_path / "runs" / ".writing-killed" / "state.npz", tmp_path / "partial" / ".seed0.npz.abcd_123",
             *(tmp_path / f".{name}.abcd_123" for name in ("study.json", "results.csv", "state.npz", "report.html",
                                                           "about.json", "comparison.png", "times.svg"))]
    mine = tmp_path / ".gitignore.of_a_user"
    for path in (*begun, mine):
        path.write_text("half")
    assert without_seconds(study.run(small, tmp_path, progress=False)) == without_seconds(rows)
    assert not [path for path in begun if path.exists()]
    assert not (tmp_path / "runs" / ".writing-killed").exists()
    assert mine.exists()


def test_workers_end_with_their_parent(tmp_path):
    folder = tmp_path / "orphans"
    process = start(folder, workers=2)
    until = time.monotonic() + 60
    while len(list(folder.glob("runs/seed*"))) < 3 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.005)
    process.kill()                                  # the parent alone
    process.wait()
    time.sleep(1)
    count = len(list(folder.glob("runs/seed*")))
    time.sleep(2)
    assert len(list(folder.glob("runs/seed*"))) == count


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-30] + bytes(30)])
def test_a_damaged_state_is_named_and_not_used(finished, tmp_path, damage):
    study.run(tiny(seeds=1, rounds=(1,), protocols=("one_shot",)), tmp_path, progress=False)
    path = next(tmp_path.glob("runs/seed0-dense-12-*/state.npz"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Error, match=r"seed0-dense-12-.*cannot be read"):
        study.run(tiny(seeds=1), tmp_path, progress=False)


def test_what_the_message_tells_to_delete_is_made_anew_even_if_it_is_the_dense_network(finished, tmp_path):
    small = tiny(seeds=1, rounds=(1,), protocols=("one_shot",))
    rows = study.run(small, tmp_path, progress=False)
    shutil.rmtree(next(tmp_path.glob("runs/seed0-dense-12-*")))
    assert without_seconds(study.run(small, tmp_path, progress=False)) == without_seconds(rows)


def test_of_two_workers_on_one_run_neither_deletes_what_the_other_has_finished(tmp_path, monkeypatch):
    here, node, deleted = store.Store(tmp_path, {}), Node(0, 12), []
    state = train.State.copy(models.build("resnet8-2", input_shape=(1, 4, 4), classes=3))
    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path, **more: deleted.append(path) or rmtree(path, **more))
    for worker in ("the faster", "the slower"):
        here.save(node, state, {"by": worker})
    assert here.path(node) not in deleted
    assert json.loads((here.path(node) / "run.json").read_text()) == {"by": "the faster"}
    (here.path(node) / "run.json").unlink()
    here.save(node, state, {"by": "whoever comes after a folder without its summary"})
    assert here.done(node)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [here.path(node).name]


def test_a_run_that_failed_begins_anew_and_not_where_it_had_come_to(tmp_path):
    here, node = store.Store(tmp_path, {}), Node(0, 12)
    here.save_partial(node, train.State.copy(models.build("resnet8-2", input_shape=(1, 4, 4), classes=3)), [])
    here.note_progress(node, 3)
    here.save_failure(node, "it broke", "Traceback")
    assert here.partial(node) == (None, [])
    assert [path.name for path in (tmp_path / "partial").iterdir()] == []


def test_many_failures_are_told_in_a_few_lines(finished, tmp_path):
    wanted = tiny(seeds=30)
    b = work.bench(work.job_of(wanted, tmp_path, "cpu"))
    runs = [node for node in b.graph.nodes() if node.technique]
    message = study.told(b, {node: f"kind {i % 50} " + "x " * 400 for i, node in enumerate(runs)}, runs)
    assert message.startswith(f"{len(runs)} failed")
    assert len(message.splitlines()) <= 8
    assert max(map(len, message.splitlines())) < 400


def test_a_damaged_study_file_is_an_error_and_nothing_is_written(finished, tmp_path):
    (tmp_path / "study.json").write_text('{"network": ')
    with pytest.raises(Error, match=r"study\.json cannot be read"):
        study.run(tiny(), tmp_path, progress=False)
    assert (tmp_path / "study.json").read_text() == '{"network": '


def test_somebody_elses_results_are_not_overwritten(tmp_path):
    (tmp_path / "results.csv").write_text("mine\n")
    with pytest.raises(Error, match=r"no study\.json"):
        study.run(tiny(), tmp_path, progress=False)
    assert (tmp_path / "results.csv").read_text() == "mine\n"


def test_two_processes_cannot_work_in_one_folder(tmp_path):
    with files.claimed(tmp_path), pytest.raises(Error, match="another process"):
        study.run(tiny(), tmp_path, progress=False)


def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_atomically(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_survives_the_disk_and_its_bytes_depend_on_nothing_else(tmp_path):
    weights, momentum = np.arange(5, dtype=np.float32), np.ones(5, np.float32)
    state = train.State(7, weights, momentum, weights > 1, np.zeros(0, np.float32))
    assert files.state_bytes(state) == files.state_bytes(state)
    (tmp_path / "state.npz").write_bytes(files.state_bytes(state))
    again, _ = files.read_state(tmp_path / "state.npz")
    for field in dataclasses.fields(state):
        assert np.array_equal(getattr(again, field.name), getattr(state, field.name))


# --- What fails ------------------------------------------------------------------------------------------------------

FRAGILE = """
from minirewind import Error
from minirewind.retrain import fine_tuning

def breaks(trained, early, mask, schedule):
    raise {mistake}
"""


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    """A study of one technique that works and one that does not, and a way to mend it."""
    path = tmp_path / "fragile_methods.py"

    def write(mistake):
        path.write_text(textwrap.dedent(FRAGILE).replace("{mistake}", mistake))
        sys.modules.pop("fragile_methods", None)

    write("Error('it broke\\nat step 3')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tiny(seeds=1, rounds=(1, 2), protocols=("one_shot", "iterative"),
               techniques=("fragile_methods:breaks", "lr_rewinding")), path
    sys.modules.pop("fragile_methods", None)


def test_a_run_that_fails_leaves_a_record_and_the_others_are_finished(fragile, tmp_path):
    wanted, _ = fragile
    with pytest.raises(study.Incomplete) as told:
        study.run(wanted, tmp_path / "out", progress=False)
    assert str(told.value).splitlines() == [
        "2 failed, 1 that need what failed were left out; all other runs are finished:",
        "seed0-breaks-t6-one_shot-1.25x and 1 more: it broke at step 3",
        f"{tmp_path / 'out' / 'failed'} holds the details; --retry-failed tries them again"]
    assert [(row.technique, row.round) for row in told.value.rows] == [("lr_rewinding", i) for i in (1, 1, 1, 2)]
    assert study.read_results(tmp_path / "out" / "results.csv") == told.value.rows
    record = json.loads(next((tmp_path / "out" / "failed").glob("seed0-breaks-t6-one_shot-1.25x-*.json")).read_text())
    assert "Traceback" in record["details"]


def test_a_failed_run_is_tried_again_only_when_asked_for(fragile, tmp_path, monkeypatch):
    wanted, path = fragile
    with pytest.raises(study.Incomplete):
        study.run(wanted, tmp_path / "out", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(work, "execute", lambda *_, **__: pytest.fail("a failed run was run again"))
        with pytest.raises(study.Incomplete, match="it broke"):
            study.run(wanted, tmp_path / "out", progress=False)
    path.write_text(path.read_text().replace("raise", "return fine_tuning(trained, early, mask, schedule) #"))
    sys.modules.pop("fragile_methods")
    rows = study.run(wanted, tmp_path / "out", progress=False, retry_failed=True)
    assert len(rows) == 8
    assert not list((tmp_path / "out" / "failed").iterdir())
    assert study.run(wanted, tmp_path / "out", progress=False) == rows


def test_a_mistake_in_a_method_of_ones_own_is_told_with_its_kind(fragile, tmp_path):
    wanted, path = fragile
    path.write_text(path.read_text().replace("raise", "trained.weight #"))
    with pytest.raises(study.Incomplete, match=r"AttributeError: 'State' object has no attribute 'weight'"):
        study.run(wanted, tmp_path / "out", workers=2, progress=False)


def test_a_training_that_diverges_names_its_step_and_what_is_done_is_kept(tmp_path):
    wild = tiny(recipe=train.Recipe(steps=12, batch_size=8, rate=1e30), seeds=1)
    with pytest.raises(study.Incomplete, match="stopped at step"):
        study.run(wild, tmp_path, progress=False)
    assert [path.name[:13] for path in tmp_path.glob("runs/*")] == ["seed0-dense-0"]
    assert study.read_results(tmp_path / "results.csv") == []
