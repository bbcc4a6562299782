"""Facts about the study files under benchmarks/studies."""

from pathlib import Path

import pytest

from minirewind import study

FILES = sorted((Path(__file__).parent.parent / "benchmarks" / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_file_is_a_study_and_says_on_top_what_it_is(path):
    assert path.read_text().startswith("# ")
    assert f"minirewind compare benchmarks/studies/{path.name}" in path.read_text()
    wanted = study.read(path)
    graph = study.Graph(wanted, wanted.recipe.steps if wanted.recipe else 468)
    assert len(graph.nodes()) >= len(wanted.seed_list) * 3


def test_the_default_comparison_is_the_study_file_of_the_digits():
    assert study.read(FILES[0].parent / "digits.toml") == study.made({})


def test_the_laptops_iterative_runs_rewind_to_seven_percent_only_and_the_one_shot_runs_to_the_start_too():
    graph = study.Graph(study.read(FILES[0].parent / "laptop.toml"), 1408)
    assert {node.step - node.retrain_steps for node in graph.cells(0, "one_shot")} == {99, 0}
    assert {node.step - node.retrain_steps for node in graph.cells(0, "iterative")} == {99}
    assert 1 / list(graph.cells(0, "iterative"))[-1].densities[-1] == pytest.approx(9.3, abs=0.02)


@pytest.mark.parametrize("network", ["resnet20", "resnet56"])
def test_the_papers_retraining_times_are_its_epochs(network):
    wanted = study.read(FILES[0].parent / f"{network}.toml")
    assert [round(182 * fraction) for fraction in wanted.retrain_fractions] == [30, 90, 150, 170, 182]
    assert wanted.recipe.steps == -(-182 * 45_000 // 128)
