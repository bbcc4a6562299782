"""Facts about studies: the graph, the folder, resuming, and equal numbers however the work is done."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from minirewind import data, files, retrain, study, train
from minirewind.errors import Error
from minirewind.study import Graph, Node, Study

RECIPE = train.Recipe(steps=12, batch_size=8)


def tiny_data(seed=0):
    random = np.random.default_rng(seed)

    def split(count):
        labels = np.arange(count) % 3
        images = random.normal(size=(count, 1, 4, 4)) + labels[:, None, None, None]
        return data.Split(images.astype(np.float32), labels)

    return data.Data(split(40), split(12), split(12), classes=3, pad=1, name="tiny")


DATA = tiny_data()


def tiny(**changes):
    wanted = {"recipe": RECIPE, "rounds": (1, 3), "seeds": 2, "retrain_fractions": (0.5,)} | changes
    return Study("resnet8-2", wanted.pop("data", DATA), **wanted)


def without_seconds(rows):
    return [dataclasses.replace(row, seconds=0) for row in rows]


def states(folder):
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("runs/*/state.npz"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study that no test changes."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, study.run(tiny(), folder, progress=False)


# --- The graph -------------------------------------------------------------------------------------------------------

def test_every_node_comes_after_those_it_starts_from():
    graph = Graph(tiny(protocols=study.PROTOCOLS, techniques=study.TECHNIQUES, retrain_fractions=(0.25, 0.5, 1.0)), 12)
    nodes = graph.nodes()
    for i, node in enumerate(nodes):
        assert set(graph.before(node)) <= set(nodes[:i]), node.name


def test_the_dense_run_is_cut_at_every_rewind_point_and_at_its_start():
    graph = Graph(tiny(retrain_fractions=(0.25, 0.5)), 12)
    assert [node.step for node in graph.nodes() if node.seed == 0 and not node.technique] == [0, 6, 9, 12]


def test_a_new_retraining_time_adds_dense_nodes_and_spoils_none(tmp_path):
    before = set(Graph(tiny(), 12).nodes())
    after = Graph(tiny(retrain_fractions=(0.5, 0.25)), 12).nodes()
    assert before < set(after)
    store = study.Store(tmp_path, {"network": "any"})
    assert store.path(Node(0, 12)) == study.Store(tmp_path, {"network": "any"}).path(Node(0, 12))


def test_the_first_iterative_round_and_the_one_shot_run_to_the_same_density_are_one_node():
    graph = Graph(tiny(protocols=("one_shot", "iterative"), techniques=("lr_rewinding",), seeds=1), 12)
    one_shot, iterative = (list(graph.cells(0, protocol)) for protocol in ("one_shot", "iterative"))
    assert one_shot[0] == iterative[0]
    assert len([node for node in graph.nodes() if node.technique]) == len(one_shot) + len(iterative) - 1


def test_iterative_rounds_are_pruned_to_powers_of_four_fifths_each_from_the_one_before():
    graph = Graph(tiny(protocols=("iterative",), techniques=("weight_rewinding",)), 12)
    first, second, third = graph.cells(0, "iterative")
    assert third.densities == (0.8, 0.8**2, 0.8**3)
    assert graph.before(third) == [second, Node(0, 6)]
    assert graph.before(first) == [Node(0, 12), Node(0, 6)]


def test_the_papers_algorithm_is_lr_rewinding_for_the_whole_time():
    cells = list(Graph(tiny(protocols=("paper_algorithm",)), 12).cells(0, "paper_algorithm"))
    assert {(cell.technique, cell.retrain_steps) for cell in cells} == {("lr_rewinding", 12)}


def test_reinitialisation_is_one_shot_only():
    graph = Graph(tiny(protocols=("one_shot", "iterative"), techniques=("reinitialize",)), 12)
    assert {len(node.densities) for node in graph.nodes() if node.technique} == {1}


def test_the_names_of_runs_stay_what_they_are(tmp_path):
    store = study.Store(tmp_path, {"network": "resnet8-8"})
    names = [store.path(node).name for node in (
        Node(0, 45), Node(1, 450, "lr_rewinding", "global_magnitude", 405, (0.8**9,)),
        Node(0, 450, "fine_tuning", "random_mask", 450, (0.8, 0.8**2)))]
    assert names == ["seed0-dense-45-00c56811", "seed1-lr_rewinding-t405-one_shot-7.45x-90e12bbe",
                     "seed0-fine_tuning-t450-iterative-round2-random_mask-1.56x-c435cfa7"]


@pytest.mark.parametrize(("changes", "said"), [
    ({"techniques": ("lr_rewind",)}, "lr_rewinding"),
    ({"protocols": ("oneshot",)}, "one_shot"),
    ({"pruning": ("magnitude",)}, "global_magnitude"),
    ({"retrain_fractions": (1.2,)}, "rewound to before its start"),
    ({"retrain_fractions": (0.0,)}, "above 0"),
    ({"rounds": (0,)}, "from 1"),
    ({"rounds": ()}, "rounds"),
    ({"densities": (1.5,)}, "not in (0, 1]"),
    ({"seeds": 0}, "seeds"),
    ({"seeds": []}, "seeds"),
    ({"seeds": 2.5}, "seeds"),
    ({"rounds": (2.5,)}, "whole numbers"),
    ({"rounds": "6"}, "whole numbers"),
    ({"protocols": ("iterative",), "techniques": ("reinitialize",)}, "one-shot only"),
])
def test_a_study_that_cannot_be_run_is_refused_when_it_is_made(changes, said):
    with pytest.raises(Error) as refused:
        tiny(**changes)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


# --- Results ---------------------------------------------------------------------------------------------------------

def test_results_hold_one_row_for_every_pruned_run_in_grid_order(finished):
    folder, rows = finished
    with open(folder / "results.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        "network", "dataset", "protocol", "technique", "pruning", "seed", "round", "density", "compression",
        "retrain_fraction", "retrain_steps", "search_steps", "dense_accuracy", "validation_accuracy", "accuracy",
        "delta", "seconds"]
    one_shot = [("one_shot", technique, 1, seed) for technique in ("fine_tuning", "weight_rewinding", "lr_rewinding")
                for _ in (1, 3) for seed in (0, 1)]
    iterative = [("iterative", "lr_rewinding", i, seed) for i in (1, 2, 3) for seed in (0, 1)]
    assert [(row.protocol, row.technique, row.round, row.seed) for row in rows] == one_shot + iterative
    assert study.read_results(folder / "results.csv") == rows


def test_a_rows_numbers_fit_together(finished):
    _, rows = finished
    for row in rows:
        assert row.delta == pytest.approx(row.accuracy - row.dense_accuracy, abs=1e-3)
        assert row.compression == pytest.approx(1 / row.density, rel=1e-3)
        assert row.retrain_steps == round(row.retrain_fraction * 12)
        assert row.search_steps == row.retrain_steps * row.round
    assert len({row.dense_accuracy for row in rows if row.seed == 0}) == 1


def test_a_studys_run_equals_the_library_called_by_hand(finished, tmp_path):
    folder, _ = finished
    graph = Graph(tiny(), 12)
    bench = study.Bench(study.job_of(tiny(), folder, "cpu"))
    model = bench.model.initialise(1)
    list(train.train(model, DATA, RECIPE, seed=1, stop=6))
    early = train.State.copy(model)
    list(train.train(model, DATA, RECIPE, seed=1))
    trained = train.State.copy(model)
    list(retrain.one_round(model, DATA, RECIPE, trained, early, retrain.weight_rewinding, 0.8**3, seed=1))
    node = Node(1, 12, "weight_rewinding", "global_magnitude", 6, (0.8**3,))
    assert node in graph.nodes()
    assert np.array_equal(bench.store.state(node).weights, train.State.copy(model).weights)


def test_a_run_keeps_its_history(finished):
    folder, _ = finished
    run = json.loads(next(folder.glob("runs/seed0-lr_rewinding-t6-one_shot-1.95x-*/run.json")).read_text())
    last = run["history"][-1]
    assert last["step"] == 12
    assert last["validation_accuracy"] == run["validation_accuracy"]
    assert {"loss", "rate", "sign_flips", "empty_layers", "seconds"} <= set(last)
    assert set(run["layer_densities"]) >= {"conv1.weight", "fc.weight"}


def test_what_is_done_is_not_done_again(finished, monkeypatch):
    folder, rows = finished
    before = states(folder)
    monkeypatch.setattr(study, "execute", lambda *_: pytest.fail("a finished run was run again"))
    assert study.run(tiny(), folder, progress=False) == rows
    assert states(folder) == before


def test_two_workers_write_the_same_results_as_one(finished, tmp_path):
    folder, rows = finished
    assert without_seconds(study.run(tiny(), tmp_path, workers=2, progress=False)) == without_seconds(rows)
    assert states(tmp_path) == states(folder)


def test_more_seeds_rounds_and_techniques_extend_a_folder(finished, tmp_path):
    _, rows = finished
    study.run(tiny(seeds=1, rounds=(1,), techniques=("fine_tuning",)), tmp_path, progress=False)
    study.run(tiny(seeds=2, rounds=(3,), techniques=("lr_rewinding", "weight_rewinding")), tmp_path, progress=False)
    extended = study.run(tiny(seeds=1), tmp_path, progress=False)
    extended = study.run(tiny(seeds=2), tmp_path, progress=False)
    assert without_seconds(extended) == without_seconds(rows)


def test_a_narrower_study_keeps_the_rows_of_the_folder(finished):
    folder, rows = finished
    assert study.run(tiny(seeds=1, rounds=(1,)), folder, progress=False) == rows


@pytest.mark.parametrize(("other", "said"), [
    ({"recipe": dataclasses.replace(RECIPE, rate=0.05)}, "recipe"),
    ({"data": tiny_data(seed=1)}, "data"),
])
def test_a_folder_of_other_settings_is_refused_and_left_alone(finished, other, said):
    folder, _ = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(Error, match=f"other settings: {said}"):
        study.run(tiny(**other), folder, progress=False)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_every_pruning_method_runs_the_papers_algorithm(tmp_path):
    small = {"seeds": 1, "rounds": (2,), "protocols": ("paper_algorithm",)}
    study.run(tiny(**small), tmp_path, progress=False)
    rows = study.run(tiny(**small, pruning=("layerwise_magnitude",)), tmp_path, progress=False)
    assert [row.pruning for row in rows] == ["global_magnitude"] * 2 + ["layerwise_magnitude"] * 2


def test_a_refusal_names_the_setting_that_differs(finished):
    folder, _ = finished
    other = tiny(recipe=dataclasses.replace(RECIPE, weight_decay=0.001))
    with pytest.raises(Error, match=r"recipe\.weight_decay is 0\.0002 there, 0\.001 here"):
        study.run(other, folder, progress=False)


def test_pruning_to_a_target_in_a_folder_equals_the_library_call_and_continues(tmp_path):
    wanted = tiny(seeds=(3,))
    model = study.Bench(study.job_of(wanted, tmp_path / "any", "cpu")).model.initialise(3)
    expected, _ = retrain.prune_to_target(model, DATA, RECIPE, seed=3, density=0.6)
    told = []
    study.prune_to_target(wanted, tmp_path, density=0.7, progress=False)
    state, result = study.prune_to_target(wanted, tmp_path, density=0.6, progress=False,
                                          on_round=lambda summary, inside: told.append(inside))
    assert np.array_equal(state.weights, expected.weights)
    assert np.array_equal(files.read_state(tmp_path / "state.npz")[0].weights, expected.weights)
    assert told == [True, True, True]
    assert result["density"] == pytest.approx(0.6, abs=0.01)


def test_own_data_is_loaded_once_whatever_object_holds_it():
    first, again = (study.bench(study.job_of(tiny(data=tiny_data()), "anywhere", "cpu")) for _ in range(2))
    assert first is again


# --- Nothing is lost -------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import test_study
from minirewind import study

if __name__ == "__main__":
    study.run(test_study.tiny(), {folder!r}, workers={workers}, progress=False)
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
    monkeypatch.setattr(study, "PARTIAL_EVERY", -1)
    monkeypatch.setattr(train.train, "__kwdefaults__", train.train.__kwdefaults__ | {"report_every": 2})
    monkeypatch.setattr(retrain.one_round, "__kwdefaults__", retrain.one_round.__kwdefaults__ | {"report_every": 2})
    small = tiny(seeds=1, rounds=(1,), protocols=("one_shot",))
    whole = tmp_path / "whole"
    study.run(small, whole, progress=False)

    original, interrupts = study.Store.save_partial, []

    def interrupted(self, *arguments):
        original(self, *arguments)
        interrupts.append(arguments[0].name)
        raise KeyboardInterrupt

    monkeypatch.setattr(study.Store, "save_partial", interrupted)
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
    assert without_seconds(study.run(small, tmp_path, progress=False)) == without_seconds(rows)
    assert not list(tmp_path.glob("runs/.writing-*"))


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


def test_a_run_that_diverges_stops_the_study_with_its_step_and_keeps_what_is_done(tmp_path):
    wild = tiny(recipe=train.Recipe(steps=12, batch_size=8, rate=1e30), seeds=1)
    with pytest.raises(Error, match="stopped at step"):
        study.run(wild, tmp_path, progress=False)
    assert [path.name[:13] for path in tmp_path.glob("runs/*")] == ["seed0-dense-0"]
