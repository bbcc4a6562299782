"""Facts about a lesson in a real browser: JupyterLab in Chromium, an exercise solved by typing."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import minirewind
from minirewind import learn

pytestmark = pytest.mark.slow

ROOT = Path(minirewind.__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a copy of the lessons; its address."""
    for needed in ("jupyterlab", "playwright"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed; pip install -e '.[lessons,browser]'")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    shutil.copytree(ROOT / "lessons", tmp_path / "lessons")
    for name, wanted in (("notebook-extension/tracker", {"windowingMode": "none"}),        # every cell is in the page
                         ("apputils-extension/notification", {"fetchNews": "false"})):
        settings = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(wanted))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "MINIREWIND_WORK": str(tmp_path / "work"), "MINIREWIND_SCALE": "smoke", "MPLBACKEND": "",
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
         "--IdentityProvider.token=secret", "--ServerApp.root_dir=" + str(tmp_path / "lessons")],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api?token=secret", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_an_exercise_is_solved_in_jupyterlab_and_its_pictures_are_drawn(lab, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    answer = learn.source_of(learn.place("data.take").framework)
    wrong = "def take(split, index):\n    return Split(split.images[index], split.labels[: len(index)])\n"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(f"{lab}/lab/tree/00_how_this_works/lesson.ipynb?token=secret")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=120_000)

        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        cell = page.locator(".jp-CodeCell", has_text='exercise.implement("data.take")').first
        expect(cell.locator(".jp-OutputArea-output").last).to_contain_text("to do", timeout=120_000)

        def answered(source: str, says: str) -> None:
            cell.locator(".cm-content").click()
            page.keyboard.press("Control+A")
            page.keyboard.insert_text(f'@exercise.implement("data.take")\n{source}')
            page.keyboard.press("Control+Enter")
            expect(cell.locator(".jp-OutputArea-output").last).to_contain_text(says, timeout=120_000)

        answered(wrong, "not yet")
        answered(answer, "From now on the framework runs your code")
        assert (tmp_path / "work" / "data.take.py").exists()

        pictures = page.locator(".jp-OutputArea-output img")
        assert pictures.count() >= 3
        widths = pictures.evaluate_all("all => all.map(each => each.naturalWidth)")
        assert all(width > 100 for width in widths)
        cell.scroll_into_view_if_needed()
        seen = page.screenshot(path=os.environ.get("MINIREWIND_SCREENSHOT") or tmp_path / "seen.png")
        assert len(set(seen[1000::997])) > 50          # something is drawn
        browser.close()
