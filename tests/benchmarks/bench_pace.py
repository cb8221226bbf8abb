"""How close a paced run comes to the law: eight ranks on however many cores there are.

    .venv/bin/python tests/benchmarks/bench_pace.py

Bar: the median of the runs within 1 % of the simulator, on a quiet machine. F 10 ms, B 20 ms (I and
W 10 ms each). The last column is what the machine itself does meanwhile: how late a thread wakes up
from sleeps of 10 ms.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import time

import torch

import pipelab
from pipelab.engine import shutdown
from pipelab.model import workload

RUNS, STEPS = 3, 5


def lateness():
    """The median and the largest of some wake-ups, in ms late."""
    late = []
    for _ in range(50):
        due = time.perf_counter() + 0.01
        time.sleep(0.01)
        late.append(1e3 * (time.perf_counter() - due))
    return statistics.median(late), max(late)


def main():
    torch.set_num_threads(1)
    print(
        f"8 ranks on {os.cpu_count()} cores; measured / law: median, least and largest of {RUNS} "
        f"runs of {STEPS} steps"
    )
    for name in ("gpipe", "1f1b", "zb-h1", "zb-v"):
        for m in (8, 16, 32):
            order = pipelab.build(name, ranks=8, microbatches=m)
            job = workload("mlp", layers=order.stages, width=32, batch=4 * m)
            ratios = []
            for _ in range(RUNS):
                run = pipelab.run(
                    job.model,
                    job.batches,
                    None,
                    job.loss_fn,
                    schedule=order,
                    pace=(0.01, 0.01, 0.01),
                    steps=STEPS,
                    optimizer=job.optimizer,
                    device="cpu",
                )
                ratios += [
                    timeline.makespan / run.predicted.makespan for timeline in run.timelines[1:]
                ]
            median, worst = lateness()
            print(
                f"{name:8}m {m:3}  {statistics.median(ratios):.4f}  ({min(ratios):.4f} to "
                f"{max(ratios):.4f})   sleeps late by {median:.2f} ms, at most {worst:.1f}",
                flush=True,
            )
    shutdown()


if __name__ == "__main__":
    main()
