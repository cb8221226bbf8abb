"""From a slider's key press to the painted picture, in real JupyterLab. Bars: 50 ms at 8 × 64, 60 ms at 16 × 128.

    python tests/benchmarks/bench_slider.py

The clock starts in a capture-phase keydown listener and stops in a task after the animation frame that follows the
canvas's own "painted" event. The kernel computes every picture: nothing is cached. Beside it stands the round trip of an
empty request to the same kernel, which no design that asks the kernel can beat.
"""

import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

from live_notebook import browser, command, jupyter_lab, open_notebook, write_notebook

SIZES = [(8, 64, 50), (16, 128, 60)]
MOVES = 30

CLOCK = """() => {
  window.moves = [];
  document.addEventListener('keydown', () => (window.pressed = performance.now()), true);
  document.addEventListener('pipelab-painted', () => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => window.moves.push(performance.now() - window.pressed);
    channel.port2.postMessage(null);
  }));
}"""


ROUND_TRIP = """async (count) => {
  const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
  const times = [];
  for (let i = 0; i < count; i++) {
    const asked = performance.now();
    await kernel.requestKernelInfo();
    times.push(performance.now() - asked);
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  return times;
}"""


def measure(address: str, name: str) -> tuple[list[float], list[float]]:
    """Milliseconds of each of 30 moves of the micro-batch slider, back and forth, after two to warm up; and of 30 empty
    requests to the kernel."""
    with browser(reduced_motion="reduce") as (page, _):
        open_notebook(page, address, name)
        command(page, "notebook:run-all-cells")
        page.wait_for_selector(".pl-picture canvas", timeout=60_000)
        page.wait_for_timeout(2000)
        page.focus("input[aria-label='micro-batches']")
        page.evaluate(CLOCK)
        for move in range(MOVES + 2):
            page.keyboard.press("ArrowLeft" if move % 2 == 0 else "ArrowRight")
            page.wait_for_function("count => window.moves.length >= count", arg=move + 1, timeout=30_000, polling=100)
            page.wait_for_timeout(60)
        return page.evaluate("window.moves")[2:], page.evaluate(ROUND_TRIP, MOVES)


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        (home / "notebooks").mkdir()
        for ranks, microbatches, _ in SIZES:
            cell = f"from pipelab.widgets import Lab\nLab(ranks={ranks}, microbatches={microbatches})"
            write_notebook(home / "notebooks" / f"{ranks}.ipynb", cell)
        with jupyter_lab(home / "notebooks", home) as address:
            for ranks, microbatches, bar in SIZES:
                moves, empty = map(sorted, measure(address, f"{ranks}.ipynb"))
                print(
                    f"{ranks:2} × {microbatches:3}: median {statistics.median(moves):.0f} ms "
                    f"(min {moves[0]:.0f}, p90 {moves[int(0.9 * len(moves))]:.0f}; bar {bar}); "
                    f"an empty request to the kernel {statistics.median(empty):.0f} ms"
                )


if __name__ == "__main__":
    main()
