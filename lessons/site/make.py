"""Builds the site: python lessons/site/make.py [FOLDER]. It needs no network.

The lessons are run from top to bottom, as they are shipped, at smoke scale (MINIREWIND_SCALE overrides), each anew only
when it has changed. The pages lie in FOLDER, build/site if none is given; open its index.html.
"""

import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LESSONS = HERE.parent
PACKAGE = LESSONS.parent / "minirewind"

ROOMS = ("tensor", "functional", "nn", "models", "optim", "data", "train", "prune", "retrain",  # as best read
         "study", "report", "sparse", "export", "files", "fetch", "learn", "pictures")


def badges(name: str, repository: str) -> str:
    """Where a lesson can be run without installing anything."""
    path = f"lessons/{name}/lesson.ipynb"
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{path}"
    binder = f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path}"
    return f"[Open in Colab]({colab}) · [Open in Binder]({binder}) · or on your machine: `minirewind learn open {name}`"


def gather(source: Path, repository: str) -> None:
    """Lay the pages out as Sphinx wants them: the written ones, the notebooks, a page for each room."""
    import nbformat

    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(HERE / "conf.py", source)
    shutil.copy(LESSONS.parent / "benchmarks" / "results" / "digits" / "comparison.png", source)
    names = sorted(path.parent.name for path in LESSONS.glob("*/lesson.ipynb"))
    for name in names:
        notebook = nbformat.read(LESSONS / name / "lesson.ipynb", 4)
        notebook.cells.insert(2, nbformat.v4.new_markdown_cell(badges(name, repository), id="badges"))
        nbformat.write(notebook, source / "lessons" / f"{name}.ipynb")
    write_index(source / "lessons" / "index.md", "The course", (source / "lessons" / "head.md").read_text(), names)
    (source / "lessons" / "head.md").unlink()
    (source / "reference").mkdir(exist_ok=True)
    pages = []
    for room in ROOMS:
        inside = sorted(path.stem for path in (PACKAGE / room).glob("[a-z]*.py"))
        for name in (room, *(f"{room}.{stem}" for stem in inside)):
            (source / "reference" / f"{name}.rst").write_text(
                f"minirewind.{name}\n{'=' * 40}\n\n.. automodule:: minirewind.{name}\n")
            pages.append(name)
    write_index(source / "reference" / "index.md", "Reference",
                "Every public name, with its own words. The source is behind each `[source]`.\n", pages)


def write_index(path: Path, title: str, text: str, pages: list[str]) -> None:
    listed = "\n".join(pages)
    path.write_text(f"# {title}\n\n{text}\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n", encoding="utf-8")


def main(folder: Path) -> int:
    missing = [name for name in ("sphinx", "myst_nb", "furo") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"the site needs {', '.join(missing)}: pip install -e '.[site]'", file=sys.stderr)
        return 2
    work = folder.with_name(folder.name + "-work")
    gather(work / "source", runpy.run_path(str(LESSONS / "build.py"))["REPOSITORY"])
    environment = {
        "MINIREWIND_SCALE": "smoke", **os.environ, "MINIREWIND_LESSONS": str(LESSONS),
        "MINIREWIND_WORK": str(work / "no-answers"), "MINIREWIND_SITE_CACHE": str(work / "cache"),
        "PYTHONPATH": os.pathsep.join([str(LESSONS.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
    }
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(work / "doctrees"),
               str(work / "source"), str(folder)]
    done = subprocess.run(command, env=environment, check=False).returncode
    if done == 0:
        print(folder / "index.html")
    return done


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else LESSONS.parent / "build" / "site").resolve()))
