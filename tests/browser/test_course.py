"""Every notebook of the course in a real JupyterLab: a guess, a slider, and a run for real."""

import json
import shutil

import pytest
from live_notebook import CHROMIUM, NOTEBOOKS, PIXELS, browser, command, jupyter_lab, open_notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timing,  # twelve kernels and their runs: not beside other tests
    pytest.mark.timeout(900),
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


def copied(home):
    """The notebooks where a guess that is locked stays out of the checkout."""
    return shutil.copytree(NOTEBOOKS, home / "course" / "notebooks")


def lock_a_guess(page):
    """Guess by keyboard, wrongly, and look; what lies beneath was veiled, and is not any more."""
    page.wait_for_selector(".pl-guess button:has-text('Lock it in')", timeout=60_000)
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
    asked.locator(".pl-guess-picture svg").wait_for(timeout=20_000)
    assert not beneath.evaluate("node => node.inert")


def test_each_notebook_is_alive(tmp_path):
    with (
        jupyter_lab(copied(tmp_path), tmp_path) as address,
        browser(reduced_motion="reduce") as (page, trouble),
    ):
        for path in COURSE:
            open_notebook(page, address, path.name)
            for index in cells_until_the_lab(path):
                page.evaluate(
                    f"window.jupyterapp.shell.currentWidget.content.activeCellIndex = {index}"
                )
                command(page, "notebook:run-cell")
            page.wait_for_selector(f"{LAB} .pl-picture canvas", timeout=60_000)
            lock_a_guess(page)
            page.wait_for_function(f"({SEEN})() !== 0", timeout=60_000)

            page.click(f"{LAB} button:has-text('show me how')")
            page.wait_for_selector(f"{LAB} .pl-goal.pl-reached", timeout=20_000)

            before = page.evaluate(SEEN)
            row = page.locator(f"{LAB} .pl-controls").first
            sliders = row.locator("input[type=range]")
            if sliders.count():
                sliders.first.focus()
                page.keyboard.press("ArrowRight")
            else:
                row.locator("select").first.select_option(index=1)
            page.wait_for_function(f"before => ({SEEN})() !== before", arg=before, timeout=20_000)

            message = page.locator(f"{LAB} .pl-message").first
            page.click(f"{LAB} button:has-text('Run for real')")
            page.wait_for_selector(f"{LAB} :is(.pl-done, .pl-failed)", timeout=120_000)
            said = message.inner_text()
            assert message.get_attribute("class") == "pl-message pl-done", f"{path.name}: {said}"
            command(page, "kernelmenu:shutdown")
        assert trouble == []
