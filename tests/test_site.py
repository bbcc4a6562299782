"""Facts about the course's web pages."""

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minirewind

LESSONS = Path(minirewind.__file__).parents[1] / "lessons"
NAMES = sorted(path.parent.name for path in LESSONS.glob("*/lesson.py"))


def terms():
    """The terms of the glossary, in its order."""
    lines = (LESSONS / "site" / "glossary.md").read_text().split("\n")
    return [line for line, below in itertools.pairwise(lines) if below.startswith(": ")]


@pytest.mark.parametrize("name", NAMES)
def test_every_new_word_of_a_lesson_is_in_the_glossary(name):
    top = (LESSONS / name / "lesson.py").read_text().split("\n# %%\n")[0].replace("\n# ", " ")
    words = [word.strip(" .`") for word in re.search(r"\*\*New words:\*\*(.*?)(?: #|\n|$)", top).group(1).split(",")]
    known = {term.lower() for term in terms()}
    assert [word for word in words if word.lower() not in known] == []


def test_the_glossary_is_in_alphabetical_order_and_names_each_word_once():
    found = [term.lower() for term in terms()]
    assert found == sorted(set(found))


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_holds_every_lesson_with_its_pictures(tmp_path):
    for needed in ("sphinx", "myst_nb", "furo", "latex2mathml"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed; the site is built with pip install -e '.[site]'")
    done = subprocess.run([sys.executable, LESSONS / "site" / "make.py", tmp_path / "site"], capture_output=True,
                          text=True, env=os.environ | {"MINIREWIND_SCALE": "smoke", "MPLBACKEND": ""})
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("index.html")
    for name in NAMES:
        page = (tmp_path / "site" / "lessons" / f"{name}.html").read_text()
        assert "<img" in page, name
        assert "Open in Colab" in page, name
        assert "to do. The framework" in page, name         # as shipped: no answer is shown
        assert not re.search(r"<script[^>]*mathjax", page, re.IGNORECASE), name     # formulas need no network
    assert "<math" in (tmp_path / "site" / "lessons" / "05_sgd.html").read_text()
    assert "rewinding" in (tmp_path / "site" / "reference" / "retrain.html").read_text()
