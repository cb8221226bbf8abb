"""How close a paced run comes to the law: eight ranks on however many cores there are.

    .venv/bin/python tests/benchmarks/bench_pace.py

Bar: the median of the runs within 1 % of the simulator, on a quiet machine. F 10 ms, B 20 ms (I and
W 10 ms each). Meshes of eight workers, whose collectives really compute, too: within 2 %, also
where one worker takes half as long again; F 20 ms, B 40 ms, REDUCE_GRAD 20 ms, UNSHARD 10 ms. A
machine that cannot keep such a pace takes a slower one, which the line then says. The last column
is what the machine itself does meanwhile: how late a thread wakes up from sleeps of 10 ms.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import time

import torch

import pipelab
from pipelab.engine import shutdown
from pipelab.errors import PaceTooFast
from pipelab.model import workload

RUNS, STEPS = 3, 5
SPARE = 1.2
"""What actions may really take longer than they were measured."""


def paced(slower, **more):
    durations = {"input_grad": 0.01, "weight_grad": 0.01, "reduce_grad": 0.01, "unshard": 0.005}
    slowed = {name: slower * seconds for name, seconds in durations.items()}
    return pipelab.Costs(slower * 0.01, **slowed, **more)


PACE, MESH_PACE = 1.0, 2.0
"""Times 10 ms, of a forward."""
SLOW = (1, 1, 1, 1.5, 1, 1, 1, 1)
MESHES = [
    (4, 1, {"data": 2, "zero": 1}),
    (4, SLOW, {"data": 2, "zero": 1}),
    (2, 1, {"data": 2, "tensor": 2, "zero": 1}),
    (2, SLOW, {"data": 2, "tensor": 2, "zero": 1}),
    (2, 1, {"data": 4, "zero": 3}),
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
            compare(f"{name:8}m {m:3}", pipelab.build(name, ranks=8, microbatches=m), PACE)
    for ranks, slowdown, mesh in MESHES:
        for name in ("gpipe", "1f1b", "zb-h1"):
            order = pipelab.build(name, ranks=ranks, microbatches=8)
            sizes = " ".join(f"{key} {value}" for key, value in mesh.items())
            title = f"{name:8}p {ranks}  {sizes:22}  {'one slow' if slowdown is SLOW else '':8}"
            compare(title, order, MESH_PACE, slowdown, **mesh)
    shutdown()


def compare(title, order, pace, slowdown=1, **mesh):
    """Print one line: how much longer than predicted the steps of some runs took."""
    batch = 4 * order.microbatches * mesh.get("data", 1)
    job = workload("mlp", layers=max(order.stages, 4), width=32, batch=batch)
    ratios, slower = [], pace
    while len(ratios) < RUNS * (STEPS - 1):
        try:
            run = pipelab.run(
                job.model,
                job.batches,
                None,
                job.loss_fn,
                schedule=order,
                pace=paced(slower, slowdown=slowdown),
                steps=STEPS,
                optimizer=job.optimizer,
                device="cpu",
                **mesh,
            )
        except PaceTooFast as error:
            ratios, slower = [], SPARE * error.slower * slower
            continue
        ratios += [timeline.makespan / run.predicted.makespan for timeline in run.timelines[1:]]
    median, worst = lateness()
    print(
        f"{title}  {statistics.median(ratios):.4f}  ({min(ratios):.4f} to {max(ratios):.4f})   "
        f"sleeps late by {median:.2f} ms, at most {worst:.1f}"
        + (f"   pace × {slower / pace:.2g}" if slower > pace else ""),
        flush=True,
    )


if __name__ == "__main__":
    main()
