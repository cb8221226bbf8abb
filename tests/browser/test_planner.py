"""The planner in a real JupyterLab: rows chosen by mouse and keys, switches moved."""

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
view = pipelab.planner("llama-70b", device="h100", gpus=64, batch=512, flash=True)
view
"""
PRESSED = "g[data-row='{}'][aria-pressed='true']"


def test_rows_are_chosen_and_the_plan_moves(tmp_path):
    with run_notebook(tmp_path, CELL) as (page, trouble):
        page.wait_for_selector(".pl-planner g[data-row]")
        wait_for_text(page, ".pl-planner-why", "Why the next ones lose")
        page.click("g[data-row='3']")
        page.wait_for_selector(PRESSED.format(3))
        wait_for_python(page, "view.row", "3")
        wait_for_text(page, ".pl-planner-why", "Row 4: ")

        page.focus("g[data-row='3']")
        page.keyboard.press("ArrowDown")
        page.wait_for_selector(PRESSED.format(4) + ":focus")
        page.keyboard.press("d")
        page.keyboard.press("d")  # JupyterLab would delete the cell
        page.keyboard.press("End")
        last = int(python(page, "view.rows")) - 1
        page.wait_for_selector(PRESSED.format(last) + ":focus")

        switches = page.locator(".pl-planner .pl-controls")
        switches.get_by_label("pipeline").select_option(label="1")
        wait_for_text(page, ".pl-memory-said", "pipeline is fixed at 1")
        switches.get_by_label("pipeline").select_option(label="free")
        switches.get_by_label("GPUs").fill("3")  # the fourth place: 8
        wait_for_text(page, ".pl-memory-said", "32 GPUs would do")

        assert trouble == []
        os.kill(int(python(page, "__import__('os').getpid()")), signal.SIGKILL)
        wait_for_text(page, ".pl-planner .pl-notice", "has ended", 30)
