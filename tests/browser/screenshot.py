"""Makes the README's picture: a finished real run laid over its prediction, in real JupyterLab. Or
one of every state.

python tests/browser/screenshot.py [FILE.png]   default: notebooks/images/lab.png
python tests/browser/screenshot.py FOLDER       explain, compare, builder, run, narrow, dark
"""

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from live_notebook import (
    NOTEBOOKS,
    browser,
    command,
    jupyter_lab,
    open_notebook,
    wait_for_text,
    write_notebook,
)

CELL = 'import pipelab\n\nlab = pipelab.lab("1f1b", ranks=4, microbatches=8)\nlab'
CANVAS = ".pl-picture canvas"


@contextmanager
def live_lab(theme: str = "JupyterLab Light", width: int = 1280):
    """A page with the lab, tall enough for all of it."""
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        folder = home / "notebooks"
        folder.mkdir()
        write_notebook(folder / "lab.ipynb", CELL)
        options = {"viewport": {"width": width, "height": 2400}, "reduced_motion": "reduce"}
        with (
            jupyter_lab(folder, home, theme=theme) as address,
            browser(**options) as (page, trouble),
        ):
            open_notebook(page, address, "lab.ipynb")
            command(page, "notebook:run-all-cells")
            page.wait_for_selector(CANVAS, timeout=60_000)
            yield page
        if trouble:
            raise SystemExit("\n".join(trouble))


def shoot(page, target: Path, selector: str = ".pl-lab") -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    page.locator(selector).first.screenshot(path=target)
    print(f"{target}: {target.stat().st_size // 1024} KiB")


def run(page) -> None:
    page.click("text=Run for real")
    page.wait_for_selector(".pl-done", timeout=90_000)


def explain(page) -> None:
    page.click("text=Why idle?")
    page.click("text=Critical path")
    wait_for_text(page, ".pl-breakdown", "warm-up")
    page.focus(CANVAS)
    for key in ("Home", *["ArrowRight"] * 8, "ArrowDown", "Enter"):  # rank 0, in the long wait
        page.keyboard.press(key)
    wait_for_text(page, ".pl-explanation", "Why")
    page.keyboard.press("End")


def compare(page) -> None:
    for schedule in ("gpipe", "zb-h1", "1f1b"):
        page.select_option("select[aria-label=schedule]", schedule)
        page.wait_for_timeout(800)
        if schedule != "1f1b":
            page.click("text=Pin")
    wait_for_text(page, ".pl-compare table", "▲")


def build(page) -> None:
    page.click("text=Edit by hand")
    page.click("button:text-is('Clear')")
    for _ in range(14):
        page.click("button:text-is('Hint')")
        page.click(".pl-hinted")
        page.wait_for_timeout(250)
    page.fill(".pl-any", "0B3")
    page.press(".pl-any", "Enter")
    page.wait_for_selector(".pl-bad")


def every_state(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with live_lab() as page:
        shoot(page, folder / "default.png")
        explain(page)
        shoot(page, folder / "explain.png")
        page.click(".pl-explanation button")
        page.click("text=Why idle?")
        page.click("text=Critical path")
        compare(page)
        shoot(page, folder / "compare.png")
        build(page)
        shoot(page, folder / "builder.png", ".pl-builder")
    with live_lab(width=800) as page:
        page.click("text=More controls")
        page.select_option("select[aria-label='memory strips']", "bytes")
        shoot(page, folder / "narrow.png")
        run(page)
        shoot(page, folder / "run.png")
    with live_lab(theme="JupyterLab Dark") as page:
        explain(page)
        shoot(page, folder / "dark.png")


def main(target: Path) -> None:
    if target.suffix != ".png":
        every_state(target)
        return
    with live_lab() as page:
        run(page)
        # Closed, they say little; without them the file is smaller.
        page.add_style_tag(content=".pl-lab > .pl-more { display: none }")
        shoot(page, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOKS / "images" / "lab.png")
