"""Bytes of saved activations on every rank, predicted from a profile against measured in a run.

    .venv/bin/python tests/benchmarks/bench_memory.py

A row per schedule, model and way of recomputing. measured, predicted: KiB of each rank at its peak.
error: the largest over the ranks, as a share of what was measured; the bar is 5 %.
"""

import pipelab
from pipelab.catalogue import entry, names
from pipelab.layout.memory import rank_bytes, stage_memory
from pipelab.model import workload

RANKS, MICROBATCHES = 4, 8
BAR = 0.05


def predicted(schedule, profile, sizes, recompute):
    ranks = rank_bytes(schedule, stage_memory(profile, sizes), recompute=recompute)
    return [rank["activations"] for rank in ranks]


def compare(name, model, recompute, dtype):
    job = workload(model, layers=9, width=32, batch=16)
    x, y = job.batches(0)
    schedule = pipelab.build(name, ranks=RANKS, microbatches=MICROBATCHES)
    run = pipelab.run(
        job.model, x, y, job.loss_fn, schedule=schedule, optimizer=job.optimizer,
        recompute=recompute, dtype=dtype, device="cpu",
    )  # fmt: skip
    profile = pipelab.profile(
        job.model,
        x,
        y,
        job.loss_fn,
        microbatches=MICROBATCHES,
        repeats=1,
        device="cpu",
        dtype=dtype,
    )
    found = predicted(schedule, profile, run.partition, recompute)
    return run.peak_activation_bytes, found


def main():
    print(
        f"{'schedule':18}{'model':6}{'recompute':13}{'dtype':10}{'error':>7}  measured | predicted"
    )
    worst = 0.0
    cases = [(name, None, "float32") for name in names()]
    cases += [
        (name, way, "float32") for name in ("1f1b", "zb-h1") for way in ("in-backward", "early")
    ]
    cases += [(name, None, "bfloat16") for name in ("1f1b", "zb-v")]
    for name, recompute, dtype in cases:
        if entry(name).problem(RANKS, MICROBATCHES):
            continue
        for model in ("gpt", "mlp"):
            measured, found = compare(name, model, recompute, dtype)
            error = max(abs(f / m - 1) for m, f in zip(measured, found, strict=True))
            worst = max(worst, error)
            sides = (" ".join(f"{size / 1024:.0f}" for size in one) for one in (measured, found))
            row = f"{name:18}{model:6}{recompute or '':13}{dtype:10}{error:7.1%}"
            print(f"{row}  {' | '.join(sides)}", flush=True)
    print(f"the largest error is {worst:.1%}; the bar is {BAR:.0%}")


if __name__ == "__main__":
    main()
