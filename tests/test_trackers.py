"""Facts about trackers: what they are told of a study, and that they cannot change it."""

import json
import sys
import types

import pytest
from small_study import RECIPE, states, tiny

from minirewind import study, trackers
from minirewind.errors import Error
from minirewind.plugins import tensorboard

SMALL = tiny(seeds=1, rounds=(1,), protocols=("one_shot",))


class Notebook:
    """A tracker that writes down what it is told, and breaks at a call of one name if asked to."""

    def __init__(self, breaks=None):
        self.breaks, self.runs, self.calls = breaks, [], 0

    def _called(self, name):
        self.calls += 1
        if name == self.breaks:
            raise RuntimeError("no connection")

    def init(self, project, name, config):
        self._called("init")
        self.runs.append({"project": project, "name": name, "config": config, "log": [], "finished": False})

    def log(self, values, step):
        self._called("log")
        self.runs[-1]["log"].append((step, values))

    def finish(self):
        self._called("finish")
        self.runs[-1]["finished"] = True


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a study that was run without a tracker."""
    folder = tmp_path_factory.mktemp("plain")
    study.run(SMALL, folder, progress=False)
    return folder


def followed(folder, tracker, **settings):
    return study.run(SMALL, folder, progress=False, tracker=tracker, **settings)


def arriving(folder, tmp_path, tracker):
    """Follow a folder in which the runs of another appear one by one."""
    tmp_path.joinpath("runs").mkdir()
    tell = trackers.follow(tmp_path, tracker)
    (tmp_path / "study.json").write_bytes((folder / "study.json").read_bytes())
    for run in sorted(folder.glob("runs/*")):
        (tmp_path / "runs" / run.name).symlink_to(run)
        tell()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_run_of_a_study_is_told_once_with_its_history(tmp_path, plain, workers):
    book = Notebook()
    folder = tmp_path / "mine"
    followed(folder, book, workers=workers)
    assert states(folder) == states(plain)
    kept = {run["name"]: run for run in (json.loads(p.read_text()) for p in folder.glob("runs/*/run.json"))}
    assert sorted(run["name"] for run in book.runs) == sorted(kept)
    assert {run["project"] for run in book.runs} == {"mine"}
    for run in book.runs:
        summary = kept[run["name"]]
        assert run["finished"]
        assert run["config"]["recipe"]["steps"] == RECIPE.steps
        assert run["config"]["technique"] == summary["settings"]["technique"]
        assert run["log"][-1][1]["accuracy"] == summary["accuracy"]
        assert [values["loss"] for _, values in run["log"] if "loss" in values] == [
            record["loss"] for record in summary["history"]]
        assert [step for step, _ in run["log"]] == [r["step"] for r in summary["history"]] or not summary["history"]
    before = len(book.runs)
    followed(folder, book)
    assert len(book.runs) == before                             # what was there already is not told again


@pytest.mark.parametrize(("breaks", "calls"), [("init", 1), ("log", 2), ("finish", 3)])
def test_a_tracker_that_fails_is_named_once_and_told_no_more(tmp_path, plain, breaks, calls):
    book = Notebook(breaks)
    said = r"the tracker failed at seed0-dense-0-\w+ \(RuntimeError: no connection\)"
    with pytest.warns(UserWarning, match=said) as told:
        arriving(plain, tmp_path, book)
    assert len(told) == 1
    assert book.calls == calls


def test_a_study_whose_tracker_fails_is_the_same(tmp_path, plain):
    with pytest.warns(UserWarning, match="the tracker failed"):
        followed(tmp_path / "with", Notebook("log"))
    assert states(tmp_path / "with") == states(plain)


def test_a_tracker_may_be_named_as_wandb_is(monkeypatch):
    book = Notebook()
    module = types.ModuleType("own_tracker")
    module.init, module.log, module.finish, module.Notebook, module.book = (
        book.init, book.log, book.finish, Notebook, book)
    monkeypatch.setitem(sys.modules, "own_tracker", module)
    assert trackers.found("own_tracker") is module
    assert trackers.found("own_tracker:book") is book
    assert isinstance(trackers.found("own_tracker:Notebook"), Notebook)


@pytest.mark.parametrize(("given", "message"), [
    ("no_such_tracker", "expected an installed module such as wandb"), ("json:nothing", "expected an installed module"),
    ("json", "has no init and no log and no finish"), (print, "has no init"),
])
def test_what_is_no_tracker_is_refused_before_anything_runs(tmp_path, given, message):
    with pytest.raises(Error, match=message):
        trackers.follow(tmp_path, given)


@pytest.mark.slow
def test_tensorboard_is_written_what_a_study_tells(tmp_path, plain):
    pytest.importorskip("tensorboardX", reason="the adapter for TensorBoard: pip install tensorboardX")
    logs, folder = tmp_path / "logs", tmp_path / "mine"
    folder.mkdir()
    arriving(plain, folder, tensorboard.TensorBoard(logs))
    names = [json.loads(path.read_text())["name"] for path in plain.glob("runs/*/run.json")]
    assert sorted(path.name for path in (logs / "mine").iterdir()) == sorted(names)
    events = b"".join(path.read_bytes() for path in logs.rglob("events*"))
    assert b"validation_accuracy" in events
    assert b"fine_tuning" in events


def test_without_tensorboardx_its_adapter_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(Error, match="pip install tensorboardX"):
        tensorboard.TensorBoard()
