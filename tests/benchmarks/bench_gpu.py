"""On a machine with a GPU: the GPU tests, then a real step of several ranks on it against two
peers.

    .venv/bin/python tests/benchmarks/bench_gpu.py

Every step runs the same micro-batches of the same GPT, in turns of some steps, our tracing on.
"unsplit" accumulates the micro-batches one after the other in one process; "processes" are the same
ranks as a process each, which hand over through the host's memory, since NCCL refuses two ranks on
one GPU. The ratios are their step over that of our threads. With one GPU for all ranks the best
there can be against the unsplit model is 1: what is missing is what a pipeline costs. With as many
GPUs as ranks it is the speed-up. A step is the time from the last end of one to the last end of the
next.
"""

import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

import pipelab
from pipelab.engine import shutdown
from pipelab.model import workload

MICROBATCHES, ROUNDS, STEPS, WARM_UP = 8, 5, 12, 2
MODEL = dict(name="gpt", layers=10, width=512, batch=32)


def times(ends):
    """Seconds from step to step, without the first ones of a turn."""
    return [after - before for before, after in pairwise(ends[WARM_UP:])]


def unsplit_turn(model, inputs, targets, loss_fn):
    """Ends of each step of the unsplit model, in seconds."""
    ends = []
    for _ in range(STEPS):
        model.zero_grad()
        pieces = inputs.tensor_split(MICROBATCHES), targets.tensor_split(MICROBATCHES)
        for x, y in zip(*pieces, strict=True):
            (loss_fn(model(x), y) / MICROBATCHES).backward()
        torch.cuda.synchronize()
        ends.append(time.perf_counter())
    return ends


def our_turn(job, inputs, targets, **options):
    """Ends of each step of ours, and the run."""
    ends = [0.0] * STEPS

    def ended(event):
        ends[event.step] = max(ends[event.step], event.ended)

    return ends, pipelab.run(
        job.model,
        inputs,
        targets,
        job.loss_fn,
        microbatches=MICROBATCHES,
        steps=STEPS,
        device="cuda",
        on_event=ended,
        **options,
    )


def main():
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU on this machine")
    tests = os.path.join(os.path.dirname(__file__), "..")
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", os.path.join(tests, "engine")],
        check=False,
    )
    job = workload(**MODEL)
    inputs, targets = job.batches(0)
    whole = torch.nn.Sequential(*workload(**MODEL).model).cuda()
    print(
        f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}, torch "
        f"{torch.__version__}; median ms of a step"
    )
    print(
        f"{'schedule':18}{'ranks':>5}{'threads':>10}{'unsplit':>10}{'ratio':>8}{'processes':>11}{'ratio':>8}{'bubble':>9}{'MiB':>8}"
    )
    for name in ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-v"):
        for ranks in (2, 4):
            alone, ours, apart = [], [], []
            for _ in range(ROUNDS):
                alone += times(unsplit_turn(whole, inputs.cuda(), targets.cuda(), job.loss_fn))
                ends, run = our_turn(job, inputs, targets, schedule=name, ranks=ranks)
                ours += times(ends)
                apart += times(
                    our_turn(job, inputs, targets, schedule=name, ranks=ranks, workers="processes")[
                        0
                    ]
                )
            one, threads, processes = (
                1000 * statistics.median(each) for each in (alone, ours, apart)
            )
            bubble, peak = run.metrics["bubble_fraction"], max(run.peak_memory_bytes) / 2**20
            print(
                f"{name:18}{ranks:5}{threads:10.2f}{one:10.2f}{one / threads:8.2f}{processes:11.2f}"
                f"{processes / threads:8.2f}{bubble:9.1%}{peak:8.0f}",
                flush=True,
            )  # fmt: skip
    shutdown()


if __name__ == "__main__":
    main()
