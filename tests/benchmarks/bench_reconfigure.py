"""From a change of the number of stages to the first measured result, and what idle workers hold in
memory.

The bars: 0.3 s warm, 5 s cold; 40 MiB of proportional set size for each of 8 workers before its
first run.

    .venv/bin/python tests/benchmarks/bench_reconfigure.py

A tiny raw model, as the bar says. Cold: no pool yet, in a Python that has imported torch (a
notebook's kernel). Fresh: from the start of Python, as for a script; no bar.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import subprocess
import sys
import time

REPEATS = 5


def first_result(ranks):
    """Train one step on so many ranks and read its timeline; seconds."""
    import torch

    import pipelab

    layers = [torch.nn.Linear(8, 8) for _ in range(8)]
    x = torch.randn(16, 8)
    started = time.perf_counter()
    run = pipelab.run(
        layers, x, x, torch.nn.functional.mse_loss, schedule="1f1b", ranks=ranks, microbatches=8
    )
    _ = run.timeline.metrics
    return time.perf_counter() - started


def cold(ranks):
    """The same without a pool; seconds."""
    from pipelab.engine import shutdown

    shutdown()
    return first_result(ranks)


def fresh(ranks):
    """The same from the start of Python; seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, __file__, str(ranks)], check=True)
    return time.perf_counter() - started


def idle_memory(ranks):
    """MiB of proportional set size of each worker that has started and not yet run."""
    import psutil

    from pipelab.engine.record.board import create_file
    from pipelab.engine.workers.pool import worker_source

    board = create_file(1)
    crew = worker_source().launch(board, ranks)
    try:
        time.sleep(1)
        return [psutil.Process(pid).memory_full_info().pss / 2**20 for pid in crew.pids]
    finally:
        crew.end()
        os.close(board)


def main():
    print(f"median of {REPEATS}, seconds")
    print(f"fresh, 4 stages    {statistics.median(fresh(4) for _ in range(REPEATS)):.2f}")
    print(f"cold, 4 stages     {statistics.median(cold(4) for _ in range(REPEATS)):.2f}")
    for before, after in ((2, 4), (4, 8), (8, 4), (4, 3)):
        durations = []
        for _ in range(REPEATS):
            first_result(before)
            durations.append(first_result(after))
        print(f"warm, {before} → {after} stages {statistics.median(durations):.3f}")
    sizes = idle_memory(8)
    print(f"8 idle workers: {statistics.median(sizes):.1f} MiB each, {max(sizes):.1f} at most")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        first_result(int(sys.argv[1]))
    else:
        main()
