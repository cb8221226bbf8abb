"""On a machine with a GPU: the GPU tests, then a real step of several ranks on it against the unsplit model's step.

    .venv/bin/python tests/benchmarks/bench_gpu.py

Every step runs the same micro-batches of the same GPT, interleaved turn by turn, our tracing on. "unsplit" accumulates the
micro-batches one after the other in one process; the ratio is its step over ours. With one GPU for all ranks the best there
can be is 1: what is missing is what a pipeline costs. With as many GPUs as ranks, the ratio is the speed-up.
"""

import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

import pipelab
from pipelab.engine import shutdown
from pipelab.model import workload

MICROBATCHES, ROUNDS, STEPS, WARM_UP = 8, 5, 12, 2
MODEL = dict(name="gpt", layers=10, width=512, batch=32)


def unsplit_turn(model, inputs, targets, loss_fn):
    """Seconds of each step of the unsplit model."""
    times = []
    for _ in range(STEPS):
        model.zero_grad()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for x, y in zip(inputs.tensor_split(MICROBATCHES), targets.tensor_split(MICROBATCHES)):
            (loss_fn(model(x), y) / MICROBATCHES).backward()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return times[WARM_UP:]


def main():
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU on this machine")
    tests = os.path.join(os.path.dirname(__file__), "..", "engine", "test_gpu.py")
    subprocess.run([sys.executable, "-m", "pytest", "-q", tests], check=False)
    job = workload(**MODEL)
    inputs, targets = job.batches(0)
    whole = torch.nn.Sequential(*workload(**MODEL).model).cuda()
    print(f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}, torch {torch.__version__}; median ms of a step")
    print(f"{'schedule':18}{'ranks':>5}{'unsplit':>10}{'ours':>10}{'ratio':>8}{'bubble':>9}")
    for name in ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-v"):
        for ranks in (2, 4):
            alone, ours = [], []
            for _ in range(ROUNDS):
                alone += unsplit_turn(whole, inputs.cuda(), targets.cuda(), job.loss_fn)
                run = pipelab.run(
                    job.model, inputs, targets, job.loss_fn, schedule=name, ranks=ranks, microbatches=MICROBATCHES,
                    steps=STEPS, device="cuda",
                )
                ours += [timeline.makespan for timeline in run.timelines[WARM_UP:]]
            one, other = (1000 * statistics.median(times) for times in (alone, ours))
            bubble = run.metrics["bubble_fraction"]
            print(f"{name:18}{ranks:5}{one:10.2f}{other:10.2f}{one / other:8.2f}{bubble:9.1%}", flush=True)
    shutdown()


if __name__ == "__main__":
    main()
