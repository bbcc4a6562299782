"""The machinery of the lessons: a learner's function, once its checks pass, runs in place of the framework's.

    from minirewind.learn import exercise

    @exercise.implement("prune.magnitude")
    def magnitude(weights, mask):
        raise NotImplementedError

An exercise is the name of something the framework has (a function, a method of a class, a kernel of a backend), a few
checks, three hints, and wrong answers that the checks are known to catch. It stands in lessons/NN_name/checks.py.
There is no second copy of any answer: the solution is the framework's own source.

What happens to a learner's function: its source is taken, `build` makes a function of it that sees the names of the
framework's module, `judge` runs the checks on it in another process, and `put` sets it in the framework's place. What
passed lies in the folder work/, so that later sessions and lessons run it too.
"""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import inspect
import io
import json
import linecache
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from . import kernels, study
from .errors import Error, choose

# A fused operation computes several steps at once, so none of these can be replaced inside it. When one of its parts
# is the learner's, it gives way to its plain twin, which calls them one by one.
#   the fused operation -> its twin, and the parts that the twin calls
FUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "functional.batch_norm": (
        "functional.batch_norm_steps",
        ("functional.batch_norm_steps", "functional.channel_moments", "functional.update_running")),
    "functional.batch_norm_add_relu": (
        "functional.batch_norm_add_relu_steps",
        ("functional.batch_norm_add_relu_steps", "functional.batch_norm_steps", "functional.channel_moments",
         "functional.update_running", "functional.relu", "functional.ReLU.forward", "functional.ReLU.backward")),
    "functional.cross_entropy": (
        "functional.cross_entropy_steps",
        ("functional.cross_entropy_steps", "functional.log_softmax", "functional.LogSoftmax.forward",
         "functional.LogSoftmax.backward")),
    "train.Evaluation.__call__": ("train.Evaluation.steps", ("train.Evaluation.steps", "train.evaluate_steps")),
    "optim.SGD.step": (
        "optim.SGD.step_steps",
        ("optim.SGD.step_steps", "optim.decayed", "optim.momentum_step", "optim.nesterov_step", "optim.masked_step")),
    "kernels.cpu.conv2d": ("kernels.cpu.plain.conv2d", ("kernels.loops.add_taps",)),
    "kernels.cpu.conv2d_input_gradient": ("kernels.cpu.plain.conv2d_input_gradient", ("kernels.loops.add_taps",)),
    "kernels.cpu.winograd.convolve": ("kernels.cpu.plain.winograd", ("kernels.loops.winograd_tile",)),
    "kernels.cpu.sparse_conv2d": ("kernels.cpu.plain.sparse_conv2d", ("kernels.loops.add_kept",)),
    "kernels.cpu.sparse_conv2d_input_gradient": (
        "kernels.cpu.plain.sparse_conv2d_input_gradient", ("kernels.loops.add_kept",)),
    # What the CPU has no kernels for, float64 before all, asks this module of the reference.
    "kernels.reference.convolution.conv2d": ("kernels.loops.conv2d_steps", ("kernels.loops.conv2d",)),
    "kernels.reference.convolution.conv2d_input_gradient": (
        "kernels.loops.conv2d_input_gradient", ("kernels.loops.conv2d_input_gradient",)),
    "kernels.reference.convolution.conv2d_weight_gradient": (
        "kernels.loops.conv2d_weight_gradient", ("kernels.loops.conv2d_weight_gradient",)),
}

SCALES = ("smoke", "laptop", "gpu")
ANSWER = "<your function>"          # the file name that the learner's lines have in a traceback


# ------------------------------------------------------------------------------------------------- exercises and checks


@dataclass(eq=False)
class Exercise:
    """One function to write, as a lesson's checks.py describes it.

    target      what it replaces: "tensor.unbroadcast", "tensor.Mul.backward", "kernels.cpu.conv2d"
    hints       three grades: a question, an idea, almost the code
    seconds     of computing, after which the checks count as endless
    numba       options of numba.njit for a kernel: checked as plain Python first, then compiled, then installed so
    """

    target: str
    hints: tuple[str, str, str]
    seconds: float = 3
    numba: dict | None = None
    checks: list[Callable[[], None]] = field(default_factory=list)
    wrong_answers: list[tuple[str, str]] = field(default_factory=list)
    lesson: str = ""

    def check(self, function: Callable[[], None]) -> Callable[[], None]:
        """Decorates a check: a function that asserts one property and whose message names the misconception."""
        function.exercise = self  # type: ignore[attr-defined]
        self.checks.append(function)
        return function

    def wrong(self, source: str, says: str) -> None:
        """A wrong answer, and words from the message that it is caught with."""
        self.wrong_answers.append((textwrap.dedent(source).strip() + "\n", says))


@dataclass(frozen=True)
class Verdict:
    """What the checks say of an answer: how many passed, and of each that did not its name and why."""

    passed: int
    of: int
    failed: tuple[tuple[str, str], ...] = ()
    printed: str = ""

    @property
    def why(self) -> str:
        return self.failed[0][1] if self.failed else ""


# ----------------------------------------------------------------------------------------------------------- the places


class Place:
    """Where a function of the framework lives: the attribute `name` of a module or a class, `owner`."""

    def __init__(self, target: str):
        first, *path = target.split(".")
        self.name = path.pop() if path else ""
        self.module: Any = None             # the module whose names the function sees; a kernel sees none
        try:
            if first == "kernels" and len(path) == 1 and Path(kernels.__file__).with_name(path[0]).is_dir():
                self.owner: Any = type(kernels.backend(path[0]))
            elif first == "kernels":
                kernels.backend("cpu")              # Numba is not imported before the process is prepared for it
                self.owner = self.module = importlib.import_module(".".join((kernels.__name__, *path)))
            else:
                self.owner = functools.reduce(getattr, path, importlib.import_module(f"minirewind.{first}"))
                self.module = sys.modules[getattr(self.owner, "__module__", self.owner.__name__)]
            self.own = inspect.getattr_static(self.owner, self.name)
        except (ImportError, AttributeError, IndexError):
            raise Error(f"minirewind has no {target}; an exercise replaces a function that exists") from None
        self.framework = getattr(self.own, "__func__", self.own)        # without the wrapping of a staticmethod

    @property
    def function(self) -> Any:
        """What runs there now."""
        now = inspect.getattr_static(self.owner, self.name)
        return getattr(now, "__func__", now)

    def put(self, function) -> None:
        """Set another function there; every caller that asks the module or the class gets it from now on."""
        wrapped = isinstance(self.own, (staticmethod, classmethod))
        setattr(self.owner, self.name, type(self.own)(function) if wrapped else function)

    def put_back(self) -> None:
        """Set the framework's own there again."""
        setattr(self.owner, self.name, self.own)


class CudaPlace(Place):
    """The kernel NAME of kernels/gpu/FILE.cu, `kernels.gpu.FILE.NAME`: what stands there is a function of no arguments
    that returns its source."""

    def __init__(self, target: str):
        from .kernels.gpu import card, emulator, host, sources

        self.name = target.split(".")[-1]
        self.module, self.owner = None, sources
        self.caches = (sources.text, host.Gpu.kernel, card.Card.compile, emulator.Emulated.compile)
        try:
            text = sources.kernel(sources.text(target.split(".")[2]), self.name)
        except (LookupError, OSError):
            raise Error(f"minirewind has no {target}; an exercise replaces a kernel that exists") from None
        source = f'def {self.name}():\n    return r"""\n{text}"""\n'
        self.own = self.framework = made_from(source, {}, source, f"<{target}>", self.name)

    @property
    def function(self) -> Any:
        return self.owner.replaced.get(self.name, self.framework)

    def put(self, function) -> None:
        self.owner.replaced[self.name] = function
        for cached in self.caches:
            cached.cache_clear()

    def put_back(self) -> None:
        if self.owner.replaced.pop(self.name, None):
            for cached in self.caches:
                cached.cache_clear()


@functools.cache
def place(target: str) -> Place:
    """Made once, before anything is replaced, so that it remembers the framework's own."""
    return (CudaPlace if target.startswith("kernels.gpu.") and target.count(".") == 3 else Place)(target)


mine: dict[str, str] = {}           # what runs instead of the framework's own now, by target: its source
given: set[str] = set()             # the fused operations in whose places their twins run now


def put(target: str, function, source: str) -> None:
    """From now on `function`, made from `source`, runs in the place of the framework's."""
    place(target).put(function)
    mine[target] = source
    settle()


def take_back(target: str) -> None:
    """The framework's own runs again."""
    place(target).put_back()
    mine.pop(target, None)
    settle()


def settle() -> None:
    """Give every fused operation to its twin, or back; tell the studies which functions are not the framework's."""
    for fused, (twin, parts) in FUSED.items():
        if fused not in mine:
            if any(part in mine for part in parts):
                place(fused).put(place(twin).function)
                given.add(fused)
            elif fused in given:
                place(fused).put_back()
                given.remove(fused)
    study.replaced.clear()
    study.replaced.update({target: digest(source) for target, source in sorted(mine.items())})


@contextlib.contextmanager
def swapped(target: str, function, source: str = "") -> Iterator[None]:
    """Inside, `function` runs in the place of the framework's."""
    function_before, source_before = place(target).function, mine.get(target)
    put(target, function, source)
    try:
        yield
    finally:
        take_back(target)
        if source_before is not None:
            put(target, function_before, source_before)


# ---------------------------------------------------------------------------------------------- from source to function


def source_of(function: Any) -> str:
    """The lines of a function at the left margin, without decorators and types: a notebook may not know those names."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    definition: Any = ast.parse(source).body[0]
    for argument in ast.walk(definition.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    body = source.splitlines()[definition.body[0].lineno - 1 : definition.end_lineno]
    if definition.body[0].lineno == definition.lineno:                  # all in one line
        body = [f"    {ast.unparse(definition.body)}"]
    return "\n".join([f"def {definition.name}({ast.unparse(definition.args)}):", *body]) + "\n"


def build(source: str, target: str) -> FunctionType:
    """A function from its source. It sees the names of the framework's module, and np and math besides.

    Not the names of the notebook: what is checked is what is saved, and what every later session runs.
    """
    module = place(target).module
    names = vars(module) if module else {"__name__": "minirewind.kernels"}
    numba = "" if module else "    import numba\n    from numba import prange\n"
    tree: Any = ast.parse("def make():\n    import math\n    import numpy as np\n" + numba)
    definition: Any = ast.parse(source).body[0]
    definition.decorator_list = []
    tree.body[0].body += [definition, ast.Return(ast.Name(definition.name, ast.Load()))]
    make = made_from(ast.fix_missing_locations(tree), names, source, ANSWER.replace("function", target), "make")
    function = make()
    function.__qualname__ = target.partition(".")[2]
    return function


def made_from(code, names: dict, source: str, filename: str, name: str) -> Any:
    """Run a program, and hand out what it calls `name`; tracebacks and `inspect` find the lines of `source`."""
    made: dict[str, Any] = {}
    exec(compile(code, filename, "exec"), names, made)
    linecache.cache[filename] = len(source), None, source.splitlines(keepends=True), filename
    return made[name]


def digest(source: str) -> str:
    """A short name of a source."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def is_stub(source: str) -> bool:
    """Nothing written yet: the body is a docstring, `pass`, `...` or `raise NotImplementedError`, and no more."""
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    return all(isinstance(line, ast.Pass)
               or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
               or (isinstance(line, ast.Raise) and line.exc is not None and "NotImplemented" in ast.unparse(line.exc))
               for line in function.body)


def signature_problem(source: str, target: str) -> str:
    """What the framework's callers would trip over, or nothing: the names, order and defaults of the arguments."""
    wanted, given = (inspect.signature(f) for f in (place(target).framework, build(source, target)))
    shape = [[(p.name, p.kind, p.default) for p in each.parameters.values()] for each in (wanted, given)]
    if shape[0] == shape[1]:
        return ""
    plain = [str(each.replace(return_annotation=each.empty, parameters=[
        p.replace(annotation=p.empty) for p in each.parameters.values()])) for each in (wanted, given)]
    return (f"the arguments must stay as they are, for the framework calls this function too.\n"
            f"it is {place(target).name}{plain[0]}\nyours is {place(target).name}{plain[1]}")


# ------------------------------------------------------------------------------------------------------------ the judge


def verdict(exercise: Exercise, function, began: Callable[[str, list], None] = lambda check, failed: None) -> Verdict:
    """Run the checks of an exercise, here and now, with `function` in the framework's place."""
    failed: list[tuple[str, str]] = []
    printed = ""                                # by the first check that fails: it is the one that will be told
    with swapped(exercise.target, function):
        for check in exercise.checks:
            began(check.__name__, failed)
            try:
                with contextlib.redirect_stdout(io.StringIO()) as output:
                    check()
            except Exception as reason:
                printed = printed if failed else output.getvalue()
                failed.append((check.__name__, explain(reason, exercise.target)))
    return Verdict(len(exercise.checks) - len(failed), len(exercise.checks), tuple(failed), printed.strip())


def explain(reason: Exception, target: str) -> str:
    """A check's own message; of any other exception what it says. Of both, in which of the learner's lines it arose."""
    own = ANSWER.replace("function", target)
    frames = traceback.extract_tb(reason.__traceback__)
    arose = traceback.extract_tb(reason.__cause__.__traceback__) if reason.__cause__ else frames
    line = next((f"\nin your line {f.lineno}:  {f.line}" for f in reversed(arose) if f.filename == own), "")
    if isinstance(reason, AssertionError) and frames[-1].filename != own:
        return (str(reason) or f"this does not hold: {frames[-1].line}") + line * bool(reason.__cause__)
    message = str(reason) if isinstance(reason, Error) else f"{type(reason).__name__}: {reason}"
    if isinstance(reason, NameError):
        module = place(target).module
        sees = f"the names of {module.__name__.replace('minirewind.', '')}.py, np and math" if module else "np and math"
        line += f"\nYour function sees {sees}; what else it needs, define inside it."
        line += " (What stands in that file is called without mr. in front.)" * (reason.name == "mr")
    if isinstance(reason, ValueError) and "truth value of an array" in message:
        line += ("\nA whole array is neither true nor false, so `if`, `not`, `and` cannot ask it. ~mask turns every "
                 "entry round, & and | join two masks, .any() and .all() make one answer of many.")
    return message + line


def judge(exercise: Exercise, source: str) -> Verdict:
    """Run the checks on an answer in another process, where it may crash or never end."""
    with tempfile.TemporaryDirectory(prefix="minirewind-") as folder:
        answer, result = Path(folder, "answer.py"), Path(folder, "verdict.json")
        answer.write_text(source, encoding="utf-8")
        checks = Path(inspect.getfile(exercise.checks[0])).resolve()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                                    "MPLBACKEND": "agg", "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-c", "from minirewind import learn; learn.judge_here()",
                   str(checks), exercise.target, str(answer), str(result)]
        try:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, encoding="utf-8", errors="replace", timeout=exercise.seconds + 300)
            said = json.loads(result.read_text(encoding="utf-8"))
        except subprocess.TimeoutExpired:
            return Verdict(0, len(exercise.checks), (("", "the checks did not come to an end"),))
        except (OSError, ValueError):
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            why = {-9: "still busy after 30 s of computing. Is there a loop without an end?",
                   -11: "your function brought Python down: it wrote to memory that is none of its arrays'"}.get(
                       done.returncode, f"your function brought Python down: {last}")
            return Verdict(0, len(exercise.checks), (("", why),))
    return Verdict(said["passed"], said["of"], tuple(map(tuple, said["failed"])), said["printed"])


def judge_here() -> None:
    """The other process of `judge`; its arguments: the checks.py, the target, the answer, where to put the verdict."""
    checks, target, answer, result = sys.argv[1:]
    if isinstance(place(target), CudaPlace):        # no thread of Python's can watch over it: the system does
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    exercise = next(e for e in read_exercises(Path(checks)) if e.target == target)
    function = build(Path(answer).read_text(encoding="utf-8"), target)
    current: dict[str, Any] = {"check": exercise.checks[0].__name__, "failed": []}
    main = threading.get_ident()

    def write(found: Verdict) -> None:
        Path(result).write_text(json.dumps(dataclasses.asdict(found)), encoding="utf-8")

    def watch(seconds: float, done: threading.Event) -> None:
        """Runs beside the checks, and when their time is up says where the learner's function is still busy."""
        until = time.process_time() + seconds           # of computing: a slow machine is no endless loop
        while not done.wait(0.2):
            if time.process_time() > until:
                frames = traceback.extract_stack(sys._current_frames()[main])
                line = next((f"\nIt is in your line {f.lineno}:  {f.line}" for f in reversed(frames)
                             if f.filename == ANSWER.replace("function", target)), "")
                names = [check.__name__ for check in exercise.checks]
                why = f"still busy after {seconds:g} s of computing. Is there a loop without an end?{line}"
                failed = [*current["failed"], *((name, why) for name in names[names.index(current["check"]) :])]
                write(Verdict(len(names) - len(failed), len(names), tuple(failed)))
                os._exit(0)

    def timed(function, seconds: float) -> Verdict:
        done = threading.Event()
        threading.Thread(target=watch, args=(seconds, done), daemon=True).start()
        try:
            return verdict(exercise, function, lambda check, failed: current.update(check=check, failed=failed))
        finally:
            done.set()

    found = timed(function, exercise.seconds)
    if exercise.numba is not None and not found.failed:
        found = timed(compiled(exercise, function), exercise.seconds + 100)
        found = dataclasses.replace(found, failed=tuple(
            (name, "right as plain Python, but not once Numba has compiled it. Numba takes loops, arithmetic, slices "
                   "and the simple part of NumPy (zeros, sum, max; not @).\n" + why.partition("\nDuring:")[0].rstrip())
            for name, why in found.failed))
    write(found)


def compiled(exercise: Exercise, function):
    """A kernel as it is installed: compiled by Numba, if the exercise says so."""
    if exercise.numba is None:
        return function
    import numba

    return numba.njit(**exercise.numba)(function)


def read_exercises(path: Path) -> list[Exercise]:
    """The exercises that a checks.py defines, in its order."""
    spec = importlib.util.spec_from_file_location(f"minirewind_lessons_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [value for value in vars(module).values() if isinstance(value, Exercise)]
    for each in found:
        each.lesson = path.parent.name
    return found


def wrapped(text: str) -> str:
    """A message as it is shown: moved in, its long lines broken."""
    return "\n".join(textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
                     if len(line) > 96 else f"    {line}" for line in text.splitlines())


# ----------------------------------------------------------------------------------------------------------- the course


class Course:
    """The exercises of a folder of lessons, and a learner's work on them.

    work/TARGET.py              an answer that passed its checks: it runs in every session
    work/attempts/TARGET.py     the latest one that did not
    work/progress.json          which sources passed, which hints were taken
    """

    def __init__(self, lessons: Path | None = None, work: Path | None = None):
        self._lessons, self._work = lessons, work

    @property
    def lessons(self) -> Path:
        """The folder lessons/: of the folder we are in or one above it, or of the checkout that minirewind is in."""
        if self._lessons is None:
            asked = os.environ.get("MINIREWIND_LESSONS")
            here = Path.cwd()
            near = [Path(asked)] if asked else [
                folder / "lessons" for folder in (here, *here.parents, Path(__file__).parents[1])]
            found = next((folder for folder in near if list(folder.glob("*/checks.py"))), None)
            if found is None:
                raise Error("there are no lessons here; they lie in the folder lessons/ of minirewind's repository.\n"
                            "Go there, or say where it is in the environment variable MINIREWIND_LESSONS")
            self._lessons = found.resolve()
        return self._lessons

    @property
    def work(self) -> Path:
        """The folder of the learner's answers: beside the lessons, or where MINIREWIND_WORK says."""
        if self._work is None:
            self._work = Path(os.environ.get("MINIREWIND_WORK") or self.lessons.parent / "work").resolve()
        return self._work

    @functools.cached_property
    def exercises(self) -> dict[str, Exercise]:
        """All exercises of the course by target, in the order of the lessons."""
        return {each.target: each for path in sorted(self.lessons.glob("*/checks.py")) for each in read_exercises(path)}

    def find(self, target: str) -> Exercise:
        return self.exercises[choose("exercise", target, self.exercises)]

    # --- in a notebook

    def begin(self, lesson: str) -> None:
        """The first line of a lesson: let all answers that have passed run, and say how far this lesson is."""
        self.load()
        states = [state["state"] for state in self.states() if state["lesson"] == lesson]
        print(f"Lesson {lesson.replace('_', ' ')}: {states.count('solved')} of {len(states)} exercises solved.")
        print(f"Your own code runs for: {', '.join(mine)}." if mine else "Every function is the framework's own.")

    def implement(self, target: str) -> Callable:
        """Decorates the answer to an exercise: checks it, and from the moment it passes the framework runs it."""
        exercise = self.find(target)

        def decorate(function):
            source = source_of(function)
            if is_stub(source):
                print(f"{target}: to do. {self.running(target)}")
                return place(target).function
            print(self.attempt(exercise, source))
            return place(target).function if mine.get(target) == source else build(source, target)

        return decorate

    def attempt(self, exercise: Exercise, source: str) -> str:
        """Judge an answer, keep it, install it if it passes; what to tell the learner."""
        target = exercise.target
        problem = signature_problem(source, target)
        found = Verdict(0, len(exercise.checks), (("", problem),)) if problem else judge(exercise, source)
        if found.failed:
            self.note(target, why=found.why)
            self.write(self.work / "attempts" / f"{target}.py", source)
            score = f", {found.passed} of {found.of} checks pass" if found.passed else ""
            printed = f"\nIt printed:\n{textwrap.indent(found.printed[-1000:], '    ')}" if found.printed else ""
            return f"{target}: not yet{score}.\n{wrapped(found.why)}{printed}\n{self.running(target)}"
        self.write(self.work / f"{target}.py", source)
        (self.work / "attempts" / f"{target}.py").unlink(missing_ok=True)
        self.note(target, passed=digest(source), why=None)
        put(target, compiled(exercise, build(source, target)), source)
        return f"{target}: all {found.of} checks pass. From now on the framework runs your code."

    def running(self, target: str) -> str:
        """Whose function runs for now."""
        if target in mine:
            return "What you wrote before runs on."
        return f'The framework\'s own runs for now.   Stuck? exercise.hint("{target}")'

    def use_anyway(self, target: str) -> None:
        """Let the latest answer run although it does not pass, in this session only. For the curious."""
        exercise, path = self.find(target), self.work / "attempts" / f"{target}.py"
        if not path.exists():
            raise Error(f"there is no answer to {target} that failed its checks; write one first")
        source = path.read_text(encoding="utf-8")
        if problem := signature_problem(source, target):
            raise Error(problem)
        put(target, compiled(exercise, build(source, target)), source)
        print(f"{target}: your unfinished code runs now, until the session ends or exercise.reset_session().")

    def reset_session(self) -> None:
        """Only what has passed runs again."""
        for target in list(mine):
            take_back(target)
        self.load()

    def load(self) -> None:
        """Install every saved answer that has passed as it stands; what was changed since waits for its checks."""
        for target, exercise in self.exercises.items():
            source = self.saved(target)
            if source is not None and mine.get(target) != source and not signature_problem(source, target):
                put(target, compiled(exercise, build(source, target)), source)

    def saved(self, target: str) -> str | None:
        """The saved answer, if its checks have passed."""
        path = self.work / f"{target}.py"
        source = path.read_text(encoding="utf-8") if path.exists() else None
        passed = self.progress().get(target, {}).get("passed")
        return source if source is not None and digest(source) == passed else None

    def latest(self, target: str) -> str | None:
        """What the learner last wrote, whether it passed or not."""
        for folder in (self.work / "attempts", self.work):
            if (folder / f"{target}.py").exists():
                return (folder / f"{target}.py").read_text(encoding="utf-8")
        return None

    def check(self, target: str) -> None:
        """Judge what lies in work/ for an exercise: for those who edit it there."""
        source = self.latest(target) if self.find(target) else None
        if source is None:
            raise Error(f"{target}: to do; there is no {self.work / target}.py and no attempt yet")
        print(self.attempt(self.find(target), source))

    def open(self, lesson: str | None = None) -> None:
        """Start JupyterLab on a lesson ("3", "03", "03_convolution"), by default on the first with work left."""
        names = sorted(path.parent.name for path in self.lessons.glob("*/lesson.ipynb"))
        left = [each["lesson"] for each in self.states() if each["state"] != "solved"]
        wanted = lesson or (left or names)[0]
        found = [name for name in names if name == wanted or name.split("_")[0] == wanted.zfill(2)]
        if not found:
            choose("lesson", wanted, names)
        if importlib.util.find_spec("jupyterlab") is None:
            raise Error("the notebooks need JupyterLab: pip install 'minirewind[lessons]'")
        subprocess.run([sys.executable, "-m", "jupyterlab", str(self.lessons / found[0] / "lesson.ipynb")], check=False)

    # --- help

    def hint(self, target: str) -> None:
        """The next hint: first a question, then an idea, then almost the code."""
        exercise = self.find(target)
        taken = min(self.progress().get(target, {}).get("hints", 0) + 1, len(exercise.hints))
        self.note(target, hints=taken)
        kind = ("a question", "an idea", "almost the code")[taken - 1]
        print(f"{target}, hint {taken} of {len(exercise.hints)}, {kind}:\n{textwrap.dedent(exercise.hints[taken - 1])}")

    def solution(self, target: str, give_up: bool = False) -> None:
        """The framework's own source: once your answer passes, or if you give up."""
        self.find(target)
        if self.saved(target) is None and not give_up:
            raise Error(f"{target} is not solved yet, and its solution would spoil it: try exercise.hint first.\n"
                        f"If you want to see it all the same: give_up=True")
        if self.saved(target) is None:
            self.note(target, gave_up=True)
        print(source_of(place(target).framework), end="")

    def reset(self, target: str) -> None:
        """Forget the answer to an exercise; the framework's own runs again."""
        self.find(target)
        for path in (self.work / f"{target}.py", self.work / "attempts" / f"{target}.py"):
            path.unlink(missing_ok=True)
        progress = self.progress()
        progress.pop(target, None)
        self.write(self.work / "progress.json", json.dumps(progress, indent=1) + "\n")
        take_back(target)
        print(f"{target}: forgotten. The framework's own runs.")

    def states(self) -> list[dict[str, Any]]:
        """One record for each exercise: lesson, target, state, hints taken, given up, and why it does not pass."""
        progress, records = self.progress(), []
        for target, exercise in self.exercises.items():
            known = progress.get(target, {})
            state = ("solved" if self.saved(target) is not None
                     else "to do" if self.latest(target) is None else "not yet")
            records.append({"lesson": exercise.lesson, "target": target, "state": state, "hints": known.get("hints", 0),
                            "gave_up": known.get("gave_up", False), "why": known.get("why")})
        return records

    def status(self, only: str = "") -> None:
        """The progress table; of one lesson, if its name or number is given."""
        lesson = ""
        for each in self.states():
            if not each["lesson"].startswith(only):
                continue
            if each["lesson"] != lesson:
                lesson = each["lesson"]
                print(lesson.replace("_", " "))
            mark = {"solved": "✓", "not yet": "~", "to do": "·"}[each["state"]]
            more = [f"{each['hints']} of 3 hints"] * bool(each["hints"]) + ["solution seen"] * each["gave_up"]
            print(f"  {mark} {each['target']:32} {each['state']:8} {', '.join(more)}".rstrip())
        if not lesson:
            choose("lesson", only, {each["lesson"] for each in self.states()})

    # --- small things for the lessons' cells

    @contextlib.contextmanager
    def only_framework(self) -> Iterator[None]:
        """Inside, nothing of the learner's runs: for measuring what the framework can do."""
        learners = {target: (place(target).function, source) for target, source in mine.items()}
        for target in learners:
            take_back(target)
        try:
            yield
        finally:
            for target, (function, source) in learners.items():
                put(target, function, source)

    def scale(self, **values):
        """The value for the scale of this session: smoke, laptop (the default) or gpu, as MINIREWIND_SCALE says."""
        scale = choose("scale", os.environ.get("MINIREWIND_SCALE", "laptop"), SCALES)
        return values.get(scale, values.get("laptop"))

    def reveal(self, prediction, answer) -> None:
        """Put a prediction beside what is true; it does not matter in which brackets several things stand."""
        several = (tuple, list, set)
        alike = isinstance(answer, several) and isinstance(prediction, several) and type(answer)(prediction) == answer
        if prediction is None or prediction is ...:
            print(f"It is {answer}. (You made no prediction; a wrong one teaches more than none.)")
        elif prediction == answer or alike:
            print(f"It is {answer}, as you said.")
        else:
            print(f"It is {answer}; you said {prediction}. Where is the difference from?")

    def race(self, target: str, *arguments, times: int = 5) -> dict[str, float]:
        """Milliseconds of one call: of what runs there now, and of the framework's own. The best of some."""
        best = {"yours": float("inf"), "framework": float("inf")}
        for _ in range(times + 1):                                  # once more, for what compiles at its first call
            for name, function in (("yours", place(target).function), ("framework", place(target).framework)):
                began = time.perf_counter()
                function(*arguments)
                best[name] = min(best[name], 1000 * (time.perf_counter() - began))
        return best

    # --- the files

    def progress(self) -> dict[str, dict]:
        path = self.work / "progress.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError:
            raise Error(f"{path} cannot be read; delete it, and run your exercises' cells again") from None

    def note(self, target: str, **facts) -> None:
        """Remember facts about an exercise; None forgets one."""
        progress = self.progress()
        known = progress.setdefault(target, {"began": time.strftime("%Y-%m-%d %H:%M")})
        known |= facts
        progress[target] = {key: value for key, value in known.items() if value is not None}
        self.write(self.work / "progress.json", json.dumps(progress, indent=1) + "\n")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)


exercise = Course()
