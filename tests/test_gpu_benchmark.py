"""The GPU's benchmark and the session on a card, as far as they can be seen without one."""

import json
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minirewind import Error, kernels, models, nn
from minirewind.tensor import Tensor

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A module of the benchmarks, by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return __import__


def python(code):
    return [sys.executable, "-c", code]


def test_a_session_goes_on_where_it_was(load, tmp_path, capsys):
    """One step per kind of end; what went well is not run again, what did not is, and only that has a log."""
    session = load("gpu_session")
    flag, count = tmp_path / "flag", tmp_path / "count"
    write = f"open({str(tmp_path / 'out' / 'json.json')!r}, 'w').write('{{\"ours_ms\": 3}}')"
    todo = [
        session.Step("well", python(f"open({str(count)!r}, 'a').write('x'); print('fine')"), 60),
        session.Step("json", python(write), 60),
        session.Step("later", python(f"import os, sys; print('hm'); sys.exit(not os.path.exists({str(flag)!r}))"), 60),
        session.Step("slow", python("print('begun', flush=True); import time; time.sleep(60)"), 1),
        session.Step("absent", ["a-command-that-is-not-there"], 60),
    ]
    out = tmp_path / "out"
    assert not session.session(todo, out, minutes=5, packed=tmp_path / "all.tgz")
    with tarfile.open(tmp_path / "all.tgz") as tar:
        assert {*tar.getnames()} == {"out", *(f"out/{path.name}" for path in out.iterdir())}
    read = {step.name: json.loads((out / f"{step.name}.json").read_text()) for step in todo}
    assert {name: record["exit_code"] for name, record in read.items()} == {
        "well": 0, "json": 0, "later": 1, "slow": 124, "absent": 127}
    assert read["json"]["ours_ms"] == 3
    assert read["well"]["last_line"] == "fine"
    assert {path.stem for path in out.glob("*.log")} == {"later", "slow", "absent"}
    assert "begun" in (out / "slow.log").read_text()
    flag.touch()
    assert session.session(todo[:3], out, minutes=5)
    assert count.read_text() == "x"
    assert not (out / "later.log").exists()
    assert not session.session([todo[4]], out, minutes=0)
    assert "no time left" in capsys.readouterr().out


def test_what_an_overdue_step_started_ends_with_it(load, tmp_path):
    """ncu and compute-sanitizer are not the program that uses the card: that is a child of theirs."""
    alive = tmp_path / "alive"
    child = f"import time\nwhile True: open({str(alive)!r}, 'a').write('x'); time.sleep(0.05)"
    parent = python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    assert not load("gpu_session").session([load("gpu_session").Step("parent", parent, 2)], tmp_path / "out", minutes=5)
    size = alive.stat().st_size
    assert size > 0
    time.sleep(0.5)
    assert alive.stat().st_size == size


def test_a_session_without_a_card_does_nothing(tmp_path):
    """Every test would be skipped, and all would look well."""
    try:
        kernels.backend("gpu")
    except Error as reason:
        said = str(reason).splitlines()[0][:40]
    else:
        pytest.skip("there is a card")
    done = subprocess.run([sys.executable, str(FOLDER / "gpu_session.py"), "--out", str(tmp_path / "out")],
                          capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_steps_of_a_session_are_commands_that_exist(load):
    session, train_step = load("gpu_session"), load("train_step")
    steps = session.steps()
    assert len({step.name for step in steps}) == len(steps)
    wanted = {}
    for step in steps:
        if step.command[1].endswith("train_step.py"):
            wanted[step.name] = train_step.parse(step.command[2:])
            assert wanted[step.name].device == "gpu"
            assert wanted[step.name].seconds < step.seconds
        assert step.seconds <= 300
    assert wanted["resnet20-replicas"].replicas == 8
    first = steps[: [step.name for step in steps].index("resnet20-compiled")]
    assert not any("reduce-overhead" in step.command or "max-autotune" in step.command for step in first)
    assert {(o.network, o.precision) for o in wanted.values()} == {
        ("resnet20", "tf32"), ("resnet56", "tf32"), ("resnet20", "fp32")}
    assert {way for o in wanted.values() if o.against for way in o.ways} == {
        "eager", "graph", "reduce-overhead", "max-autotune"}


def test_counters_are_summed_by_kernel(load):
    head = '==PROF== Disconnected\n"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"\n'
    rows = [("0", "relu", "gpu__time_duration.sum", "ns", "2,000"), ("0", "relu", "dram__bytes_read.sum", "Kbyte", "3"),
            ("0", "relu", "dram__bytes_write.sum", "byte", "1000"), ("1", "sgd", "gpu__time_duration.sum", "us", "5"),
            ("2", "relu", "gpu__time_duration.sum", "ns", "1000")]
    text = head + "".join(",".join(f'"{v}"' for v in (i, "7", *rest)) + "\n" for i, *rest in rows)
    first, second = load("gpu_session").kernels(text)["kernels"]
    assert (first["kernel"], first["launches"]) == ("sgd", 1)
    assert first["microseconds"] == pytest.approx(5)
    assert (second["kernel"], second["launches"], second["bytes"]) == ("relu", 2, 4000)
    assert second["bytes_per_second"] == pytest.approx(4000 / 3e-6)
    absent = '"3","7","sgd","dram__bytes_read.sum","byte","n/a"\n==WARNING== something else\n'
    assert load("gpu_session").kernels(text + absent)["kernels"] == [first, second]
    assert load("gpu_session").kernels("nothing") == {"kernels": []}


def test_time_is_per_network_and_the_median_of_turns(load):
    """A clock of our own: a turn is as many calls as fill 20 ms, and networks side by side share a step."""
    gpu, asked = load("gpu"), []

    def watch(milliseconds):
        def measure(call, count):
            call()
            asked.append(count)
            return next(milliseconds) * count
        return measure

    alone, eight = iter([9, 4, 5, 4, 100]), iter([9, 8, 8, 8, 8])
    result = gpu.interleaved({"one": (lambda: None, 1), "many": (lambda: None, 8)},
                             {"one": watch(alone), "many": watch(eight)}, seconds=60, turns=3)
    assert (result["one"].median, result["many"].median) == (5, 1)
    assert asked == [3, 1, 3, 1, *[5, 2] * 3]


def test_events_are_recorded_around_the_calls(load):
    log = []
    event = SimpleNamespace(synchronize=lambda: log.append("wait"))
    took = load("gpu").by_events(lambda: event, lambda e: log.append("record"), lambda a, b: 7.5,
                                 lambda: log.append("call"), 2)
    assert took == 7.5
    assert log == ["record", "call", "call", "record", "wait"]


def test_the_floor_counts_every_pass_over_images_once(load):
    """A convolution, batch norm, ReLU; the image of 3 channels needs no gradient."""
    class Small(nn.Module):
        def __init__(self):
            self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
            self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.bn1.add_relu(self.conv1(x))
            return self.bn2.add_relu(self.conv2(x), x).mean((2, 3))

    model, x = Small(), Tensor(np.ones((2, 3, 5, 5), np.float32))
    moved, computed = load("gpu").floor(model, x, Tensor(np.array([0, 1])), batch=6)
    image, maps, weights = 6 * 3 * 25, 6 * 4 * 25, sum(p.size for p in model.parameters())
    first, second = 2 * (image + maps), 3 * (maps + maps)
    assert moved == 4 * (first + second + (2 + 7) * maps + (3 + 8) * maps + 8 * weights)
    assert computed == 2 * maps * (2 * 27 + 3 * 36)
    whole = models.build("resnet20", input_shape=(3, 32, 32), classes=10)
    x = Tensor(np.ones((2, 3, 32, 32), np.float32))
    assert load("gpu").floor(whole, x, Tensor(np.array([0, 1])), 128)[1] == pytest.approx(31e9, rel=0.02)


@pytest.mark.slow
def test_the_benchmark_runs_on_the_emulated_device(tmp_path):
    path = tmp_path / "step.json"
    tiny = ["--network", "resnet8-2", "--size", "4", "--batch", "2", "--turns", "1", "--seconds", "1"]
    command = [sys.executable, str(FOLDER / "train_step.py"), "--device", "emulated", "--replicas", "2", *tiny]
    try:
        import torch  # noqa: F401
        command += ["--against", "torch"]
    except ImportError:
        pass
    done = subprocess.run([*command, "--json", str(path)], capture_output=True, text=True)
    if "needs Linux and g++" in done.stderr or "g++, which was not found" in done.stderr:
        pytest.skip("the emulated device needs Linux and g++")
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text())
    assert record["device"] == "emulated"
    assert record["ratio_of_replicas"] > 0
    assert {"ours", "ours, whole", "ours, 2 side by side"} <= set(record["all_ms"])
    assert ("ratio_to_best" in record) == ("--against" in command)
    done = subprocess.run([*command, "--launches", "1"], capture_output=True, text=True)
    assert "besides CuPy's own; the loss is" in done.stdout
    assert re.search(r"^sgd +1$", done.stdout, re.M)
