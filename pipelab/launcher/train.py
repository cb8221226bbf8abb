"""`pipelab train`: one of the course's models, a schedule, a few real steps.

In: a Schedule and the sizes. Out: what was measured beside what was predicted, as data and as text.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ..catalogue import names
from ..errors import RunError
from ..plots import page_text
from ..schedule import Schedule
from ..simulator import Costs
from ..timeline import Timeline

if TYPE_CHECKING:
    from ..engine import Run

BATCH = 32
"""Samples in a batch, rounded up until every micro-batch has as many."""

POLL_S = 0.05
CANCEL_S = 5
"""Seconds that a cancelled run gets to end its workers."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how to train, rather than what or where."""
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
        "--data-parallel", type=int, default=1, metavar="D", help="copies of the pipeline (1)"
    )
    parser.add_argument(
        "--tensor-parallel", type=int, default=1, metavar="T", help="workers that share a rank (1)"
    )
    parser.add_argument(
        "--zero",
        type=int,
        default=0,
        metavar="0|1|2|3",
        help="what the copies divide: 1 optimizer, 2 gradients too, 3 weights too (0)",
    )
    parser.add_argument(
        "--sequence-parallel",
        action="store_true",
        help="cut along the sequence what lies between cut layers",
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="go on from it where it exists; written at the end"
    )


@dataclass(frozen=True)
class Wanted:
    """What `pipelab train` is to do: its flags, but those about the schedule and the output.

    ``pace`` is in seconds per F, B and perhaps W, None for full speed. ``timeout`` is in seconds
    that any wait may last, None for what the engine thinks right. ``checkpoint`` is a file to go on
    from where it exists, and to write when the training is done.
    """

    model: str
    layers: int
    width: int
    steps: int
    seed: int
    pace: tuple[float, ...] | None
    timeout: float | None
    partition: str | list[int]
    device: str
    workers: str
    optimizer: str
    dtype: str
    recompute: str | None
    clip: float | None
    data_parallel: int
    tensor_parallel: int
    zero: int
    sequence_parallel: bool
    checkpoint: str | None

    @classmethod
    def from_flags(cls, args: argparse.Namespace) -> "Wanted":
        """The fields, by the names of the flags."""
        return cls(**{field.name: getattr(args, field.name) for field in fields(cls)})


def train(
    schedule: Schedule, wanted: Wanted, *, executor: str, say: Callable[[str], None]
) -> "Run":
    """Train and wait for the end; each finished step is reported as it comes.

    Args:
        schedule: what each rank does.
        wanted: what is trained, and how.
        executor: whose engine, "pipelab" or "torch".
        say: takes one line of progress.

    Returns:
        The finished run.

    Raises:
        UsageError: sizes that cannot work, before a worker starts.
        RunError: the run failed. KeyboardInterrupt cancels it and leaves no worker behind.
    """
    from ..engine import warm

    if "RANK" not in os.environ:
        warm()  # its server imports torch while this process does
    from ..engine import start
    from ..model import workload

    job = workload(
        wanted.model,
        layers=wanted.layers,
        width=wanted.width,
        batch=schedule.microbatches * math.ceil(BATCH / schedule.microbatches),
        seed=wanted.seed,
        optimizer=wanted.optimizer,
    )
    checkpoint = wanted.checkpoint
    run = start(
        job.model,
        job.batches,
        None,
        job.loss_fn,
        schedule=schedule,
        ranks=schedule.ranks,
        microbatches=schedule.microbatches,
        steps=wanted.steps,
        partition=wanted.partition,
        optimizer=job.optimizer,
        device=wanted.device,
        workers=wanted.workers,
        pace=wanted.pace,
        seed=wanted.seed,
        timeout=wanted.timeout,
        dtype=wanted.dtype,
        recompute=wanted.recompute,
        clip=wanted.clip,
        data=wanted.data_parallel,
        tensor=wanted.tensor_parallel,
        zero=wanted.zero,
        sequence_parallel=wanted.sequence_parallel,
        resume=checkpoint if checkpoint and os.path.exists(checkpoint) else None,
        executor=executor,
    )
    try:
        _follow(run, wanted.steps, say)
    except KeyboardInterrupt:
        run.cancel()
        with suppress(RunError, TimeoutError):
            run.wait(CANCEL_S)
        raise
    if checkpoint and speaks():
        run.save(checkpoint)
    return run


def speaks() -> bool:
    """Whether this process tells what came out.

    The only process does; of those that torchrun has started, rank 0.
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


def page(run: "Run", ours: "Run | None", wanted: Wanted) -> str:
    """The last step as one HTML page: as a lab with live cost sliders, or as a picture that plays.

    A schedule of one's own, and torch's engine beside ours, have no lab; nor has a machine without
    a notebook's packages.
    """
    schedule = run.schedule
    if ours is None and schedule.name in names():
        with suppress(ImportError):
            from ..widgets import Lab, Settings

            settings = Settings(
                schedule.name,
                ranks=schedule.ranks,
                microbatches=schedule.microbatches,
                stages_per_rank=schedule.stages_per_rank or 0,
                recompute=wanted.recompute or "none",
                hold="microbatch",
            )
            if settings.build() == schedule:
                lab = Lab.of_run(run, settings, _paced(wanted.pace) or run.costs)
                return lab.page(counts={})
    return page_text(*pictures(run, ours))


def _paced(pace: tuple[float, ...] | None) -> Costs | None:
    """What a pace of two or three numbers, in seconds, makes actions cost."""
    if pace is None:
        return None
    if len(pace) == 2:
        return Costs(pace[0], backward=pace[1])
    return Costs(pace[0], input_grad=pace[1], weight_grad=pace[2])


def as_data(schedule: Schedule, run: "Run", ours: "Run | None" = None) -> dict[str, Any]:
    """A finished run as `pipelab train --json` prints it.

    ``ours`` is the same run with our engine, shown beside torch's.
    """
    data = {
        "schedule": schedule.name,
        "ranks": schedule.ranks,
        "stages": schedule.stages,
        "microbatches": schedule.microbatches,
        "data": run.mesh.data,
        "tensor": run.mesh.tensor,
        "zero": run.mesh.zero,
        "partition": run.partition,
        "partition_note": run.partition_note,
        "device": run.device,
        "workers": run.workers,
        "transport": run.transport,
        "device_note": run.device_note,
        "executor": run.executor,
        "losses": list(run.losses),
        "measured": [in_ms(timeline) for timeline in run.timelines],
        "predicted": in_ms(run.predicted),
        "gradient_error": run.gradient_error,
        "peak_in_flight": run.metrics["peak_in_flight"],
        "peak_activation_bytes": run.peak_activation_bytes,
        "bytes_by_collective": run.bytes_by_collective,
        "peak_bytes": run.peak_bytes,
        "peak_memory_bytes": run.peak_memory_bytes,
        "peak_reserved_bytes": run.peak_reserved_bytes,
        "waited_for_python": run.waited_for_python,
        "advice": run.advice,
        "gap_ms": {part: [1000 * s for s in seconds] for part, seconds in run.gap.items()},
    }
    if ours is not None:
        data["beside"] = _beside(run, ours)
    return data


def _beside(run: "Run", ours: "Run") -> dict[str, Any]:
    """Our engine's run: its losses, its last step, and how far the gradients are apart."""
    from ..engine.reference.unsplit import gradient_error

    return {
        "executor": ours.executor,
        "transport": ours.transport,
        "losses": list(ours.losses),
        "measured": in_ms(ours.timeline),
        "gradient_difference": gradient_error(run.gradients, ours.gradients),
    }


def in_ms(timeline: Timeline) -> dict[str, Any]:
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


def as_text(data: dict[str, Any], note: str | None) -> str:
    """The text for a person: the last step beside the prediction.

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
    workers = data["data"] * data["tensor"] > 1
    if workers:
        sent = data["bytes_by_collective"]
        for name, what in (
            ("tensor", "tensor"),
            ("reduce_grad", "gradients"),
            ("unshard", "weights"),
        ):
            if any(each[name] for each in sent):
                columns[f"{what} sent"] = [f"{each[name] / 2**20:.2f} MiB" for each in sent]
    rows = [["worker" if workers else "rank", *columns]]
    for rank, cells in enumerate(zip(*columns.values(), strict=True)):
        rows.append([str(rank), *cells])
    lines = [
        f"{data['schedule']}: {_sizes(data)}, {data['stages']} stages, "
        f"{data['microbatches']} micro-batches; {data['device']}, {data['workers']}, "
        f"{data['transport']}",
        *([f"note             {data['device_note']}"] if data["device_note"] else []),
        *([data["partition_note"]] if data["partition_note"] else []),
        f"loss             {data['losses'][0]:.4f} → {data['losses'][-1]:.4f} in "
        f"{len(data['losses'])} steps",
        f"makespan         measured {last['makespan_ms']:.1f} ms, predicted "
        f"{predicted['makespan_ms']:.1f} ms (last step)",
        f"bubble_fraction  measured {last['bubble_fraction']:.1%}, predicted "
        f"{predicted['bubble_fraction']:.1%} (idle / (ranks × makespan))",
        f"gradient error   {_gradients(data['gradient_error'], note)}",
    ]
    lines += ["  ".join(f"{cell:>11}" for cell in row) for row in rows]
    lines.append(f"gap to the prediction on rank 0: {_gap(data['gap_ms'])}")
    if data["advice"]:
        lines.append(data["advice"])
    if "beside" in data:
        lines.append(_beside_text(data))
    return "\n".join(lines)


def _sizes(data: dict[str, Any]) -> str:
    """How many ranks, and in a mesh how many workers they are."""
    ranks, copies, parts = data["ranks"], data["data"], data["tensor"]
    if copies * parts == 1:
        return f"{ranks} ranks"
    zero = f", ZeRO {data['zero']}" if data["zero"] else ""
    return f"data {copies} × {ranks} ranks × tensor {parts}{zero}"


def _gradients(error: float | None, note: str | None) -> str:
    if error is None:
        return note or "not compared"
    return f"{error:.1e} {note or 'against the unsplit model'}"


def _gap(parts: dict[str, list[float]]) -> str:
    """The gap of rank 0, part by part; the other ranks' are in the JSON."""
    values = {part: per_rank[0] for part, per_rank in parts.items()}
    total = values.pop("total")
    listed = ", ".join(f"{part} {value:+.1f}" for part, value in values.items())
    return f"{total:+.1f} ms = {listed}"


def _beside_text(data: dict[str, Any]) -> str:
    ours, theirs = data["beside"], data["measured"][-1]
    ratio = theirs["makespan_ms"] / ours["measured"]["makespan_ms"]
    return (
        f"beside it        pipelab's engine takes {ours['measured']['makespan_ms']:.1f} ms for "
        f"the last step, torch's {ratio:.2f} times as long; gradients differ by "
        f"{ours['gradient_difference']:.1e}"
    )
