"""The shapes of a mesh in a real JupyterLab: workers chosen by mouse and keys, switches moved."""

import os
import signal

import pytest
from live_notebook import CHROMIUM, python, run_notebook, wait_for_python, wait_for_text

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(200),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
CELL = """
import pipelab
view = pipelab.shapes(8, shape=(2, 2, 2), node=4)
view
"""


def test_workers_are_chosen_and_the_shape_moves(tmp_path):
    with run_notebook(tmp_path, CELL) as (page, trouble):
        page.wait_for_selector(".pl-shapes [data-worker]")
        page.click("[data-worker='5']")
        page.wait_for_selector("[data-worker='5'][aria-pressed='true']")
        wait_for_python(page, "view.worker", "5")

        page.focus("[data-worker='5']")
        page.keyboard.press("ArrowUp")  # the same place in the other copy; the focus goes along
        page.wait_for_selector("[data-worker='1'][aria-pressed='true']:focus")
        page.keyboard.press("d")
        page.keyboard.press("d")  # JupyterLab would delete the cell
        page.keyboard.press("Home")
        page.wait_for_selector("[data-worker='0'][aria-pressed='true']:focus")

        page.get_by_label("data × ranks × tensor").select_option(label="1 × 1 × 8")
        wait_for_text(page, ".pl-memory-said", "tensor = 8 leaves the node")
        wait_for_text(page, ".pl-headline", "55.6")
        page.get_by_label("workers of a node").select_option(label="8")
        wait_for_text(page, ".pl-memory-said", "they stay inside a node")

        assert trouble == []
        os.kill(int(python(page, "__import__('os').getpid()")), signal.SIGKILL)
        wait_for_text(page, ".pl-shapes .pl-notice", "has ended", 30)
