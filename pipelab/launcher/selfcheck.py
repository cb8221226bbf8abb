"""A short real training before the lab opens: does everything work on this machine?

In: nothing. Out: a few lines for a person, and exit code 0 when all is well. It is paced:
four workers show the true bubble even where there are fewer cores.
"""

import math
import os
import sys
from dataclasses import dataclass

import psutil

from ..errors import PipelabError
from ..simulator import Costs

PACE = Costs(forward=0.01, backward=0.02)  # seconds
RANKS, MICROBATCHES, STEPS = 4, 8, 3
EQUAL = 1e-5
"""The largest gradient error that float32 rounding explains."""


@dataclass(frozen=True)
class Report:
    """What the self-check found: `lines` for a person, `ok` for the exit code."""

    ok: bool
    lines: list[str]


def selfcheck() -> Report:
    """Train a small model for three paced steps, and look at what was measured.

    Raises:
        PipelabError: the training failed.
    """
    from ..engine import warm

    warm()  # its server imports torch while this process does
    from ..engine import run
    from ..model import workload

    job = workload("mlp", layers=8, width=16, batch=16)
    done = run(
        job.model,
        job.batches,
        None,
        job.loss_fn,
        schedule="1f1b",
        ranks=RANKS,
        microbatches=MICROBATCHES,
        steps=STEPS,
        optimizer=job.optimizer,
        pace=PACE,
    )
    error = math.inf if done.gradient_error is None else done.gradient_error
    equal = error <= EQUAL
    measured = done.timeline.metrics["bubble_fraction"]
    predicted = done.predicted.metrics["bubble_fraction"]
    return Report(
        ok=equal,
        lines=[
            f"devices    {devices()}; ran on {done.device}: {RANKS} ranks, {done.workers}, "
            f"{done.transport}",
            f"training   1f1b, {MICROBATCHES} micro-batches, paced: loss {done.losses[0]:.3f} → "
            f"{done.losses[-1]:.3f}",
            f"bubble     measured {measured:.1%}, predicted {predicted:.1%} (idle / (ranks × "
            "makespan))",
            f"gradients  {'equal to' if equal else 'NOT equal to'} the unsplit model's, error "
            f"{error:.1e}",
        ],
    )


def cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def devices() -> str:
    """The processors and the memory there are."""
    from ..engine import gpu_names, unusable_gpus

    memory = psutil.virtual_memory().total / 2**30
    gpus = ", ".join(gpu_names()) or "no GPU"
    if unusable := unusable_gpus():
        gpus += f" to use: {unusable}"
    return f"{cores()} CPU cores, {memory:.0f} GiB memory, {gpus}"


def main() -> int:
    """Print the report; returns 0 when all is well."""
    print("pipelab self-check: a few real training steps ...", flush=True)
    try:
        report = selfcheck()
    except PipelabError as error:
        print(f"self-check failed: {error}", flush=True)
        return 1
    print("\n".join(f"  {line}" for line in report.lines), flush=True)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
