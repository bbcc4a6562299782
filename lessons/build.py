"""Makes every lesson.ipynb from the lesson.py beside it: python lessons/build.py. The notebooks are never edited.

A lesson.py is a script of cells. `# %%` begins a cell of code, `# %% [markdown]` one of text, whose lines are comments.
"""

import hashlib
import json
from pathlib import Path

LESSONS = Path(__file__).parent
REPOSITORY = "minirewind/minirewind"        # on GitHub, for the badges

# The first cell of every notebook, folded away. On Colab there is nothing but the notebook itself.
FETCH = f"""\
# On Colab this fetches the course. Anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().system("git clone -q https://github.com/{REPOSITORY} && pip install -q ./minirewind")
    sys.path.insert(0, "/content/minirewind")"""


def cells(script: str) -> list[tuple[str, str]]:
    """The cells of a script, each as ("code" or "markdown", text)."""
    found: list[tuple[str, list[str]]] = []
    for line in script.splitlines():
        if line.startswith("# %%"):
            found.append(("markdown" if "[markdown]" in line else "code", []))
        elif found:
            found[-1][1].append(line)
    result = []
    for kind, lines in found:
        if kind == "markdown":
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        result.append((kind, "\n".join(lines).strip("\n")))
    return result


def notebook(script: str) -> str:
    """The notebook as JSON. A cell's id is made from its text: what is not changed keeps its id."""
    made, seen = [], {}
    for kind, text in [("code", FETCH), *cells(script)]:
        seen[text] = seen.get(text, 0) + 1
        name = hashlib.sha256(f"{kind} {seen[text]} {text}".encode()).hexdigest()[:12]
        extra = {"execution_count": None, "outputs": []} if kind == "code" else {}
        folded = {"jupyter": {"source_hidden": True}, "tags": ["remove-cell"]} if text == FETCH else {}
        made.append({"cell_type": kind, "id": name, "metadata": folded, "source": text.splitlines(keepends=True)}
                    | extra)
    whole = {
        "cells": made,
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                     "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path in sorted(LESSONS.glob("*/lesson.py")):
        path.with_suffix(".ipynb").write_text(notebook(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(path.with_suffix(".ipynb").relative_to(LESSONS))
