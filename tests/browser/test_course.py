"""Every notebook of the course in a real JupyterLab: the first picture, a slider, and a run for
real.
"""

import json

import pytest
from live_notebook import CHROMIUM, NOTEBOOKS, PIXELS, browser, command, jupyter_lab, open_notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
COURSE = sorted(NOTEBOOKS.glob("*.ipynb"))


def cells_until_the_lab(path):
    """The code cells up to the first that makes a lab."""
    found = []
    for index, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            found.append(index)
            if "pipelab.lab(" in "".join(cell["source"]):
                return found
    raise AssertionError(f"{path.name} has no lab")


def test_each_notebook_is_alive(tmp_path):
    with (
        jupyter_lab(NOTEBOOKS, tmp_path) as address,
        browser(reduced_motion="reduce") as (page, trouble),
    ):
        for path in COURSE:
            open_notebook(page, address, path.name)
            for index in cells_until_the_lab(path):
                page.evaluate(
                    f"window.jupyterapp.shell.currentWidget.content.activeCellIndex = {index}"
                )
                command(page, "notebook:run-cell")
            page.wait_for_selector(".pl-picture canvas", timeout=60_000)
            page.wait_for_selector(".widget-button:has-text('Lock it in')", timeout=60_000)
            page.wait_for_function(f"({PIXELS})() !== 0", timeout=60_000)

            before = page.evaluate(PIXELS)
            page.focus("input[aria-label='micro-batches']")
            page.keyboard.press("ArrowRight")
            page.wait_for_function(f"before => ({PIXELS})() !== before", arg=before, timeout=20_000)

            page.click("text=Run for real")
            page.wait_for_selector(".pl-done, .pl-failed", timeout=120_000)
            assert page.get_attribute(".pl-message", "class") == "pl-message pl-done", (
                page.inner_text(".pl-message")
            )
            command(page, "kernelmenu:shutdown")
        assert trouble == []
