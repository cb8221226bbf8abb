"""Makes the pictures of the README, or one of every state of the lab.

python tests/browser/screenshot.py              notebooks/images/lab.png: a real run over its
                                                prediction; builder.png; and moves.png, animated
python tests/browser/screenshot.py FOLDER       every state, to be looked at
"""

import struct
import sys
import tempfile
import zlib
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

from pipelab.widgets import Goal, Lab

IMAGES = NOTEBOOKS / "images"
GOAL = 'Goal("Bring the bubble under 20 %.", {"bubble_fraction": "< 0.2"}, {"microbatches": 16})'
CELL = (
    "import pipelab\nfrom pipelab.widgets import Goal\n\n"
    f"lab = pipelab.lab('1f1b', ranks=4, microbatches=8, goals=[{GOAL}])\nlab"
)
BUILDER = "from pipelab.widgets import builder\n\nbuilder(exercise='08')"
CANVAS = ".pl-picture canvas"


@contextmanager
def live(cell: str = CELL, *, theme: str = "JupyterLab Light", width: int = 950):
    """A page with a cell's widget, as wide as beside JupyterLab's side panel."""
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        folder = home / "notebooks"
        folder.mkdir()
        write_notebook(folder / "lab.ipynb", cell)
        options = {"viewport": {"width": width, "height": 1600}, "reduced_motion": "reduce"}
        with (
            jupyter_lab(folder, home, theme=theme) as address,
            browser(**options) as (page, trouble),
        ):
            open_notebook(page, address, "lab.ipynb")
            command(page, "notebook:run-all-cells")
            page.wait_for_selector(".pl-lab")
            page.wait_for_timeout(1500)
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
    wait_for_text(page, ".pl-breakdown", "warm-up")
    page.focus(CANVAS)
    for key in ("Home", *["ArrowRight"] * 8, "ArrowDown", "Enter"):  # rank 0, in the long wait
        page.keyboard.press(key)
    wait_for_text(page, ".pl-explanation", "What would help")
    page.keyboard.press("End")


def compare(page) -> None:
    for schedule in ("gpipe", "zb-h1", "1f1b"):
        page.select_option("select[aria-label=schedule]", schedule)
        page.wait_for_timeout(800)
        if schedule != "1f1b":
            page.click("text=Pin")
    wait_for_text(page, ".pl-compare table", "▲")


def build(page, hints: int = 22) -> None:
    for _ in range(hints):
        page.click("button:text-is('Hint')")
        page.click(".pl-hinted")
        page.wait_for_timeout(150)
    page.fill(".pl-any", "0B5")
    page.press(".pl-any", "Enter")
    page.wait_for_selector(".pl-bad")


def every_state(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with live() as page:
        shoot(page, folder / "default.png")
        page.focus("input[aria-label='micro-batches']")
        for _ in range(8):
            page.keyboard.press("ArrowRight")
        shoot(page, folder / "goal-reached.png")
        explain(page)
        shoot(page, folder / "explain.png")
        page.click(".pl-explanation button")
        page.click("text=Critical path")
        shoot(page, folder / "critical-path.png")
        page.click("text=Critical path")
        compare(page)
        shoot(page, folder / "compare.png")
        for name in ("interleaved-1f1b", "dualpipe", "zb-v"):
            page.select_option("select[aria-label=schedule]", name)
            page.wait_for_timeout(500)
            shoot(page, folder / f"{name}.png")
        page.select_option("select[aria-label=schedule]", "dualpipe")
        page.focus("input[aria-label='ranks']")
        page.keyboard.press("ArrowLeft")
        shoot(page, folder / "impossible.png")
    with live(width=800) as page:
        page.click("text=All controls")
        page.select_option("select[aria-label='memory strips']", "bytes")
        shoot(page, folder / "all-controls.png")
        run(page)
        page.click("button:text-is('Real run')")
        shoot(page, folder / "run.png")
    with live(theme="JupyterLab Dark") as page:
        explain(page)
        shoot(page, folder / "dark.png")
    with live(BUILDER) as page:
        build(page)
        shoot(page, folder / "builder.png")
    with live(BUILDER, theme="JupyterLab Dark") as page:
        build(page)
        shoot(page, folder / "builder-dark.png")


def chunks(png: bytes):
    """(type, data) of each chunk of a PNG."""
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def animated(frames: list[tuple[bytes, int]]) -> bytes:
    """PNG files of one size, each with its milliseconds, as one animated PNG (W3C PNG 3rd ed.)."""
    numbers = iter(range(10**6))
    header = next(data for kind, data in chunks(frames[0][0]) if kind == b"IHDR")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    out = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header)]
    out.append(chunk(b"acTL", struct.pack(">II", len(frames), 0)))
    for i, (png, milliseconds) in enumerate(frames):
        place = struct.pack(">I8sIIHHBB", next(numbers), header[:8], 0, 0, milliseconds, 1000, 0, 0)
        out.append(chunk(b"fcTL", place))
        for kind, data in chunks(png):
            if kind == b"IDAT" and i == 0:
                out.append(chunk(b"IDAT", data))
            elif kind == b"IDAT":
                out.append(chunk(b"fdAT", struct.pack(">I", next(numbers)) + data))
    return b"".join([*out, chunk(b"IEND", b"")])


def moves(target: Path) -> None:
    """One model and one batch, from one device's 100 down: naive, GPipe, more pieces, 1F1B."""
    goal = Goal("Bring four devices near a quarter of the time.", {"time_per_batch": "< 30"})
    lab = Lab(
        schedule="naive", microbatches=4, goals=[goal], show=["schedule", "microbatches", "latency"]
    )
    counts = {"schedule": ["naive", "gpipe", "1f1b"], "microbatches": [4, 8, 16]}
    frames: list[tuple[bytes, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        page_file = lab.save(Path(folder) / "lab.html", counts=counts)
        options = {"viewport": {"width": 860, "height": 620}, "reduced_motion": "no-preference"}
        with browser(**options) as (page, _):
            page.clock.install()
            page.goto(page_file.as_uri())
            page.clock.pause_at(page.evaluate("Date.now()") + 1000)
            page.add_style_tag(content="h1, .pl-foot, .pl-tabs, .pl-about { display: none }")
            page.focus(CANVAS)
            page.keyboard.press("End")

            def frame(milliseconds: int) -> None:
                page.locator(".pl-lab").screenshot(path=Path(folder) / "frame.png")
                frames.append(((Path(folder) / "frame.png").read_bytes(), milliseconds))

            def slide() -> None:
                for _ in range(5):
                    page.clock.run_for(50)
                    frame(50)
                page.clock.run_for(400)
                frame(1500)

            frame(1500)
            page.select_option("select[aria-label=schedule]", "gpipe")
            slide()
            for _ in range(2):
                page.focus("input[aria-label='micro-batches']")
                page.keyboard.press("ArrowRight")
                slide()
            page.select_option("select[aria-label=schedule]", "1f1b")
            slide()
    target.write_bytes(animated(frames))
    print(f"{target}: {target.stat().st_size // 1024} KiB, {len(frames)} frames")


def main() -> None:
    if len(sys.argv) > 1:
        every_state(Path(sys.argv[1]))
        moves(Path(sys.argv[1]) / "moves.png")
        return
    moves(IMAGES / "moves.png")
    with live() as page:
        run(page)
        shoot(page, IMAGES / "lab.png")
    with live(BUILDER) as page:
        build(page)
        shoot(page, IMAGES / "builder.png")


if __name__ == "__main__":
    main()
