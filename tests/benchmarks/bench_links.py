"""Step time of raw runs on two ranks, predicted against measured; and where m stops paying.

    .venv/bin/python tests/benchmarks/bench_links.py [--torchrun]

The link is fitted from runs whose messages differ. predicted: the simulator on the medians of what
each stage took in the run, with that link. An action keeps its rank busy beyond that, while it
starts and hands its result over: the overhead of LogP (Culler et al. 1993), which the trace tells.
ratio: measured / predicted, without it and with it. The bar is 10 % with it, as the median over
schedules and m. Then one batch is split into more and more micro-batches: predicted
from a profile of each size, the partition's costs and the link alone, measured by runs. The
crossover is the m with the shortest step. It needs two quiet cores. With --torchrun (2 processes of
torchrun), messages go through gloo.
"""

import os
import statistics
import sys

import numpy as np

import pipelab
from pipelab.model import workload

SCHEDULES = ("gpipe", "1f1b", "zb-h1", "interleaved-1f1b")
MICROBATCHES = (2, 4, 8, 16)
STEPS = 12
WORKERS = "torchrun" if "--torchrun" in sys.argv else "processes"
SPEAKS = os.environ.get("RANK", "0") == "0"


def train(job, schedule, m, **options):
    return pipelab.run(
        job.model, job.batches, None, job.loss_fn, schedule=schedule, ranks=2, microbatches=m,
        steps=STEPS, optimizer=job.optimizer, device="cpu", workers=WORKERS, seed=0, **options,
    )  # fmt: skip


def makespan(run):
    return statistics.median(timeline.makespan for timeline in run.timelines[1:])


def say(*words):
    if SPEAKS:
        print(*words, flush=True)


def on_link(run, link, overhead=0.0):
    """The run's costs with the link in place of its one latency, and what every action adds."""
    sent = run.timeline.bytes_sent
    stage, forward = run.schedule.stage, run.schedule.kind == pipelab.Kind.F
    message = [
        float(max(sent[forward & (stage == s)], default=0)) for s in range(run.schedule.stages)
    ]
    costs = {}
    for name in ("forward", "backward", "input_grad", "weight_grad"):
        seconds = getattr(run.costs, name)
        costs[name] = seconds and [each + overhead for each in seconds]
    if costs["input_grad"]:  # B is both, and never runs
        halves = zip(costs["input_grad"], costs["weight_grad"], strict=True)
        costs["backward"] = [sum(pair) for pair in halves]
    return pipelab.Costs(**costs, message=message, link=link)


def overhead(run):
    """Seconds of an action in which its rank neither computes nor waits: starting, handing over."""
    found = []
    for t in run.timelines[1:]:
        there = t.sent <= t.asked  # its input was there
        starting = np.where(there, t.started - t.asked, 0.0)
        handing = np.append(t.asked[1:] - t.ended[:-1], 0.0)
        handing[run.schedule.offsets[1:] - 1] = 0.0
        found.append((starting + handing).mean())
    return statistics.median(found)


def schedules(job, link):
    say(f"{'schedule':18}{'m':>3}{'measured ms':>13}{'predicted ms':>14}{'ratio':>7}{'with':>7}")
    both = [], []
    for name in SCHEDULES:
        for m in MICROBATCHES:
            run = train(job, name, m)
            found = makespan(run)
            for ratios, added in zip(both, (0.0, overhead(run)), strict=True):
                expected = pipelab.simulate(run.schedule, on_link(run, link, added))
                ratios.append(found / expected.makespan)
            say(
                f"{name:18}{m:3}{1000 * found:13.2f}{1000 * expected.makespan:14.2f}"
                f"{both[0][-1]:7.2f}{both[1][-1]:7.2f}"
            )
    without, full = map(statistics.median, both)
    say(f"the median ratio is {full:.3f}, without overhead {without:.3f}; the bar is 1 ± 0.1")


def crossover(job, link):
    say(f"\n{'m':>3}{'measured ms':>13}{'predicted ms':>14}   one batch of 64, 1f1b")
    rows = {}
    x, y = job.batches(0)
    for m in (1, 2, 4, 8, 16, 32, 64):
        profile = pipelab.profile(job.model, x, y, job.loss_fn, microbatches=m, device="cpu")
        sizes = [4, 4]
        expected = pipelab.partition(profile, ranks=2, microbatches=m, link=link, sizes=sizes)
        rows[m] = makespan(train(job, "1f1b", m, partition=sizes)), expected.makespan
        say(f"{m:3}{1000 * rows[m][0]:13.2f}{1000 * rows[m][1]:14.2f}")
    best = [min(rows, key=lambda m: rows[m][which]) for which in (0, 1)]
    say(f"the step is shortest at m = {best[0]} measured, {best[1]} predicted")


def main():
    runs = []
    for width in (32, 128, 512):
        probe = workload("mlp", layers=8, width=width, batch=1024)
        runs += [train(probe, "1f1b", m) for m in (2, 8)]
    link = pipelab.fit_link(runs)
    say(
        f"{runs[0].transport}: latency {1e6 * link.latency:.0f} µs, "
        f"bandwidth {link.bandwidth / 1e9:.2f} GB/s"
    )
    job = workload("gpt", layers=8, width=64, batch=64)
    schedules(job, link)
    crossover(job, link)


if __name__ == "__main__":
    main()
