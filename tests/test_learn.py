"""Facts about the machinery of the lessons."""

import ast
import inspect
import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from minirewind import data, errors, functional, kernels, learn, models, optim, study, tensor, train
from minirewind.tensor import Tensor

LESSONS = Path(__file__).parents[1] / "lessons"

CHECKS = '''
import numpy as np
from minirewind import optim, tensor
from minirewind.kernels import backend
from minirewind.learn import Exercise

decayed = Exercise("optim.decayed", hints=("why?", "an idea", "decayed = ..."), seconds=1)

@decayed.check
def test_decay_adds_to_the_gradient():
    assert np.allclose(optim.decayed(np.ones(2), np.ones(2), 0.5), 1.5), "decay pulls weights towards zero"

@decayed.check
def test_no_decay_changes_nothing():
    assert np.allclose(optim.decayed(np.ones(2), np.ones(2), 0.0), 1.0), "without decay nothing changes"

relu = Exercise("kernels.cpu.relu", hints=("a", "b", "c"), numba={})

@relu.check
def test_relu():
    assert backend("cpu").relu(np.array([[-1.0, 2.0]], np.float32)).tolist() == [[0, 2]], "negative becomes 0"

backward = Exercise("tensor.Mul.backward", hints=("a", "b", "c"))

@backward.check
def test_mul():
    x = tensor.Tensor([3.0], requires_grad=True)
    (x * 2.0).backward()
    assert x.grad == 2, "the other factor"
'''

DECAYED = """
def decayed(gradients, weights, weight_decay):
    return gradients + weight_decay * weights
"""


@pytest.fixture
def course(tmp_path):
    """A course of one lesson, and an empty work folder; what it installs is taken back."""
    (tmp_path / "lessons" / "05_sgd").mkdir(parents=True)
    (tmp_path / "lessons" / "05_sgd" / "checks.py").write_text(CHECKS)
    yield learn.Course(tmp_path / "lessons")
    for target in list(learn.mine):
        learn.take_back(target)


def answer(course, target, source):
    """What a learner is told who writes this."""
    return course.attempt(course.find(target), textwrap.dedent(source).lstrip())


def test_a_stub_is_to_do_and_the_frameworks_own_runs(course, capsys):
    own = optim.decayed

    @course.implement("optim.decayed")
    def decayed(gradients, weights, weight_decay):
        """A docstring is not an answer."""
        raise NotImplementedError       # one line

    assert "to do" in capsys.readouterr().out
    assert decayed is own
    assert optim.decayed is own
    assert not course.work.exists()


def test_an_answer_that_passes_runs_at_once_and_is_kept(course, capsys):
    @course.implement("optim.decayed")
    def decayed(gradients, weights, weight_decay):
        return weight_decay * weights + gradients

    assert "all 2 checks pass" in capsys.readouterr().out
    assert optim.decayed is decayed
    assert (course.work / "optim.decayed.py").read_text().startswith("def decayed(gradients, weights, weight_decay):\n")


def test_an_answer_that_fails_says_why_and_does_not_run(course):
    own = optim.decayed
    said = answer(course, "optim.decayed", "def decayed(gradients, weights, weight_decay):\n    return gradients\n")
    assert said.startswith("optim.decayed: not yet, 1 of 2 checks pass.\n    decay pulls weights towards zero\n")
    assert optim.decayed is own
    assert course.states()[0]["state"] == "not yet"


def test_a_failing_change_leaves_the_passing_answer_running(course):
    answer(course, "optim.decayed", DECAYED)
    running = optim.decayed
    said = answer(course, "optim.decayed", "def decayed(gradients, weights, weight_decay):\n    return weights\n")
    assert "What you wrote before runs on" in said
    assert optim.decayed is running
    assert course.states()[0]["state"] == "solved"


@pytest.mark.parametrize(("body", "said"), [
    ("while True:\n        weights = 1", "without an end"),
    ("while True: pass", "line 2:  while True: pass"),
    ("x = 1\n    return helper(x)", "in your line 3:  return helper(x)"),
    ("return helper(weights)", "define inside it"),
    ("return gradients.shap", "no attribute 'shap'"),
    ("import os\n    os._exit(3)", "brought Python down"),
    ("return print('here', weight_decay)", "here 0.5"),
    ("assert weights is None", "in your line 2:  assert weights"),
    ("return input('a number: ')", "EOFError"),
])
def test_what_goes_wrong_is_a_message(course, body, said):
    assert said in answer(course, "optim.decayed", f"def decayed(gradients, weights, weight_decay):\n    {body}\n")
    assert "optim.decayed" not in learn.mine


@pytest.mark.parametrize("arguments", ["weights, gradients, weight_decay", "gradients, weights, weight_decay=0",
                                       "gradients, weights, *, weight_decay", "gradients, weights"])
def test_a_changed_signature_is_refused(course, arguments):
    said = answer(course, "optim.decayed", f"def decayed({arguments}):\n    return gradients\n")
    assert "it is decayed(gradients, weights, weight_decay)" in said
    assert f"yours is decayed({arguments})" in said
    assert "optim.decayed" not in learn.mine


def test_an_answer_sees_the_names_of_its_module_and_numpy(course):
    source = "def decayed(gradients, weights, weight_decay):\n    nn.pack, Error\n" \
             "    return np.add(gradients, math.fabs(weight_decay) * weights)\n"
    assert "all 2 checks pass" in answer(course, "optim.decayed", source)


def test_later_sessions_run_what_passed_and_not_what_was_changed_since(course):
    own = optim.decayed
    answer(course, "optim.decayed", DECAYED)
    learn.take_back("optim.decayed")
    later = learn.Course(course.lessons)
    later.load()
    assert "optim.decayed" in learn.mine
    assert optim.decayed is not own
    learn.take_back("optim.decayed")
    with open(course.work / "optim.decayed.py", "a") as file:
        file.write("    # changed\n")
    learn.Course(course.lessons).load()
    assert optim.decayed is own
    assert later.states()[0]["state"] == "not yet"
    later.check("optim.decayed")
    assert later.states()[0]["state"] == "solved"


def test_use_anyway_runs_an_answer_that_fails_for_this_session_only(course):
    own = optim.decayed
    with pytest.raises(errors.Error, match="write one first"):
        course.use_anyway("optim.decayed")
    answer(course, "optim.decayed", "def decayed(gradients, weights, weight_decay):\n    return 7\n")
    course.use_anyway("optim.decayed")
    assert optim.decayed(1, 1, 1) == 7
    course.reset_session()
    assert optim.decayed is own


def test_reset_forgets_the_answer(course, capsys):
    own = optim.decayed
    answer(course, "optim.decayed", DECAYED)
    course.reset("optim.decayed")
    assert optim.decayed is own
    assert course.states()[0] == {"lesson": "05_sgd", "target": "optim.decayed", "state": "to do", "hints": 0,
                                  "gave_up": False, "why": None}


def test_hints_come_one_by_one(course, capsys):
    for grade in ("why?", "an idea", "decayed = ...", "decayed = ..."):
        course.hint("optim.decayed")
        assert grade in capsys.readouterr().out
    assert course.states()[0]["hints"] == 3


def test_the_solution_shows_after_a_pass_or_an_explicit_give_up(course, capsys):
    with pytest.raises(errors.Error, match="give_up=True"):
        course.solution("optim.decayed")
    course.solution("optim.decayed", give_up=True)
    assert "return gradients + weight_decay * weights" in capsys.readouterr().out
    assert course.states()[0]["gave_up"]
    course.reset("optim.decayed")
    answer(course, "optim.decayed", DECAYED)
    capsys.readouterr()
    course.solution("optim.decayed")
    assert capsys.readouterr().out == inspect.getsource(learn.place("optim.decayed").framework)


def test_a_method_of_a_class_is_replaced(course):
    answer(course, "tensor.Mul.backward", "def backward(self, dz):\n    return self.y * dz, self.x * dz\n")
    assert "tensor.Mul.backward" in learn.mine
    assert tensor.Mul.backward.__qualname__ == "Mul.backward"
    assert tensor.Mul.backward is not learn.place("tensor.Mul.backward").framework


def test_a_static_method_stays_one():
    before = train.State.copy
    with learn.swapped("train.State.copy", lambda model: "mine"):
        assert train.State.copy(None) == "mine"
        assert train.State(0, 0, 0, 0, 0).copy(None) == "mine"
    assert train.State.copy is before


def test_a_kernel_is_compiled_and_runs_in_the_backend(course):
    numba = pytest.importorskip("numba")
    source = ("def relu(x):\n    z = np.zeros_like(x)\n    for i in range(x.shape[0]):\n"
              "        for j in range(x.shape[1]):\n            z[i, j] = max(x[i, j], 0)\n    return z\n")
    assert "all 1 checks pass" in answer(course, "kernels.cpu.relu", source)
    kernel = kernels.backend("cpu").relu
    assert isinstance(kernel, numba.core.dispatcher.Dispatcher)
    assert functional.relu(Tensor([[-1.0, 3.0]])).numpy().tolist() == [[0, 3]]
    assert kernel.nopython_signatures
    assert min(course.race("kernels.cpu.relu", np.ones((2, 2), np.float32), times=1).values()) > 0
    learn.take_back("kernels.cpu.relu")
    assert kernels.backend("cpu").relu is not kernel


def test_a_kernel_in_cuda_c_is_replaced_in_its_file():
    if shutil.which("g++") is None or not sys.platform.startswith("linux"):
        pytest.skip("the emulated device needs Linux and g++")
    device, x = kernels.backend("emulated"), np.array([[-2.0, 3.0]], np.float32)
    text = learn.place("kernels.gpu.normalisation.relu").framework()
    with learn.swapped("kernels.gpu.normalisation.relu", lambda: text.replace("< 0 ? 0", "< 0 ? 7")):
        assert device.relu(x).tolist() == [[7, 3]]
    assert device.relu(x).tolist() == [[0, 3]]
    with learn.swapped("kernels.gpu.normalisation.relu", lambda: text.replace("x[i] < 0", "x[i] <")), \
            pytest.raises(RuntimeError, match="your relu"):
        device.relu(x)
    with pytest.raises(errors.Error, match=r"no kernels\.gpu\.update\.sdg"):
        learn.place("kernels.gpu.update.sdg")


def test_a_kernel_that_only_python_runs_says_so(course):
    pytest.importorskip("numba")
    source = "def relu(x):\n    return np.array([[max(v, 0) for v in row] for row in x.tolist()], x.dtype)\n"
    assert "not once Numba has compiled it" in answer(course, "kernels.cpu.relu", source)


def test_for_a_measurement_only_the_framework_runs_and_then_the_answers_again(course):
    taps = learn.place("kernels.loops.add_taps").framework
    with learn.swapped("kernels.loops.add_taps", taps, "mine"), learn.swapped("optim.decayed", len, "mine too"):
        with course.only_framework():
            assert learn.mine == study.replaced == {}
            assert optim.decayed is learn.place("optim.decayed").framework
            assert learn.place("kernels.cpu.conv2d").function is learn.place("kernels.cpu.conv2d").framework
        assert learn.mine == {"kernels.loops.add_taps": "mine", "optim.decayed": "mine too"}
        assert optim.decayed is len
        assert learn.place("kernels.cpu.conv2d").function is kernels.cpu.plain.conv2d
    assert learn.mine == {}


def test_a_target_that_does_not_exist_is_a_message():
    for target in ("tensor.Mull.backward", "nowhere.at_all", "kernels.cpu.conv3d", "tensor"):
        with pytest.raises(errors.Error, match="minirewind has no"):
            learn.Place(target)


# ------------------------------------------------------------------------------------------------- the fused operations


@pytest.mark.parametrize("fused", learn.FUSED)
def test_every_part_of_a_fused_operation_brings_the_plain_twin_and_takes_it_away(fused):
    twin, parts = learn.FUSED[fused]
    own = learn.place(fused).function
    for part in parts:
        with learn.swapped(part, learn.place(part).framework):
            assert learn.place(fused).function is learn.place(twin).function
        assert learn.place(fused).function is own


def test_a_learners_own_fused_operation_stays():
    def step(self, rate):
        self.vectors.step += 1

    with learn.swapped("optim.SGD.step", step), learn.swapped("optim.decayed", optim.decayed):
        assert optim.SGD.step is step


def small_training(steps=3):
    digits = data.subset(data.load("digits"), train=64, validation=16, test=16)
    model = models.resnet(8, 2, input_shape=digits.input_shape, classes=10)
    model.initialise(0)
    for _ in train.train(model, digits, train.Recipe(steps, 16), seed=0):
        pass
    return model


@pytest.mark.parametrize("target", ["tensor.unbroadcast", "tensor.topological_order", "nn.Parameter.accumulate",
                                    "optim.masked_step", "functional.update_running", "functional.LogSoftmax.backward",
                                    "functional.ReLU.backward", "data.take", "kernels.loops.add_taps"])
def test_a_training_run_really_calls_the_swapped_function(target):
    calls, framework = [], learn.place(target).framework

    def counting(*arguments, **settings):
        calls.append(1)
        return framework(*arguments, **settings)

    with learn.swapped(target, counting):
        small_training()
    assert calls
    count = len(calls)
    small_training()
    assert len(calls) == count


def test_the_twins_train_to_the_same_numbers():
    plain = models.nn.pack(small_training()).weights.copy()
    with learn.swapped("optim.decayed", optim.decayed), learn.swapped("functional.LogSoftmax.backward",
                                                                     functional.LogSoftmax.backward):
        assert np.allclose(models.nn.pack(small_training()).weights, plain, atol=1e-4)


# -------------------------------------------------------------------------------------------------------------- studies


def test_runs_with_a_learners_function_have_names_of_their_own(tmp_path):
    digits = data.subset(data.load("digits"), train=64, validation=16, test=16)
    small = study.Study("lenet_300_100", digits, train.Recipe(4, 16), protocols=("one_shot",), rounds=(1,), seeds=1)
    rows = study.run(small, tmp_path, progress=False)
    names = {path.name for path in tmp_path.glob("runs/*")}

    with learn.swapped("optim.decayed", lambda gradients, weights, weight_decay: gradients, "mine"):
        own = study.run(small, tmp_path, progress=False)
        assert len({path.name for path in tmp_path.glob("runs/*")}) == 2 * len(names)
        with pytest.raises(errors.Error, match=r"optim\.decayed would not run"):
            study.run(small, tmp_path, workers=2, progress=False)
    assert len(own) == len(rows)

    assert study.run(small, tmp_path, progress=False) == rows
    assert study.replaced == {}


# ----------------------------------------------------------------------------------------------------- the command line


def test_the_command_shows_progress_and_takes_every_verb(course, monkeypatch, capsys):
    from minirewind import cli

    monkeypatch.setattr(learn, "exercise", course)
    answer(course, "optim.decayed", DECAYED)
    cli.main(["learn"])
    out = capsys.readouterr().out
    assert "✓ optim.decayed" in out
    assert "· tensor.Mul.backward" in out
    cli.main(["learn", "status", "--json"])
    assert [each["state"] for each in json.loads(capsys.readouterr().out)] == ["solved", "to do", "to do"]
    cli.main(["learn", "hint", "tensor.Mul.backward"])
    assert "hint 1 of 3" in capsys.readouterr().out
    cli.main(["learn", "status", "05"])
    assert "optim.decayed" in capsys.readouterr().out
    for command, said in ((["solution", "tensor.Mul.backward"], "not solved yet"), (["hint"], "needs the name"),
                          (["hint", "optim.decay"], "did you mean 'optim.decayed'"),
                          (["check", "kernels.cpu.relu"], "to do"), (["sing"], "sing")):
        with pytest.raises(SystemExit):
            cli.main(["learn", *command])
        assert said in capsys.readouterr().err
    cli.main(["learn", "solution", "tensor.Mul.backward", "--give-up"])
    assert "dz * self.y" in capsys.readouterr().out
    cli.main(["learn", "check", "optim.decayed"])
    assert "all 2 checks pass" in capsys.readouterr().out
    cli.main(["learn", "reset", "optim.decayed"])
    assert course.states()[0]["state"] == "to do"


def test_open_starts_jupyterlab_on_the_lesson(course, monkeypatch):
    started = []
    monkeypatch.setattr(learn.subprocess, "run", lambda command, **settings: started.append(command[-1]))
    (course.lessons / "05_sgd" / "lesson.ipynb").touch()
    monkeypatch.setattr(learn.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.Error, match=r"minirewind\[lessons\]"):
        course.open("5")
    monkeypatch.setattr(learn.importlib.util, "find_spec", lambda name: name)
    for name in ("5", "05", "05_sgd", None):
        course.open(name)
    assert started == [str(course.lessons / "05_sgd" / "lesson.ipynb")] * 4
    with pytest.raises(errors.Error, match="did you mean '05_sgd'"):
        course.open("05_sdg")


def test_without_lessons_the_command_says_where_they_are(tmp_path):
    done = subprocess.run([sys.executable, "-m", "minirewind", "learn"], capture_output=True, text=True,
                          env={"PATH": "", "MINIREWIND_LESSONS": str(tmp_path), "PYTHONPATH": str(LESSONS.parent)})
    assert done.returncode == 2
    assert "MINIREWIND_LESSONS" in done.stderr


def test_the_machinery_is_small():
    tree = ast.parse(Path(learn.__file__).read_text())
    lines = {node.lineno for node in ast.walk(tree) if hasattr(node, "lineno")}
    assert len(lines) < 560
