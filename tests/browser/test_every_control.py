"""One session with the lab in a real JupyterLab that goes through every view and every control,
mostly by keyboard.
"""

import json

import pytest
from live_notebook import (
    CHROMIUM,
    PIXELS,
    browser,
    command,
    jupyter_lab,
    open_notebook,
    press_and_see,
    python,
    wait_for_python,
    wait_for_text,
    write_notebook,
)  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]


def visible(page, selector: str) -> None:
    page.wait_for_selector(selector, state="visible")


def gone(page, selector: str) -> None:
    page.wait_for_selector(selector, state="hidden")


def key(page, selector: str, name: str) -> None:
    page.focus(selector)
    page.keyboard.press(name)


def press(page, text: str) -> None:
    """Presses a button by keyboard."""
    page.locator(f"button:text-is('{text}')").first.focus()
    page.keyboard.press("Enter")


def the_second_row(page):
    press(page, "All controls ▾")
    for label, trait, value in [
        ("input gradient", "input_grad", "1.25"),
        ("weight gradient", "weight_grad", "1.25"),
        ("latency", "latency", "0.25"),
    ]:
        press_and_see(page, f"input[aria-label='{label}']", "ArrowRight")
        wait_for_python(page, f"lab.{trait}", value)
    press_and_see(page, "input[aria-label='backward']", "ArrowLeft")
    wait_for_python(page, "lab.input_grad + lab.weight_grad", "2.25")
    assert page.is_disabled("input[aria-label='stages per rank']")
    page.select_option("select[aria-label='schedule']", "interleaved-1f1b")
    wait_for_python(page, "lab.timeline.schedule.stages", "8")
    press_and_see(page, "input[aria-label='stages per rank']", "ArrowRight")
    wait_for_python(page, "lab.timeline.schedule.stages", "12")
    page.select_option("select[aria-label='schedule']", "1f1b")
    gone(page, "[aria-label='cost of stage 4']")

    press_and_see(page, "[aria-label='cost of stage 2']", "ArrowUp")
    wait_for_python(page, "lab.stage_costs", "[1.0, 1.0, 1.25, 1.0]")
    box = page.locator("[aria-label='cost of stage 0']").bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 10, box["y"] + 15)
    page.mouse.up()
    wait_for_python(page, "lab.stage_costs[0]", "2.0")
    press(page, "equal stages")
    wait_for_python(page, "lab.stage_costs", "[]")

    press_and_see(page, "input[aria-label='memory limit']", "PageUp")
    wait_for_python(page, "lab.memory_limit > 0", "True")
    for label, trait, value in [
        ("recompute", "recompute", "early"),
        ("memory strips", "memory", "bytes"),
        ("model", "model", "gpt"),
    ]:
        page.select_option(f"select[aria-label='{label}']", value)
        wait_for_python(page, f"lab.{trait}", repr(value))
    key(page, "input[aria-label='model width']", "ArrowRight")
    wait_for_python(page, "lab.width", "80")
    wait_for_text(page, ".pl-numbers", "2.7 MiB")
    wait_for_text(page, ".pl-legend", "optimizer state")


def impossible_numbers_and_presets(page):
    page.select_option("select[aria-label='preset']", "LLM on slow links")
    wait_for_python(page, "lab.ranks, lab.latency, lab.memory", "(8, 1.0, 'activations')")
    page.select_option("select[aria-label='schedule']", "dualpipe")
    wait_for_python(page, "lab.problem", "''")
    key(page, "input[aria-label='ranks']", "ArrowLeft")
    wait_for_text(page, ".pl-problem", "dualpipe needs an even number of ranks, not 7")
    gone(page, ".pl-picture canvas")
    press(page, "Use 8 ranks")
    visible(page, ".pl-picture canvas")
    page.select_option("select[aria-label='preset']", "memory: GPipe keeps all")
    wait_for_python(page, "lab.schedule, lab.ranks", "('gpipe', 4)")
    press(page, "Fewer controls ▴")


def idle_time_explained(page):
    press(page, "Why idle?")
    visible(page, ".pl-breakdown")
    wait_for_text(page, ".pl-breakdown", "backward downstream")
    canvas = ".pl-picture canvas"
    key(page, canvas, "Home")
    for name in ("ArrowDown", "ArrowDown", "ArrowDown", "Enter"):  # rank 2, before its first action
        page.keyboard.press(name)
    wait_for_text(page, ".pl-explanation", "Idle: warm-up")
    wait_for_text(page, ".pl-explanation", "What would help")
    box = page.locator(canvas).first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.39, box["y"] + 14)
    wait_for_text(page, ".pl-explanation", "0B0 needs the result of 1B0")
    page.mouse.move(box["x"] + 110, box["y"] + 14)
    wait_for_text(page, ".pl-tip", "feeds 1F0 on rank 1, 0B0 on rank 0")
    page.mouse.move(0, 0)
    key(page, ".pl-explanation button", "Enter")
    gone(page, ".pl-explanation")
    press(page, "Critical path")
    wait_for_text(page, "[role=tabpanel]:not([hidden])", "one after the other, take")
    gone(page, ".pl-breakdown")
    wait_for_python(page, "lab.path['source'], lab.panels", "('predicted', ['path'])")
    page.keyboard.press("ArrowLeft")  # tabs are one stop of the keyboard, and arrows go on
    page.keyboard.press("Enter")
    visible(page, ".pl-breakdown")
    page.keyboard.press("Enter")
    gone(page, ".pl-breakdown")
    wait_for_python(page, "lab.panels", "[]")


def the_playhead(page):
    key(page, ".pl-picture canvas", "Home")
    key(page, "button[aria-label='one unit of time on']", "Enter")
    wait_for_text(page, ".pl-readout", "t = 1 of 57: rank 0 runs")
    wait_for_text(page, ".pl-readout", "activations of 0 from rank 0 to 1")
    key(page, "button[aria-label='one unit of time back']", "Enter")
    wait_for_text(page, ".pl-readout", "t = 0 of 57")
    key(page, "button[aria-label='loop']", "Enter")
    page.select_option("select[aria-label='speed of the playhead']", "8")
    press(page, "▶ Play")
    page.wait_for_timeout(2500)  # 57 units at 40 a second: it must have started over
    wait_for_text(page, ".pl-play", "Pause")
    key(page, "button[aria-label='loop']", "Enter")
    wait_for_text(page, ".pl-play", "Play")


def pinned_configurations(page):
    press(page, "Pin")
    visible(page, ".pl-pin")
    page.select_option("select[aria-label='schedule']", "1f1b")
    press(page, "Pin")
    wait_for_python(page, "len(lab.pins)", "2")
    key(page, "input[aria-label='micro-batches']", "ArrowLeft")
    wait_for_text(page, ".pl-compare table", "▼")
    assert page.locator(".pl-compare canvas").count() == 4  # a picture and its playhead each
    page.locator(".pl-pin button:text-is('use')").first.click()
    wait_for_python(page, "lab.schedule, lab.microbatches", "('gpipe', 16)")
    key(page, "[aria-label='unpin A']", "Enter")
    wait_for_python(page, "len(lab.pins)", "1")
    key(page, "[aria-label='unpin A']", "Enter")
    gone(page, ".pl-compare")
    # faster than the kernel: the button's request would overtake the slider's last moves
    page.evaluate("""() => {
      const slider = document.querySelector("input[aria-label='micro-batches']");
      for (const value of [18, 20, 22]) {
        slider.value = value;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
      }
      [...document.querySelectorAll("button")].find((b) => b.textContent === "Pin").click();
    }""")
    wait_for_python(page, "['microbatches=22' in pin['text'] for pin in lab.pins]", "[True]")
    key(page, "[aria-label='unpin A']", "Enter")
    press_and_see(page, "input[aria-label='micro-batches']", "Home")
    # at any moment: an answer to the value before took the slider back, and keys were lost
    for wait in (5, 20, 35, 60) * 7:
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(wait)
    wait_for_python(page, "lab.microbatches, len(lab.pins)", "(29, 0)")
    for _ in range(13):
        page.keyboard.press("ArrowLeft")
    wait_for_python(page, "lab.microbatches", "16")


def files_and_table(page):
    press(page, "Save and share")
    assert (
        page.input_value(".pl-text")
        == 'pipelab.lab("gpipe ranks=4 microbatches=16 hold=microbatch")'
    )
    for label, name, start in [
        ("PNG", "gpipe.png", b"\x89PNG"),
        ("SVG", "gpipe.svg", b"<svg"),
        ("Page that plays", "gpipe.html", b"<!"),
        ("CSV", "gpipe.csv", b"0F0,0F1"),
        ("Perfetto trace", "gpipe.json", b'{"traceEvents"'),
    ]:
        with page.expect_download(timeout=20_000) as download:
            press(page, label)
        assert download.value.suggested_filename == name
        with open(download.value.path(), "rb") as file:
            assert file.read(40).startswith(start), label
    press(page, "As a table")
    wait_for_text(page, ".pl-actions", "0F0")
    assert page.locator(".pl-actions tbody tr").count() == 128


def building_by_hand(page):
    python(page, "lab.apply(schedule='1f1b', ranks=2, microbatches=2)")
    press(page, "Edit by hand")
    visible(page, ".pl-builder .pl-cell")
    wait_for_text(page, ".pl-builder .pl-name", "this is 1f1b")
    press(page, "Clear")
    visible(page, ".pl-legal")
    key(page, ".pl-builder .pl-any", "Control+a")
    page.keyboard.type("0B0")
    page.keyboard.press("Enter")
    wait_for_text(page, ".pl-refusal", "0B0 comes before 0F0: a backward uses the activations")
    key(page, "[aria-label='place 0F0 on rank 0']", "Enter")
    visible(page, "[aria-label='place 1F0 on rank 1']")
    press(page, "Hint")
    visible(page, ".pl-hinted")
    page.drag_and_drop("[aria-label='place 1F0 on rank 1']", ".pl-grid-row >> nth=1")
    visible(page, "[aria-label='1F0, rank 1, step 0']")
    key(page, "[aria-label='1F0, rank 1, step 0']", "Delete")
    gone(page, "[aria-label='1F0, rank 1, step 0']")
    press(page, "Undo")
    visible(page, "[aria-label='1F0, rank 1, step 0']")
    key(page, "summary:text-is('CSV: read and save')", "Enter")
    page.fill(".pl-csv", "0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1\n")
    press(page, "Read this CSV")
    wait_for_text(page, ".pl-builder .pl-name", "this is gpipe")
    key(page, "[aria-label='1F1, rank 1, step 1']", "Shift+ArrowRight")
    wait_for_text(page, ".pl-builder .pl-name", "this is 1f1b (for these sizes")


def test_every_view_and_control(tmp_path):
    (tmp_path / "notebooks").mkdir()
    cell = (
        "from pipelab.widgets import Lab\n"
        "lab = Lab(schedule='1f1b', ranks=4, microbatches=8, hold='microbatch')\nlab"
    )
    write_notebook(tmp_path / "notebooks" / "lab.ipynb", cell)
    options = {
        "reduced_motion": "reduce",
        "viewport": {"width": 1280, "height": 1600},
        "accept_downloads": True,
    }
    with (
        jupyter_lab(tmp_path / "notebooks", tmp_path) as address,
        browser(**options) as (page, trouble),
    ):
        open_notebook(page, address, "lab.ipynb")
        command(page, "notebook:run-all-cells")
        visible(page, ".pl-picture canvas")
        wait_for_text(
            page, ".pl-play", "Play"
        )  # less motion was asked for: it does not play by itself
        wait_for_text(page, ".pl-formula", "= (8 + 4 − 1)(1 + 2)")
        before = page.evaluate(PIXELS)
        the_second_row(page)
        impossible_numbers_and_presets(page)
        idle_time_explained(page)
        the_playhead(page)
        pinned_configurations(page)
        files_and_table(page)
        building_by_hand(page)
        page.set_viewport_size({"width": 800, "height": 1600})
        page.wait_for_timeout(300)
        assert page.evaluate(
            "document.querySelector('.pl-lab').scrollWidth <= "
            "document.querySelector('.pl-lab').clientWidth + 1"
        )
        assert page.evaluate(PIXELS) != before
        assert json.loads(python(page, "list(range(2))")) == [0, 1]  # the kernel is alive
        assert trouble == []
