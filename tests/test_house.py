"""Facts about the package as a whole."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minirewind

PACKAGE = Path(minirewind.__file__).parent
ROOT = PACKAGE.parent

# Each room may import from those before it; `errors` and the kernels are open to all.
ORDER = ["errors", "kernels", "tensor", "functional", "nn", "models", "optim", "fetch", "data", "prune", "filters",
         "train", "retrain", "files", "about", "sparse", "export", "trackers", "study", "published", "report", "speed",
         "figures", "page", "pictures", "learn", "cli", "__main__"]


# The same inside study/, where __init__ stands above them all.
STUDY = ["methods", "graph", "settings", "store", "results", "work", "progress", "driver", "dry_run", "__init__"]


def imports(path, level=1):
    """What a file imports from its own folder (level 1) or the one above, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == level:
            yield from ([node.module.split(".")[0]] if node.module else [alias.name for alias in node.names])


@pytest.mark.parametrize("room", [name for name in ORDER if (PACKAGE / f"{name}.py").exists()])
def test_imports_go_one_way(room):
    for other in imports(PACKAGE / f"{room}.py"):
        assert ORDER.index(other) < ORDER.index(room), f"{room} imports {other}"


@pytest.mark.parametrize("part", STUDY)
def test_imports_go_one_way_inside_the_study_too(part):
    for other in imports(PACKAGE / "study" / f"{part}.py"):
        assert STUDY.index(other) < STUDY.index(part), f"study/{part} imports {other}"
    for other in imports(PACKAGE / "study" / f"{part}.py", level=2):
        assert ORDER.index(other) < ORDER.index("study"), f"study/{part} imports {other}"


def test_every_room_has_its_place_in_that_order():
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} <= set(ORDER)
    assert {path.stem for path in (PACKAGE / "study").glob("*.py")} == set(STUDY)


def test_importing_the_package_loads_neither_numba_nor_matplotlib_and_prints_nothing():
    code = ("import sys, minirewind; "
            "print([m for m in ('numba', 'matplotlib', 'pooch', 'distributed') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def test_every_public_function_and_class_says_what_it_is():
    missing = []
    for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("study/*.py"), *PACKAGE.glob("plugins/*.py"),
                 *PACKAGE.glob("kernels/*.py"), *PACKAGE.glob("kernels/reference/*.py"),
                 *PACKAGE.glob("kernels/gpu/**/*.py")]:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        missing += [f"{path.name}: {node.name}" for node in tree.body
                    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
                    and not ast.get_docstring(node)]
    assert missing == []


@pytest.mark.slow
def test_the_readmes_python_examples_run(tmp_path, monkeypatch):
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert examples
    for number, example in enumerate(examples):
        script = tmp_path / f"example{number}.py"
        script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{example}")
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=280)
        assert done.returncode == 0, done.stderr
        for said in re.findall(r"# prints (.*)", example):
            assert said in done.stdout


@pytest.mark.slow
def test_the_default_comparison_answers_the_papers_question(tmp_path):
    """The README's first command: at the highest compressions both rewinding strategies are ahead by points."""
    from statistics import median

    from minirewind import study

    subprocess.run([sys.executable, "-m", "minirewind", "compare", "--out", tmp_path], check=True, cwd=ROOT)
    rows = study.read_results(tmp_path / "results.csv")
    highest = sorted({row.compression for row in rows if row.protocol == "one_shot"})[-2:]
    for compression in highest:
        change = {technique: median(row.delta for row in rows if row.protocol == "one_shot"
                                    and row.compression == compression and row.technique == technique)
                  for technique in ("fine_tuning", "weight_rewinding", "lr_rewinding")}
        assert change["weight_rewinding"] > change["fine_tuning"] + 2
        assert change["lr_rewinding"] > change["fine_tuning"] + 2
