"""Facts about studies on a Dask cluster: a real scheduler and two workers on this machine."""

import os
import subprocess
import sys
import threading
import time

import pytest
from small_study import states, tiny, without_seconds

from minirewind import study
from minirewind.errors import Error

pytest.importorskip("distributed", reason="Dask is not installed; it comes with the extra `cluster`")


@pytest.fixture
def cluster(tmp_path):
    """The scheduler file and the processes of two workers, of one thread each."""
    scheduler_file = tmp_path / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def start(*arguments):
        command = [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(scheduler_file), "--no-dashboard"]
        return subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
    until = time.monotonic() + 60
    while not scheduler_file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    workers = [start("worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny") for _ in range(2)]
    yield str(scheduler_file), scheduler, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def when(folder, runs, act):
    """Do something once so many runs are in the folder."""
    def watch():
        until = time.monotonic() + 120
        while len(list(folder.glob("runs/seed*"))) < runs and time.monotonic() < until:
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.slow
def test_two_dask_workers_write_the_same_results_as_this_process(finished, cluster, tmp_path):
    scheduler_file, _, _ = cluster
    rows = study.run(tiny(), tmp_path / "out", dask=scheduler_file, progress=False)
    assert without_seconds(rows) == without_seconds(finished[1])
    assert states(tmp_path / "out") == states(finished[0])


@pytest.mark.slow
def test_so_they_do_when_one_of_them_is_killed_in_the_middle(finished, cluster, tmp_path):
    scheduler_file, _, workers = cluster
    killer = when(tmp_path / "out", 4, workers[0].kill)
    rows = study.run(tiny(), tmp_path / "out", dask=scheduler_file, progress=False)
    killer.join()
    assert workers[0].poll() is not None
    assert without_seconds(rows) == without_seconds(finished[1])
    assert without_seconds(study.read_results(tmp_path / "out" / "results.csv")) == without_seconds(finished[1])
    assert states(tmp_path / "out") == states(finished[0])


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_study_and_the_same_call_continues_it_anywhere(finished, cluster, tmp_path):
    scheduler_file, scheduler, _ = cluster
    killer = when(tmp_path / "out", 4, scheduler.kill)
    with pytest.raises(Error, match="scheduler is gone"):
        study.run(tiny(), tmp_path / "out", dask=scheduler_file, progress=False)
    killer.join()
    rows = study.run(tiny(), tmp_path / "out", progress=False)
    assert without_seconds(rows) == without_seconds(finished[1])
    assert states(tmp_path / "out") == states(finished[0])


@pytest.mark.slow
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere.json"])
def test_a_scheduler_that_does_not_answer_is_a_message_and_the_folder_is_left_alone(tmp_path, address):
    with pytest.raises(Error, match="no Dask scheduler answers"):
        study.run(tiny(), tmp_path / "out", dask=address, progress=False)
    assert not (tmp_path / "out").exists()
