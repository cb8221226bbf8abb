"""The lab far from its kernel: stopped, killed, gone since yesterday; and a page that never had
one. And what one screen shows.
"""

import json
import os
import signal

import pytest
from live_notebook import (
    CHROMIUM,
    PIXELS,
    browser,
    command,
    jupyter_lab,
    open_notebook,
    python,
    wait_for_python,
    wait_for_text,
    write_notebook,
)  # fmt: skip

from pipelab import cli
from pipelab.launcher import serve
from pipelab.widgets import Goal, Lab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]

GOAL = 'Goal("Bring the bubble under 20 %.", {"bubble_fraction": "< 0.2"}, {"microbatches": 16})'
CELL = (
    f"import pipelab\nfrom pipelab.widgets import Goal\nlab = pipelab.lab('1f1b', goals=[{GOAL}])\n"
    "lab"
)
INSIDE = """selectors => selectors.filter(selector => {
  const box = document.querySelector(selector).getBoundingClientRect();
  return box.top < 0 || box.bottom > innerHeight || box.right > innerWidth || !box.height;
})"""
PAINTED = """() => {
  window.painted = [];
  document.querySelector('.pl-picture canvas').addEventListener('pipelab-painted', ({target}) => {
    const row = target.getContext('2d').getImageData(0, 10, target.width, 1).data;
    window.painted.push(row.reduce((sum, value, i) => (sum + value * i) % 1e9, 0));
  });
}"""


def press(page, label, name):
    page.focus(f"input[aria-label='{label}']")
    page.keyboard.press(name)


def all_on_one_screen(page):
    """At 1280 pixels with its side panel, JupyterLab leaves a notebook 950."""
    parts = [".pl-goal", ".pl-controls", ".pl-headline", ".pl-picture canvas", ".pl-play"]
    assert page.evaluate(INSIDE, [*parts, "button.pl-primary", ".pl-tabs"]) == []
    width = page.evaluate("document.querySelector('.jp-NotebookPanel').clientWidth")
    assert width <= 950


def bars_slide(page):
    page.wait_for_timeout(500)
    painted = []
    while len(painted) < 6 and max(painted, default=0) <= 3:  # a busy machine leaves frames out
        page.evaluate(PAINTED)
        page.select_option("select[aria-label=schedule]", ["gpipe", "1f1b"][len(painted) % 2])
        page.wait_for_timeout(700)
        painted.append(page.evaluate("new Set(window.painted).size"))
    assert max(painted) > 3
    page.select_option("select[aria-label=schedule]", "1f1b")
    wait_for_python(page, "lab.schedule", "'1f1b'")
    page.wait_for_timeout(700)
    python(page, "None")  # after it has sent the neighbouring counts


def costs_need_no_kernel(page, kernel):
    os.kill(kernel, signal.SIGSTOP)
    try:
        press(page, "latency", "ArrowRight")
        wait_for_text(page, ".pl-headline", "38.4")  # 34.4, and 0.25 sixteen times
        press(page, "micro-batches", "ArrowRight")  # a neighbour, fetched ahead
        wait_for_text(page, ".pl-headline", "37.8")
        page.click("text=Why idle?")
        wait_for_text(page, ".pl-breakdown", "warm-up")
        page.keyboard.press("Enter")
    finally:
        os.kill(kernel, signal.SIGCONT)
    page.wait_for_timeout(1000)
    wait_for_text(page, ".pl-headline", "37.8")  # the kernel says the same
    assert "was" in page.inner_text(".pl-headline")  # and that is not another move
    page.wait_for_selector(".pl-notice", state="hidden")


def a_dead_kernel_is_told(page, kernel):
    page.click("text=Run for real")
    page.wait_for_selector(".pl-running")
    os.kill(kernel, signal.SIGKILL)
    page.wait_for_selector(".pl-notice", state="visible", timeout=10_000)
    wait_for_text(page, ".pl-notice", "run this cell again", 5)
    wait_for_text(page, ".pl-message", "The run ended with its kernel", 5)
    assert page.evaluate("document.querySelector('.pl-needs').inert")
    page.click(".jp-Dialog button")  # JupyterLab says it too
    press(page, "latency", "Home")
    wait_for_text(page, ".pl-headline", "33.3", 5)


def test_a_lab_without_its_kernel(tmp_path):
    settings = json.loads((serve.SETTINGS / "overrides.json").read_text())
    plugin = "@jupyter-widgets/jupyterlab-manager:plugin"
    own = tmp_path / "lab/user-settings/@jupyter-widgets/jupyterlab-manager"
    own.mkdir(parents=True)
    (own / "plugin.jupyterlab-settings").write_text(json.dumps(settings[plugin]))
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks" / "lab.ipynb", CELL)
    screen = {"viewport": {"width": 1280, "height": 880}}
    with jupyter_lab(tmp_path / "notebooks", tmp_path) as address:
        with browser(**screen, reduced_motion="no-preference") as (page, trouble):
            page.goto(f"{address}/lab/tree/lab.ipynb")
            page.wait_for_function(
                "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status "
                "=== 'idle'",
            )
            command(page, "notebook:run-all-cells")
            page.wait_for_selector(".pl-picture canvas")
            all_on_one_screen(page)
            bars_slide(page)
            command(page, "docmanager:save")
            kernel = int(python(page, "__import__('os').getpid()"))
            costs_need_no_kernel(page, kernel)
            assert trouble == []
            a_dead_kernel_is_told(page, kernel)  # JupyterLab's own requests fail then
            page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
            page.wait_for_timeout(1000)
        with browser(**screen, reduced_motion="reduce") as (page, trouble):  # the next day
            open_notebook(page, address, "lab.ipynb")
            page.wait_for_selector(".pl-notice", state="visible")
            before = page.evaluate(PIXELS)
            press(page, "latency", "ArrowRight")
            wait_for_text(page, ".pl-headline", "38.4")
            assert page.evaluate(PIXELS) != before
            assert trouble == []


def test_the_page_of_a_training_has_live_sliders(tmp_path):
    command = "train --model mlp --ranks 2 --microbatches 4 --steps 2 --pace 10,20 --html"
    assert cli.main([*command.split(), str(tmp_path / "run.html")]) == 0
    with browser(reduced_motion="reduce") as (page, trouble):
        page.goto((tmp_path / "run.html").as_uri())
        wait_for_text(page, ".pl-headline", "predicted 150 ms")
        press(page, "latency", "ArrowRight")
        wait_for_text(page, ".pl-headline", "makespan16")  # 15 of 10 ms, and 0.25 four times
        assert trouble == []


def test_a_saved_lab_lives_without_a_kernel(tmp_path):
    goal = Goal("Bring the bubble under 20 %.", {"bubble_fraction": "< 0.2"}, {"microbatches": 16})
    lab = Lab(schedule="1f1b", goals=[goal])
    counts = {"microbatches": [4, 8, 16], "schedule": ["gpipe", "dualpipe"], "ranks": [4, 2]}
    path = lab.save(tmp_path / "lab.html", counts=counts)
    with browser(reduced_motion="reduce") as (page, trouble):
        page.goto(path.as_uri())
        wait_for_text(page, ".pl-headline", "34.4")
        press(page, "latency", "ArrowRight")
        wait_for_text(page, ".pl-headline", "38.4")
        press(page, "latency", "Home")
        press(page, "micro-batches", "ArrowRight")
        wait_for_text(page, ".pl-headline", "29.7")
        wait_for_text(page, ".pl-goal", "✓ 1 of 1")
        page.select_option("select[aria-label=schedule]", "dualpipe")
        press(page, "micro-batches", "Home")
        wait_for_text(page, ".pl-problem", "dualpipe needs an even number of micro-batches")
        page.select_option("select[aria-label=schedule]", "gpipe")
        wait_for_text(page, ".pl-headline", "43.8")
        page.click("text=Why idle?")
        wait_for_text(page, ".pl-breakdown", "cool-down")
        page.click("text=Save and share")
        assert page.input_value(".pl-text") == 'pipelab.lab("gpipe ranks=4 microbatches=4")'
        assert page.locator("button:text-is('Run for real')").is_hidden()
        assert page.locator("select[aria-label=schedule] option:not([hidden])").count() == 3
        assert trouble == []
