"""Cuts and memory in a real JupyterLab: moved by keyboard and mouse, told to a screen reader."""

import os
import signal

import pytest
from live_notebook import CHROMIUM, python, run_notebook, wait_for_python, wait_for_text

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(200),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
CUTS = """
import pipelab
from pipelab.layout import LayerProfile, Profile
from pipelab.widgets import Goal
times = (3, 1, 2, 1, 1, 2, 1, 9)
loss = LayerProfile("loss", 0, 0, 0, 0, 0, 0, 0)
layers = [
    LayerProfile(f"{i} Layer", t / 3e3, t / 3e3, t / 3e3, 4096, 64, 2048, 999)
    for i, t in enumerate(times)
]
goal = Goal("Find the best cuts.", {"above_best": "<= 0.001"}, why="These are the best.")
cuts = pipelab.cuts(Profile("cpu", "float32", 4, tuple(layers), loss), ranks=2, goals=[goal])
cuts
"""
MEMORY = """
view = pipelab.memory("llama-7b", ranks=4, attention="plain")
view
"""
CUT = ".pl-cuts .pl-cut"


def test_cuts_and_switches_move(tmp_path):
    with run_notebook(tmp_path, CUTS, MEMORY) as (page, trouble):
        page.wait_for_selector(CUT)
        cut = page.locator(CUT).first
        assert cut.get_attribute("role") == "slider"
        assert cut.get_attribute("aria-valuetext").startswith("after layer 3 Layer; rank 0 takes 7")
        assert "best" not in page.inner_text(".pl-cut-marks"), "not before it has been found"

        cut.focus()
        page.keyboard.press("ArrowRight")  # not JupyterLab's
        wait_for_text(page, ".pl-cut-said", "Rank 1 is the slowest")
        assert cut.get_attribute("aria-valuenow") == "5"

        box, layers = cut.bounding_box(), page.locator(".pl-cut-layers").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
        page.mouse.down()
        page.mouse.move(layers["x"] + 6 / 8 * layers["width"], box["y"] + 30, steps=4)
        page.mouse.up()
        page.wait_for_selector(".pl-cuts .pl-goal.pl-reached")
        wait_for_python(page, "cuts.sizes", "[6, 2]")
        wait_for_python(page, "cuts.goals[0]['reached']", "True")
        wait_for_text(page, ".pl-cut-marks", "best 10 ms")

        wait_for_text(page, ".pl-memory-said", "it does not fit")
        page.locator(".pl-memory select").nth(4).scroll_into_view_if_needed()
        page.get_by_label("recomputation").select_option(label="attention only")
        wait_for_text(page, ".pl-memory-said", "it fits")
        ranks = page.get_by_label("ranks p")
        ranks.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(".pl-memory-picture svg[aria-label*='rank 7 ']")
        assert ranks.get_attribute("aria-valuetext") == "8"
        wait_for_python(page, "view.ranks", "8")

        assert trouble == []
        os.kill(int(python(page, "__import__('os').getpid()")), signal.SIGKILL)
        wait_for_text(page, ".pl-memory .pl-notice", "has ended", 30)
        page.click(".jp-Dialog button")  # JupyterLab says it too
        cut.focus()
        page.keyboard.press("ArrowLeft")  # without a kernel, too
        assert cut.get_attribute("aria-valuenow") == "5"
