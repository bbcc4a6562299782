"""`pytest lessons/01_tensors` judges the saved work; `--impl reference` the framework's own functions instead."""

import functools

import pytest

from minirewind import learn


def pytest_addoption(parser):
    parser.addoption("--impl", default="work", choices=("work", "reference"),
                     help="whose functions the lessons' checks look at: your saved work, or the framework's own")


@functools.cache
def judged(target):
    """Why each check of an exercise fails on the saved work, by the check's name; None where nothing is written."""
    exercise, source = learn.exercise.find(target), learn.exercise.latest(target)
    if source is None:
        return None
    problem = learn.signature_problem(source, target)
    if problem:
        return {check.__name__: problem for check in exercise.checks}
    found = learn.judge(exercise, source)
    return {check.__name__: found.why for check in exercise.checks} if found.failed[:1] and not found.failed[0][0] \
        else dict(found.failed)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A check of saved work is run where a loop without an end does no harm; every other test as always."""
    exercise = getattr(pyfuncitem.obj, "exercise", None)
    if exercise is None or pyfuncitem.config.getoption("--impl") == "reference":
        return None
    reasons = judged(exercise.target)
    if reasons is None:
        pytest.fail(f"{exercise.target}: to do", pytrace=False)
    if pyfuncitem.name in reasons:
        pytest.fail(f"{exercise.target}: {reasons[pyfuncitem.name]}", pytrace=False)
    return True
