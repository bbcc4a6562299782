"""Facts about studies: the settings, the graph, the rows."""

import concurrent.futures as futures
import contextlib
import csv
import dataclasses
import datetime
import json
import sys

import numpy as np
import pytest
from small_study import DATA, RECIPE, states, tiny, tiny_data, without_seconds

from minirewind import files, models, prune, retrain, study, train
from minirewind.errors import Error
from minirewind.study import Graph, Node, driver, store, work

# --- The graph -------------------------------------------------------------------------------------------------------

def test_every_node_comes_after_those_it_starts_from():
    graph = Graph(tiny(protocols=study.PROTOCOLS, techniques=study.TECHNIQUES, retrain_fractions=(0.25, 0.5, 1.0)), 12)
    nodes = graph.nodes()
    for i, node in enumerate(nodes):
        assert set(graph.before(node)) <= set(nodes[:i]), node.name


def test_the_dense_run_is_cut_at_every_rewind_point_and_at_its_start():
    graph = Graph(tiny(retrain_fractions=(0.25, 0.5)), 12)
    assert [node.step for node in graph.nodes() if node.seed == 0 and not node.technique] == [0, 6, 9, 12]


def test_a_retraining_time_has_one_step_at_least():
    assert Graph(tiny(retrain_fractions=(0.001,)), 12).times[0.001] == 1


def test_a_new_retraining_time_adds_dense_nodes_and_spoils_none(tmp_path):
    before = set(Graph(tiny(), 12).nodes())
    after = Graph(tiny(retrain_fractions=(0.5, 0.25)), 12).nodes()
    assert before < set(after)
    here = store.Store(tmp_path, {"network": "any"})
    assert here.path(Node(0, 12)) == store.Store(tmp_path, {"network": "any"}).path(Node(0, 12))


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


def test_iterative_runs_may_have_retraining_times_of_their_own():
    graph = Graph(tiny(protocols=("one_shot", "iterative"), techniques=("lr_rewinding",), rounds=(2,),
                       retrain_fractions=(0.5, 1.0), iterative_fractions=(0.25,)), 12)
    assert [node.retrain_steps for node in graph.cells(0, "one_shot")] == [6, 12]
    assert [node.retrain_steps for node in graph.cells(0, "iterative")] == [3, 3]
    assert graph.cuts == [0, 6, 9, 12]


def test_noise_makes_one_run_of_each_seed_again_on_other_batches():
    graph = Graph(tiny(retrain_fractions=(0.25, 0.5), noise=True), 12)
    again = [node for node in graph.nodes() if node.stream]
    assert again == [Node(seed, 12, "lr_rewinding", "global_magnitude", 6, (0.8**3,), stream=1) for seed in (0, 1)]
    assert {dataclasses.replace(node, stream=0) for node in again} < set(graph.nodes())


def test_a_pattern_picks_runs_and_what_they_need():
    names = [node.name for node in Graph(tiny(), 12).only("seed1-*round2*")]
    assert names == ["seed1-dense-0", "seed1-dense-6", "seed1-dense-12", "seed1-lr_rewinding-t12-one_shot-1.25x",
                     "seed1-lr_rewinding-t12-iterative-round2-1.56x"]
    with pytest.raises(Error, match="no run of this study is called 'seed7"):
        Graph(tiny(), 12).only("seed7-*")


def test_what_waits_for_a_failed_node_can_never_be_run():
    graph = Graph(tiny(seeds=1), 12)
    nodes = graph.nodes()
    lost = graph.waiting_for([Node(0, 12, "lr_rewinding", "global_magnitude", 12, (0.8,))], nodes)
    assert {len(node.densities) for node in lost} == {1, 2, 3}
    assert graph.waiting_for([nodes[0]], nodes) == set(nodes)


def test_the_queue_gives_every_node_once_after_those_it_needs_and_asks_once_what_they_are(monkeypatch):
    graph = Graph(tiny(seeds=50, protocols=study.PROTOCOLS), 12)
    nodes, asked, before = graph.nodes(), [], Graph.before
    monkeypatch.setattr(Graph, "before", lambda self, node: asked.append(node) or before(self, node))
    queue, running, taken = driver.Queue(graph, nodes), [], []
    while queue or running:
        while queue and len(running) < 7:
            running.append(queue.take())
            taken.append(running[-1])
        queue.done(running.pop(len(taken) % len(running)))             # in no particular order
    assert asked == nodes
    assert sorted(map(nodes.index, taken)) == list(range(len(nodes)))
    place = {node: i for i, node in enumerate(taken)}
    assert all(place[other] < place[node] for node in nodes for other in before(graph, node))


def test_runs_side_by_side_in_one_call_train_as_many_steps():
    graph = Graph(tiny(seeds=2), 12)
    queue = driver.Queue(graph, graph.nodes())
    groups = []
    while queue:
        groups.append(queue.take_group(3))
        assert len({graph.cost(node) for node in groups[-1]}) == 1
        for node in groups[-1]:
            queue.done(node)
    assert max(map(len, groups)) == 3
    assert sorted(node.name for group in groups for node in group) == sorted(node.name for node in graph.nodes())


def test_reinitialisation_is_one_shot_only():
    graph = Graph(tiny(protocols=("one_shot", "iterative"), techniques=("reinitialize",)), 12)
    assert {len(node.densities) for node in graph.nodes() if node.technique} == {1}


def test_the_names_of_runs_stay_what_they_are(tmp_path):
    here = store.Store(tmp_path, {"network": "resnet8-8"})
    names = [here.path(node).name for node in (
        Node(0, 45), Node(1, 450, "lr_rewinding", "global_magnitude", 405, (0.8**9,)),
        Node(0, 450, "fine_tuning", "random_mask", 450, (0.8, 0.8**2)))]
    assert names == ["seed0-dense-45-00c56811", "seed1-lr_rewinding-t405-one_shot-7.45x-90e12bbe",
                     "seed0-fine_tuning-t450-iterative-round2-random_mask-1.56x-c435cfa7"]


def test_a_number_is_the_same_setting_however_it_is_written(tmp_path):
    whole = Graph(tiny(densities=(1,), retrain_fractions=(1,), protocols=("one_shot",)), 12)
    written = Graph(tiny(densities=(1.0,), retrain_fractions=(1.0,), protocols=("one_shot",)), 12)
    here = store.Store(tmp_path, {})
    assert [here.path(node) for node in whole.nodes()] == [here.path(node) for node in written.nodes()]
    assert repr(train.Recipe(12, 8, rate=1, momentum=0)) == repr(train.Recipe(12, 8, rate=1.0, momentum=0.0))


def test_a_density_that_is_a_rounds_is_not_run_beside_it():
    graph = Graph(tiny(rounds=(2, 3), densities=(0.64, 0.5), protocols=("one_shot",)), 12)
    assert graph.targets("one_shot") == [(0.8**2,), (0.8**3,), (0.5,)]


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
    ({"iterative_fractions": (0.0,)}, "above 0"),
    ({"noise": True, "protocols": ("paper_algorithm",)}, "noise repeats one-shot runs"),
    ({"seeds": True}, "seeds"),
    ({"seeds": 20261125}, "seeds = [20261125] is that one seed"),
    ({"rounds": (5000,)}, "from 1 to 100"),
    ({"rounds": [[3, 6]]}, "expected whole numbers"),
    ({"rounds": None}, "expected whole numbers"),
    ({"retrain_fractions": datetime.date(2026, 11, 25)}, "expected numbers"),
])
def test_a_study_that_cannot_be_run_is_refused_when_it_is_made(changes, said):
    with pytest.raises(Error) as refused:
        tiny(**changes)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


# --- Methods of one's own ---------------------------------------------------------------------------------------------

OWN = """
def gentle(trained, early, mask, schedule, *, recipe, tenth=10):
    return trained.masked(mask, early.step), lambda step: recipe.rate / tenth, trained.step

def lowest(weights, mask, keep, *, layers):
    assert len(layers) > 5
    return mask & (mask.cumsum() <= keep)

def two(weights, mask): ...

def demanding(trained, early, mask, schedule, *, moon): ...
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_methods.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_methods", None)


def test_a_technique_and_a_pruning_method_of_ones_own_are_given_what_they_ask_for(own, tmp_path):
    wanted = tiny(seeds=1, rounds=(2,), protocols=("one_shot",), techniques=("fine_tuning", "own_methods:gentle"),
                  pruning=("own_methods:lowest",))
    rows = study.run(wanted, tmp_path / "out", progress=False)
    assert [(row.technique, row.pruning) for row in rows] == [
        ("fine_tuning", "own_methods:lowest"), ("own_methods:gentle", "own_methods:lowest")]
    run = json.loads(next((tmp_path / "out").glob("runs/seed0-gentle-t6-one_shot-lowest-1.56x-*/run.json")).read_text())
    assert run["history"][-1]["rate"] == 0.01
    state = files.read_state(next((tmp_path / "out").glob("runs/seed0-gentle-*/state.npz")))[0]
    assert state.mask[0]
    assert not state.mask[:-3].all()


@pytest.mark.parametrize(("changes", "said"), [
    ({"techniques": ("own_methods:missing",)}, "missing"),
    ({"techniques": ("own_methods:demanding",)}, "moon, which a study does not give"),
    ({"techniques": ("nowhere:gentle",)}, "nowhere"),
    ({"pruning": ("own_methods:two",)}, r"takes \(weights, mask\); expected \(weights, mask, keep\)"),
])
def test_a_method_that_cannot_be_called_is_refused_when_the_study_is_made(own, changes, said):
    with pytest.raises(Error, match=said):
        tiny(**changes)


def test_every_technique_and_pruning_method_of_the_framework_is_known():
    assert study.TECHNIQUES[:5] == (
        "fine_tuning", "weight_rewinding", "lr_rewinding", "weight_rewinding_low_lr", "reinitialize")
    assert study.PRUNING[:3] == ("global_magnitude", "layerwise_magnitude", "random_mask")


# --- Results ---------------------------------------------------------------------------------------------------------

def test_results_hold_one_row_for_every_pruned_run_in_grid_order(finished):
    folder, rows = finished
    with open(folder / "results.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        "network", "dataset", "protocol", "technique", "pruning", "seed", "round", "stream", "density", "compression",
        "retrain_fraction", "retrain_steps", "search_steps", "dense_accuracy", "validation_accuracy", "accuracy",
        "delta", "multiply_adds", "dense_multiply_adds", "seconds"]
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


def test_a_rows_multiply_adds_are_its_kept_weights_at_every_place_of_the_maps(finished):
    folder, rows = finished
    positions = {"conv1": 16, "layer1": 16, "layer2": 4, "layer3": 1, "fc": 1}      # of maps of 4x4, 2x2, 1x1
    sizes = {layer.name: layer.stop - layer.start for layer in prune.prunable_layers(models.resnet(
        8, 2, input_shape=(1, 4, 4), classes=3))}
    row = next(row for row in rows if row.technique == "fine_tuning" and row.seed == 1 and row.compression > 1.5)
    run = json.loads(next(folder.glob("runs/seed1-fine_tuning-t6-one_shot-1.95x-*/run.json")).read_text())
    assert row.dense_multiply_adds == sum(size * positions[name.split(".")[0]] for name, size in sizes.items())
    assert row.multiply_adds == pytest.approx(sum(
        run["layer_densities"][name] * size * positions[name.split(".")[0]] for name, size in sizes.items()))


def test_a_repeat_is_a_row_of_its_own_at_the_end(tmp_path):
    small = tiny(seeds=1, rounds=(1,), protocols=("one_shot",), noise=True)
    rows = study.run(small, tmp_path, progress=False)
    first, again = (row for row in rows if row.technique == "lr_rewinding")
    assert (first.stream, again.stream) == (0, 1)
    assert rows[-1] == again
    names = sorted(path.name for path in tmp_path.glob("runs/*lr_rewinding*"))
    assert "1.25x-stream1-" in names[1]
    one, other = (files.read_state(tmp_path / "runs" / name / "state.npz")[0] for name in names)
    assert np.array_equal(one.mask, other.mask)
    assert not np.array_equal(one.weights, other.weights)


def test_a_studys_run_equals_the_library_called_by_hand(finished, tmp_path):
    folder, _ = finished
    graph = Graph(tiny(), 12)
    bench = work.Bench(work.job_of(tiny(), folder, "cpu"))
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
    monkeypatch.setattr(work, "execute", lambda *_, **__: pytest.fail("a finished run was run again"))
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
    model = work.Bench(work.job_of(wanted, tmp_path / "any", "cpu")).model.initialise(3)
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
    first, again = (work.bench(work.job_of(tiny(data=tiny_data()), "anywhere", "cpu")) for _ in range(2))
    assert first is again


def test_a_crew_that_is_gone_ends_the_study_though_its_calls_never_end(tmp_path, monkeypatch):
    class Nobody(futures.Executor):
        def submit(self, fn, /, *args, **kwargs):
            return futures.Future()

    def sizes():
        yield 2
        raise Error("all gone")

    counted = sizes()
    monkeypatch.setattr(driver, "dask", lambda address: driver.Crew(Nobody, lambda: next(counted)))
    with pytest.raises(Error, match="all gone"):
        study.run(tiny(seeds=1), tmp_path / "out", dask="somewhere", progress=False)


# --- Files -----------------------------------------------------------------------------------------------------------

def test_a_state_comes_back_to_the_bit_and_a_changed_byte_is_noticed(tmp_path):
    random = np.random.default_rng(0)
    state = train.State(7, *random.standard_normal((2, 50)).astype(np.float32), random.random(50) < 0.5, np.ones(3))
    whole, path = files.state_bytes(state, accuracy=91.5), tmp_path / "state.npz"
    path.write_bytes(whole)
    back, more = files.read_state(path)
    assert files.state_bytes(back, **more) == whole
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(Error):
            back, more = files.read_state(path)     # a date, say, or the last entry, in the archive's directory
            assert files.state_bytes(back) == files.state_bytes(state), place
            assert more in ({}, {"accuracy": 91.5}), place
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Error, match=r"state.npz cannot be read .*; delete the folder it is in"):
        files.read_state(path)
