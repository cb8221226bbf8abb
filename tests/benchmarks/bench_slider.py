"""From a slider's key press to the first painted picture of the new value, in real JupyterLab.

    python tests/benchmarks/bench_slider.py

Bars: a cost slider 17 ms at 8 × 64 and 33 at 16 × 128, a count slider 50 and 60, with a kernel that
is 150 ms away 60. The clock starts in a capture-phase keydown listener and stops in a task after
the animation frame that follows the canvas's own "painted" event. Costs are predicted in the
browser; the counts move back and forth between two neighbours, which are fetched ahead. The kernel
is moved away in the browser: what the notebook's socket sends and receives waits for 75 ms each.
Beside it stands the round trip of an empty request to the same kernel, which no design that asks
the kernel can beat. Then: what is left to draw when a slider has been dragged as fast as a browser
sends moves, frames a second while the playhead plays, and what 500 moves leave behind.
"""

import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

from live_notebook import browser, command, jupyter_lab, open_notebook, python, write_notebook

SIZES = [
    (8, 64, {"latency": 17, "micro-batches": 50}),
    (16, 128, {"latency": 33, "micro-batches": 60}),
]
AWAY = 150
FAR = """(() => {
  const Near = window.WebSocket;
  window.WebSocket = class extends Near {
    send(data) { setTimeout(() => super.send(data), HALF); }
    set onmessage(hear) { super.onmessage = (event) => setTimeout(() => hear(event), HALF); }
  };
})()""".replace("HALF", str(AWAY // 2))
MOVES = 30
LONG = 500

CLOCK = """() => {
  window.moves = [];
  document.addEventListener('keydown', () => (window.pressed = performance.now()), true);
  document.addEventListener('pipelab-painted', () => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      if (window.pressed === null) return; // the kernel's own answer to the same move
      window.moves.push(performance.now() - window.pressed);
      window.pressed = null;
    };
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


FRAMES = """() => new Promise((resolve) => {
  const start = performance.now();
  let frames = 0;
  const count = (now) => {
    if (now - start >= 2000) return resolve((1000 * frames) / (now - start));
    frames += 1;
    requestAnimationFrame(count);
  };
  requestAnimationFrame(count);
})"""

DRAG = """async () => {
  const slider = document.querySelector("input[aria-label='micro-batches']");
  const painted = window.moves.length;
  let last = 0;
  for (let i = 0; i < 60; i++) {
    slider.value = Number(slider.max) - 1 - (i % 20);
    window.pressed = last = performance.now();
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
  let quiet;
  do {
    quiet = window.moves.length;
    await new Promise((resolve) => setTimeout(resolve, 400));
  } while (window.moves.length > quiet);
  return [window.moves.length - painted, window.moves.at(-1)];
}"""

BURST = """async (count) => {
  const slider = document.querySelector("input[aria-label='micro-batches']");
  for (let i = 0; i < count; i++) {
    const before = window.moves.length;
    slider.value = Number(slider.value) + (i % 2 ? 1 : -1);
    window.pressed = performance.now();
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    while (window.moves.length === before) await new Promise((resolve) => setTimeout(resolve, 4));
  }
}"""
RSS = "__import__('psutil').Process().memory_info().rss / 2**20"


def moves(page, label: str) -> list[float]:
    """Milliseconds of each of 30 moves of a slider, back and forth, after two to warm up."""
    page.focus(f"input[aria-label='{label}']")
    page.evaluate("window.moves = []")
    first, second = (
        ("ArrowRight", "ArrowLeft") if label == "latency" else ("ArrowLeft", "ArrowRight")
    )
    for move in range(MOVES + 2):
        page.keyboard.press(first if move % 2 == 0 else second)
        page.wait_for_function(
            "count => window.moves.length >= count", arg=move + 1, timeout=30_000, polling=100
        )
        page.wait_for_timeout(400)
    return sorted(page.evaluate("window.moves")[2:])


def heap(page) -> float:
    """MiB of JavaScript objects that are alive."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    return session.send("Runtime.getHeapUsage")["usedSize"] / 2**20


def sliders(page, name: str, bars: dict[str, int]) -> None:
    page.evaluate(CLOCK)
    page.wait_for_timeout(2000)  # neighbours are fetched
    for label, bar in bars.items():
        times = moves(page, label)
        median, late = statistics.median(times), times[int(0.9 * len(times))]
        print(
            f"{name}, {label:13}: median {median:.0f} ms (min {times[0]:.0f}, p90 {late:.0f}; "
            f"bar {bar})"
        )
    empty = statistics.median(page.evaluate(ROUND_TRIP, MOVES))
    print(f"    an empty request to the kernel: {empty:.0f} ms")


def rest(page) -> None:
    pictures, lag = page.evaluate(DRAG)
    print(f"    60 moves in a drag: {pictures} pictures, the last {lag:.0f} ms after the last move")
    page.click(".pl-play")
    print(f"    while playing: {page.evaluate(FRAMES):.0f} frames a second")
    page.focus(".pl-picture canvas")
    page.keyboard.press("End")
    page.evaluate(BURST, 50)
    before = heap(page), float(python(page, RSS))
    page.evaluate(BURST, LONG)
    after = heap(page), float(python(page, RSS))
    print(
        f"    {LONG} moves leave {after[0] - before[0]:+.1f} MiB in the browser, "
        f"{after[1] - before[1]:+.1f} MiB in the kernel"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        (home / "notebooks").mkdir()
        for ranks, microbatches, _ in SIZES:
            cell = (
                f"from pipelab.widgets import Lab\nLab(ranks={ranks}, microbatches={microbatches})"
            )
            write_notebook(home / "notebooks" / f"{ranks}.ipynb", cell)
        with jupyter_lab(home / "notebooks", home) as address:
            for ranks, microbatches, bars in SIZES:
                name = f"{ranks:2} × {microbatches:3}"
                for far in (False, True):
                    with browser(reduced_motion="reduce") as (page, _):
                        if far:
                            page.context.add_init_script(FAR)
                        open_notebook(page, address, f"{ranks}.ipynb")
                        command(page, "notebook:run-all-cells")
                        page.wait_for_selector(".pl-picture canvas", timeout=60_000)
                        if far:
                            sliders(page, f"{name}, kernel {AWAY} ms away", dict.fromkeys(bars, 60))
                        else:
                            sliders(page, name, bars)
                            rest(page)


if __name__ == "__main__":
    main()
