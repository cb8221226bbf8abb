"""How close a paced run comes to the law: eight ranks on however many cores there are.

    .venv/bin/python tests/benchmarks/bench_pace.py

Bar: the median of the runs within 1 % of the simulator, on a quiet machine. F 10 ms, B 20 ms (I and
W 10 ms each). Meshes of eight workers: within 2 %, also where one of them takes half as long again;
REDUCE_GRAD 10 ms, UNSHARD 5 ms. The last column is what the machine itself does meanwhile: how late
a thread wakes up from sleeps of 10 ms.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import time
from dataclasses import replace

import torch

import pipelab
from pipelab.engine import shutdown
from pipelab.model import workload

RUNS, STEPS = 3, 5
PACE = pipelab.Costs(0.01, input_grad=0.01, weight_grad=0.01, reduce_grad=0.01, unshard=0.005)
SLOW = replace(PACE, slowdown=(1, 1, 1, 1.5, 1, 1, 1, 1))
MESHES = [
    (4, PACE, {"data": 2, "zero": 1}),
    (4, SLOW, {"data": 2, "zero": 1}),
    (2, PACE, {"data": 2, "tensor": 2, "zero": 1}),
    (2, SLOW, {"data": 2, "tensor": 2, "zero": 1}),
    (2, PACE, {"data": 4, "zero": 3}),
]


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
            compare(f"{name:8}m {m:3}", pipelab.build(name, ranks=8, microbatches=m))
    for ranks, pace, mesh in MESHES:
        for name in ("gpipe", "1f1b", "zb-h1"):
            order = pipelab.build(name, ranks=ranks, microbatches=8)
            sizes = " ".join(f"{key} {value}" for key, value in mesh.items())
            title = f"{name:8}p {ranks}  {sizes:22}  {'one slow' if pace is SLOW else '':8}"
            compare(title, order, pace, **mesh)
    shutdown()


def compare(title, order, pace=PACE, **mesh):
    """Print one line: how much longer than predicted the steps of some runs took."""
    batch = 4 * order.microbatches * mesh.get("data", 1)
    job = workload("mlp", layers=max(order.stages, 4), width=32, batch=batch)
    ratios = []
    for _ in range(RUNS):
        run = pipelab.run(
            job.model,
            job.batches,
            None,
            job.loss_fn,
            schedule=order,
            pace=pace,
            steps=STEPS,
            optimizer=job.optimizer,
            device="cpu",
            **mesh,
        )
        ratios += [timeline.makespan / run.predicted.makespan for timeline in run.timelines[1:]]
    median, worst = lateness()
    print(
        f"{title}  {statistics.median(ratios):.4f}  ({min(ratios):.4f} to {max(ratios):.4f})   "
        f"sleeps late by {median:.2f} ms, at most {worst:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
