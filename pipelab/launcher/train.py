"""`pipelab train`: one of the course's models, a schedule, a few real steps.

In: a Schedule and the sizes. Out: what was measured beside what was predicted, as data and as text.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import RunError
from ..schedule import Schedule
from ..timeline import Timeline

if TYPE_CHECKING:
    from ..engine import Run

BATCH = 32
"""Samples in a batch, rounded up until every micro-batch has as many."""

POLL_S = 0.05
CANCEL_S = 5
"""Seconds that a cancelled run gets to end its workers."""


OPTIONS = ("optimizer", "dtype", "recompute", "clip", "checkpoint")
"""How to train: the names of what `add_options` adds."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags that say how to train, rather than what or where."""
    parser.add_argument("--optimizer", default="adam", metavar="sgd|adam|adamw", help="(adam)")
    parser.add_argument(
        "--dtype",
        default="float32",
        metavar="float32|bfloat16",
        help="bfloat16: under autocast (float32)",
    )
    parser.add_argument(
        "--recompute",
        metavar="in-backward|early",
        help="run each forward again instead of keeping it",
    )
    parser.add_argument(
        "--clip", type=float, metavar="X", help="largest norm of the gradients of the whole model"
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="go on from it where it exists; written at the end"
    )


def train(
    schedule: Schedule,
    *,
    model: str,
    layers: int,
    width: int,
    steps: int,
    seed: int,
    pace: tuple[float, ...] | None,
    timeout: float | None,
    device: str,
    workers: str,
    optimizer: str,
    dtype: str,
    recompute: str | None,
    clip: float | None,
    checkpoint: str | None,
    executor: str,
    say: Callable[[str], None],
) -> "Run":
    """Train and wait for the end; each finished step is said as it comes.

    Args:
        pace: seconds per F, B and perhaps W; None runs at full speed.
        timeout: seconds any wait may last; None leaves it to the engine.
        checkpoint: a file to go on from where it exists, and to write when the training is done.
        say: takes one line of progress.

    Raises:
        UsageError: sizes that cannot work, before a worker starts.
        RunError: the run failed. KeyboardInterrupt cancels it and leaves no worker behind.
    """
    from ..engine import warm

    if "RANK" not in os.environ:
        warm()  # its server imports torch while this process does
    from ..engine import start
    from ..model import workload

    batch = schedule.microbatches * math.ceil(BATCH / schedule.microbatches)
    job = workload(model, layers=layers, width=width, batch=batch, seed=seed, optimizer=optimizer)
    resume = checkpoint if checkpoint and os.path.exists(checkpoint) else None
    run = start(
        job.model,
        job.batches,
        None,
        job.loss_fn,
        schedule=schedule,
        ranks=schedule.ranks,
        microbatches=schedule.microbatches,
        steps=steps,
        optimizer=job.optimizer,
        device=device,
        workers=workers,
        pace=pace,
        seed=seed,
        timeout=timeout,
        dtype=dtype,
        recompute=recompute,
        clip=clip,
        resume=resume,
        executor=executor,
    )
    try:
        _follow(run, steps, say)
    except KeyboardInterrupt:
        run.cancel()
        with suppress(RunError, TimeoutError):
            run.wait(CANCEL_S)
        raise
    if checkpoint and speaks():
        run.save(checkpoint)
    return run


def speaks() -> bool:
    """Whether this process tells what came out: the only one, or rank 0 of those that torchrun has
    started.
    """
    return os.environ.get("RANK", "0") == "0"


def _follow(run: "Run", steps: int, say: Callable[[str], None]) -> None:
    """Say each step as it ends, until the run has ended; raises what it raised."""
    said, done = 0, False
    while not done:
        done = run.done  # asked before the losses are read, so that the last ones are not missed
        for loss in run.losses[said:]:
            said += 1
            if speaks():
                say(f"step {said}/{steps}  loss {loss:.4f}")
        time.sleep(0 if done else POLL_S)
    run.wait()


def pictures(run: "Run", ours: "Run | None") -> tuple[Timeline, Timeline]:
    """The two timelines to lay under each other: predicted and measured, or both engines' own."""
    if ours is None:
        return run.predicted, run.timeline
    return replace(ours.timeline, source="pipelab"), replace(run.timeline, source="torch")


def as_data(schedule: Schedule, run: "Run", ours: "Run | None" = None) -> dict:
    """A finished run as `pipelab train --json` prints it; ours: the same with our engine, beside
    torch's.
    """
    return {
        "schedule": schedule.name,
        "ranks": schedule.ranks,
        "stages": schedule.stages,
        "microbatches": schedule.microbatches,
        "device": run.device,
        "workers": run.workers,
        "transport": run.transport,
        "executor": run.executor,
        "losses": list(run.losses),
        "measured": [in_ms(timeline) for timeline in run.timelines],
        "predicted": in_ms(run.predicted),
        "gradient_error": run.gradient_error,
        "peak_in_flight": run.metrics["peak_in_flight"],
        "peak_activation_bytes": run.peak_activation_bytes,
        "peak_memory_bytes": run.peak_memory_bytes,
        "gap_ms": {
            part: [1000 * seconds for seconds in values] for part, values in run.gap.items()
        },
    } | ({} if ours is None else {"beside": _beside(run, ours)})


def _beside(run: "Run", ours: "Run") -> dict:
    """Our engine's run of the same: its losses, its last step, and how far the gradients of both
    are apart.
    """
    from ..engine.rank.reference import gradient_error

    return {
        "executor": ours.executor,
        "transport": ours.transport,
        "losses": list(ours.losses),
        "measured": in_ms(ours.timeline),
        "gradient_difference": gradient_error(run.gradients, ours.gradients),
    }


def in_ms(timeline: Timeline) -> dict:
    """One step: where each rank's time went.

    Compute, transfer and wait of a rank add up to the makespan.
    """
    return {
        "makespan_ms": 1000 * timeline.makespan,
        "bubble_fraction": timeline.metrics["bubble_fraction"],
        "compute_ms": (1000 * timeline.compute_per_rank).tolist(),
        "transfer_ms": (1000 * timeline.transfer_per_rank).tolist(),
        "wait_ms": (1000 * timeline.wait_per_rank).tolist(),
    }


def as_text(data: dict, note: str | None) -> str:
    """The same for a person: the last step beside the prediction.

    Args:
        data: what `as_data` returned.
        note: what the gradients were compared with, where it is not the unsplit model.
    """
    last, predicted = data["measured"][-1], data["predicted"]
    columns = {
        name: [f"{duration:.1f} ms" for duration in last[f"{name}_ms"]]
        for name in ("compute", "transfer", "wait")
    }
    columns["in flight"] = list(map(str, data["peak_in_flight"]))
    columns["activations"] = [f"{size / 2**20:.2f} MiB" for size in data["peak_activation_bytes"]]
    if data["peak_memory_bytes"]:
        columns["GPU memory"] = [f"{size / 2**20:.0f} MiB" for size in data["peak_memory_bytes"]]
    rows = [("rank", *columns)] + [
        (str(rank), *cells) for rank, cells in enumerate(zip(*columns.values()))
    ]
    return "\n".join(
        [
            f"{data['schedule']}: {data['ranks']} ranks, {data['stages']} stages, "
            f"{data['microbatches']} micro-batches; {data['device']}, {data['workers']}, "
            f"{data['transport']}",
            f"loss             {data['losses'][0]:.4f} → {data['losses'][-1]:.4f} in "
            f"{len(data['losses'])} steps",
            f"makespan         measured {last['makespan_ms']:.1f} ms, predicted "
            f"{predicted['makespan_ms']:.1f} ms (last step)",
            f"bubble_fraction  measured {last['bubble_fraction']:.1%}, predicted "
            f"{predicted['bubble_fraction']:.1%} (idle / (ranks × makespan))",
            "gradient error   "
            + (
                note
                if data["gradient_error"] is None
                else f"{data['gradient_error']:.1e} {note or 'against the unsplit model'}"
            ),
            *("  ".join(f"{cell:>11}" for cell in row) for row in rows),
            f"gap to the prediction on rank 0: {_gap(data['gap_ms'])}",
            *([_beside_text(data)] if "beside" in data else ()),
        ]
    )


def _gap(parts: dict) -> str:
    """The gap of rank 0, part by part; the other ranks' are in the JSON."""
    values = {part: per_rank[0] for part, per_rank in parts.items()}
    total = values.pop("total")
    return f"{total:+.1f} ms = " + ", ".join(
        f"{part} {value:+.1f}" for part, value in values.items()
    )


def _beside_text(data: dict) -> str:
    ours, theirs = data["beside"], data["measured"][-1]
    ratio = theirs["makespan_ms"] / ours["measured"]["makespan_ms"]
    return (
        f"beside it        pipelab's engine takes {ours['measured']['makespan_ms']:.1f} ms for "
        f"the last step, torch's {ratio:.2f} times as long; gradients differ by "
        f"{ours['gradient_difference']:.1e}"
    )
