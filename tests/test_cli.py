"""Facts about the command line."""

import functools
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from minirewind import about, cli, figures, files, study

QUICK = ["--recipe.steps", "20", "--seeds", "1", "--rounds", "1", "3", "--workers", "1", "--measure", "false"]


@pytest.fixture(autouse=True)
def one_chart(monkeypatch):
    """Of the charts only the first is drawn, and into files alone: the others are tests/test_figures.py's subject."""
    charts = figures.charts
    monkeypatch.setattr(figures, "charts", lambda *rows: charts(*rows)[:1])
    monkeypatch.setattr(figures, "panel_svg", lambda panel, salt: f'<svg role="img" aria-label="{salt}"></svg>')


def run(*arguments):
    """The exit code of a command."""
    try:
        cli.main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code
    return 0


def test_compare_prints_the_table_and_leaves_results_and_figures(tmp_path, capsys):
    assert run("compare", "--out", tmp_path, *QUICK) == 0
    out = capsys.readouterr().out
    assert "fine-tuning" in out
    assert "learning-rate rewinding" in out
    assert len(study.read_results(tmp_path / "results.csv")) == 3 * 2 + 3
    for name in ("comparison.png", "comparison.svg"):
        assert (tmp_path / name).stat().st_size > 10_000
    assert str(tmp_path / "report.html") in out
    assert "--dataset digits" in (tmp_path / "report.html").read_text()
    assert '"rows": 9' in (tmp_path / "about.json").read_text()


def test_report_draws_the_same_figure_again(tmp_path, capsys):
    run("compare", "--out", tmp_path, *QUICK)
    before = (tmp_path / "comparison.svg").read_bytes()
    (tmp_path / "comparison.svg").unlink()
    assert run("report", tmp_path) == 0
    assert (tmp_path / "comparison.svg").read_bytes() == before


def test_a_toml_file_says_the_same_as_options_and_options_win(tmp_path, capsys):
    (tmp_path / "study.toml").write_text('seeds = 2\nrounds = [1]\nprotocols = ["one_shot"]\n[recipe]\nsteps = 20\n')
    assert run("compare", tmp_path / "study.toml", "--seeds", 1, "--out", tmp_path / "out") == 0
    rows = study.read_results(tmp_path / "out" / "results.csv")
    assert {(row.seed, row.protocol) for row in rows} == {(0, "one_shot")}


@pytest.mark.parametrize(("content", "said"), [
    ("round = [3]", "unknown setting 'round': did you mean 'rounds'?"),
    ("rounds = [3", "is no TOML"),
    ("rounds = 3.5", "rounds are (3.5,); expected whole numbers"),
    ('seeds = "three"', "seeds is ('three',)"),
    ("network = 20", "network is 20; expected a text"),
    ('noise = "yes"', "noise is 'yes'; expected true or false"),
    ('recipe = "short"', "recipe is 'short'; expected a table"),
    ("[recipe]\nstep = 5", "unknown setting of recipe 'step': did you mean 'steps'?"),
    ("[recipe]\nsteps = 5.5", "recipe.steps is 5.5; expected a whole number"),
    ("[recipe]\nnesterov = 1", "recipe.nesterov is 1; expected true or false"),
    ('[recipe]\nschedule = "cosin"', "cosine"),
    ('techniques = ["lr_rewind"]', "lr_rewinding"),
    ("workers = 2", "unknown setting 'workers'"),
])
def test_a_mistake_in_a_study_file_names_the_file_and_the_setting(content, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(content)
    assert run("compare", "mine.toml") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("minirewind: mine.toml")
    assert said in captured.err
    assert len(captured.err.splitlines()) <= 3
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_a_mistake_in_the_options_is_not_laid_at_the_study_files_door(tmp_path, capsys):
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbfrounds = [3]\n")          # as Windows writes it
    assert run("compare", tmp_path / "mine.toml", "--rounds", 0) == 2
    assert f"{tmp_path / 'mine.toml'} with the options given: rounds are (0,)" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compare", "prune --density 0.5"])
def test_a_folder_that_is_refused_is_left_as_it_was(command, tmp_path, capsys):
    (tmp_path / "study.json").write_text("[1")
    assert run(*command.split(), "--recipe.steps", 20, "--workers" if command == "compare" else "--seed", 1,
               "--out", tmp_path) == 2
    assert "study.json cannot be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_who_stops_a_study_has_still_noted_where_it_ran(tmp_path, monkeypatch):
    def stopped(*_, on_rows, **__):
        for count in (1, 2, 5):
            on_rows([SimpleNamespace(seed=0, protocol="iterative")] * count)
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run", stopped)
    monkeypatch.setattr(study, "one_shot_runs", lambda wanted: 0)
    for _ in range(2):
        assert run("compare", "--out", tmp_path, "--recipe.steps", 20, "--protocols", "paper_algorithm") == 130
    [entry] = about.read(tmp_path)
    assert (entry["rows"], entry["train_images"]) == (5, 1000)
    about.note(tmp_path, 6, device="gpu")
    assert [entry["rows"] for entry in about.read(tmp_path)] == [5, 6]


def test_where_no_run_is_finished_that_is_said(tmp_path, capsys):
    assert run("compare", "--out", tmp_path, *QUICK, "--only", "seed0-dense-0") == 0
    assert "No pruned run is finished yet." in capsys.readouterr().out


def test_a_dry_run_says_what_would_be_run_and_writes_nothing(tmp_path, capsys):
    assert run("compare", "--out", tmp_path / "out", "--dry-run", *QUICK) == 0
    out = capsys.readouterr().out
    assert "9 results, from 9 pruned runs and 3 parts of 1 dense networks" in out
    assert "0 of 12 runs are finished; 12 are to be run" in out
    assert "That will take about" in out
    assert not list(tmp_path.iterdir())


def test_a_failed_run_gives_exit_code_1_after_the_table(tmp_path, capsys, monkeypatch):
    (tmp_path / "own_broken.py").write_text("def own(trained, early, mask, schedule):\n    raise ValueError('no')\n")
    monkeypatch.chdir(tmp_path)
    command = ["compare", "--out", "out", *QUICK, "--protocols", "one_shot", "--techniques", "lr_rewinding"]
    assert run(*command, "own_broken:own") == 1
    captured = capsys.readouterr()
    assert "learning-rate rewinding" in captured.out
    assert "seed0-own-t18-one_shot-1.25x and 1 more: ValueError: no" in captured.err


def test_prune_ends_at_the_density_and_saves_the_network(tmp_path, capsys):
    assert run("prune", "--density", 0.5, "--recipe.steps", 20, "--out", tmp_path) == 0
    state, _ = files.read_state(tmp_path / "state.npz")
    assert "50.00%" in capsys.readouterr().out
    assert (state.weights[~state.mask] == 0).all()
    before = (tmp_path / "state.npz").read_bytes()
    assert run("prune", "--density", 0.5, "--recipe.steps", 20, "--out", tmp_path) == 0      # all of it is there
    assert (tmp_path / "state.npz").read_bytes() == before


@pytest.mark.parametrize(("command", "said"), [
    ("compare --sed 3", "--seeds"),
    ("compare --seeds three", "seeds"),
    ("compare --seeds 0", "seeds"),
    ("compare --dataset digit", "digits"),
    ("compare --network resnet21", "20 and 26"),
    ("compare --network resent20", "resnet20"),
    ("compare --network nowhere:network", "nowhere"),
    ("compare --techniques lr_rewind", "lr_rewinding"),
    ("compare --retrain-fractions 1.5", "before its start"),
    ("compare --densities 0", "(0, 1]"),
    ("compare --recipe.steps 0", "steps"),
    ("compare --recipe.schedule cosin", "cosine"),
    ("compare --recipe.momentum 2", "momentum"),
    ("compare --protocols iterative --techniques reinitialize", "one-shot only"),
    ("compare --network numpy:sum", "cannot be called"),
    ("compare --workers 0", "workers"),
    ("compare --workers -3 --dry-run", "workers"),
    ("compare --rounds 5000", "from 1 to 100"),
    ("learn hint", "learn hint needs the name of an exercise"),
    ("learn status 99", "unknown lesson"),
    ("compare --device tpu", "cpu"),
    ("compare --recipe.step 5", "--recipe.steps"),
    ("compare --recipe.nesterov maybe", "true or false"),
    ("compare --only seed9-*", "seed0-dense-0"),
    ("compare digits", "study file digits"),
    ("compare nowhere.toml", "nowhere.toml"),
    ("compare --dataset cifar10 --data-dir nowhere", "minirewind fetch cifar10"),
    ("prune", "density"),
    ("prune --density 1.5", "(0, 1]"),
    ("prune --max-drop -1", "max_drop"),
    ("report nowhere", "nowhere/results.csv cannot be read (No such file or directory); expected a folder"),
    ("fetch mnst", "mnist"),
    ("compute", "compare"),
    ("", "compare"),
])
def test_a_mistake_is_one_short_message_with_exit_code_2(command, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*command.split()) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("minirewind: ")
    assert said in captured.err
    assert len(captured.err.splitlines()) <= 3, captured.err
    assert not captured.out
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_message(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run("compare", "--out", tmp_path / "file", *QUICK) == 2
    assert "cannot write" in capsys.readouterr().err


def test_ctrl_c_leaves_a_usable_folder_and_the_same_command_continues(tmp_path):
    command = [sys.executable, "-m", "minirewind", "compare", "--out", str(tmp_path), "--recipe.steps", "60",
               "--seeds", "1", "--rounds", "1", "2", "3", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)     # a job in the background ignores it
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, preexec_fn=heard)
    until = time.monotonic() + 240                  # kernels may have to be compiled first
    while len(list(tmp_path.glob("runs/seed*"))) < 5 and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)           # as a terminal sends it: to the workers too
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "continues it" in err
    assert "Traceback" not in err
    done = {path.name for path in tmp_path.glob("runs/seed*")}
    assert 5 <= len(done) < 16

    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert "fine-tuning" in finished.stdout
    assert done < {path.name for path in tmp_path.glob("runs/seed*")}


def test_the_help_names_every_verb(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in ("compare", "prune", "report", "fetch"))
