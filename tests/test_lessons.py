"""Facts about the course: the framework solves it, nothing else does, and every notebook runs."""

import ast
import asyncio
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import minirewind.pictures
from minirewind import learn
from minirewind.tensor import Tensor

ROOT = Path(minirewind.__file__).parents[1]
COURSE = learn.Course(ROOT / "lessons", ROOT / "no-work")
EXERCISES = list(COURSE.exercises.values())
NAMES = sorted(path.parent.name for path in COURSE.lessons.glob("*/lesson.py"))
# g++ takes a second for each kernel: of those in CUDA the first four are quick, CI runs all.
WRONG = [pytest.param(exercise, *wrong, id=f"{exercise.target}-{wrong[1]}",
                      marks=[pytest.mark.slow] * (number >= 4 and exercise.target.startswith("kernels.gpu.")))
         for exercise in EXERCISES for number, wrong in enumerate(exercise.wrong_answers)]

spec = importlib.util.spec_from_file_location("build", COURSE.lessons / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


def script(name):
    return (COURSE.lessons / name / "lesson.py").read_text()


def stub(exercise):
    """The source of an exercise's cell in its lesson, and how often the lesson has one."""
    found = [text for kind, text in build.cells(script(exercise.lesson))
             if kind == "code" and f'@exercise.implement("{exercise.target}")' in text]
    assert len(found) == 1, f"{exercise.target} has {len(found)} cells in {exercise.lesson}"
    definition = ast.parse(found[0]).body[0]
    definition.decorator_list = []
    return ast.unparse(definition)


def solved(text):
    """A cell or a whole lesson with the framework's source in the place of every stub."""
    def paste(match):
        return match.group(1) + learn.source_of(learn.place(match.group(2)).framework).rstrip()
    return re.sub(r'(@exercise\.implement\("([\w.]+)"\)\n)def .*?(?=\n\n\n|\Z|\n# %%)', paste, text, flags=re.DOTALL)


# ------------------------------------------------------------------------------------------------------- the exercises


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.target)
def test_the_frameworks_own_function_passes_every_check(exercise):
    assert learn.verdict(exercise, learn.place(exercise.target).framework).failed == ()
    assert learn.verdict(exercise, learn.build(learn.source_of(learn.place(exercise.target).framework),
                                               exercise.target)).failed == ()


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.target)
def test_the_stub_fails_every_check_and_has_the_frameworks_signature(exercise):
    source = stub(exercise)
    assert learn.is_stub(source)
    assert learn.signature_problem(source, exercise.target) == ""
    failed = learn.verdict(exercise, learn.build(source, exercise.target)).failed
    assert [name for name, _ in failed] == [check.__name__ for check in exercise.checks]


@pytest.mark.parametrize(("exercise", "source", "says"), WRONG)
def test_a_known_wrong_answer_is_caught_with_its_own_sentence(exercise, source, says):
    assert learn.signature_problem(source, exercise.target) == ""
    endless = "without an end" in says
    found = learn.judge(exercise, source) if endless else learn.verdict(exercise, learn.build(source, exercise.target))
    assert says in found.why


def test_a_check_that_explains_an_error_still_names_the_line_it_arose_in():
    source = "def views(vector, shapes):\n    return [vector[:shape[0]].reshape(shape) for shape in shapes]\n"
    found = learn.verdict(COURSE.exercises["nn.views"], learn.build(source, "nn.views"))
    assert "does not fit its shape" in found.why
    assert "in your line 2:  return [vector" in found.why


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.target)
def test_an_exercise_is_one_thought_with_three_hints_and_known_wrong_answers(exercise):
    source = textwrap.dedent(learn.source_of(learn.place(exercise.target).framework))
    body = ast.parse(source).body[0].body
    body = body[1:] if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else body
    lines = {node.lineno for part in body for node in ast.walk(part) if hasattr(node, "lineno")}
    assert 1 <= len(lines) <= 15
    assert len(exercise.hints) == 3
    assert len({hint.strip() for hint in exercise.hints}) == 3
    assert "?" in exercise.hints[0]
    assert len(exercise.wrong_answers) >= 2
    assert len({says for _, says in exercise.wrong_answers}) == len(exercise.wrong_answers)


def test_every_message_of_a_check_has_its_own_words():
    for path in COURSE.lessons.glob("*/checks.py"):
        names = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        tests = [name for name in names if name.startswith("test_")]
        assert len(tests) == len(set(tests)), path
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert) or node.msg is not None, f"{path}:{node.lineno} says nothing"


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.target)
def test_nothing_else_in_the_framework_holds_on_to_the_replaced_function(exercise):
    """A from-import, a default argument or a table would go on calling the framework's own."""
    place = learn.place(exercise.target)
    for name, module in list(sys.modules.items()):
        if name.startswith("minirewind") and name != "minirewind.learn":
            for key, value in vars(module).items():
                if value is place.framework:
                    assert module is place.owner, f"{name}.{key} is bound to {exercise.target}"
                assert not (isinstance(value, dict) and any(entry is place.framework for entry in value.values())
                            and not key.startswith("__")), f"the table {name}.{key} holds {exercise.target}"
                if inspect.isfunction(value):
                    defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
                    assert not any(default is place.framework for default in defaults), f"a default of {name}.{key}"


def test_the_drawing_of_a_walk_shows_what_has_arrived_and_what_waits():
    pytest.importorskip("matplotlib")
    x = Tensor(1.5, requires_grad=True)
    a = x * 2.0
    z = (a + 1.0) * (a * 3.0)

    def beside(upto):
        return [text.get_text() for text in minirewind.pictures.graph(z, upto, x=x, a=a).axes[0].texts]

    assert "9 so far" in beside(2)
    assert {"4.  a = 3\nMul", "9 + 12 = 21", "42 so far"} <= set(beside(4))
    assert "42" in beside(5)


# ------------------------------------------------------------------------------------------------------------- the text


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_notebook_is_what_the_script_makes(name):
    made = build.notebook(script(name))
    assert (COURSE.lessons / name / "lesson.ipynb").read_text() == made, "run: python lessons/build.py"
    assert made.count('"outputs": []') == made.count('"outputs"')


def test_a_cell_keeps_its_id_when_others_change():
    before = build.notebook("# %%\na = 1\n# %% [markdown]\n# text\n# %%\na = 1\n")
    after = build.notebook("# %% [markdown]\n# more\n# %%\na = 1\n# %% [markdown]\n# text\n# %%\na = 1\n")
    ids = [re.findall(r'"id": "(\w+)"', text) for text in (before, after)]
    assert len(set(ids[1])) == 5
    assert ids[1][0] == ids[0][0]           # the folded cell in front
    assert ids[1][2:] == ids[0][1:]


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_has_the_shape_of_a_lesson(name):
    cells = build.cells(script(name))
    top = cells[0][1]
    assert top.startswith(f"# {name.split('_')[0]} · ")
    for word in ("**Time**", "**You need**", "**Paper**", "**New words:**"):
        assert word in top, word
    assert f'exercise.begin("{name}")' in cells[1][1]
    text = "\n".join(text for kind, text in cells if kind == "markdown")
    assert "## What you built" in text
    assert "## A further question" in text
    assert "redict" in text
    assert "pictures." in script(name)
    here = [exercise for exercise in EXERCISES if exercise.lesson == name]
    assert 2 <= len(here) <= 5
    order = re.findall(r'exercise\.implement\("([\w.]+)"\)\ndef', script(name))
    assert order == [exercise.target for exercise in here], "the lesson and its checks.py have one order"


def test_no_lesson_uses_a_word_that_a_later_lesson_introduces():
    new = {}
    for name in NAMES:
        line = re.search(r"\*\*New words:\*\*((?: .*\n?)+)", build.cells(script(name))[0][1]).group(1)
        new[name] = [word.strip(" .\n`") for word in line.replace("\n", " ").split(",")]
    for i, name in enumerate(NAMES):
        texts = [text for kind, text in build.cells(script(name)) if kind == "markdown"]
        text = "\n".join(texts[:-1])            # the last cell looks ahead
        for later in NAMES[i + 1 :]:
            for word in new[later]:
                assert not re.search(rf"\b{re.escape(word)}s?\b", text, re.IGNORECASE), f"{name}: {word}, of {later}"


# -------------------------------------------------------------------------------------------------------- the notebooks


def environment(tmp_path):
    return os.environ | {"MINIREWIND_WORK": str(tmp_path / "work"), "MINIREWIND_SCALE": "smoke", "MPLBACKEND": "agg",
                         "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore::RuntimeWarning:matplotlib"}


def run_script(name, how, tmp_path):
    """Run a lesson as a plain script, the same cells in the same order; what it printed."""
    path = tmp_path / name / "lesson.py"
    path.parent.mkdir()
    path.write_text(solved(script(name)) if how == "solved" else script(name))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, encoding="utf-8", cwd=tmp_path,
                          env=os.environ | {"MPLBACKEND": "agg"})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


async def executed(client):
    """Execute the client's notebook, and ask its sockets every second whether they hold something.

    On a busy machine a kernel's reply was seen to lie in the client's socket while nobody was told: zmq tells of it
    once. nbclient found it when the cell's time was up, after a quarter of an hour. Asking tells again.
    """
    import zmq

    running = asyncio.ensure_future(client.async_execute())
    while not running.done():
        await asyncio.wait([running], timeout=1)
        if client.kc is not None and client.kc.channels_running:
            client.kc.shell_channel.socket.get(zmq.EVENTS)
            client.kc.iopub_channel.socket.get(zmq.EVENTS)
    await running


def run_notebook(name, how):
    """Run a lesson's notebook in a kernel; what it printed. It must have drawn something, too."""
    import nbclient
    import nbformat

    notebook = nbformat.read(COURSE.lessons / name / "lesson.ipynb", 4)
    nbformat.validate(notebook)
    if how == "solved":
        for cell in notebook.cells:
            cell.source = solved(cell.source)
    asyncio.run(executed(nbclient.NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": COURSE.lessons / name}})))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs)


NOTEBOOKS_NEED = ("nbclient", "nbformat", "ipykernel")


@pytest.mark.parametrize("name", NOTEBOOKS_NEED)
def test_the_lessons_run_here_as_notebooks(name):
    pytest.importorskip(name, reason="the lessons run as scripts here; as notebooks with pip install -e '.[lessons]'")


# The others are slow together; CI runs them all.
QUICK = [("00_how_this_works", "as shipped"), ("01_tensors", "as shipped"), ("01_tensors", "solved")]
RUNS = [pytest.param(name, how, marks=[] if (name, how) in QUICK else [pytest.mark.slow])
        for name in NAMES for how in ("as shipped", "solved")]


@pytest.mark.parametrize(("name", "how"), RUNS)
def test_a_lesson_runs_from_top_to_bottom(name, how, tmp_path, monkeypatch):
    """As a notebook, or where none can run as a script."""
    monkeypatch.setenv("MINIREWIND_LESSONS", str(COURSE.lessons))
    monkeypatch.setenv("MINIREWIND_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("MINIREWIND_SCALE", "smoke")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kernel = all(importlib.util.find_spec(needed) for needed in NOTEBOOKS_NEED)
    printed = run_notebook(name, how) if kernel else run_script(name, how, tmp_path)
    count = sum(exercise.lesson == name for exercise in EXERCISES)
    assert printed.count("to do. The framework's own runs for now") == (count if how == "as shipped" else 0)
    assert printed.count("From now on the framework runs your code") == (count if how == "solved" else 0)


# ---------------------------------------------------------------------------------------------------- pytest on lessons


def run_pytest(*arguments, work):
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments], cwd=ROOT,
                          capture_output=True, text=True, env=os.environ | {"MINIREWIND_WORK": str(work)})


def test_pytest_on_a_lesson_judges_what_is_written_and_says_to_do_of_the_rest(tmp_path):
    (tmp_path / "attempts").mkdir()
    right = learn.source_of(learn.place("tensor.Mul.backward").framework)
    (tmp_path / "tensor.Mul.backward.py").write_text(right)
    (tmp_path / "attempts" / "tensor.Sum.backward.py").write_text("def backward(self, dz):\n    while True: pass\n")
    (tmp_path / "attempts" / "tensor.Permute.backward.py").write_text("def backward(self):\n    return 1\n")
    done = run_pytest("lessons/01_tensors", work=tmp_path)
    counts = [len(COURSE.exercises[target].checks) for target in ("tensor.Mul.backward", "tensor.Sum.backward",
                                                                  "tensor.Permute.backward", "tensor.unbroadcast")]
    assert f"{sum(counts[1:])} failed, {counts[0]} passed" in done.stdout
    assert "tensor.Sum.backward: still busy" in done.stdout
    assert "tensor.Permute.backward: the arguments must stay" in done.stdout
    assert done.stdout.count("tensor.unbroadcast: to do") >= counts[3]


def test_pytest_on_the_reference_is_green(tmp_path):
    done = run_pytest("lessons", "--impl", "reference", work=tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"{sum(len(exercise.checks) for exercise in EXERCISES)} passed" in done.stdout


def test_bare_pytest_does_not_touch_the_lessons():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["testpaths"] == ["tests"]
    assert not list((ROOT / "tests").rglob("checks.py"))
