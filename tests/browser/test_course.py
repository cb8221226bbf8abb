"""Every notebook of the course in a real JupyterLab: a guess, a slider, and a run for real."""

import json
import shutil

import pytest
from live_notebook import CHROMIUM, NOTEBOOKS, PIXELS, browser, command, jupyter_lab, open_notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
LAB = ".pl-lab:not(.pl-builder, .pl-cuts, .pl-memory)"
SEEN = PIXELS.replace(".pl-picture canvas", f"{LAB} .pl-picture canvas")
COURSE = sorted(NOTEBOOKS.glob("*.ipynb"))


def cells_until_the_lab(path):
    """The code cells that ask, up to the first that makes a lab."""
    found = []
    for index, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and ("pipelab.guess(" in text or "pipelab.lab(" in text):
            found.append(index)
            if "pipelab.lab(" in text:
                return found
    raise AssertionError(f"{path.name} has no lab")


def lock_a_guess(page):
    """Guess by keyboard, wrongly, and look; what lies beneath was veiled, and is not any more."""
    page.wait_for_selector(".pl-guess button:has-text('Lock it in')")
    above = page.locator(f".pl-guess:has({LAB})")
    asked = (above if above.count() else page.locator(".pl-guess")).first
    beneath = asked.locator(".pl-beneath")
    assert beneath.evaluate("node => node.inert")
    if asked.locator(".pl-guess-number").count():
        asked.locator(".pl-guess-number").focus()
        page.keyboard.type("-40")
    elif asked.locator(".pl-guess-options").count():
        asked.locator(".pl-guess-options input").first.focus()
        page.keyboard.press("Space")
    else:
        asked.locator(".pl-guess-point input").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    asked.locator("button:has-text('Show the answer')").click()
    asked.locator(".pl-guess-picture svg").wait_for()
    assert not beneath.evaluate("node => node.inert")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab with a copy of the course, where a guess that is locked stays out of the
    checkout: (page, its trouble, address).
    """
    home = tmp_path_factory.mktemp("course")
    course = shutil.copytree(NOTEBOOKS, home / "course" / "notebooks")
    with jupyter_lab(course, home) as address, browser(reduced_motion="reduce") as (page, trouble):
        yield page, trouble, address


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_each_notebook_is_alive(lab, path):
    page, trouble, address = lab
    open_notebook(page, address, path.name)
    for index in cells_until_the_lab(path):
        page.evaluate(f"window.jupyterapp.shell.currentWidget.content.activeCellIndex = {index}")
        command(page, "notebook:run-cell")
    page.wait_for_selector(f"{LAB} .pl-picture canvas")
    lock_a_guess(page)
    page.wait_for_function(f"({SEEN})() !== 0")

    page.click(f"{LAB} button:has-text('show me how')")
    page.wait_for_selector(f"{LAB} .pl-goal.pl-reached")

    before = page.evaluate(SEEN)
    row = page.locator(f"{LAB} .pl-controls").first
    sliders = row.locator("input[type=range]")
    if sliders.count():
        sliders.first.focus()
        page.keyboard.press("ArrowRight")
    else:
        row.locator("select").first.select_option(index=1)
    page.wait_for_function(f"before => ({SEEN})() !== before", arg=before)

    page.click(f"{LAB} button:has-text('Run for real')")
    ended = page.wait_for_selector(
        f"{LAB} .pl-message:is(.pl-done, .pl-failed, .pl-stopped)", timeout=120_000
    )
    assert ended.get_attribute("class") == "pl-message pl-done", ended.inner_text()
    command(page, "kernelmenu:shutdown")
    assert trouble == []
